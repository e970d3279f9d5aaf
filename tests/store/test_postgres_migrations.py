"""Migrations: many servers at once, servers of the version before, and what fails in the middle."""

import asyncio
from collections.abc import Iterator
from itertools import count

import asyncpg
import pytest

from tests.conformance.shapes import job, thread
from tests.fleet.clusters import schema
from tests.fleet.cut import Wire, executes
from tests.fleet.statements import execute, fetch
from tests.store.locks import blocker
from tests.store.storms import COUNTER, counted
from understudy import limits
from understudy.store import Statement, Unavailable, open_database
from understudy.store.postgres_line import Line, Texts
from understudy.store.postgres_migrations import migrate
from understudy.store.statements import load_migrations, load_queries
from understudy.store.store import Store

ALL = load_migrations("postgres")
NAMES = [(name,) for name, _ in ALL]
APPLIED = "select name from migrations order by name"
# What a server before 0003 says of jobs.
OLD = {
    "insert_job": """
        insert into jobs (
          id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence
        )
        values (
          :id, :kind, :project, :thread_id, :due_at, :expires_at, :lease_owner, :lease_until, :fence
        )""",
    "rest_job": """
        update jobs set lease_owner = null, lease_until = null, due_at = :due_at
        where id = :id and fence = :fence""",
    "job": "select id, kind, project, thread_id, due_at, fence, lease_owner from jobs "
    "where id = :id",
}


@pytest.fixture
def url() -> Iterator[str]:
    """A schema without a table."""
    with schema() as fresh:
        yield fresh


def with_more(name: str, script: str) -> list[tuple[str, str]]:
    """All migrations, and another one."""
    return [*ALL, (name, script)]


async def test_many_servers_open_an_empty_schema_at_once(url: str) -> None:
    """One of them migrates, the others wait for it; each of them works."""
    opened = await asyncio.gather(*(open_database(url) for _ in range(10)))
    stores = [Store(database) for database in opened]
    assert fetch(url, APPLIED) == NAMES
    await stores[0].commit(COUNTER)
    await asyncio.gather(*(store.commit(counted()) for store in stores))
    assert fetch(url, "select children from objects") == [(10,)]
    await asyncio.gather(*(store.close() for store in stores))


async def test_who_finds_nothing_new_waits_for_nobody(url: str) -> None:
    """A server starts although another one, of a version to come, migrates for an hour."""
    await migrate(url)
    other = await asyncpg.connect(url)
    await other.execute("select pg_advisory_lock($1, hashtext(current_schema()))", 0x756E6465)
    await asyncio.wait_for(migrate(url), 5)
    newer = asyncio.create_task(migrate(url, with_more("0009_more", "create table more ()")))
    done, _ = await asyncio.wait([newer], timeout=0.3)
    assert not done
    await other.close()
    await asyncio.wait_for(newer, 5)
    assert fetch(url, APPLIED) == [*NAMES, ("0009_more",)]


async def test_a_migration_that_fails_leaves_nothing_and_is_tried_again(url: str) -> None:
    """Those before it stay."""
    wrong = with_more("0009_more", "create table more (n int); select 1 / 0")
    for _ in range(2):
        with pytest.raises(ValueError, match="migration 0009_more fails: division by zero"):
            await migrate(url, wrong)
        assert fetch(url, APPLIED) == NAMES
        assert fetch(url, "select to_regclass('more') is null") == [(True,)]
    await migrate(url, with_more("0009_more", "create table more (n int)"))
    assert fetch(url, APPLIED) == [*NAMES, ("0009_more",)]


async def test_a_migration_that_is_cut_off_leaves_nothing_and_is_done_again(url: str) -> None:
    """Before the server has it, and when the answer is lost: then it finds it done."""
    with Wire(url) as wire:
        for moment in ("before", "after"):
            trap = wire.cut_when(executes("create table jobs"), moment)
            with pytest.raises(Unavailable):
                await migrate(wire.url)
            assert trap.has_sprung
        assert fetch(url, "select to_regclass('jobs') is null") == [(True,)]
        trap = wire.cut_when(executes("commit;"), "after")
        with pytest.raises(Unavailable):
            await migrate(wire.url)
        assert fetch(url, APPLIED) == NAMES[:1]
        await migrate(wire.url)
    assert fetch(url, APPLIED) == NAMES


