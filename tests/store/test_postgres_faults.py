"""Commits whose connection breaks: applied once or not at all, whatever was lost and when."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.conformance.shapes import PROJECT, job, message, thread
from tests.fleet.cut import Moment, Wire, executes, is_kind
from tests.fleet.frames import START
from tests.fleet.statements import execute, fetch
from tests.store.locks import blocker, waiting_for_locks
from tests.store.storms import REFUSED, check, count, counted, counted_thread, ids
from understudy import limits
from understudy.store import Conflict, Statement, Unavailable, changes, index_changes
from understudy.store.store import Store, newest, newest_of

COMMIT = executes("select apply")
MOMENTS: list[Moment] = ["before", "after"]
WAIT_S = 10.0


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test can wait for, in the proportions of the true ones."""
    monkeypatch.setattr(limits, "CONNECT_S", 0.4)
    monkeypatch.setattr(limits, "STATEMENT_S", 0.8)
    monkeypatch.setattr(limits, "OUTCOME_S", 1.0)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_commit_whose_connection_is_cut_is_applied_once(
    store: Store, wire: Wire, url: str, moment: Moment
) -> None:
    for number in range(3):
        trap = wire.cut_when(COMMIT, moment)
        outcome = await store.commit(thread(f"thread_{number}"), counted())
        assert trap.has_sprung
        assert outcome == [[], []]
    assert (count(url), len(ids(url))) == (3, 3)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_guard_is_answered_once_however_often_it_was_asked(
    store: Store, wire: Wire, moment: Moment
) -> None:
    """Asked twice, this one would refuse what it had allowed."""
    await store.commit(thread("thread_1"))
    edit = changes.update_object("thread_1", project=PROJECT, body=b"1", private=None, version=1)
    wire.cut_when(COMMIT, moment)
    await store.commit(edit)
    wire.cut_when(COMMIT, moment)
    with pytest.raises(Conflict, match="update_object"):
        await store.commit(edit, message("msg_1"))
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert record.version == 2
    assert await store.get("message", PROJECT, "msg_1") is None


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_taken_value_is_a_conflict_although_its_answer_was_lost(
    store: Store, wire: Wire, moment: Moment
) -> None:
    """And what was taken by the lost attempt itself is none."""
    wire.cut_when(COMMIT, moment)
    await store.commit(thread("thread_1"))
    wire.cut_when(COMMIT, moment)
    with pytest.raises(Conflict, match="exists"):
        await store.commit(thread("thread_1"))


@pytest.mark.parametrize("moment", MOMENTS)
async def test_rows_that_were_lost_are_read_again(store: Store, wire: Wire, moment: Moment) -> None:
    await store.commit(message("msg_1"))
    looked = newest("message", PROJECT, "thread_1", limit=5, most_bytes=1000)
    wire.cut_when(COMMIT, moment)
    [_, rows] = await store.commit(message("msg_2", at=101.0), looked)
    found, has_more = newest_of(rows, 5)
    assert ([one.id for one in found], has_more) == (["msg_2", "msg_1"], False)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_removal_is_answered_although_its_answer_was_lost(
    store: Store, wire: Wire, moment: Moment
) -> None:
    """Of a thread with its run, of a file, and of a vector store: a client that asked again would
    hear that there is none."""
    removals: list[Sequence[Statement | tuple[Statement, ...]]] = [
        [
            changes.delete_job("run_1", fence=None),
            changes.delete_object("thread_1", kind="thread", project=PROJECT),
            changes.thread_free("thread_1"),
        ],
        [index_changes.forget_file("file-1", project=PROJECT, now=1.0)],
        [index_changes.forget_store("vs_1", project=PROJECT, now=1.0)],
    ]
    vector_store = changes.insert_object(
        "vector_store", id="vs_1", project=PROJECT, parent=None, created_at=1.0, body=b"{}"
    )
    await store.commit(thread("thread_1"), vector_store, job("run_1", thread_id="thread_1"))
    for removal in removals:
        trap = wire.cut_when(COMMIT, moment)
        await store.commit(*removal)
        assert trap.has_sprung


async def test_rows_that_cannot_be_read_again_are_unavailable_and_made_once(
    store: Store, wire: Wire, url: str
) -> None:
    """The number of a new document: nobody knows it, so that it is found by looking."""
    insert = index_changes.insert_document(
        1, "file-1", project=PROJECT, attributes=b"{}", filename="a"
    )
    wire.cut_when(COMMIT, "before")
    [[(number,)]] = await store.commit(insert)
    assert fetch(url, "select number from documents") == [(number,)]
    execute(url, "delete from documents")
    wire.cut_when(COMMIT, "after")
    with pytest.raises(Unavailable, match="it was applied"):
        await store.commit(insert)
    assert len(fetch(url, "select number from documents")) == 1
    with pytest.raises(Conflict, match="exists"):
        await store.commit(insert)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_run_that_was_claimed_is_known_although_the_answer_was_lost(
    store: Store, wire: Wire, moment: Moment
) -> None:
    """Else nobody would work on it until its lease is over."""
    run = changes.insert_object(
        "run", id="run_1", project=PROJECT, parent="thread_1", created_at=100.0, body=b"{}"
    )
    await store.commit(run, job("run_1", thread_id="thread_1", next_call="llm:1"), message("msg_1"))
    for owner in ("boot_a", "boot_b"):
        wire.cut_when(executes("with claimed"), moment)
        found = await store.claim_run(
            "run_1",
            owner=owner,
            now=100.0,
            lease_until=115.0,
            per_project=9,
        )
        if owner == "boot_b":
            assert found is None
            continue
        assert found is not None
        taken = found.job
        assert (taken.lease_owner, taken.fence, taken.is_journalled) == (owner, 1, True)
        # What it had read along may have been changed by then.
        assert (found.begun is None) == (moment == "after")
    assert len(await store.journal("run_1")) == 1


