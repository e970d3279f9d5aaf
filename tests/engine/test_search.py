"""What searches find in one store or several, by words and by meaning."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests import postgres
from tests.engine.haystack import Whole
from tests.engine.stage import Clock, make_app
from understudy import limits
from understudy.engine.app import App
from understudy.engine.embedding import vectors_of
from understudy.engine.index import Index
from understudy.engine.search import Found, found
from understudy.machine.vector_store import StoreBody
from understudy.search import Embedder, EmbedderError
from understudy.search.choice import Embedders
from understudy.search.embed_hash import HashEmbedder
from understudy.search.part import parts
from understudy.store import (
    Database,
    Ring,
    Row,
    Statement,
    Told,
    changes,
    index_changes,
    open_database,
)
from understudy.store.store import Store
from understudy.wire.vector_stores import EqualFilter

SIZE, OVERLAP = 60, 30  # Of chunks, in tokens.
NOUNS = """
    harbour lantern meadow engine violin copper window garden ladder island
"""
VERBS = """
    carries forgets paints measures follows repairs watches empties borrows hides
"""

CATS = "Cats purr when they are content, and hunt mice at night."
DOGS = "Dogs bark at strangers, and guard the house at night."
TAX = "The tax return is due in May."


class Interrupted:
    """A database where a test may do something before a query is answered. It notes queries."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.asked: list[tuple[str, Mapping[str, object]]] = []

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """As the inner one, once the test's deed is done."""
        self.asked.append((query, args))
        deed = self.before.pop(query, None)
        if deed is not None:
            await deed()
        return await self._inner.fetch(query, args)

    async def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> list[list[Row]]:
        """As the inner one."""
        return await self._inner.commit(statements, told, ring)

    async def close(self) -> None:
        """As the inner one."""
        await self._inner.close()


@dataclass
class Library:
    """Stores of one App, and the texts that are in them by file id."""

    app: App
    database: Interrupted
    texts: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)

    async def store(self, *texts: str, project: str = "default") -> str:
        """A store with files of these texts; its id."""
        now = self.app.world.now()
        id = self.app.world.new_id("vector_store")
        body = msgspec.json.encode(StoreBody(id=id, created_at=int(now)))
        await self.app.store.commit(
            changes.insert_object(
                "vector_store", id=id, project=project, parent=None, created_at=now, body=body
            ),
            index_changes.insert_store(id, project=project, now=now),
        )
        for text in texts:
            await self.add(id, text, project=project)
        return id

    async def add(
        self, store_id: str, text: str, *, project: str = "default", kind: str = "text"
    ) -> str:
        """A file of this text in a store; its id."""
        app = self.app
        file_id = app.world.new_id("file")
        [index] = await app.store.indexes(project, [store_id])
        insert = index_changes.insert_document(
            index.number, file_id, project=project, attributes=b"{}", filename=f"{file_id}.txt"
        )
        [[(number,)]] = await app.store.commit(insert)
        assert isinstance(number, int)
        starts, stops = self.spans[file_id] = ([], [])
        statements: list[Statement] = []
        for part in parts(text, SIZE, OVERLAP):
            starts += part.starts
            stops += part.stops
            vectors = await vectors_of(app, index, part.texts)
            ordinals = range(part.first, part.first + len(part.starts))
            statements += index_changes.insert_part(
                index.number,
                number,
                part.number,
                chunks=list(zip(ordinals, part.starts, part.stops, part.strides, strict=True)),
                words=sum(part.words),
                trust=vectors.trust,
                terms=part.terms,
                terms_json=msgspec.json.encode(part.terms),
                postings=part.postings,
                owners=vectors.owners(part.first),
                vectors=vectors.data,
                size_bytes=len(text.encode()) + len(vectors.data or b""),
            )
            statements.append(
                index_changes.claim_embedder(
                    index.number, model=vectors.model, dimensions=vectors.dimensions
                )
            )
        attributes = msgspec.json.encode({"kind": kind})
        statements += index_changes.ready_document(number, attributes=attributes)
        await app.store.commit(*statements)
        self.texts[file_id] = text
        return file_id

    async def delete(self, store_id: str, file_id: str) -> None:
        """A file is deleted, and nothing of it is left in the index."""
        store = self.app.store
        now = self.app.world.now()
        await store.commit(
            *index_changes.drop_document(store_id, file_id, project="default", now=now)
        )
        while (gone := await store.gone_part()) is not None:
            document, number, part = gone
            await store.commit(index_changes.purge_part(number, document, part))
        await store.commit(
            index_changes.purge_chunks(limit=10_000), index_changes.purge_documents(limit=10_000)
        )

    async def found(
        self, stores: str | Sequence[str], *queries: str, limit: int = 50, **more: Any
    ) -> list[Found]:
        """What a search finds."""
        ids = [stores] if isinstance(stores, str) else stores
        return await found(self.app, "default", ids, queries, limit=limit, **more)

    async def said(self, stores: str | Sequence[str], *queries: str, **more: Any) -> list[str]:
        """The texts that a search finds."""
        return [one.text for one in await self.found(stores, *queries, **more)]

    def using(self, embedder: Embedder | None) -> "Library":
        """The same library on a server with another embedder."""
        embedders = Embedders(embedder, monotonic=self.app.world.monotonic)
        return replace(self, app=replace(self.app, embedders=embedders))

    def forgetful(self) -> "Library":
        """The same library on a server that can keep no vectors in memory."""
        index = Index(self.app.store, size_bytes=1)
        return replace(self, app=replace(self.app, index=index))