async def test_a_migration_keeps_nobody_waiting_for_who_is_in_its_way(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup reads the jobs for long. Servers of the version before go on, for a migration that
    waits has everybody else wait; when the backup is done, so is the migration."""
    monkeypatch.setattr(limits, "MIGRATION_LOCK_S", 0.1)
    monkeypatch.setattr(limits, "MIGRATION_RETRY_S", 0.3)
    old = await old_line(url)
    backup = await blocker(url, "select count(*) from jobs")
    migrating = asyncio.create_task(migrate(url))
    loop = asyncio.get_running_loop()
    is_over_at = loop.time() + 1.0
    for number in count():
        await asyncio.wait_for(old.commit(old_job(f"run_{number}")), 2.0)
        if loop.time() > is_over_at:
            break
    assert not migrating.done()
    await backup.execute("commit")
    await asyncio.wait_for(migrating, 5)
    assert fetch(url, APPLIED) == NAMES
    await backup.close()
    await old.close()


async def test_an_old_and_a_new_server_work_on_the_same_jobs(url: str) -> None:
    """The old one's connections are those that it had before; each goes on with the other's."""
    old = await old_line(url)
    await old.commit([*old_job("run_1"), thread("thread_1")])
    assert len(await old.fetch("job", {"id": "run_1"})) == 1
    new = Store(await open_database(url))
    await old.commit(old_job("run_2"))
    await new.commit(job("run_3", next_call="turn-1"), job("run_4"))
    claimed = await new.claim(owner="new", now=200.0, lease_until=300.0, free=9, per_project=9)
    assert [one.job.id for one in claimed] == ["run_1", "run_2", "run_3", "run_4"]
    for number in (1, 3):
        rest = {"id": f"run_{number}", "fence": 1, "due_at": 150.0}
        await old.commit([Statement("rest_job", rest, rows=1)])
        [(_, _, _, _, due_at, fence, owner)] = await old.fetch("job", {"id": f"run_{number}"})
        assert (due_at, fence, owner) == (150.0, 1, None)
    again = await new.claim(owner="new", now=200.0, lease_until=300.0, free=9, per_project=9)
    assert sorted(one.job.id for one in again) == ["run_1", "run_3"]
    await new.close()
    await old.close()


async def old_line(url: str) -> Line:
    """A connection of a server before 0003, which has migrated."""
    inserting = load_queries("postgres")["insert_object"]
    queries = {**OLD, "insert_object": inserting}
    await migrate(url, ALL[:2], queries)

    async def joined(_: object) -> None:
        """It saves no deltas."""

    return Line("old", url, Texts(queries), joined)


def old_job(id: str) -> list[Statement]:
    """A job as a server before 0003 makes it."""
    made = job(id)
    return [Statement("insert_job", {**made.args})]


INDEX = """
drop index concurrently if exists objects_kind;
create index concurrently objects_kind on objects (kind);
"""
IS_VALID = "select indisvalid from pg_index where indexrelid = 'objects_kind'::regclass"


async def test_an_index_on_a_large_table_is_built_beside_its_writers(url: str) -> None:
    """Several servers want it, one builds it; a commit that began before is waited for, those that
    come meanwhile are not kept from anything."""
    await migrate(url)
    store = Store(await open_database(url))
    await store.commit(COUNTER)
    other = await blocker(
        url,
        "insert into objects (id, kind, project, parent, created_at, body)"
        "values ('x', 'thread', 'p', '', 1, '{}')",
    )
    more = with_more("0009_index", INDEX)
    building = [asyncio.create_task(migrate(url, more)) for _ in range(3)]
    await is_building(url)
    for _ in range(20):
        await asyncio.wait_for(store.commit(counted()), 1.0)
    await other.execute("commit")
    await asyncio.wait_for(asyncio.gather(*building), 10)
    assert fetch(url, IS_VALID) == [(True,)]
    await store.close()
    await other.close()


async def test_an_index_that_was_cut_off_is_built_again(url: str) -> None:
    """What is left of it is of no use to anybody."""
    await migrate(url)
    other = await blocker(
        url,
        "insert into objects (id, kind, project, parent, created_at, body)"
        "values ('x', 'thread', 'p', '', 1, '{}')",
    )
    more = with_more("0009_index", INDEX)
    building = asyncio.create_task(migrate(url, more))
    pid = await is_building(url)
    execute(url, f"select pg_terminate_backend({pid})")
    with pytest.raises(Unavailable):
        await building
    await other.execute("commit")
    assert fetch(url, IS_VALID) == [(False,)]
    await migrate(url, more)
    assert fetch(url, IS_VALID) == [(True,)]
    await other.close()


async def is_building(url: str) -> int:
    """The server process that builds an index in this schema, as soon as it waits for others."""
    connection = await asyncpg.connect(url)
    asking = """
        select pid from pg_stat_activity
        where query like 'create index concurrently%' and wait_event_type = 'Lock'
          and pid in (select pid from pg_locks where relation = 'objects'::regclass)
    """
    try:
        async with asyncio.timeout(10):
            while True:
                for (pid,) in await connection.fetch(asking):
                    return int(pid)
                await asyncio.sleep(0.01)
    finally:
        await connection.close()
