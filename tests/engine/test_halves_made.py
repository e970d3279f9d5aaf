"""How a record comes to compare the vectors of a large store, and stops: made by the ingestion, cut
off anywhere, gone with the documents."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from tests.engine import haystack as hay
from tests.engine.comparing import SMALL, blocks, count, filled, make, server, view_of
from tests.engine.ingesting import (
    SMALL as SMALL_CHUNKS,
)
from tests.engine.ingesting import (
    Obedient,
    attach,
    find,
    quiet,
    settled,
    text,
    upload,
    working,
)
from tests.engine.ingesting import (
    make as make_store,
)
from tests.engine.stage import Clock, Hooked, Stage, make_app, opened_store
from tests.fleet.clusters import database
from tests.fleet.statements import execute, fetch
from understudy import limits
from understudy.engine.app import App
from understudy.engine.halves import made
from understudy.engine.index import Index
from understudy.search.choice import Embedders
from understudy.store import Comparing, Database, Row, Unavailable, index_changes
from understudy.store.store import Store

ALL = """
select document, part, place, ordinal, embedding::text from halves order by document, part, place
"""
LONG = 7_000  # Words: three parts of small chunks.


@pytest.fixture(scope="module")
def comparing() -> Iterator[str]:
    """A server with pgvector."""
    yield from server("with pgvector")


@pytest.fixture
def url(comparing: str) -> Iterator[str]:
    """A database of this test's own there."""
    with database(comparing) as fresh:
        yield fresh


class Passing(Hooked):
    """Hooks around a database that compares."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner)
        self.compares = isinstance(inner, Comparing) and inner.compares


@asynccontextmanager
async def indexing(store: Store, folder: Path, bound: int) -> AsyncIterator[Stage]:
    """A server whose memory holds stores of so many bytes."""
    async with working(store, folder, Obedient()) as stage:
        stage.app.index._bound = bound
        yield stage


class Listening(Passing):
    """It notes what is asked for what is missing."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner)
        self.looks: list[object] = []

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """As the inner one."""
        if query == "unhalved":
            self.looks.append(args["after"])
        return await super().fetch(query, args)


async def test_what_is_done_is_not_looked_at_again(url: str) -> None:
    """Of 10,000 documents, each look at all of them would take longer than the work."""
    async with opened_store(url, Listening) as store:
        app = await _large(store)
        haystack = await filled(app, 5, 4)
        await make(app, haystack)
        assert isinstance(store._database, Listening)
        assert store._database.looks == [0, *sorted(haystack.documents)]


async def test_a_store_that_grows_too_large_is_compared_from_then_on(
    url: str, tmp_path: Path
) -> None:
    """Half of what memory holds is the border; what was there before is made with what comes."""
    async with opened_store(url) as store, indexing(store, tmp_path, 10**9) as stage:
        store_id = await make_store(
            stage, await upload(stage, text(LONG)), chunking_strategy=SMALL_CHUNKS
        )
        await settled(stage, store_id)
        await quiet(stage)
        assert count(url, "halves") == 0
        [row] = await store.indexes("default", [store_id])
        stage.app.index._bound = 3 * row.size_bytes
        await attach(stage, store_id, await upload(stage, text(300)))
        await settled(stage, store_id)
        await quiet(stage)
        assert count(url, "halves") == 0, "it is not half of it yet"
        last = await upload(stage, text(LONG, "zeta"))
        await attach(stage, store_id, last, chunking_strategy=SMALL_CHUNKS)
        await settled(stage, store_id)
        await quiet(stage)
        parts = "select count(*) from parts where not exists (select 1 from halves where"
        [(lacking,)] = fetch(url, f"{parts} document = parts.document and part = parts.part)")
        assert (count(url, "halved"), lacking) == (3, 0)
        assert await find(stage, store_id, "zeta", max_num_results=1) == [last]


async def test_each_vector_is_kept_once_with_its_chunk(url: str) -> None:
    """As the parts have them, and the same after a second time."""
    async with hay.opened_app(url, cache_bytes=SMALL) as app:
        haystack = await filled(app, 9, 5)
        await make(app, haystack)
        rows = fetch(url, ALL)
        assert len(rows) == 45
        for document, part, place, ordinal, embedding in rows:
            vector = haystack.documents[document].vectors[place]
            assert (part, ordinal) == (0, place)
            assert embedding == f"[{','.join(f'{value:g}' for value in vector.tolist())}]"
        execute(url, "delete from halved")
        await make(app, haystack)
        assert fetch(url, ALL) == rows and count(url, "halved") == 9


async def test_what_is_deleted_leaves_nothing(url: str) -> None:
    """By the clean-up that was there before all this: an older server's does, too."""
    async with hay.opened_app(url, cache_bytes=SMALL, works=True) as app:
        haystack = await filled(app, 12, 5)
        await make(app, haystack)
        doomed = next(iter(haystack.documents))
        await hay.remove(app, haystack, doomed)
        with app.bell.subscribe("jobs") as rings:
            while fetch(url, f"select 1 from documents where number = {doomed}"):
                await rings.wait(0.02)
        assert (count(url, "halved"), count(url, "halves")) == (11, 55)
        assert not fetch(url, f"select 1 from halves where document = {doomed}")