@pytest.mark.parametrize("moment", MOMENTS)
async def test_what_a_claim_took_is_known_although_the_answer_was_lost(
    store: Store, wire: Wire, moment: Moment
) -> None:
    """Or it took nothing, and is made once more."""
    held = job("run_0", owner="boot_a", until=90.0, fence=1)
    ingest = job("vs_1", kind="ingest")
    await store.commit(held, ingest, *[job(f"run_{n}", next_call="llm:1") for n in range(1, 4)])
    wire.cut_when(executes("update jobs"), moment)
    claims = await store.claim(owner="boot_a", now=100.0, lease_until=115.0, free=9, per_project=9)
    assert [claimed.job.id for claimed in claims] == ["run_0", "run_1", "run_2", "run_3"]
    wire.cut_when(executes("update jobs"), moment)
    claims = await store.claim_ingest(owner="boot_a", now=101.0, lease_until=116.0, free=2)
    assert [claimed.job.id for claimed in claims] == ["vs_1"]


async def test_several_lines_are_cut_in_the_same_moment(store: Store, wire: Wire, url: str) -> None:
    """Each finds out about its own commit."""
    traps = [wire.cut_when(COMMIT, moment) for moment in MOMENTS * 4]
    await asyncio.gather(*(store.commit(thread(f"thread_{n}"), counted()) for n in range(10)))
    assert all(trap.has_sprung for trap in traps)
    assert (count(url), len(ids(url))) == (10, 10)


async def test_a_storm_of_commits_under_random_cuts(store: Store, wire: Wire, url: str) -> None:
    """Of 200 at once a third is refused, and the wire is cut 40 times meanwhile."""
    chance = random.Random(20261130)

    async def cuts() -> None:
        for _ in range(40):
            await asyncio.sleep(chance.uniform(0.0, 0.04))
            if chance.random() < 0.2:
                await asyncio.to_thread(wire.cut)
            elif not wire.traps:
                wire.cut_when(COMMIT, chance.choice(MOMENTS))

    cutting = asyncio.create_task(cuts())
    outcomes = await asyncio.gather(
        *(counted_thread(store, number, *[REFUSED][number % 3 :]) for number in range(200))
    )
    await cutting
    check(url, outcomes)
    assert outcomes.count("applied") > 100


async def test_a_frozen_connection_ends_a_commit_within_its_bound(
    hasty: None, store: Store, wire: Wire, url: str
) -> None:
    """Nobody hears of the other; afterwards the line is as before, and nothing comes late."""
    loop = asyncio.get_running_loop()
    wire.hold()
    began_at = loop.time()
    with pytest.raises(Unavailable, match="no answer in time"):
        await store.commit(counted())
    assert loop.time() - began_at < 2.0
    wire.release()
    await store.commit(thread("thread_1"), counted())
    assert (count(url), ids(url)) == (1, {"thread_1"})


async def test_a_frozen_connection_is_left_for_a_fresh_one(
    hasty: None, store: Store, wire: Wire, url: str
) -> None:
    """What passed the way is frozen, what is new passes: a commit finds out in time."""
    loop = asyncio.get_running_loop()
    wire.hold()
    committing = asyncio.create_task(store.commit(counted()))
    loop.call_later(0.6, wire.release)
    await committing
    assert count(url) == 1


async def test_a_line_that_was_idle_for_long_is_made_anew(
    store: Store, wire: Wire, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something on the way may have forgotten it, and would let a commit wait for nothing."""
    await store.commit(counted())
    trap = wire.cut_when(is_kind(START), "after")
    await store.commit(counted())
    assert not trap.has_sprung
    monkeypatch.setattr(limits, "LINE_IDLE_S", 0.0)
    with pytest.raises(Unavailable):
        await store.commit(counted())
    trap.wait()
    await store.commit(counted())
    assert count(url) == 3


async def test_a_repeat_waits_for_the_attempt_that_is_still_at_work(
    store: Store, wire: Wire, url: str
) -> None:
    """Whose server process does not see that its client is gone: it waits for a lock."""
    other = await blocker(url)
    committing = asyncio.create_task(store.commit(thread("thread_1"), counted()))
    await waiting_for_locks(url, 1)
    wire.cut()
    await waiting_for_locks(url, 2)
    assert not committing.done()
    await other.execute("commit")
    await asyncio.wait_for(committing, WAIT_S)
    assert (count(url), ids(url)) == (1, {"thread_1"})
    await other.close()


async def test_a_repeat_goes_on_when_the_attempt_before_was_undone(
    store: Store, wire: Wire, url: str
) -> None:
    """The same, and the first server process is ended instead."""
    other = await blocker(url)
    committing = asyncio.create_task(store.commit(thread("thread_1"), counted()))
    [first] = await waiting_for_locks(url, 1)
    wire.cut()
    await waiting_for_locks(url, 2)
    await other.execute("select pg_terminate_backend($1)", first)
    await other.execute("commit")
    await asyncio.wait_for(committing, WAIT_S)
    assert (count(url), ids(url)) == (1, {"thread_1"})
    await other.close()


async def test_what_was_given_up_is_not_applied_later(hasty: None, store: Store, url: str) -> None:
    """The server gives it up as well; else it would hold its locks, and go on when it could."""
    other = await blocker(url)
    with pytest.raises(Unavailable):
        await store.commit(thread("thread_1"), counted())
    await waiting_for_locks(url, 0)
    await other.execute("commit")
    await store.commit(thread("thread_2"), counted())
    assert (count(url), ids(url)) == (1, {"thread_2"})
    await other.close()
