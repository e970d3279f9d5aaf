"""Searches of stores that are too large to keep, on a record that compares vectors by itself.

Whatever it compares, and however little of a store that is, a search finds what brute force finds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np
import pytest

from tests.engine import haystack as hay
from tests.engine.comparing import (
    SMALL,
    WHERE,
    Vectors,
    best,
    blocks,
    filled,
    make,
    opened,
    server,
    view_of,
)
from tests.engine.haystack import CHUNK_CHARS, DIMENSIONS, WORDS, Haystack
from tests.fleet.clusters import database
from tests.fleet.statements import execute
from understudy import limits
from understudy.engine.app import App
from understudy.engine.halves import ask, made, near
from understudy.engine.index import Index
from understudy.search import rank
from understudy.search.vectors import normalised
from understudy.store import Statement, index_changes
from understudy.store.halves import Halves, Place

DOCUMENTS, CHUNKS = 60, 30
LIMIT = 50


@pytest.fixture(scope="module")
def comparing() -> Iterator[str]:
    """A server with pgvector."""
    yield from server("with pgvector")


@pytest.fixture(scope="module", params=sorted(WHERE))
def either(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server with pgvector, and one without."""
    yield from server(request.param)


def asked(rng: np.random.Generator) -> str:
    """A question of two words."""
    return " ".join(rng.choice(WORDS, 2))


def sizes(found: Sequence[rank.Block]) -> list[int]:
    """How many vectors each block has."""
    return [len(block.keys) for block in found]


async def queries_of(app: App, *texts: str) -> Vectors:
    """The vectors of questions."""
    embedder = await app.embedders.current()
    assert embedder is not None
    return (await embedder.embed(texts, is_query=True)).vectors


async def test_random_filters_miss_nothing(either: str) -> None:
    """With and without the extension, whatever share of the documents a filter keeps."""
    rng = np.random.default_rng(2)
    shares = [float(share) for share in rng.random(DOCUMENTS)]
    async with opened(either) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS, [{"share": one} for one in shares])
        await make(app, haystack)
        for bound in (1.0, 0.8, 0.5, 0.2, 0.1, 0.03, 0.0):
            for query in (asked(rng), asked(rng), asked(rng)):
                kept = haystack.kept(partial(_is_below, bound))
                filters = {"type": "lt", "key": "share", "value": bound}
                found = await haystack.found(app, query, filters, LIMIT)
                assert_same(found, haystack.wanted(query, kept, LIMIT))


def _is_below(bound: float, attributes: hay.Json) -> bool:
    return bool(attributes["share"] < bound)


def assert_same(found: list[hay.Hit], wanted: list[hay.Hit]) -> None:
    """The same chunks, with the same scores."""
    assert [key for key, _ in found] == [key for key, _ in wanted]
    assert np.allclose([score for _, score in found], [score for _, score in wanted])


async def test_only_what_may_be_among_the_best_is_read(comparing: str) -> None:
    async with opened(comparing) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS)
        view, queries = await view_of(app, haystack), await queries_of(app, WORDS[1], WORDS[2])
        everything = await blocks(app, view, queries)
        assert sizes(everything) == [DOCUMENTS * CHUNKS]
        await make(app, haystack)
        [found] = await blocks(app, view, queries)
        assert limits.CANDIDATES <= len(found.keys) < DOCUMENTS * CHUNKS / 2
        for query in queries:
            assert best([found], query).keys.tolist() == best(everything, query).keys.tolist()
        assert (np.diff(found.keys) > 0).all()


async def test_a_store_that_is_kept_in_memory_is_not_compared(comparing: str) -> None:
    async with opened(comparing, cache_bytes=limits.VECTOR_CACHE_BYTES) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS)
        await make(app, haystack)
        queries = await queries_of(app, WORDS[4])
        assert sizes(await blocks(app, await view_of(app, haystack), queries)) == [1_800]


async def test_of_few_parts_all_is_read(comparing: str) -> None:
    async with opened(comparing) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS)
        await make(app, haystack)
        view, queries = await view_of(app, haystack), await queries_of(app, WORDS[4])
        few = view.documents.numbers[: limits.NEAR_LEAST_PARTS]
        assert sizes(await blocks(app, view, queries, few)) == [len(few) * CHUNKS]
        more = view.documents.numbers[: limits.NEAR_LEAST_PARTS + 10]
        assert sum(sizes(await blocks(app, view, queries, more))) < len(more) * CHUNKS


