"""PostgreSQL servers of tests: a schema each, crashes that lose nothing, disks that are full."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.fleet import clusters, installations
from tests.fleet.clusters import Cluster, database, private, schema
from tests.fleet.installations import Installation
from tests.fleet.statements import execute, fetch


@pytest.fixture(params=["machine", "wheel"], scope="module")
def installation(request: pytest.FixtureRequest) -> Installation:
    """Both kinds have the same interface."""
    found: Installation = getattr(installations, request.param)()
    return found


@pytest.fixture(scope="module")
def started(installation: Installation) -> Iterator[Cluster]:
    """One of each kind, which the tests let crash in turn."""
    with private(installation) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """It runs, and has an empty table."""
    if not started.is_running:
        started.start()
    execute(started.url, "drop table if exists t", "create table t (n int)")
    return started


def recovers(cluster: Cluster) -> bool:
    """Start it again; whether it had to make up for the way it ended."""
    before = len(cluster.log)
    cluster.start()
    return "was not properly shut down" in cluster.log[before:]


async def test_two_schemas_of_one_server_do_not_see_each_other() -> None:
    """asyncpg takes the search path from the URL, which is what the server will be given."""
    with schema() as one, schema() as other:
        execute(one, "create table t (n int)", "insert into t values (1)")
        execute(other, "create table t (n int)")
        connection = await asyncpg.connect(other)
        try:
            assert await connection.fetchval("select count(*) from t") == 0
        finally:
            await connection.close()
        assert fetch(one, "select n from t") == [(1,)]


def test_a_schema_is_gone_afterwards_even_when_its_test_failed() -> None:
    """Thousands of runs on one server leave nothing there."""
    with pytest.raises(RuntimeError), schema() as url:
        execute(url, "create table t (n int)")
        raise RuntimeError
    name = url.rpartition("=")[2]
    names = fetch(clusters.server(), "select nspname from pg_namespace where nspname = $1", name)
    assert names == []


def test_a_database_is_alone_with_its_locks_and_gone_afterwards(cluster: Cluster) -> None:
    """Advisory locks are what schemas share and databases do not."""
    lock = "select pg_try_advisory_lock(20261130)"

    async def both(one: str, other: str) -> list[bool]:
        connections = [await asyncpg.connect(url) for url in (one, other)]
        try:
            return [await connection.fetchval(lock) for connection in connections]
        finally:
            for connection in connections:
                await connection.close()

    with database(cluster.url) as one, database(cluster.url) as other:
        assert asyncio.run(both(one, other)) == [True, True]
        assert asyncio.run(both(one, one)) == [True, False]
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        fetch(one, "select 1")


def test_a_crash_loses_the_server_and_nothing_that_it_acknowledged(cluster: Cluster) -> None:
    """What was committed is there after recovery, what was open is not; port and data stay."""

    async def work() -> None:
        connection = await asyncpg.connect(cluster.url)
        await connection.execute("insert into t values (1)")
        await connection.execute("begin; insert into t values (2)")
        await asyncio.to_thread(cluster.crash)
        with pytest.raises((OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
            await connection.fetchval("select 1")

    asyncio.run(work())
    with pytest.raises(ConnectionRefusedError):
        fetch(cluster.url, "select 1")
    assert recovers(cluster)
    assert fetch(cluster.url, "select n from t") == [(1,)]
    assert fetch(cluster.url, "show fsync") == [("on",)]


def test_an_immediate_stop_tells_its_clients_and_recovers(cluster: Cluster) -> None:
    """The other way in which a server goes: as an operator in a hurry ends it."""

    async def work() -> None:
        connection = await asyncpg.connect(cluster.url)
        told = asyncio.Event()
        connection.add_termination_listener(lambda _: told.set())
        await asyncio.to_thread(cluster.stop_at_once)
        await asyncio.wait_for(told.wait(), 10)

    asyncio.run(work())
    assert recovers(cluster)
    assert fetch(cluster.url, "select n from t") == []


def test_a_plain_stop_needs_no_recovery(cluster: Cluster) -> None:
    """Against which the two others are told apart."""
    cluster.stop()
    assert not cluster.is_running
    assert not recovers(cluster)
    assert fetch(cluster.url, "select n from t") == []


def test_a_full_disk_fails_statements_until_there_is_room(installation: Installation) -> None:
    """On a disk of its own; this test needs root, and fails without."""
    filling = "insert into t select repeat('x', 1000) from generate_series(1, 5000)"
    with private(installation, disk_mb=96) as cluster:
        execute(cluster.url, "create table t (text text)")
        cluster.fill_disk()
        with pytest.raises(asyncpg.DiskFullError):
            execute(cluster.url, filling)
        cluster.free_disk()
        execute(cluster.url, filling)
        assert fetch(cluster.url, "select count(*) from t") == [(5000,)]


def test_a_server_that_cannot_write_its_log_ends_and_loses_nothing(
    installation: Installation,
) -> None:
    """The log of writes is on the small disk, too. A row a time and a lot of log beside it, until
    the server is gone: with room again, it knows what it had acknowledged."""
    noise = "select pg_logical_emit_message(true, 'noise', repeat('x', 2000000))"
    known = 0  # Its page is there before the disk is full; the others fit in.
    with private(installation, disk_mb=96) as cluster:
        execute(cluster.url, "create table t (n int)", "insert into t values (0)")
        cluster.fill_disk()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            for number in range(1, 100):
                execute(cluster.url, f"insert into t values ({number})", noise)
                known = number
        cluster.wait()
        assert "PANIC" in cluster.log
        cluster.free_disk()
        cluster.start()
        assert known > 0
        assert fetch(cluster.url, "select max(n) from t")[0][0] in (known, known + 1)


def test_the_wheels_server_has_pgvector() -> None:
    """Which Debian 12 does not have."""
    with private(installations.wheel()) as cluster:
        execute(cluster.url, "create extension vector")
        distance = fetch(cluster.url, "select '[1,2]'::vector <-> '[4,6]'::vector")
        assert distance == [(5.0,)]
        assert fetch(cluster.url, "show server_version")[0][0].startswith("16.")


def test_the_machines_server_counts_statements() -> None:
    """By which a test knows how many statements a run takes."""
    with private(installations.machine(), statements=True) as cluster:
        for _ in range(3):
            execute(cluster.url, "select 'counted'")
        counted = fetch(
            cluster.url,
            "select sum(calls)::int from pg_stat_statements where query like $1",
            "select $1",
        )
        assert counted == [(3,)]


def test_settings_reach_the_server() -> None:
    """A small number of connections, a long checkpoint: what a test is about."""
    with private(max_connections="7") as cluster:
        assert fetch(cluster.url, "show max_connections") == [("7",)]


def test_nothing_is_left_of_a_server_that_crashed(installation: Installation) -> None:
    """Neither its folder nor its shared memory, though nobody had it stop in order."""
    with private(installation) as cluster:
        maker = str(cluster.pid)
        assert maker in makers_of_shared_memory()
        cluster.crash()
    assert maker not in makers_of_shared_memory()
    assert cluster.log == ""


def makers_of_shared_memory() -> set[str]:
    """The process that made each block on this machine."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {line.split()[4] for line in lines}
