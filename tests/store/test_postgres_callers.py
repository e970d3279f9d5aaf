"""Callers who leave, who wait, who make mistakes, and who are there when the store is closed."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.conformance.shapes import PROJECT, message, thread
from tests.fleet.clusters import Cluster, private, schema
from tests.fleet.statements import fetch
from tests.store.locks import blocker, waiting_for_locks
from tests.store.storms import COUNTER, count, counted, counted_thread, ids
from understudy import limits
from understudy.store import Conflict, Statement, Unavailable, changes
from understudy.store.postgres import PostgresDatabase
from understudy.store.store import Store

LINES = 2


# On a server where nobody else is.
PIDS = "select pid from pg_stat_activity where application_name = 'understudy' order by pid"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server for these tests alone: what is connected to it is theirs."""
    with private() as started:
        yield started


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """A schema of the test's own."""
    with schema(cluster.url) as fresh:
        yield fresh


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[PostgresDatabase]:
    """A database with two lines."""
    database = PostgresDatabase(url, connections=LINES)
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture
async def store(database: PostgresDatabase) -> Store:
    """A store on it, with an object that commits count on."""
    store = Store(database)
    await store.commit(COUNTER)
    return store


async def are_all_lines_there(store: Store, url: str) -> None:
    """As many commits as there are lines are at work at the same time, each on its own."""
    other = await blocker(url)
    working = [asyncio.ensure_future(store.commit(counted(0))) for _ in range(LINES)]
    await waiting_for_locks(url, LINES)
    await other.close()
    await asyncio.gather(*working)


async def test_a_commit_is_applied_although_its_caller_has_left(store: Store, url: str) -> None:
    """While it waited for a line, or for the answer; and nobody else is harmed."""
    other = await blocker(url)
    callers = [asyncio.create_task(store.commit(thread(f"t{n}"), counted())) for n in range(8)]
    await waiting_for_locks(url, LINES)
    for leaving in callers[::2]:
        leaving.cancel()
    outcomes = asyncio.gather(*callers, return_exceptions=True)
    await other.execute("commit")
    left = [isinstance(one, asyncio.CancelledError) for one in await outcomes]
    assert left == [True, False] * 4
    await are_all_lines_there(store, url)
    assert (count(url), ids(url)) == (8, {f"t{n}" for n in range(8)})
    await other.close()


async def test_a_read_whose_caller_has_left_leaves_its_line(store: Store, url: str) -> None:
    """While it waited for a line, or for the answer."""
    other = await blocker(url, "lock table objects")
    callers = [asyncio.create_task(store.get("thread", PROJECT, "counter")) for _ in range(8)]
    await waiting_for_locks(url, LINES)
    for leaving in callers[:6]:
        leaving.cancel()
    await asyncio.wait(callers[:6])
    await other.execute("commit")
    for staying in callers[6:]:
        record = await staying
        assert record is not None
        assert record.id == "counter"
    await are_all_lines_there(store, url)
    await other.close()


async def test_a_flood_of_callers_who_leave_leaks_nothing(store: Store, url: str) -> None:
    """In every moment of a call: before it has a line, while it connects, while it waits."""
    for delay_ms in range(40):
        calls: list[asyncio.Future[object]] = []
        calls += [asyncio.ensure_future(store.keys(None)) for _ in range(5)]
        calls += [asyncio.ensure_future(store.ping()) for _ in range(2)]
        await asyncio.sleep(delay_ms / 10_000)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    await are_all_lines_there(store, url)
    ours = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert [task.get_name() for task in ours] == ["record's clock"]


