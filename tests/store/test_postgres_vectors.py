"""What PostgreSQL is given to compare vectors with: where it can be, and nowhere else."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.conformance.indexing import cleaned, indexed, row, vector_store
from tests.conformance.shapes import thread
from tests.fleet.clusters import Cluster, database, private
from tests.fleet.installations import machine, wheel
from tests.fleet.statements import execute, fetch
from tests.transfer.places import contents, filled, moved
from tests.transfer.places import opened as opened_tables
from understudy.store import Comparing, index_changes, open_database
from understudy.store.postgres import PostgresDatabase
from understudy.store.postgres_connect import connect
from understudy.store.postgres_migrations import migrate
from understudy.store.postgres_text import text_of
from understudy.store.postgres_vectors import prepare
from understudy.store.statements import load_queries
from understudy.store.store import Store
from understudy.store.tables import unknown_columns

TABLES = """
select relname from pg_class
where relname in ('halved', 'halves') and relnamespace = current_schema()::regnamespace
order by relname
"""
BOTH = [("halved",), ("halves",)]
WHERE = """
select nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
where extname = 'vector'
"""
VECTORS = b"\0\0\x80\x3f\0\0\0\0" + b"\0\0\0\0\0\0\x80\x3f"  # (1, 0) and (0, 1).
HALVES = [b"\0\x3c\0\0", b"\0\0\0\x3c"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server with pgvector."""
    with private(wheel()) as cluster:
        yield cluster


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """An empty database there."""
    with database(cluster.url) as fresh:
        yield fresh


async def opened(url: str) -> tuple[Store, list[str]]:
    """A store, and the reasons that the log has for not comparing."""
    with capture_logs() as lines:
        store = Store(await open_database(url))
    return store, [line["reason"] for line in lines if "pgvector is not" in line["event"]]


async def two_vectors(store: Store) -> int:
    """A document that has two chunks, whose vectors are compared."""
    await store.commit(vector_store())
    document = await indexed(store, "file_1", vectors=VECTORS)
    await store.commit(
        index_changes.keep_halves(document, 0, ordinals=[0, 1], halves=HALVES),
    )
    await store.commit(index_changes.mark_halved(document))
    return document


async def compared(store: Store, document: int) -> list[tuple[int, float]]:
    """The chunks of a document, by how much they are like (1, 0), with their scores."""
    assert store.halves is not None
    rows = await store.halves.nearest([document], HALVES[0], most=10)
    return [(one.ordinal, one.score) for one in rows]


async def test_it_is_made_where_the_extension_can_be(url: str) -> None:
    """In the schema of all, where it outlives ours: others may come to need it."""
    store, reasons = await opened(f"{url}?search_path=public")
    document = await two_vectors(store)
    assert await compared(store, document) == [(0, 1.0), (1, 0.0)]
    assert store.halves is not None
    assert await store.halves.whole([document, document + 1]) == {document}
    assert await store.halves.exact([(document, 0, 1), (document, 1, 0)], size_bytes=8) == {
        (document, 0, 1): VECTORS[8:]
    }
    assert (fetch(url, TABLES), fetch(url, WHERE), reasons) == (BOTH, [("public",)], [])
    await store.close()


async def test_only_servers_make_it(url: str) -> None:
    """A command that looks at the record for a moment has other things to say."""
    with capture_logs() as lines:
        database = await open_database(url, beside=True)
    assert (fetch(url, TABLES), Store(database).halves, lines) == ([], None, [])
    await database.close()


async def test_two_schemas_share_the_extension(url: str) -> None:
    """Who drops one of them takes nothing from the other."""
    execute(url, "create schema one", "create schema two")
    one, _ = await opened(f"{url}?search_path=one")
    two, _ = await opened(f"{url}?search_path=two")
    assert [await compared(store, await two_vectors(store)) for store in (one, two)] == [
        [(0, 1.0), (1, 0.0)]
    ] * 2
    await one.close()
    execute(url, "drop schema one cascade")
    [ready] = await two.ready_documents((await row(two)).number)
    assert await compared(two, ready.number) == [(0, 1.0), (1, 0.0)]
    await two.close()


