"""Jobs, leases and fences on every Database."""

import asyncio

import pytest

from tests.conformance.shapes import OTHER, PROJECT, job, message, thread
from understudy import limits
from understudy.store import Conflict, changes
from understudy.store.records import Job
from understudy.store.store import Store


async def claim(
    store: Store,
    *,
    owner: str = "boot_a",
    now: float = 100.0,
    free: int = 10,
    per_project: int = 100,
) -> list[Job]:
    """Claim with leases of 15 seconds."""
    claims = await store.claim(
        owner=owner, now=now, lease_until=now + 15, free=free, per_project=per_project
    )
    return [claimed.job for claimed in claims]


def ids(jobs: list[Job]) -> list[str]:
    """The ids of jobs."""
    return [job.id for job in jobs]


async def test_a_job_comes_back_as_it_was_put(store: Store) -> None:
    await store.commit(
        job("run_1", thread_id="thread_1", expires_at=700.5, fence=1, owner="boot_a", until=115.0)
    )
    expected = Job(
        id="run_1",
        kind="run",
        project=PROJECT,
        thread_id="thread_1",
        due_at=100.0,
        expires_at=700.5,
        lease_owner="boot_a",
        lease_until=115.0,
        fence=1,
        reclaims=0,
        cancel_asked_at=None,
        was_leased=False,
    )
    assert await store.job("run_1") == expected
    assert await store.active_run("thread_1") == expected
    assert await store.job("run_2") is None
    assert await store.active_run("thread_2") is None


async def test_a_claim_leases_what_is_due_oldest_first(store: Store) -> None:
    await store.commit(
        job("run_late", due_at=99.0), job("run_early", due_at=98.0), job("run_next", due_at=101.0)
    )
    first = await claim(store, free=1)
    assert ids(first) == ["run_early"]
    assert (first[0].lease_owner, first[0].lease_until) == ("boot_a", 115.0)
    assert (first[0].fence, first[0].reclaims, first[0].was_leased) == (1, 0, False)
    assert ids(await claim(store)) == ["run_late"]
    assert ids(await claim(store)) == []
    assert ids(await claim(store, now=101.0)) == ["run_next"]


async def test_concurrent_claims_share_no_job(store: Store) -> None:
    await store.commit(*[job(f"run_{n}") for n in range(40)])
    claims = await asyncio.gather(*[claim(store, owner=f"boot_{n}", free=5) for n in range(10)])
    taken = [id for jobs in claims for id in ids(jobs)]
    assert sorted(taken) == sorted(f"run_{n}" for n in range(40))


async def test_a_lease_that_ran_out_is_reclaimed_at_the_next_fence(store: Store) -> None:
    await store.commit(job("run_1"))
    await claim(store)
    assert await claim(store, owner="boot_b", now=114.9) == []
    [taken] = await claim(store, owner="boot_b", now=115.0)
    assert (taken.lease_owner, taken.fence, taken.reclaims) == ("boot_b", 2, 1)
    assert taken.was_leased


async def test_a_lease_that_was_given_back_is_no_reclaim(store: Store) -> None:
    await store.commit(job("run_1"))
    await claim(store)
    await store.commit(changes.rest_job("run_1", fence=1, due_at=120.0))
    assert await claim(store, now=119.0) == []
    [taken] = await claim(store, now=120.0)
    assert (taken.fence, taken.reclaims, taken.was_leased) == (2, 0, False)


async def test_a_project_at_its_cap_is_skipped(store: Store) -> None:
    await store.commit(*[job(f"run_a{n}", due_at=50.0 + n) for n in range(5)])
    await store.commit(*[job(f"run_b{n}", due_at=90.0, project=OTHER) for n in range(2)])
    first = await claim(store, free=4, per_project=2)
    assert ids(first) == ["run_a0", "run_a1", "run_b0", "run_b1"]
    assert await claim(store, free=4, per_project=2) == []
    await store.commit(changes.delete_job("run_a0", fence=1))
    assert ids(await claim(store, free=4, per_project=2)) == ["run_a2"]