async def test_a_document_that_goes_meanwhile_stops_nobody(url: str) -> None:
    async with opened_store(url, Passing) as store:
        app = await _large(store)
        haystack = await filled(app, 3, 5)
        doomed = next(iter(haystack.documents))
        hooks = store._database
        assert isinstance(hooks, Passing)

        async def delete(names: list[str]) -> None:
            if names == ["keep_halves"]:
                execute(url, f"delete from parts where document = {doomed}")
                execute(url, f"delete from documents where number = {doomed}")

        hooks.before = delete
        assert await made(app, (await view_of(app, haystack)).row, inf)
        assert (count(url, "halved"), count(url, "halves")) == (2, 10)


async def _large(store: Store) -> App:
    """An App for which every store is large."""
    app = make_app(store, Clock())
    embedders = Embedders(hay.Whole(), monotonic=app.world.monotonic)
    return replace(app, embedders=embedders, index=Index(store, size_bytes=SMALL))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_whoever_is_stopped_the_next_one_goes_on(url: str, when: str) -> None:
    """At each commit. Searches find the same all the while, and the end is the same."""
    async with opened_store(url, Passing) as store:
        app = await _large(store)
        haystack = await filled(app, 10, 4)
        row = (await view_of(app, haystack)).row
        hooks = store._database
        assert isinstance(hooks, Passing)
        await make(app, haystack)
        whole = fetch(url, ALL)
        execute(url, "delete from halved", "delete from halves")
        wanted = await haystack.found(app, hay.WORDS[3], None, 50)
        deaths = 0

        async def die(names: list[str]) -> None:
            if names[0] in ("keep_halves", "mark_halved"):
                nonlocal deaths
                deaths += 1
                if deaths % 2:
                    raise Unavailable("The server died.")

        setattr(hooks, when, die)
        for _ in range(100):
            assert await haystack.found(app, hay.WORDS[3], None, 50) == wanted
            try:
                assert await made(app, row, inf)
            except Unavailable:
                continue
            break
        assert deaths >= 20
        assert fetch(url, ALL) == whole and count(url, "halved") == 10


async def test_a_document_is_whole_only_with_all_its_parts(url: str, tmp_path: Path) -> None:
    """Whoever says so."""
    async with opened_store(url) as store, indexing(store, tmp_path, 1) as stage:
        store_id = await make_store(
            stage, await upload(stage, text(LONG)), chunking_strategy=SMALL_CHUNKS
        )
        await settled(stage, store_id)
        await quiet(stage)
        assert (count(url, "halved"), count(url, "parts")) == (1, 3)
        execute(url, "delete from halved", "delete from halves where part = 1")
        [(document,)] = fetch(url, "select number from documents")
        await store.commit(index_changes.mark_halved(document))
        assert count(url, "halved") == 0
        assert store.halves is not None
        [(part, _, _)] = await store.halves.missing(document, limit=9)
        assert part == 1


async def test_files_that_come_meanwhile_go_first(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made a slice at a time. Here a slice is one commit."""
    monkeypatch.setattr(limits, "INGEST_SLICE_S", -1.0)
    async with opened_store(url, Passing) as store, indexing(store, tmp_path, 1) as stage:
        hooks = store._database
        assert isinstance(hooks, Passing)
        late = await upload(stage, text(50, "late"))
        order: list[str] = []

        async def come(names: list[str]) -> None:
            if names == ["keep_halves"] and "halves" not in order:
                order.append("halves")
                await attach(stage, store_id, late)
            elif "ready_document" in names:
                order.append("file")
            elif names == ["mark_halved"]:
                order.append("whole")

        hooks.before = come
        store_id = await make_store(stage)
        first = await upload(stage, text(LONG))
        await attach(stage, store_id, first, chunking_strategy=SMALL_CHUNKS)
        await settled(stage, store_id)
        await quiet(stage)
        assert order == ["file", "halves", "file", "whole", "whole"]
        assert count(url, "halved") == 2


async def test_a_table_that_was_restored_without_the_other_is_filled(url: str) -> None:
    """It says that all vectors are there, and none is: they are read, and made again."""
    async with hay.opened_app(url, cache_bytes=SMALL) as app:
        haystack = await filled(app, 12, 30)
        await make(app, haystack)
        wanted = await haystack.found(app, hay.WORDS[3], None, 50)
        rows = fetch(url, ALL)
        execute(url, "truncate halves")
        assert count(url, "halved") == 12
        assert await haystack.found(app, hay.WORDS[3], None, 50) == wanted
        await make(app, haystack)
        assert fetch(url, ALL) == rows


async def test_a_server_that_loses_the_extension_goes_on_without(url: str) -> None:
    """The first search after that fails, as one does when the server is away for a moment."""
    async with hay.opened_app(url, cache_bytes=SMALL) as app:
        haystack = await filled(app, 12, 30)
        await make(app, haystack)
        wanted = await haystack.found(app, hay.WORDS[3], None, 50)
        execute(url, "drop extension vector cascade")
        with pytest.raises(Unavailable):
            await haystack.found(app, hay.WORDS[3], None, 50)
        assert await haystack.found(app, hay.WORDS[3], None, 50) == wanted
        assert app.store.halves is None
    async with hay.opened_app(url, cache_bytes=SMALL) as app:
        assert app.store.halves is not None, "a start makes it again"
        assert (count(url, "halved"), count(url, "halves")) == (0, 0)
        assert await haystack.found(app, hay.WORDS[3], None, 50) == wanted
        await make(app, haystack)
        assert await haystack.found(app, hay.WORDS[3], None, 50) == wanted
        view = await view_of(app, haystack)
        queries = (await hay.Whole().embed([hay.WORDS[3]], is_query=True)).vectors
        assert sum(len(block.keys) for block in await blocks(app, view, queries)) < 360
