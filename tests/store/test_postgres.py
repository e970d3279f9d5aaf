"""What only PostgreSQL promises: commits at once on many lines, callers who leave, odd values."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.conformance.shapes import PROJECT, job, message, thread
from tests.fleet.clusters import private, schema
from tests.fleet.statements import fetch
from tests.store.locks import blocker, waiting_for_locks
from understudy import limits
from understudy.store import Conflict, changes, index_changes, open_database
from understudy.store.records import Listed
from understudy.store.store import Store


@pytest.fixture
def url() -> Iterator[str]:
    """A schema of the test's own."""
    with schema() as fresh:
        yield fresh


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A store in that schema."""
    store = Store(await open_database(url))
    yield store
    await store.close()


async def test_a_document_that_is_dropped_at_the_end_of_a_clean_up_has_a_job(
    store: Store, url: str
) -> None:
    """Whoever drops it makes the job or brings it forward, in a commit that is still at work when
    the clean-up finds nothing left."""
    insert = index_changes.insert_document(
        1, "file-1", project=PROJECT, attributes=b"{}", filename="a"
    )
    await store.commit(index_changes.wake_clean_up(now=1.0), insert)
    other = await blocker(url, "update documents set state = 'gone'; update jobs set due_at = 0")
    ending = asyncio.ensure_future(store.commit(index_changes.end_clean_up(fence=0)))
    await waiting_for_locks(url, 1)
    await other.execute("commit")
    with pytest.raises(Conflict, match="any_gone"):
        await ending
    assert await store.job(index_changes.CLEAN_UP) is not None
    await other.close()


async def test_a_commit_of_very_many_statements_is_one_trip(store: Store, url: str) -> None:
    """As a batch of two thousand files is; its time must not grow with the square of them."""
    body = b'"' + b"x" * 2_000 + b'"'
    made = [
        changes.insert_object(
            "message", id=f"m{n}", project=PROJECT, parent="t", created_at=n, body=body
        )
        for n in range(6_000)
    ]
    assert await store.commit(*made) == [[]] * len(made)
    assert fetch(url, "select count(*) from objects") == [(len(made),)]


async def test_a_claim_of_a_run_that_others_have_writes_nothing(store: Store, url: str) -> None:
    """All servers are told of a run and one has it: the others must not wait for the disk."""
    await store.commit(job("run_1", next_call="llm:1", owner="boot_b", until=200.0, fence=1))
    before = fetch(url, "select connection, number from commits")
    found = await store.claim_run(
        "run_1",
        owner="boot_a",
        now=100.0,
        lease_until=115.0,
        per_project=9,
    )
    assert found is None
    assert fetch(url, "select connection, number from commits") == before


async def test_a_claim_reads_along_what_its_runs_begin_with(store: Store) -> None:
    """Else each run costs a trip more."""
    body = b'{"id":"it"}'
    for number in range(3):
        thread_id = f"thread_{number}"
        made = changes.insert_object(
            "run", id=f"run_{number}", project=PROJECT, parent=thread_id, created_at=1.0, body=body
        )
        queued = job(f"run_{number}", thread_id=thread_id, next_call="llm:1")
        await store.commit(made, queued, message(f"msg_{number}", parent=thread_id))
    first = await store.claim_run(
        "run_0", owner="boot_a", now=100.0, lease_until=115.0, per_project=9
    )
    others = await store.claim(owner="boot_a", now=100.0, lease_until=115.0, free=9, per_project=9)
    assert first is not None
    for number, claimed in enumerate((first, *others)):
        assert claimed.begun is not None
        assert claimed.begun.run == Listed(f"run_{number}", 1, body, None)
        assert [row[0] for row in claimed.begun.newest] == [f"msg_{number}"]


async def test_a_claim_looks_for_lost_leases_only_where_they_are_wanted(store: Store) -> None:
    """To find them it reads all leases, and each ring is a claim."""
    await store.commit(
        job("run_lost", owner="boot_b", until=90.0, fence=1), job("run_1", next_call="llm:1")
    )
    claims = [
        await store.claim(
            owner="boot_a", now=100.0, lease_until=115.0, free=9, per_project=9, with_lost=is_wanted
        )
        for is_wanted in (False, True)
    ]
    [[queued], [lost]] = claims
    assert queued.job.id == "run_1"
    assert (lost.job.id, lost.job.was_leased) == ("run_lost", True)


async def test_commits_that_lock_the_same_rows_in_opposite_order_all_end() -> None:
    """PostgreSQL gives one of two up, and it is done again: of many, again and again."""
    with private(deadlock_timeout="30ms") as cluster, schema(cluster.url) as url:
        stores = [Store(await open_database(url)) for _ in range(2)]
        await stores[0].commit(thread("thread_1"), thread("thread_2"))
        grow = [changes.grow(f"thread_{n}", project=PROJECT, by=1, limit=1_000) for n in (1, 2)]
        other = await blocker(url)
        commits = [store.commit(*grow) for store in stores[:1] for _ in range(40)]
        commits += [store.commit(*reversed(grow)) for store in stores[1:] for _ in range(40)]
        answers = asyncio.gather(*commits, return_exceptions=True)
        await waiting_for_locks(url, 2 * limits.CONNECTIONS)
        await other.close()
        outcomes = await answers
        assert outcomes == [[[], []]] * 80
        found = fetch(url, "select children from objects")
        assert found == [(80,), (80,)]
        assert "deadlock detected" in cluster.log
        for store in stores:
            await store.close()


async def test_statements_that_lock_many_rows_lock_them_in_one_order() -> None:
    """A heartbeat and the deltas of the same runs, at once and in any order of theirs."""
    runs = [f"run_{number}" for number in range(300)]
    with private(deadlock_timeout="20ms") as cluster, schema(cluster.url) as url:
        store = Store(await open_database(url))
        await store.commit(*(job(run, owner="w", until=1e12) for run in runs))
        chance = random.Random(20261130)

        async def renew() -> None:
            for _ in range(20):
                held = [(run, 0) for run in chance.sample(runs, len(runs))]
                renewed = await store.renew(owner="w", now=1.0, lease_until=1e12, held=held)
                assert len(renewed) == len(runs)

        async def save(lane: int) -> None:
            for seq in range(20):
                stretches = [
                    changes.Stretch(run, 0, lane * 20 + seq, lane * 20 + seq, b"x", "w")
                    for run in chance.sample(runs, len(runs))
                ]
                await store.commit(changes.save_deltas(stretches, created_at=1.0))

        await asyncio.gather(renew(), renew(), *(save(lane) for lane in range(3)))
        assert fetch(url, "select count(*) from events") == [(300 * 60,)]
        assert "deadlock detected" not in cluster.log
        await store.close()