async def test_a_dead_lease_does_not_count_for_the_cap(store: Store) -> None:
    await store.commit(job("run_1"), job("run_2", due_at=200.0))
    await claim(store, per_project=1)
    assert ids(await claim(store, now=200.0, free=1, per_project=1)) == ["run_1"]
    assert await claim(store, now=200.0, free=1, per_project=1) == []


async def test_expired_and_cancelled_jobs_are_claimed_without_a_free_slot(store: Store) -> None:
    await store.commit(
        job("run_expired", due_at=900.0, expires_at=100.0),
        job("run_cancelled", due_at=901.0),
        job("run_due"),
        job("run_waiting", due_at=900.0, expires_at=900.0),
        job("run_leased", expires_at=90.0, owner="boot_b", until=101.0),
    )
    await store.commit(changes.ask_cancel("run_cancelled", now=99.0))
    claimed = await claim(store, free=0, per_project=0)
    assert ids(claimed) == ["run_expired", "run_cancelled"]
    assert claimed[1].cancel_asked_at == 99.0
    assert ids(await claim(store, free=-1, now=101.0)) == ["run_leased"]


async def test_a_burst_of_expiries_is_claimed_in_bounded_batches(store: Store) -> None:
    await store.commit(*[job(f"run_{n}", expires_at=50.0) for n in range(150)])
    assert len(await claim(store, free=0)) == 100
    assert len(await claim(store, free=0)) == 50


async def test_renewing_keeps_leases_and_tells_of_cancels(store: Store) -> None:
    await store.commit(*[job(f"run_{n}") for n in range(4)])
    await claim(store, free=4)
    await store.commit(changes.ask_cancel("run_1", now=101.0))
    await store.commit(changes.delete_job("run_2", fence=1))
    held = [("run_0", 1), ("run_1", 1), ("run_2", 1), ("run_3", 7), ("run_9", 1)]
    kept = await store.renew(owner="boot_a", now=110.0, lease_until=125.0, held=held)
    assert sorted(kept) == [("run_0", 1, None), ("run_1", 1, 101.0)]
    renewed, stale = await store.job("run_0"), await store.job("run_3")
    assert renewed is not None
    assert stale is not None
    assert (renewed.lease_until, stale.lease_until) == (125.0, 115.0)
    assert await store.renew(owner="boot_b", now=110.0, lease_until=125.0, held=held) == []
    assert await store.renew(owner="boot_a", now=110.0, lease_until=125.0, held=[]) == []


async def test_a_lease_that_ran_out_but_was_not_taken_can_be_renewed(store: Store) -> None:
    await store.commit(job("run_1"))
    await claim(store)
    kept = await store.renew(owner="boot_a", now=300.0, lease_until=315.0, held=[("run_1", 1)])
    assert kept == [("run_1", 1, None)]
    assert await claim(store, owner="boot_b", now=300.0) == []


async def test_a_reclaimed_job_cannot_be_renewed_by_its_old_holder(store: Store) -> None:
    await store.commit(job("run_1"))
    await claim(store)
    await claim(store, owner="boot_b", now=115.0)
    held = [("run_1", 1), ("run_1", 2)]
    assert await store.renew(owner="boot_a", now=116.0, lease_until=131.0, held=held) == []