@asynccontextmanager
async def opened(path: Path, embedder: Embedder | None) -> AsyncIterator[Library]:
    """An empty library on a record."""
    database = Interrupted(await open_database(postgres.record_url(path / "record.db")))
    try:
        app = make_app(Store(database), Clock())
        yield Library(app, database).using(embedder)
    finally:
        await database.close()


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    """By words, and by the vectors of hashed words."""
    async with opened(tmp_path, HashEmbedder()) as library:
        yield library


@pytest.fixture
async def words_only(tmp_path: Path) -> AsyncIterator[Library]:
    """By words only."""
    async with opened(tmp_path, None) as library:
        yield library


@pytest.fixture
async def exact(tmp_path: Path) -> AsyncIterator[Library]:
    """By words, and by vectors whose products are the same however they lie in memory."""
    async with opened(tmp_path, Whole()) as library:
        yield library


@pytest.fixture(params=["words", "both"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Library]:
    """A library of each kind."""
    async with opened(tmp_path, HashEmbedder() if request.param == "both" else None) as library:
        yield library


def prose(seed: int, sentences: int) -> str:
    """Sentences of few different words, so that many are alike; some are no ASCII."""
    rng = np.random.default_rng(seed)
    nouns, verbs = NOUNS.split(), VERBS.split()
    said = [
        f"The {nouns[a]} {verbs[b]} the {nouns[c]}{'. ' if d else ' — été 日本語。'}"
        for a, b, c, d in rng.integers(0, 10, (sentences, 4)).tolist()
    ]
    return "".join(said)


async def test_what_was_asked_for_is_first(either: Library) -> None:
    store = await either.store(CATS, DOGS, TAX)
    for query, text in (("cats that purr", CATS), ("barking dogs", DOGS), ("tax return", TAX)):
        first = (await either.found(store, query))[0]
        assert first.text == text
        assert first.attributes == {"kind": "text"}
        assert first.file_name == f"{first.file_id}.txt"
        assert either.texts[first.file_id] == text


async def test_nothing_is_found_where_nothing_is(either: Library) -> None:
    assert await either.found([], "cats") == []
    assert await either.found("vs_nowhere", "cats") == []
    assert await either.found(await either.store(), "cats") == []
    assert await either.found(await either.store(CATS, project="other"), "cats") == []


async def test_words_only_find_nothing_without_a_common_word(words_only: Library) -> None:
    store = await words_only.store(CATS, DOGS)
    assert await words_only.found(store, "quarterly earnings") == []
    assert await words_only.found(store, "?!") == []


async def test_several_stores_are_searched_as_one(either: Library) -> None:
    """The same passages, in the same order, with the same scores as in one store of all files."""
    texts = [prose(seed, 6) for seed in range(12)]
    one = await either.store(*texts)
    several = [await either.store(*texts[at : at + 4]) for at in (0, 4, 8)]
    for query in ("violin garden", "the copper engine repairs the ladder", "island été"):
        whole = await either.found(one, query)
        parted = await either.found([*several, "vs_nowhere", several[0]], query)
        assert [one.text for one in parted] == [one.text for one in whole]
        assert np.allclose([one.score for one in parted], [one.score for one in whole], atol=1e-6)


async def test_of_several_queries_each_passage_has_its_best_score(either: Library) -> None:
    store = await either.store(CATS, DOGS, TAX, *(prose(seed, 3) for seed in range(5)))
    queries = ["cats purr", "tax in May", "dogs bark"]
    best: dict[str, float] = {}
    for query in queries:
        for one in await either.found(store, query):
            best[one.file_id] = max(best.get(one.file_id, 0.0), one.score)
    together = await either.found(store, *queries)
    assert {one.file_id: one.score for one in together} == pytest.approx(best)
    assert {one.text for one in together[:3]} == {CATS, DOGS, TAX}


async def test_scores_fall_from_at_most_1_and_do_not_depend_on_the_limit(either: Library) -> None:
    store = await either.store(*(prose(seed, 60) for seed in range(8)))
    for query in ("the violin follows the meadow", "garden", "été 日本語", "a lantern"):
        everything = await either.found(store, query)
        scores = [one.score for one in everything]
        assert len(scores) > 10 and scores[-1] >= 0 and scores[0] <= 1
        assert all(one >= other for one, other in pairwise(scores))
        for limit in (1, 3, 10):
            assert await either.found(store, query, limit=limit) == everything[:limit]


async def test_a_threshold_leaves_out_what_scores_less(either: Library) -> None:
    store = await either.store(*(prose(seed, 3) for seed in range(30)))
    everything = await either.found(store, "copper window hides")
    threshold = everything[len(everything) // 2].score
    kept = await either.found(store, "copper window hides", score_threshold=threshold)
    assert kept == [one for one in everything if one.score >= threshold]
    assert await either.found(store, "copper window hides", score_threshold=1.1) == []


async def test_equals_come_in_the_order_in_which_they_were_added(either: Library) -> None:
    store = await either.store(*[CATS] * 20, DOGS)
    expected = [id for id, text in either.texts.items() if text == CATS]
    for library in (either, either, either.forgetful()):
        results = await library.found(store, "cats")
        assert [one.file_id for one in results if one.text == CATS] == expected
        assert len({one.score for one in results if one.text == CATS}) == 1


async def test_a_passage_is_a_slice_of_its_text(either: Library) -> None:
    """From the start of one chunk to the stop of the same one or of a neighbour; no two passages
    of a search begin at the same place."""
    store = await either.store(*(prose(seed, length) for seed, length in enumerate((1, 40, 300))))
    lengths = set()
    for query in ("violin", "the garden borrows the copper island", "été", "engine lantern"):
        results = await either.found(store, query)
        places = []
        for one in results:
            text, (starts, stops) = either.texts[one.file_id], either.spans[one.file_id]
            fits = [
                (first, last)
                for first in range(len(starts))
                for last in range(first, min(first + 3, len(starts)))
                if text[starts[first] : stops[last]] == one.text
            ]
            assert fits, one.text
            places += [(one.file_id, *fit) for fit in fits[:1]]
            lengths.add(fits[0][1] - fits[0][0] + 1)
        assert len(set(places)) == len(places)
    assert len(lengths) > 1, "some passages are several chunks"


async def test_a_store_that_is_too_large_to_keep_gives_the_same_answers(exact: Library) -> None:
    store = await exact.store(*(prose(seed, 50) for seed in range(30)))
    forgetful = exact.forgetful()
    for query in ("violin", "the garden borrows the copper island", "something else entirely"):
        assert await forgetful.found(store, query) == await exact.found(store, query)


async def test_of_vectors_that_are_not_kept_a_search_reads_those_of_its_filter(
    exact: Library,
) -> None:
    store = await exact.store(CATS, DOGS)
    await exact.add(store, TAX, kind="letter")
    letters = EqualFilter(key="kind", value="letter")
    forgetful = exact.forgetful()
    [index] = await exact.app.store.indexes("default", [store])
    [*_, letter] = await exact.app.store.ready_documents(index.number)
    exact.database.asked.clear()
    assert await forgetful.said(store, "night", filters=letters) == [TAX]
    read = [args["documents"] for query, args in exact.database.asked if query == "vectors"]
    assert read == [f"[{letter.number}]"]
    assert await forgetful.said(store, "night", filters=EqualFilter(key="kind", value="x")) == []


async def test_what_comes_and_goes_leaves_no_trace(exact: Library) -> None:
    """A server that has searched all the while agrees with one that was just started."""
    store = await exact.store(prose(0, 400))
    rng = np.random.default_rng(3)
    for seed in range(1, 25):
        await exact.add(store, prose(seed, int(rng.integers(1, 60))))
        if seed % 3 == 0:
            gone = str(rng.choice(sorted(exact.texts)))
            del exact.texts[gone]
            await exact.delete(store, gone)
        fresh = replace(exact, app=replace(exact.app, index=Index(exact.app.store)))
        query = prose(100 + seed, 1)
        results = await exact.found(store, query)
        assert results == await fresh.found(store, query)
        assert {one.file_id for one in results} <= exact.texts.keys()


async def test_a_store_that_is_used_is_still_searched(either: Library) -> None:
    """Its row has changed, and its documents have not."""
    store = await either.store(CATS, DOGS)
    before = await either.found(store, "cats")
    later = either.app.world.now() + 100
    await either.app.store.commit(index_changes.touch_store(store, now=later))
    assert await either.found(store, "cats") == before


@pytest.mark.parametrize("query", ["indexes", "postings", "chunk_spans", "chunk_texts"])
async def test_a_file_that_goes_during_a_search_is_left_out(library: Library, query: str) -> None:
    """Whatever the search has read of it already."""
    store = await library.store(CATS, DOGS, CATS)
    doomed, other = (id for id, text in library.texts.items() if text == CATS)
    assert len(await library.found(store, "cats purr")) == 3

    async def delete() -> None:
        await library.delete(store, doomed)

    library.database.before[query] = delete
    results = await library.found(store, "cats purr")
    assert results[0].file_id == other
    assert len(results) == 2


async def test_a_file_that_goes_while_vectors_are_read_is_left_out(library: Library) -> None:
    """The first search of a server reads them."""
    store = await library.store(CATS, DOGS, CATS)
    doomed = next(iter(library.texts))

    async def delete() -> None:
        await library.delete(store, doomed)

    for reader in (library, library.forgetful()):
        library.database.before["vectors"] = delete
        assert doomed not in {one.file_id for one in await reader.found(store, "cats purr")}


async def test_a_store_of_another_embedding_model_is_refused(library: Library) -> None:
    store = await library.store(CATS)
    for embedder, now in ((HashEmbedder(64), "'hash-64'"), (None, "none")):
        with pytest.raises(EmbedderError) as refused:
            await library.using(embedder).found(store, "cats")
        assert refused.value.message == (
            "The vector store was made with the embedding model 'hash-256', and this server now "
            f"uses {now}. Set UNDERSTUDY_EMBEDDING_MODEL back, or put the files into a new vector "
            "store."
        )
        assert not refused.value.retryable


async def test_a_store_by_words_only_stays_so(library: Library) -> None:
    """It is searched beside one with vectors, by a server that has an embedder by now."""
    without = await library.using(None).store(DOGS, TAX)
    store = await library.store(CATS)
    assert await library.said(without, "tax") == [TAX]
    assert set(await library.said([store, without], "cats and dogs")) == {CATS, DOGS}
    assert (await library.said([store, without], "barking dogs"))[0] == DOGS


async def test_stores_that_are_gone_or_too_many_are_not_kept_in_memory(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VIEWS_CACHED", 2)
    index = library.app.index
    ids = [await library.store(f"text number {n}") for n in range(4)]
    for id in ids:
        assert await library.said(id, "number")
    assert (len(index._views), len(index._held)) == (2, 2)
    for id in ids:
        index.forget(id)
    assert (len(index._views), len(index._held)) == (0, 0)
    assert await library.said(ids[0], "number")
