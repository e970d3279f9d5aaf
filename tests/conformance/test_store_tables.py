"""Whole tables on every Database that lasts: read in pages, written in batches, and marked."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests import postgres
from tests.conformance.rows import BY_NAME, everything, fill, rows_of
from tests.conformance.shapes import thread
from understudy import limits
from understudy.store import (
    AlreadyRunning,
    Clocked,
    Row,
    Unavailable,
    UnfinishedCopy,
    changes,
    open_database,
    tables,
)
from understudy.store.store import Store
from understudy.store.tables import OWN, TABLES, NoRecord, Progress, Table, Tables, open_tables

KINDS: dict[str, Callable[[Path], str]] = {
    "postgres": postgres.url_of,
    "sqlite": lambda folder: f"sqlite:///{folder}/understudy.db",
}
OBJECTS, JOBS, EVENTS = BY_NAME["objects"], BY_NAME["jobs"], BY_NAME["events"]


@pytest.fixture(params=sorted(KINDS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a record; nothing is there yet."""
    return KINDS[request.param](tmp_path)


@pytest.fixture
async def record(url: str) -> AsyncIterator[Tables]:
    """An empty record."""
    async with opened(url) as record:
        yield record


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Tables]:
    """The record there, as a target."""
    record = await open_tables(url, "target")
    try:
        yield record
    finally:
        await record.close()


async def read_all(record: Tables, table: Table, rows: int, size_bytes: int) -> list[list[Row]]:
    """All pages of a table."""
    pages: list[list[Row]] = []
    after = None
    while page := await record.read(table, after, rows, size_bytes):
        pages.append(page)
        after = record.place(table, page[-1])
    return pages


def keys_of(table: Table, rows: list[Row]) -> list[Row]:
    """The keys of rows."""
    return [tuple(row[place] for place in table.places(table.key)) for row in rows]


async def test_the_declared_tables_are_the_ones_that_are_there(record: Tables) -> None:
    """A table or column that is not declared would be forgotten by a move. Own ones are named."""
    found = await record.columns()
    declared = {table.name: dict(table.kinds) for table in TABLES}
    assert {name: columns for name, columns in found.items() if name not in OWN} == declared
    assert {"migrations", "nodes"} <= found.keys()
    assert tables.unknown_columns(found) == []
    assert tables.unknown_columns({**found, "later": {"id": "text"}}) == ["later.id"]
    assert tables.unknown_columns({"keys": {"id": "text", "new": "text"}}) == ["keys.new"]


async def test_rows_are_read_and_found_as_they_were_written(record: Tables) -> None:
    """Every column of every kind, nulls and empty bytes included; types too, which `==` overlooks
    in numbers and booleans."""
    await record.begin("x")
    for table in TABLES:
        rows = rows_of(table, 20)
        await record.write(table, rows, Progress(table.name))
        found = [row for page in await read_all(record, table, 7, 10**9) for row in page]
        assert sorted(map(repr, found)) == sorted(map(repr, rows))
        assert await record.count(table) == 20
        wanted = keys_of(table, [*rows[3:9], *rows_of(table, 1, first=500)])
        found = await record.find(table, wanted)
        assert sorted(map(repr, found)) == sorted(map(repr, rows[3:9]))


async def test_a_page_ends_with_the_row_that_fills_it(record: Tables) -> None:
    """So a page of large rows is short, and a row larger than a page is a page."""
    sizes = [10, 10, 3_000, 10, 10, 10]
    rows: list[Row] = [
        ("run", "delta", b"x" * size, 1, place, place, 1.5) for place, size in enumerate(sizes)
    ]
    assert EVENTS.columns[:3] == ("run_id", "kind", "frames")
    await record.begin("x")
    await record.write(EVENTS, rows, Progress("events"))
    pages = await read_all(record, EVENTS, 1_000, 25)
    assert [len(page) for page in pages] == [2, 1, 2, 1]
    assert [row for page in pages for row in page] == rows