async def test_a_stale_fence_never_writes(store: Store) -> None:
    await store.commit(thread(), job("run_1"))
    await claim(store)
    await claim(store, owner="boot_b", now=115.0)
    stale = (
        changes.hold_job("run_1", owner="boot_a", fence=1, cancelled_ok=True),
        changes.hold_job("run_1", owner="boot_a", fence=2, cancelled_ok=True),
        changes.hold_job("run_1", owner="boot_b", fence=1, cancelled_ok=True),
        changes.rest_job("run_1", fence=1, due_at=0.0),
        changes.delete_job("run_1", fence=1),
        changes.take_job(
            "run_1", now=999.0, fence=1, owner="boot_a", lease_until=1015.0, due_at=999.0
        ),
    )
    for n, guard in enumerate(stale):
        for order in ((guard, message(f"msg_{n}")), (message(f"msg_{n}"), guard)):
            with pytest.raises(Conflict) as refused:
                await store.commit(*order)
            assert refused.value.what == guard.query
    assert await store.get_many("message", PROJECT, [f"msg_{n}" for n in range(9)]) == []
    await store.commit(
        changes.hold_job("run_1", owner="boot_b", fence=2, cancelled_ok=False), message("msg_1")
    )


async def test_a_job_that_is_over_lets_nobody_write(store: Store) -> None:
    await store.commit(job("run_1"))
    await claim(store)
    await store.commit(changes.delete_job("run_1", fence=1))
    with pytest.raises(Conflict):
        await store.commit(changes.hold_job("run_1", owner="boot_a", fence=1, cancelled_ok=True))
    await store.commit(changes.delete_job("run_1", fence=None))


async def test_a_cancel_stops_a_holder_that_does_not_know_of_it(store: Store) -> None:
    await store.commit(job("run_1"))
    await claim(store)
    await store.commit(changes.ask_cancel("run_1", now=101.0))
    with pytest.raises(Conflict) as refused:
        await store.commit(changes.hold_job("run_1", owner="boot_a", fence=1, cancelled_ok=False))
    assert refused.value.what == "hold_job"
    await store.commit(changes.hold_job("run_1", owner="boot_a", fence=1, cancelled_ok=True))


async def test_a_cancel_is_asked_once_and_only_of_active_work(store: Store) -> None:
    await store.commit(job("run_1"))
    asks = [store.commit(changes.ask_cancel("run_1", now=100.0 + n)) for n in range(5)]
    outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 4
    with pytest.raises(Conflict):
        await store.commit(changes.ask_cancel("run_2", now=101.0))


async def test_a_job_without_a_live_lease_can_be_taken(store: Store) -> None:
    await store.commit(job("run_1", due_at=700.0))
    take = changes.take_job("run_1", now=100.0, fence=0, owner=None, lease_until=None, due_at=100.0)
    await store.commit(take)
    taken = await store.job("run_1")
    assert taken is not None
    assert (taken.fence, taken.lease_owner, taken.due_at) == (1, None, 100.0)
    with pytest.raises(Conflict):
        await store.commit(take)
    await store.commit(
        changes.take_job(
            "run_1", now=100.0, fence=1, owner="boot_a", lease_until=115.0, due_at=100.0
        )
    )
    leased = await store.job("run_1")
    assert leased is not None
    assert (leased.fence, leased.lease_owner, leased.lease_until) == (2, "boot_a", 115.0)


async def test_a_job_with_a_live_lease_cannot_be_taken(store: Store) -> None:
    await store.commit(job("run_1"))
    await claim(store)
    for now, is_free in ((114.0, False), (115.0, True)):
        take = changes.take_job(
            "run_1", now=now, fence=1, owner="boot_b", lease_until=130.0, due_at=now
        )
        if is_free:
            await store.commit(take)
        else:
            with pytest.raises(Conflict):
                await store.commit(take)


async def test_a_thread_has_one_active_run_however_many_race(store: Store) -> None:
    await store.commit(thread())
    calls = [
        store.commit(message(f"msg_{n}"), job(f"run_{n}", thread_id="thread_1")) for n in range(20)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    winners = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, Conflict)]
    assert len(winners) == 1
    assert {str(lost) for lost in outcomes if isinstance(lost, Conflict)} == {"thread_lock"}
    active = await store.active_run("thread_1")
    assert active is not None
    assert active.id == f"run_{winners[0]}"
    found = await store.get_many("message", PROJECT, [f"msg_{n}" for n in range(20)])
    assert [record.id for record in found] == [f"msg_{winners[0]}"]