async def test_for_many_queries_all_is_read(comparing: str) -> None:
    """Once for all of them, where the record would look anew for each."""
    async with opened(comparing) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS)
        await make(app, haystack)
        view, queries = await view_of(app, haystack), await queries_of(app, *WORDS[:7])
        assert sizes(await blocks(app, view, queries)) == [DOCUMENTS * CHUNKS]
        assert sizes(await blocks(app, view, queries[: limits.NEAR_QUERIES])) != [1_800]


def close_together(rng: np.random.Generator, query: Vectors, count: int) -> Vectors:
    """Vectors whose products with the query differ by less than half precision can tell."""
    noise = rng.standard_normal((count, len(query)))
    noise -= np.outer(noise @ query, query)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosines = 0.7 + rng.uniform(0, 2e-4, (count, 1))
    rows: Vectors = (cosines * query + np.sqrt(1 - cosines**2) * noise).astype(np.float32)
    return rows


async def test_half_precision_changes_nothing(comparing: str) -> None:
    """Vectors so near each other that their halves come in another order. Those that may be among
    the best are compared anew, as they were made."""
    rng = np.random.default_rng(9)
    query = normalised(rng.standard_normal((1, DIMENSIONS)).astype(np.float32))[0]
    async with opened(comparing) as app:
        haystack = await hay.empty(app)
        drafts = [hay.draft(rng, f"file-{n}", CHUNKS, {}) for n in range(20)]
        close = close_together(rng, query, 20 * CHUNKS).reshape(20, CHUNKS, DIMENSIONS)
        drafts = [replace(one, vectors=close[n]) for n, one in enumerate(drafts)]
        await hay.add(app, haystack, drafts)
        view = await view_of(app, haystack)
        wanted = best(await blocks(app, view, query[None]), query)
        await make(app, haystack)
        [found] = await blocks(app, view, query[None])
        assert best([found], query).keys.tolist() == wanted.keys.tolist()

        assert app.store.halves is not None
        numbers = [one.number for one in view.documents.rows]
        halves = await app.store.halves.nearest(
            numbers, query.astype("<f2").tobytes(), most=limits.CANDIDATES
        )
        order = [row.document << rank.ORDINAL_BITS | row.ordinal for row in halves]
        assert set(order) != set(wanted.keys.tolist()), "else the test would show nothing"