async def test_a_batch_and_its_progress_are_one(url: str) -> None:
    """A refused batch leaves neither; what was written outlives whoever wrote it."""
    rows = rows_of(OBJECTS, 4)
    first = Progress("objects", place=("objects 2",), rows=2, size_bytes=99, replaced=3)
    async with opened(url) as record:
        await record.begin("the source")
        await record.write(OBJECTS, rows[:2], first)
        with pytest.raises(Unavailable):
            await record.write(OBJECTS, rows[1:], Progress("objects", place=("no",), rows=5))
        with pytest.raises((Unavailable, OverflowError)):  # It is the progress that is refused.
            await record.write(OBJECTS, rows[2:], Progress("objects", rows=2**70))
    async with opened(url) as record:
        assert await record.count(OBJECTS) == 2
        copying = await record.copying()
        assert copying is not None
        assert copying.source == "the source"
        assert copying.progress["objects"] == first
        assert copying.progress["jobs"] == Progress("jobs")
        await record.write(OBJECTS, [], Progress("objects", is_done=True))
        copying = await record.copying()
        assert copying is not None
        assert copying.progress["objects"].is_done


async def test_no_server_opens_an_unfinished_copy(url: str) -> None:
    async with opened(url) as record:
        await fill(record)
        assert await record.copying() is None
        await record.begin("x")
    with pytest.raises(UnfinishedCopy, match="not finished"):
        await open_database(url)
    with pytest.raises(UnfinishedCopy):
        await open_database(url, apart=True)
    async with opened(url) as record:
        await record.finish()
    await (await open_database(url)).close()


async def test_numbers_go_on_behind_the_last_one(url: str) -> None:
    """Also behind those of rows that are gone: a tombstone keeps its place."""
    async with opened(url) as record:
        assert await record.last_number(OBJECTS) == 0
        await record.begin("x")
        await record.write(OBJECTS, rows_of(OBJECTS, 3), Progress("objects"))
        await record.settle({"objects": 41, "stores": 7, "documents": 0})
        await record.settle({"objects": 41, "stores": 7, "documents": 0})
        await record.finish()
    store = Store(await open_database(url))
    await store.commit(thread("thread_new"))
    await store.close()
    async with opened(url) as record:
        found = {
            row[OBJECTS.columns.index("id")]: row for row in (await everything(record))["objects"]
        }
        assert found["thread_new"][OBJECTS.columns.index("seq")] == 42
        assert await record.last_number(OBJECTS) == 42
        assert await record.last_number(BY_NAME["stores"]) == 7
        assert await record.last_number(BY_NAME["documents"]) == 0


async def test_the_identity_is_a_records_own(url: str, tmp_path: Path) -> None:
    async with opened(url) as record, opened(f"sqlite:///{tmp_path}/other.db") as other:
        identity = await record.identity()
        assert identity != await other.identity()
        await fill(record)
        assert await record.identity() == identity
    async with opened(url) as record:
        assert await record.identity() == identity


async def test_a_source_has_to_be_there(url: str) -> None:
    """And is not made by a slip of the pen."""
    with pytest.raises(NoRecord):
        await open_tables(url, "source")
    with pytest.raises(NoRecord):
        await open_tables(url, "source")


async def test_two_copiers_do_not_meet(
    url: str, record: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COPY_LOCK_S", "LOCK_WAIT_S"):
        monkeypatch.setattr(f"understudy.limits.{name}", 0.1)
    with pytest.raises(AlreadyRunning):
        await open_tables(url, "target")


async def test_a_nul_is_another_letter_where_none_can_be(record: Tables) -> None:
    """What the record can hold it holds, and takes without a word."""
    rows = rows_of(BY_NAME["keys"], 3, text="a\0b")
    kept = record.storable(BY_NAME["keys"], rows)
    assert kept in (rows, rows_of(BY_NAME["keys"], 3, text="a�b"))
    await record.begin("x")
    await record.write(BY_NAME["keys"], kept, Progress("keys"))
    assert await record.read(BY_NAME["keys"], None, 9, 10**6) == kept


async def test_servers_that_were_seen_a_moment_ago_are_named(url: str) -> None:
    """But for where a lock keeps them out, and says so itself."""
    database = await open_database(url)
    now = database.now() if isinstance(database, Clocked) else 100.0
    for id, seen_at in (("boot_a", now), ("boot_b", now - limits.COPY_SEEN_S - 1)):
        kept = changes.keep_node(id, role="serve", version="1", live_runs=0, now=seen_at)
        await Store(database).commit(kept)
    await database.close()
    async with opened(url) as record:
        named = await record.servers()
    assert [line.partition(" ")[0] for line in named] == (
        ["boot_a"] if url.startswith("postgres") else []
    )
