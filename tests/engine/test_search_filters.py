"""Searches with filters agree with brute force, at any selectivity, and while files come and go."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests import postgres
from tests.engine import haystack as hay
from tests.engine.haystack import NUMBERS, WORDS, Document, Haystack, Json
from tests.engine.stage import opened_store
from understudy import limits
from understudy.engine.app import App
from understudy.search.rank import ORDINAL_BITS
from understudy.search.words import words

LIMIT = 50
FILTERS = 40
ORDERED = ("gt", "gte", "lt", "lte")
COLOURS = ("blue", "green", "red", "ÿellow", "")


def attributes(rng: np.random.Generator) -> Json:
    """Of one document: some absent, some of another type than usual."""
    found: Json = {"share": float(rng.random()), "rank": int(rng.integers(1000))}
    if rng.random() < 0.8:
        found["colour"] = COLOURS[rng.integers(len(COLOURS))]
    if rng.random() < 0.7:
        found["is_old"] = bool(rng.random() < 0.3)
    odd = rng.random()
    if odd < 0.1:
        found["rank"] = str(found["rank"])
    elif odd < 0.2:
        found["rank"] = float(found["rank"])
    elif odd < 0.3:
        found["rank"] = bool(found["rank"] % 2)
    return found


def drawn(rng: np.random.Generator, depth: int = 0) -> Json:
    """A filter: mostly one comparison, else some joined, which may be joined themselves."""
    if depth < 3 and rng.random() < (0.4 if depth == 0 else 0.25):
        parts = [drawn(rng, depth + 1) for _ in range(rng.integers(1, 5))]
        return {"type": ("and", "or")[rng.integers(2)], "filters": parts}
    draws = (_share, _rank, _colour, _is_old, _set, _nowhere)
    return draws[rng.choice(len(draws), p=(0.4, 0.2, 0.12, 0.06, 0.16, 0.06))](rng)


def _share(rng: np.random.Generator) -> Json:
    """From 0.03 % to nearly all, as often few as many."""
    bound = float(10 ** rng.uniform(-3.5, 0))
    return {"type": ("lt", "lte")[rng.integers(2)], "key": "share", "value": bound}


def _rank(rng: np.random.Generator) -> Json:
    value = int(rng.integers(1000))
    kind = ("eq", "ne", *ORDERED)[rng.integers(6)]
    return {
        "type": kind,
        "key": "rank",
        "value": (value, float(value), str(value))[rng.integers(3)],
    }


def _colour(rng: np.random.Generator) -> Json:
    kind = ("eq", "ne", *ORDERED)[rng.integers(6)]
    return {"type": kind, "key": "colour", "value": COLOURS[rng.integers(len(COLOURS))]}


def _is_old(rng: np.random.Generator) -> Json:
    kind = ("eq", "ne", "gt", "lte")[rng.integers(4)]
    return {
        "type": kind,
        "key": ("is_old", "rank")[rng.integers(2)],
        "value": bool(rng.integers(2)),
    }


def _set(rng: np.random.Generator) -> Json:
    kind = ("in", "nin")[rng.integers(2)]
    if rng.random() < 0.5:
        return {"type": kind, "key": "colour", "value": list(COLOURS[: rng.integers(4)])}
    ranks = rng.integers(0, 1000, rng.integers(1, 200)).tolist()
    return {"type": kind, "key": "rank", "value": [*ranks, "7", 8.0]}


def _nowhere(rng: np.random.Generator) -> Json:
    """An attribute that no document has."""
    return {"type": ("eq", "ne", "gt")[rng.integers(3)], "key": "absent", "value": 1}


def keeps(filter: Json | None, found: Json) -> bool:
    """Whether a document is kept, by the words of the specification and none of our code."""
    if filter is None:
        return True
    if filter["type"] in ("and", "or"):
        join = all if filter["type"] == "and" else any
        return join(keeps(part, found) for part in filter["filters"])
    key, kind, value = filter["key"], filter["type"], filter["value"]
    if kind in ("eq", "in"):
        values = value if kind == "in" else [value]
        return key in found and any(same(found[key], one) for one in values)
    if kind in ("ne", "nin"):
        opposite = {"ne": "eq", "nin": "in"}[kind]
        return not keeps({**filter, "type": opposite}, found)
    if key not in found or isinstance(found[key], bool) or isinstance(value, bool):
        return False
    if isinstance(found[key], str) != isinstance(value, str):
        return False
    here = found[key]
    answer: bool = {
        "gt": here > value,
        "gte": here >= value,
        "lt": here < value,
        "lte": here <= value,
    }[kind]
    return answer


def same(one: object, other: object) -> bool:
    """Equal, and of one kind: true is no number."""
    kinds = [
        "bool" if isinstance(x, bool) else "text" if isinstance(x, str) else "number"
        for x in (one, other)
    ]
    return kinds[0] == kinds[1] and one == other


def question(rng: np.random.Generator) -> str:
    """Some words that are not so common that a search leaves them out."""
    terms = rng.integers(10, hay.TERMS, rng.integers(2, 7))
    return " ".join(WORDS[term] for term in terms)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Haystack]]:
    """The haystack, made once, and the file that it is in."""
    path = tmp_path_factory.mktemp("haystack") / "record.db"
    yield path, asyncio.run(hay.made(path, attributes))


def test_the_words_of_the_haystack_are_terms() -> None:
    assert words(" ".join(WORDS)) == WORDS
    assert len(NUMBERS) == hay.TERMS


@pytest.mark.parametrize(
    ("cache_bytes", "filters"), [(limits.VECTOR_CACHE_BYTES, 70), (100_000, 20)]
)
async def test_random_filters_agree_with_brute_force(
    stored: tuple[Path, Haystack], cache_bytes: int, filters: int
) -> None:
    """The same chunks in the same order with the same scores, whether few or all are kept, and
    whether the vectors are in memory or read for each search."""
    path, haystack = stored
    rng = np.random.default_rng(21)
    async with hay.opened_app(path, cache_bytes=cache_bytes) as app:
        shares = [await _agree(app, haystack, question(rng), None)]
        shares += [await _agree(app, haystack, question(rng), drawn(rng)) for _ in range(filters)]
    assert min(shares) == 0 and max(shares) == 1
    if cache_bytes == limits.VECTOR_CACHE_BYTES:
        for low, high in ((0.0003, 0.003), (0.003, 0.03), (0.03, 0.3), (0.3, 0.999)):
            assert any(low < share <= high for share in shares), (low, high)


async def _agree(app: App, haystack: Haystack, query: str, filters: Json | None) -> float:
    """Assert that a search finds what it must; the share of the chunks that it was about."""
    kept = haystack.kept(partial(keeps, filters))
    found = await haystack.found(app, query, filters, LIMIT)
    wanted = haystack.wanted(query, kept, LIMIT)
    assert [key for key, _ in found] == [key for key, _ in wanted], filters
    assert np.allclose([one for _, one in found], [one for _, one in wanted], atol=1e-6)
    chunks = sum(len(one.terms) for one in kept)
    assert len(found) == min(LIMIT, chunks)
    return chunks / hay.CHUNKS


# While files come and go.


@dataclass
class _Life:
    """Documents that come and go, and what is known of each at any moment."""

    app: App
    haystack: Haystack
    ever: dict[int, Document]
    gone: set[int] = field(default_factory=set)  # Of which it was acknowledged.
    is_over: bool = False
    searches: int = 0

    async def churn(self, rounds: int) -> None:
        """Some documents come, some go."""
        rng = np.random.default_rng(31)
        try:
            for round in range(rounds):
                drafts = [
                    hay.draft(rng, f"later-{round}-{n}", int(rng.integers(1, 30)), attributes(rng))
                    for n in range(3)
                ]
                await hay.add(self.app, self.haystack, drafts)
                self.ever |= self.haystack.documents
                numbers = sorted(self.haystack.documents)
                for number in rng.choice(numbers[-400:], 3, replace=False).tolist():
                    await hay.remove(self.app, self.haystack, number)
                    self.gone.add(number)
        finally:
            self.is_over = True

    async def search(self, seed: int) -> None:
        """Search with filters, until nothing comes or goes any more."""
        rng = np.random.default_rng(seed)
        while not self.is_over:
            gone, query, filters = set(self.gone), question(rng), drawn(rng)
            documents = await self._found(query, filters)
            assert not documents.keys() & gone
            assert all(keeps(filters, self.ever[number].attributes) for number in documents)
            self.searches += 1

    async def look_up(self, seed: int) -> None:
        """Search for everything in one document that is there, or is not any more."""
        rng = np.random.default_rng(seed)
        while not self.is_over:
            there, gone = set(self.haystack.documents), set(self.gone)
            number = int(rng.choice(sorted(self.ever)[-400:]))
            share = {"type": "eq", "key": "share", "value": self.ever[number].attributes["share"]}
            documents = await self._found(question(rng), share)
            if number in gone:
                assert documents == {}
            elif number in there and number in self.haystack.documents:
                assert documents == {number: len(self.ever[number].terms)}
            self.searches += 1

    async def _found(self, query: str, filters: Json) -> Counter[int]:
        """How many chunks are found of each document."""
        hits = await self.haystack.found(self.app, query, filters, LIMIT)
        return Counter(key >> ORDINAL_BITS for key, _ in hits)


async def test_no_search_finds_what_is_gone_or_misses_what_is_there(
    stored: tuple[Path, Haystack], tmp_path: Path
) -> None:
    """From the moment that a deletion or a completion is acknowledged, while all goes on."""
    path, haystack = stored
    copy = tmp_path / "record.db"
    if postgres.IS_CHOSEN:
        async with opened_store(copy):  # For its tables.
            await postgres.copied(path, copy)
    else:
        shutil.copy(path, copy)
    mine = replace(haystack, documents=dict(haystack.documents))
    async with hay.opened_app(copy, works=True) as app:
        life = _Life(app, mine, dict(mine.documents))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(life.churn(25))
            group.create_task(life.search(41))
            group.create_task(life.look_up(42))
            group.create_task(life.look_up(43))
        assert life.searches > 25
        rng = np.random.default_rng(44)
        for _ in range(10):
            await _agree(app, mine, question(rng), drawn(rng))