async def test_where_too_many_are_alike_all_are_read(
    comparing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record names more and more, then it is not asked any longer."""
    async with opened(comparing) as app:
        haystack = await hay.empty(app)
        rng = np.random.default_rng(1)
        drafts = [hay.draft(rng, f"file-{n}", CHUNKS, {}) for n in range(DOCUMENTS)]
        same = hay.vectors(rng, CHUNKS)
        await hay.add(app, haystack, [replace(one, vectors=same) for one in drafts])
        await make(app, haystack)
        view, queries = await view_of(app, haystack), same[:1]
        [named] = await blocks(app, view, queries)
        assert len(named.keys) < DOCUMENTS * CHUNKS
        monkeypatch.setattr(limits, "NEAR_MOST", 3 * limits.CANDIDATES)
        same[:] = same[0]
        more = await hay.empty(app)
        await hay.add(app, more, [replace(one, vectors=same, number=0) for one in drafts])
        await make(app, more)
        found = await blocks(app, await view_of(app, more), queries)
        assert sizes(found) == [DOCUMENTS * CHUNKS]


async def test_a_store_is_looked_at_piece_by_piece(
    comparing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is best may all lie in one piece."""
    monkeypatch.setattr(limits, "NEAR_PARTS", 7)
    monkeypatch.setattr(limits, "NEAR_READ", 90)
    monkeypatch.setattr(limits, "CANDIDATES", 60)
    async with opened(comparing) as app:
        rng = np.random.default_rng(1)
        haystack = await hay.empty(app)
        drafts = [hay.draft(rng, f"file-{n}", CHUNKS, {}) for n in range(DOCUMENTS)]
        queries = await queries_of(app, WORDS[4], WORDS[3])
        drafts[:5] = [
            replace(one, vectors=np.where(one.vectors > 0, queries[0], one.vectors))
            for one in drafts[:5]
        ]
        await hay.add(app, haystack, drafts)
        view = await view_of(app, haystack)
        everything = await blocks(app, view, queries)
        await make(app, haystack)
        [found] = await blocks(app, view, queries)
        assert len(found.keys) < DOCUMENTS * CHUNKS
        for query in queries:
            assert best([found], query).keys.tolist() == best(everything, query).keys.tolist()


async def test_a_chunk_of_several_vectors_has_the_score_of_its_best(comparing: str) -> None:
    """They are as many chunks as would be without the record's help."""
    async with opened(comparing) as app:
        haystack = await hay.empty(app)
        rng = np.random.default_rng(4)
        for n in range(20):
            await _add_of_windows(app, haystack, rng, f"file-{n}", chunks=40, windows=8)
        view, queries = await view_of(app, haystack), await queries_of(app, WORDS[4])
        everything = await blocks(app, view, queries)
        await make(app, haystack)
        found = await blocks(app, view, queries)
        assert sum(sizes(found)) < sum(sizes(everything))
        assert best(found, queries[0]).keys.tolist() == best(everything, queries[0]).keys.tolist()
        assert len(best(found, queries[0]).keys) == limits.CANDIDATES


async def test_more_is_named_until_there_are_enough_chunks(comparing: str) -> None:
    """The best vectors may all be of few chunks."""
    async with opened(comparing) as app:
        haystack = await hay.empty(app)
        rng = np.random.default_rng(4)
        for n in range(40):
            name = f"file-{n}"
            await _add_of_windows(app, haystack, rng, name, chunks=40, windows=8, are_same=True)
        view, queries = await view_of(app, haystack), await queries_of(app, WORDS[4])
        everything = await blocks(app, view, queries)
        await make(app, haystack)
        [found] = await blocks(app, view, queries)
        assert 8 * limits.CANDIDATES <= len(found.keys) < sum(sizes(everything))
        assert best([found], queries[0]).keys.tolist() == best(everything, queries[0]).keys.tolist()


async def _add_of_windows(
    app: App,
    haystack: Haystack,
    rng: np.random.Generator,
    name: str,
    *,
    chunks: int,
    windows: int,
    are_same: bool = False,
) -> None:
    """A document each of whose chunks has several vectors."""
    vectors = hay.vectors(rng, chunks * windows)
    if are_same:
        vectors = np.repeat(vectors[:chunks], windows, axis=0)
    insert = index_changes.insert_document(
        haystack.number, name, project=hay.PROJECT, attributes=b"{}", filename=name
    )
    [[(number,)]] = await app.store.commit(insert)
    claim = index_changes.claim_embedder(
        haystack.number, model=hay.Whole.name, dimensions=DIMENSIONS
    )
    texts = [(n, CHUNK_CHARS * n, CHUNK_CHARS * (n + 1), "x" * CHUNK_CHARS) for n in range(chunks)]
    part = index_changes.insert_part(
        haystack.number,
        number,
        0,
        chunks=texts,
        words=chunks,
        trust=float(chunks),
        terms=[],
        terms_json=b"[]",
        postings=[],
        owners=np.repeat(np.arange(chunks), windows).astype("<u4").tobytes(),
        vectors=vectors.tobytes(),
        size_bytes=CHUNK_CHARS * chunks,
    )
    await app.store.commit(claim, part, index_changes.ready_document(number, attributes=b"{}"))


async def test_a_document_that_cannot_be_compared_is_found(comparing: str) -> None:
    """An older server indexed it, which knows nothing of all this; and it is asked for."""
    async with opened(comparing) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS)
        await make(app, haystack)
        rng = np.random.default_rng(8)
        late = [hay.draft(rng, f"late-{n}", CHUNKS, {}) for n in range(3)]
        await hay.add(app, haystack, late)
        view, queries = await view_of(app, haystack), await queries_of(app, WORDS[3])
        found = await blocks(app, view, queries)
        assert len(found) == 2 and sizes(found)[1] == 3 * CHUNKS
        wanted = haystack.wanted(WORDS[3], haystack.kept(lambda _: True), LIMIT)
        assert_same(await haystack.found(app, WORDS[3], None, LIMIT), wanted)
        job = await app.store.job(haystack.store_id)
        assert job is not None and job.kind == "ingest"


class Emptied(Halves):
    """All documents go between the look and the reading of what it named."""

    url = ""

    async def exact(self, places: Sequence[Place], *, size_bytes: int) -> dict[Place, bytes]:
        """What is left of them."""
        execute(self.url, "delete from parts")
        return await super().exact(places, size_bytes=size_bytes)