async def test_only_runs_lock_a_thread(store: Store) -> None:
    await store.commit(
        job("run_1", thread_id="thread_1"),
        job("file-1", kind="ingest", thread_id="thread_1"),
        job("file-2", kind="ingest", thread_id="thread_1"),
    )
    with pytest.raises(Conflict, match="thread_lock"):
        await store.commit(job("run_2", thread_id="thread_1"))


async def test_a_guard_for_a_free_thread(store: Store) -> None:
    await store.commit(changes.thread_free("thread_1"), job("run_1", thread_id="thread_1"))
    with pytest.raises(Conflict) as refused:
        await store.commit(changes.thread_free("thread_1"), message("msg_1"))
    assert refused.value.what == "thread_free"
    await store.commit(changes.delete_job("run_1", fence=0))
    await store.commit(changes.thread_free("thread_1"), message("msg_1"))


async def test_a_restarted_server_frees_the_leases_of_the_dead_one(store: Store) -> None:
    await store.commit(
        job("run_1", owner="boot_old", until=115.0, fence=1),
        job("run_2", owner="boot_new", until=115.0, fence=1),
        job("run_3", due_at=900.0),
    )
    assert await store.free_leases(owner="boot_new", now=100.0) == 1
    [freed] = await claim(store, owner="boot_new")
    assert (freed.id, freed.fence, freed.reclaims, freed.was_leased) == ("run_1", 2, 1, True)


async def test_the_next_due_moment_is_of_what_nobody_has(store: Store) -> None:
    assert await store.next_due() is None
    await store.commit(job("run_1", due_at=150.0, expires_at=140.0))
    assert await store.next_due() == 150.0
    await store.commit(job("run_2", due_at=120.0, project=OTHER, next_call="llm:1"))
    await store.commit(job("run_3", due_at=130.0, next_call="llm:1"))
    assert await store.next_due() == 120.0
    await store.commit(job("run_4", due_at=110.0, next_call="llm:1"))
    assert await store.next_due() == 110.0
    await store.commit(job("run_5", due_at=90.0, owner="boot_a", until=95.0))
    assert await store.next_due() == 110.0
    await store.commit(changes.ask_cancel("run_1", now=80.0))
    assert await store.next_due() == 80.0


async def test_queued_runs_are_taken_project_by_project(store: Store) -> None:
    await store.commit(*[job(f"run_a{n}", due_at=50.0 + n, next_call="llm:1") for n in range(9)])
    await store.commit(
        *[job(f"run_b{n}", due_at=80.0 + n, next_call="llm:1", project=OTHER) for n in range(3)]
    )
    taken = [ids(await claim(store, free=2)) for _ in range(5)]
    assert taken == [
        ["run_a0", "run_b0"],
        ["run_a1", "run_b1"],
        ["run_a2", "run_b2"],
        ["run_a3", "run_a4"],
        ["run_a5", "run_a6"],
    ]


async def test_who_holds_least_comes_first(store: Store) -> None:
    await store.commit(*[job(f"run_a{n}", due_at=50.0 + n, next_call="llm:1") for n in range(9)])
    assert ids(await claim(store, free=3)) == ["run_a0", "run_a1", "run_a2"]
    await store.commit(
        *[job(f"run_b{n}", due_at=80.0 + n, next_call="llm:1", project=OTHER) for n in range(9)]
    )
    assert ids(await claim(store, free=3)) == ["run_b0", "run_b1", "run_b2"]


async def test_a_lost_lease_comes_before_queued_runs(store: Store) -> None:
    await store.commit(
        *[job(f"run_a{n}", due_at=50.0, next_call="llm:1") for n in range(3)],
        job("run_lost", due_at=90.0, owner="boot_b", until=99.0, fence=1),
    )
    assert ids(await claim(store, free=1)) == ["run_lost"]