async def test_who_waits_long_for_a_line_is_told_so(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it is applied."""
    monkeypatch.setattr(limits, "LINE_WAIT_S", 0.2)
    other = await blocker(url)
    working = [asyncio.ensure_future(store.commit(counted())) for _ in range(LINES)]
    await waiting_for_locks(url, LINES)
    with pytest.raises(Unavailable, match="connections are all busy"):
        await store.commit(counted())
    with pytest.raises(Unavailable, match="connections are all busy"):
        await store.get("thread", PROJECT, "counter")
    await other.execute("commit")
    await asyncio.gather(*working)
    assert count(url) == LINES
    await are_all_lines_there(store, url)
    await other.close()


async def test_more_callers_than_may_wait_are_refused(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_QUEUE", 3)
    outcomes = await asyncio.gather(
        *(store.commit(counted()) for _ in range(8)), return_exceptions=True
    )
    refused = [one for one in outcomes if isinstance(one, Unavailable)]
    assert len(refused) == 8 - LINES - 3
    assert "Too many calls wait" in str(refused[0])
    assert count(url) == LINES + 3


async def test_closing_finishes_what_was_accepted(store: Store, url: str) -> None:
    """Commits and reads that wait or are at work; then nothing is accepted, nothing connected."""
    other = await blocker(url)
    commits = [asyncio.create_task(counted_thread(store, number)) for number in range(6)]
    await waiting_for_locks(url, LINES)
    reads = [asyncio.create_task(store.get("thread", PROJECT, "counter")) for _ in range(6)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="closed"):
        await store.commit(counted())
    with pytest.raises(Unavailable, match="closed"):
        await store.get("thread", PROJECT, "counter")
    await other.execute("commit")
    await closing
    assert {await commit for commit in commits} == {"applied"}
    assert all(record is not None for record in await asyncio.gather(*reads))
    assert (count(url), len(ids(url))) == (6, 6)
    assert fetch(url, PIDS) == []
    await store.close()
    await other.close()


async def test_a_close_that_is_cancelled_leaves_commits_to_their_end(
    store: Store, url: str
) -> None:
    """As at a second Ctrl-C."""
    other = await blocker(url)
    commit = asyncio.create_task(store.commit(counted()))
    await waiting_for_locks(url, 1)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await other.execute("commit")
    await commit
    assert count(url) == 1
    await other.close()


class Odd:
    """No value of any column."""


BUGS: list[tuple[str, dict[str, object]]] = [
    ("no such statement", {}),
    (
        "update_object",
        {"id": "t", "project": PROJECT, "body": "{}", "private": None},
    ),  # No version.
    ("require_object", {"id": Odd(), "kind": "thread", "project": PROJECT}),
    ("require_object", {"id": 1, "kind": "thread", "project": PROJECT}),
    ("require_object", {"id": b"t", "kind": "thread", "project": PROJECT}),
    ("require_object", {"id": "\ud800", "kind": "thread", "project": PROJECT}),
    ("require_object", {"id": [], "kind": "thread", "project": PROJECT}),
    ("delete_job", {"id": "t", "fence": "1"}),
    ("delete_job", {"id": "t", "fence": 2**63}),
    ("get_many", {"ids": "no JSON", "kind": "thread", "project": PROJECT}),
    ("get_many", {"ids": "{}", "kind": "thread", "project": PROJECT}),
    ("drop_node", {"id": 5}),
    ("keep_node", {"id": None, "role": "r", "version": "v", "live_runs": 0, "now": 1.0}),
    ("keep_node", {"id": "n", "role": "r", "version": "v", "live_runs": 2**31, "now": 1.0}),
    ("keep_node", {"id": "n", "role": "r", "version": "v", "live_runs": 0, "now": "soon"}),
    ("set_attributes", {"store_id": "s", "file_id": "f", "attributes": 5}),
    ("insert_part", {"document": 1, "part": 1, "terms": "[]", "owners": "o", "vectors": None}),
    ("renew_leases", {"owner": "w", "now": 1.0, "lease_until": 2.0, "held": "["}),
]


@pytest.mark.parametrize(("query", "args"), BUGS)
async def test_a_bug_of_a_caller_strikes_only_that_caller(
    database: PostgresDatabase, store: Store, url: str, query: str, args: dict[str, object]
) -> None:
    """Within a commit, alone, or as a read; and the lines keep their connections."""
    await are_all_lines_there(store, url)
    before = fetch(url, PIDS)
    bug = Statement(query, args)
    outcomes = await asyncio.gather(
        store.commit(thread("t1"), bug),
        database.commit([bug]),
        database.fetch(query, args),
        store.commit(message("m1"), counted()),
        return_exceptions=True,
    )
    # What only goes alone, no commit of several knows.
    assert all(isinstance(one, TypeError | KeyError) for one in outcomes[:3]), outcomes
    assert outcomes[3] == [[], []]
    assert (count(url), ids(url)) == (1, {"m1"})
    await are_all_lines_there(store, url)
    assert fetch(url, PIDS) == before


async def test_a_value_that_no_index_takes_is_a_bug_of_its_caller(store: Store) -> None:
    """An id of some thousand letters that nothing can shorten."""
    long = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(4_000))
    with pytest.raises(TypeError, match="index row"):
        await store.commit(thread(long), counted())
    with pytest.raises(Conflict):
        await store.commit(changes.grow("counter", project=PROJECT, by=1, limit=0))