async def test_documents_that_go_meanwhile_are_left_out(comparing: str) -> None:
    with database(comparing) as url:
        async with hay.opened_app(url, cache_bytes=SMALL) as app:
            haystack = await filled(app, DOCUMENTS, CHUNKS)
            await make(app, haystack)
            emptied = Emptied(app.store._database)
            emptied.url = url
            queries = await queries_of(app, WORDS[3])
            found = await near(emptied, (await view_of(app, haystack)).documents.rows, queries)
            assert found is not None
            assert best([found], queries[0]).keys.tolist() == []


async def test_what_a_search_found_missing_is_made(comparing: str) -> None:
    """Files that were indexed before the extension came. The job ends when it is done."""
    async with opened(comparing, works=True) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS)
        view = await view_of(app, haystack)
        assert await haystack.found(app, WORDS[3], None, LIMIT)
        await _quiet(app, haystack)
        assert app.store.halves is not None
        numbers = [one.number for one in view.documents.rows]
        assert await app.store.halves.whole(numbers) == set(numbers)
        queries = await queries_of(app, WORDS[3])
        assert sum(sizes(await blocks(app, view, queries))) < DOCUMENTS * CHUNKS


async def _quiet(app: App, haystack: Haystack) -> None:
    with app.bell.subscribe("ingest", "jobs") as rings:
        for _ in range(100):
            if await app.store.job(haystack.store_id) is None:
                return
            await rings.wait(0.05)
    raise AssertionError("the job does not end")


async def test_what_is_missing_is_asked_for_now_and_then(comparing: str) -> None:
    """By each process, and not of a store that is gone: its job would find nothing, for ever."""
    async with opened(comparing) as app:
        haystack = await filled(app, DOCUMENTS, CHUNKS)
        view = await view_of(app, haystack)
        queries = await queries_of(app, WORDS[3])
        for now, told in ((0.0, 1), (1.0, 0), (limits.HALVES_ASKED_S, 1)):
            await blocks(app, view, queries)
            assert len(app.index.lacking(now)) == told
        assert app.index.lacking(inf) == [], "nobody searched"
        await app.store.commit(
            index_changes.forget_store(haystack.store_id, project=hay.PROJECT, now=1.0),
            Statement("delete_job", {"id": haystack.store_id, "fence": 0}),
        )
        fresh = replace(app, index=Index(app.store, size_bytes=SMALL))
        await blocks(fresh, view, queries)
        await ask(fresh)
        assert await app.store.job(haystack.store_id) is None


async def test_stores_of_other_dimensions_are_beside_each_other(comparing: str) -> None:
    async with opened(comparing) as app:
        haystack = await filled(app, 12, CHUNKS)
        await make(app, haystack)
        other = await hay.empty(app)
        rng = np.random.default_rng(0)
        wide = [
            replace(
                hay.draft(rng, f"wide-{n}", CHUNKS, {}),
                vectors=rng.standard_normal((CHUNKS, 3_072)).astype(np.float32),
            )
            for n in range(12)
        ]
        await _add_wide(app, other, wide)
        await make(app, other)
        query: Vectors = rng.standard_normal((1, 3_072)).astype(np.float32) / np.float32(100)
        view = await view_of(app, other)
        [found] = await blocks(app, view, query)
        assert found.vectors.shape[1] == 3_072
        everything = np.concatenate([one.vectors for one in wide]) @ query[0]
        top = np.sort(everything)[::-1][:50]
        assert np.allclose(best([found], query[0]).scores[:50], top, atol=1e-5)
        queries = await queries_of(app, WORDS[3])
        [narrow] = await blocks(app, await view_of(app, haystack), queries)
        assert narrow.vectors.shape[1] == DIMENSIONS


async def _add_wide(app: App, haystack: Haystack, drafts: list[hay.Document]) -> None:
    """As hay.add, of as many dimensions as they have."""
    before = hay.DIMENSIONS
    hay.DIMENSIONS = drafts[0].vectors.shape[1]
    try:
        await hay.add(app, haystack, drafts)
    finally:
        hay.DIMENSIONS = before


async def test_nothing_is_made_where_nothing_is_compared(either: str) -> None:
    async with opened(either) as app:
        haystack = await filled(app, 12, CHUNKS)
        row = (await view_of(app, haystack)).row
        is_able = app.store.halves is not None
        assert app.index.wants_halves(row) == is_able
        assert not app.index.wants_halves(replace(row, dimensions=16_001)), "pgvector takes no more"
        assert not app.index.wants_halves(replace(row, dimensions=None))
        assert await made(app, row, inf)
        queries = await queries_of(app, WORDS[3])
        found = sizes(await blocks(app, await view_of(app, haystack), queries))
        assert (sum(found) < 12 * CHUNKS) == is_able
