"""A server that crashes, is full, is a standby or lets nobody in: what callers hear of it."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import count as numbers

import asyncpg
import pytest

from tests.conformance.shapes import PROJECT, job, thread
from tests.fleet.clusters import Cluster, private, schema
from tests.fleet.statements import execute, fetch
from tests.store.storms import COUNTER, Outcome, check, counted, counted_thread, ids, outcome
from understudy import limits
from understudy.store import Unavailable, changes, open_database
from understudy.store.store import Store


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster]:
    """A server that the tests let crash in turn."""
    with private() as cluster:
        yield cluster


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """It runs."""
    if not started.is_running:
        started.start()
    return started


@pytest.mark.parametrize("end", [Cluster.crash, Cluster.stop_at_once])
async def test_a_crash_in_a_storm_loses_nothing_that_was_acknowledged(
    cluster: Cluster, end: Callable[[Cluster], None]
) -> None:
    """Callers hear of the crash in our words and in time; the store goes on without being opened
    again. Only deltas may be lost, which are committed without waiting for the disk."""
    with schema(cluster.url) as url:
        store = Store(await open_database(url))
        await store.commit(COUNTER, job("run_1", owner="w", until=1e12))
        storm = Storm(store)
        working = asyncio.create_task(storm.work())
        await storm.reaches(150)
        await asyncio.to_thread(end, cluster)
        await storm.meets_trouble()
        await asyncio.to_thread(cluster.start)
        await storm.recovers()
        storm.is_over = True
        await asyncio.wait_for(working, limits.OUTCOME_S + limits.LINE_WAIT_S)
        check(url, storm.outcomes)
        saved = {seq for (seq,) in fetch(url, "select seq_from from events")}
        assert saved <= set(range(storm.deltas))
        assert "unknown" in storm.outcomes
        await store.close()


class Storm:
    """Commits, reads and deltas without an end, until it is over."""

    def __init__(self, store: Store) -> None:
        self.deltas = 0
        self.is_over = False
        self._store = store
        self._numbers = numbers()
        self._changed = asyncio.Condition()
        self._told: dict[int, Outcome] = {}
        self._reads: list[bool] = []

    @property
    def outcomes(self) -> list[Outcome]:
        """Of the commits by number, as far as they have one."""
        return [self._told.get(number, "unknown") for number in range(len(self._told))]

    async def work(self) -> None:
        """Until it is over and everybody has an answer."""
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(self._commit())
            for _ in range(5):
                group.create_task(self._read())
            group.create_task(self._save())

    async def reaches(self, count: int) -> None:
        """So many commits are done, and something was read."""
        await self._until(lambda: len(self._told) >= count and any(self._reads))

    async def meets_trouble(self) -> None:
        """A commit and a read heard of the crash."""
        await self._until(lambda: "unknown" in self._told.values() and False in self._reads)

    async def recovers(self) -> None:
        """As many commits are applied and reads answered as callers are there."""
        applied, read = self.outcomes.count("applied"), sum(self._reads)
        await self._until(
            lambda: self.outcomes.count("applied") >= applied + 40 and sum(self._reads) > read + 10
        )

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(is_so)

    async def _commit(self) -> None:
        while not self.is_over:
            number = next(self._numbers)
            self._told[number] = await counted_thread(self._store, number)
            await self._tell()

    async def _read(self) -> None:
        while not self.is_over:
            try:
                record = await self._store.get("thread", PROJECT, "counter")
            except Unavailable:
                self._reads.append(False)
            else:
                assert record is not None
                self._reads.append(True)
            await self._tell()

    async def _save(self) -> None:
        while not self.is_over:
            stretch = changes.Stretch("run_1", 0, self.deltas, self.deltas, b"x", "w")
            self.deltas += 1
            await outcome(self._store, changes.save_deltas([stretch], created_at=1.0))

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
        await asyncio.sleep(0.001)


async def test_while_the_server_is_gone_callers_do_not_wait_for_it(cluster: Cluster) -> None:
    """Only a commit that it may have got is looked after for a while; and what is accepted before
    a close has its answer."""
    with schema(cluster.url) as url:
        store = Store(await open_database(url))
        await store.commit(COUNTER)
        await asyncio.to_thread(cluster.crash)
        async with asyncio.timeout(5.0):
            answers = [outcome(store, counted()) for _ in range(50)]
            assert set(await asyncio.gather(*answers)) == {"unknown"}
            with pytest.raises(Unavailable, match="Connect call failed"):
                await store.get("thread", PROJECT, "counter")
            with pytest.raises(Unavailable):
                await store.ping()
        await store.close()
        await asyncio.to_thread(cluster.start)
        check(url, [])


@pytest.fixture
def small() -> Iterator[Cluster]:
    """A server on a small disk."""
    with private(disk_mb=120) as cluster:
        yield cluster


async def test_on_a_full_disk_commits_leave_nothing_and_reads_go_on(small: Cluster) -> None:
    """And so do commits, when there is room again."""
    large = b'"' + b"x" * 3_000_000 + b'"'  # More than is left in any file that is there.
    with schema(small.url) as url:
        store = Store(await open_database(url))
        await store.commit(COUNTER, thread("thread_0"))
        small.fill_disk()
        for number in range(12):
            filling = changes.insert_object(
                "thread", id="thread_1", project=PROJECT, parent=None, created_at=1.0, body=large
            )
            edit = changes.update_object(
                "thread_0", project=PROJECT, body=str(number).encode(), private=None
            )
            with pytest.raises(Unavailable, match="No space left"):
                await store.commit(edit, counted(), filling)
        reads = (store.get("thread", PROJECT, "thread_0") for _ in range(limits.CONNECTIONS))
        for record in await asyncio.gather(*reads):
            assert record is not None
            assert record.body == b"{}"
        assert small.is_running
        small.free_disk()
        assert await counted_thread(store, 1) == "applied"
        assert ids(url) == {"thread_0", "thread_1"}
        await store.close()


async def test_a_server_that_ends_for_want_of_room_goes_on_with_room(small: Cluster) -> None:
    """Its log of writes has none: PostgreSQL ends itself. What it acknowledged is there."""
    noise = "select pg_logical_emit_message(true, 'noise', repeat('x', 2000000))"
    with schema(small.url) as url:
        store = Store(await open_database(url))
        await store.commit(COUNTER)
        small.fill_disk()
        outcomes: list[Outcome] = []
        for number in range(200):
            outcomes.append(await counted_thread(store, number))
            try:
                await asyncio.to_thread(execute, small.url, noise)
            except Exception:  # noqa: BLE001 - however a server words that it is gone.
                break
        await asyncio.to_thread(small.wait)
        assert await counted_thread(store, len(outcomes)) == "unknown"
        small.free_disk()
        await asyncio.to_thread(small.start)
        outcomes += ["unknown", await counted_thread(store, len(outcomes) + 1)]
        assert outcomes[-1] == "applied"
        check(url, outcomes)
        await store.close()


async def test_a_standby_is_read_and_written_again_when_it_is_promoted(cluster: Cluster) -> None:
    """A failover as its clients see it: the server goes, comes back for readers, then for all."""
    with schema(cluster.url) as url:
        store = Store(await open_database(url))
        await store.commit(COUNTER)
        [(folder,)] = fetch(url, "show data_directory")
        execute(url, f"copy (select '') to '{folder}/standby.signal'")
        await asyncio.to_thread(cluster.stop)
        await asyncio.to_thread(cluster.start)
        for _ in range(limits.CONNECTIONS + 1):
            with pytest.raises(Unavailable, match="read-only transaction"):
                await store.commit(counted())
        assert await store.get("thread", PROJECT, "counter") is not None
        with pytest.raises(Unavailable, match="read-only transaction"):
            await store.ping()
        with pytest.raises(Unavailable, match="read-only transaction"):
            await store.claim(owner="w", now=1.0, lease_until=2.0, free=1, per_project=1)
        execute(url, "select pg_promote()")
        assert await counted_thread(store, 0) == "applied"
        await store.close()
        check(url, ["applied"])


async def test_too_many_connections_are_unavailable_and_say_so() -> None:
    """Those that there are go on."""
    with (
        private(max_connections="8", superuser_reserved_connections="0") as tight,
        schema(tight.url) as url,
    ):
        store = Store(await open_database(url))
        await store.commit(COUNTER)
        others = [await asyncpg.connect(url) for _ in range(7)]
        outcomes = await asyncio.gather(
            *(store.commit(counted()) for _ in range(5)), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in outcomes) == ["Unavailable"] * 4 + ["list"]
        assert {str(one) for one in outcomes if isinstance(one, Unavailable)} == {
            "PostgreSQL cannot be used: sorry, too many clients already"
        }
        for other in others:
            await other.close()
        await asyncio.gather(*(store.commit(counted()) for _ in range(5)))
        await store.close()