async def test_a_queued_runs_first_call_is_journalled_with_its_lease(store: Store) -> None:
    await store.commit(
        job("run_1", next_call="llm:3"),
        job("run_2"),
        job("run_3", owner="boot_b", until=99.0, fence=4, next_call="llm:1"),
    )
    taken = {job.id: job for job in await claim(store)}
    assert {id: one.is_journalled for id, one in taken.items()} == {
        "run_1": True,
        "run_2": False,
        "run_3": False,
    }
    [line] = await store.journal("run_1")
    assert (line.key, line.attempt, line.fence, line.ended_at) == ("llm:3", 1, 1, None)
    assert await store.journal("run_2") == await store.journal("run_3") == []


async def test_a_job_that_rests_has_no_call_to_begin_with(store: Store) -> None:
    await store.commit(job("run_1", next_call="llm:1"))
    await claim(store)
    await store.commit(changes.rest_job("run_1", fence=1, due_at=100.0))
    [taken] = await claim(store)
    assert (taken.next_call, taken.is_journalled) == (None, False)
    assert len(await store.journal("run_1")) == 1


async def test_nodes_are_seen_until_they_end_or_are_silent_for_long(store: Store) -> None:
    for id, now in (("boot_a", 10.0), ("boot_b", 20.0), ("boot_a", 30.0)):
        await store.commit(
            changes.keep_node(id, role="worker", version="1", live_runs=int(now), now=now)
        )
    [a, b] = await store.nodes(since=15.0)
    assert (a.id, a.started_at, a.seen_at, a.live_runs) == ("boot_a", 10.0, 30.0, 30)
    assert b.id == "boot_b"
    assert [node.id for node in await store.nodes(since=25.0)] == ["boot_a"]
    await store.commit(changes.drop_node("boot_a"), changes.forget_nodes(before=25.0, now=30.0))
    assert await store.nodes(since=0.0) == []


async def test_a_run_waits_a_moment_for_the_server_that_has_its_code(store: Store) -> None:
    """Of three threads one has its code on this server, one on another, one on a dead one."""
    here, there, dead = "boot_a", "boot_b", "boot_c"
    for node, seen_at in ((here, 100.0), (there, 100.0), (dead, 100.0 - limits.NODE_ALIVE_S)):
        kept = changes.keep_node(node, role="worker", version="1", live_runs=0, now=seen_at)
        await store.commit(kept, changes.keep_pin(f"thread_{node}", node=node, until=500.0))
        await store.commit(
            job(f"run_{node}", thread_id=f"thread_{node}", due_at=100.0, next_call="llm:1")
        )
    assert await store.pin("thread_boot_b", now=100.0) == there
    assert ids(await claim(store, owner=here)) == ["run_boot_a", "run_boot_c"]
    assert await claim(store, owner=here) == []
    late = 100.0 + limits.PIN_WAIT_S
    [taken] = await claim(store, owner=here, now=late)
    assert taken.id == "run_boot_b"


async def test_a_session_that_is_over_keeps_nobody_waiting(store: Store) -> None:
    kept = changes.keep_node("boot_b", role="worker", version="1", live_runs=0, now=100.0)
    pins = [changes.keep_pin("thread_1", node=node, until=99.0) for node in ("boot_c", "boot_b")]
    await store.commit(kept, *pins)
    await store.commit(job("run_1", thread_id="thread_1", next_call="llm:1"))
    assert await store.pin("thread_1", now=100.0) is None
    assert ids(await claim(store)) == ["run_1"]


async def test_a_server_that_ends_leaves_no_pins(store: Store) -> None:
    await store.commit(changes.keep_pin("thread_1", node="boot_a", until=500.0))
    await store.commit(changes.keep_pin("thread_2", node="boot_b", until=500.0))
    await store.commit(changes.drop_node("boot_a"))
    assert await store.pin("thread_1", now=100.0) is None
    assert await store.pin("thread_2", now=100.0) == "boot_b"