async def test_the_extension_may_be_anywhere(url: str) -> None:
    """Where no search path leads, and somewhere else later."""
    execute(url, 'create schema "Else where"', 'create extension vector with schema "Else where"')
    store, reasons = await opened(url)
    document = await two_vectors(store)
    assert await compared(store, document) == [(0, 1.0), (1, 0.0)]
    await store.close()
    execute(url, "create schema there", "alter extension vector set schema there")
    store, more = await opened(url)
    assert await compared(store, document) == [(0, 1.0), (1, 0.0)]
    assert reasons == more == []
    await store.close()


async def test_without_the_extension_all_is_as_it_was() -> None:
    """The machine's own PostgreSQL. Nothing is said either: most have none."""
    with private(machine()) as cluster:
        store, reasons = await opened(cluster.url)
        assert store.halves is None
        assert (fetch(cluster.url, TABLES), reasons) == ([], [])
        await store.commit(vector_store())
        document = await indexed(store, "file_1", vectors=VECTORS)
        assert await store.vectors([document]) == [(document, bytes(8), VECTORS)]
        await store.close()


async def test_sqlite_compares_nothing(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/understudy.db")
    assert not isinstance(database, Comparing)
    assert Store(database).halves is None
    await database.close()


async def test_who_may_not_make_it_does_without(cluster: Cluster, url: str) -> None:
    """It is no mistake in the settings, and nothing that stops a start. One line says so."""
    execute(
        url,
        "create role clerk login",
        "create schema desk authorization clerk",
    )
    path = url.rpartition("/")[2]
    theirs = f"postgresql://clerk@127.0.0.1:{cluster.port}/{path}?search_path=desk"
    for _ in range(2):
        store, reasons = await opened(theirs)
        assert store.halves is None
        assert reasons == ['permission denied to create extension "vector"']
        await store.commit(thread())
        await store.close()
        execute(url, "delete from desk.objects")
    execute(url, "create extension vector with schema public")
    store, reasons = await opened(theirs)
    assert (store.halves is not None, reasons) == (True, [])
    assert await compared(store, await two_vectors(store)) == [(0, 1.0), (1, 0.0)]
    await store.close()
    execute(url, "drop schema desk cascade", "drop role clerk")


async def test_who_may_not_make_tables_does_without(cluster: Cluster, url: str) -> None:
    """A server that only uses what a version before made."""
    store, _ = await opened(url)
    await store.close()
    execute(
        url,
        "drop extension vector cascade",
        "create role user_only login",
        "grant select, insert, update, delete on all tables in schema public to user_only",
        "grant execute on all functions in schema public to user_only",
        "create extension vector",
    )
    path = url.rpartition("/")[2]
    store, reasons = await opened(f"postgresql://user_only@127.0.0.1:{cluster.port}/{path}")
    assert store.halves is None
    [reason] = reasons
    assert "permission denied" in reason or "must be owner" in reason
    await store.close()
    owner, _ = await opened(url)
    await owner.close()
    store, reasons = await opened(f"postgresql://user_only@127.0.0.1:{cluster.port}/{path}")
    assert (store.halves, reasons) == (None, []), "it may not use what the owner made"
    await store.close()
    execute(url, "drop owned by user_only", "drop role user_only")


async def test_an_extension_that_is_too_old_is_not_used(url: str) -> None:
    """It has no half precision."""
    execute(url, "create extension vector", "update pg_extension set extversion = '0.6.2'")
    store, reasons = await opened(url)
    assert store.halves is None
    assert reasons == ["version 0.6.2 is too old: alter extension vector update"]
    await store.close()
    execute(url, "update pg_extension set extversion = '0.10.1' where extname = 'vector'")
    store, reasons = await opened(url)
    assert (store.halves is not None, reasons) == (True, [])
    await store.close()


async def test_a_schema_of_the_time_before_gets_it(cluster: Cluster) -> None:
    """A server that comes to an empty database, and one whose database others use."""
    with database(cluster.url) as url:
        databases = await asyncio.gather(*(open_database(url) for _ in range(6)))
        assert all(isinstance(one, PostgresDatabase) and one.compares for one in databases)
        await asyncio.gather(*(one.close() for one in databases))
        execute(url, "drop function nearest_halves, keep_halves", "drop table halves, halved")
        store, reasons = await opened(url)
        assert await compared(store, await two_vectors(store)) == [(0, 1.0), (1, 0.0)]
        assert reasons == []
        await store.close()


async def test_it_waits_for_who_uses_the_tables(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refers to them, so it must have them for a moment; nobody waits behind it for long."""
    monkeypatch.setattr("understudy.limits.MIGRATION_LOCK_S", 0.05)
    monkeypatch.setattr("understudy.limits.MIGRATION_RETRY_S", 0.05)
    store, _ = await opened(url)
    await store.close()
    execute(url, "drop function nearest_halves, keep_halves", "drop table halves, halved")
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("lock table parts in row exclusive mode")
        making = asyncio.create_task(migrate(url))
        done, _ = await asyncio.wait([making], timeout=0.4)
        assert not done
        execute(url, "set lock_timeout = '1s'; insert into parts values (1, 1, '[]', null, null)")
    await asyncio.wait_for(making, 5)
    await other.close()
    assert fetch(url, TABLES) == BOTH


async def test_it_does_not_wait_for_ever(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start can do without it."""
    monkeypatch.setattr("understudy.limits.MIGRATION_LOCK_S", 0.05)
    monkeypatch.setattr("understudy.limits.MIGRATION_RETRY_S", 0.05)
    monkeypatch.setattr("understudy.limits.HALVES_WAIT_S", 0.2)
    store, _ = await opened(url)
    await store.close()
    execute(url, "drop function nearest_halves, keep_halves", "drop table halves, halved")
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("lock table parts in row exclusive mode")
        store, reasons = await asyncio.wait_for(opened(url), 5)
        assert (store.halves, reasons) == (None, ["canceling statement due to lock timeout"])
        await store.close()
    await other.close()


async def test_a_table_of_somebody_else_stays(url: str) -> None:
    execute(url, "create table halves (of_mine int)", "insert into halves values (1)")
    store, reasons = await opened(url)
    assert (store.halves, reasons) == (None, ['relation "halves" already exists'])
    assert fetch(url, "select of_mine from halves") == [(1,)]
    await store.close()


async def test_a_second_start_makes_nothing(url: str) -> None:
    """Nor does it wait for who migrates."""
    await migrate(url)
    before = fetch(url, "select oid from pg_class where relname in ('halves', 'halved') order by 1")
    other = await asyncpg.connect(url)
    await other.execute("select pg_advisory_lock($1, hashtext(current_schema()))", 0x756E6465)
    await asyncio.wait_for(migrate(url), 5)
    await other.close()
    after = fetch(url, "select oid from pg_class where relname in ('halves', 'halved') order by 1")
    assert before == after


async def test_what_is_there_already_stays(url: str) -> None:
    store, _ = await opened(url)
    document = await two_vectors(store)
    other = index_changes.keep_halves(document, 0, ordinals=[7, 8], halves=HALVES[::-1])
    await store.commit(other)
    assert await compared(store, document) == [(0, 1.0), (1, 0.0)]
    await store.commit(index_changes.keep_halves(document, 1, ordinals=[0], halves=HALVES[:1]))
    assert fetch(url, "select count(*) from halves where part = 1") == [(0,)], "no such part"
    await store.close()


async def test_it_goes_with_its_document(url: str) -> None:
    store, _ = await opened(url)
    document = await two_vectors(store)
    await store.commit(index_changes.drop_document("vs_1", "file_1", project="proj_a", now=1.0))
    await cleaned(store)
    assert fetch(url, "select count(*) from documents") == [(0,)]
    for table in ("halves", "halved"):
        assert fetch(url, f"select count(*) from {table}") == [(0,)]
    assert await compared(store, document) == []
    await store.close()


MANY = """
insert into documents (store, file_id, project, state, attributes, filename)
select number % 2, 'file-' || number, 'proj_a', 'ready', '{}', 'x'
from generate_series(1, 2000) as number;
insert into parts (document, part, terms, owners, vectors)
select number, part, '[]', '\\x', '\\x0000' from documents, generate_series(0, 1) as part;
insert into halves (document, part, place, ordinal, embedding)
select document, part, place, place, array_fill(0.1, array[64])::public.halfvec
from parts, generate_series(0, 9) as place;
insert into halved select number from documents where number % 7 > 0;
"""
ASKED: dict[str, dict[str, object]] = {
    "halved": {"documents": json.dumps(list(range(1, 2_000, 2)))},
    "keep_halves": {"document": 5, "part": 0, "ordinals": [1], "halves": HALVES[:1]},
    "mark_halved": {"document": 7},
    "nearest": {
        "documents": json.dumps(list(range(1, 2_000, 2))),
        "query": HALVES[0] * 32,
        "most": 10,
    },
    "unhalved": {"store": 1, "after": 0},
    "unhalved_parts": {"document": 5, "limit": 8},
    "vector_rows": {"places": json.dumps([[n, 0, 0] for n in range(1, 200)]), "size_bytes": 8},
}


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "analysed"])
async def test_each_statement_finds_its_rows_by_an_index(url: str, is_known: bool) -> None:
    """Whether the planner knows the tables or not: they may be as large as all others together."""
    store, _ = await opened(url)
    await store.close()
    execute(url, MANY, *(["analyze"] if is_known else []))
    connection = await connect(url, 5, 30)
    try:
        assert await prepare(connection)
        for query, args in ASKED.items():
            text = text_of(load_queries("postgres")[query])
            explained = await connection.fetch(f"explain {text.sql}", *text.values(args))
            plan = "\n".join(line for (line,) in explained)
            assert not re.search(r"Seq Scan on (halves|parts)", plan), (query, plan)
            assert query != "nearest" or "halves_pkey" in plan, plan
    finally:
        await connection.close()


async def test_a_copy_takes_none_of_it_along(cluster: Cluster, tmp_path: Path) -> None:
    """And is not kept by it. The target makes its own."""
    with database(cluster.url) as source, database(cluster.url) as target:
        await filled(source)
        store, _ = await opened(source)
        await two_vectors(store)
        await store.close()
        async with opened_tables(source) as tables:
            assert unknown_columns(await tables.columns()) == [], "it is no later version's"
        before = await contents(source)
        for place in (target, f"sqlite:///{tmp_path}/understudy.db"):
            report = await moved(source, place)
            assert (report.differing, report.replaced) == (0, 0)
        assert fetch(source, "select count(*) from halves") == [(2,)]
        assert fetch(target, TABLES) == []
        assert (await contents(target))["parts"] == before["parts"]
        store, _ = await opened(target)
        assert store.halves is not None
        [ready] = await store.ready_documents((await row(store)).number)
        assert await store.halves.whole([ready.number]) == set()
        await store.close()


async def test_a_vector_of_other_dimensions_is_the_callers_mistake(url: str) -> None:
    """No trouble that would pass."""
    store, _ = await opened(url)
    document = await two_vectors(store)
    assert store.halves is not None
    with pytest.raises(TypeError, match="different halfvec dimensions"):
        await store.halves.nearest([document], HALVES[0] * 2, most=3)
    await store.close()
