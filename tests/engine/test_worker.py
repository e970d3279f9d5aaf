"""Claims, leases and heartbeats: the four bugs of the first prototype, and who may write."""

import asyncio
from dataclasses import replace

import pytest

from tests.engine.leases import SILENCE, claim_no_more, silent_run, take_over
from tests.engine.stage import Clock, Hooked, Json, Stage, eventually, make_app, opened_stage
from understudy import limits
from understudy.api.auth import new_key
from understudy.bell.local import LocalBell
from understudy.engine.lease import Lease
from understudy.machine.run import POISONED
from understudy.store import Unavailable, changes
from understudy.store.records import Job
from understudy.store.store import Store

WORDS: Json = {"steps": [{"text": "one two three", "every_ms": 2}]}


class DeafBell(LocalBell):
    """A bell that nobody hears."""

    def ring(self, topic: str) -> None:
        """Nothing."""


class NotedBell(LocalBell):
    """A bell that notes what other servers hear."""

    def __init__(self) -> None:
        super().__init__()
        self.rung: list[str] = []

    def ring(self, topic: str) -> None:
        """Ring, and note it."""
        self.rung.append(topic)
        super().ring(topic)

    def ring_here(self, topic: str) -> None:
        """Ring; the others hear nothing."""
        super().ring(topic)


def job(id: str, fence: int = 1) -> Job:
    """A job as a claim returns it."""
    return Job(id, "run", "default", None, 0, None, "me", 1e12, fence, 0, None, was_leased=False)


# The four bugs.


async def test_a_task_that_ends_removes_only_its_own_entry(store: Store, clock: Clock) -> None:
    worker = make_app(store, clock).worker
    old, new, may_end = Lease(job("run_1"), "me"), Lease(job("run_1", 2), "me"), asyncio.Event()

    async def work() -> None:
        await may_end.wait()

    worker._work(old, work())
    worker._work(new, asyncio.Event().wait())  # type: ignore[arg-type]
    may_end.set()
    await old.done.wait()
    assert worker._held == {"run_1": new}
    for task in worker._tasks:
        task.cancel()
    await new.done.wait()
    assert worker._held == {}


async def test_a_task_cancelled_before_it_begins_lets_go(store: Store, clock: Clock) -> None:
    worker = make_app(store, clock).worker
    lease = Lease(job("run_1"), "me")
    begun = False

    async def work() -> None:
        nonlocal begun
        begun = True

    worker._work(lease, work())
    [task] = worker._tasks
    task.cancel()
    async with asyncio.timeout(5):
        await lease.done.wait()
    assert not begun
    assert (worker._held, worker._tasks) == ({}, set())


async def test_a_heartbeat_is_compared_with_the_leases_that_it_asked_for(
    stage: Stage, database: Hooked, clock: Clock
) -> None:
    lost = await silent_run(stage)
    is_asking, may_go = asyncio.Event(), asyncio.Event()

    async def pause(names: list[str]) -> None:
        if names == ["renew_leases"] and not is_asking.is_set():
            is_asking.set()
            await may_go.wait()

    database.before = pause
    renewal = asyncio.create_task(stage.app.worker._renew(dict(stage.held)))
    await is_asking.wait()
    fresh = await silent_run(stage)
    claim_no_more(stage)
    clock.at += limits.LEASE_S + 1
    # Or it would be taken over, too, and its driver might notice that before the end.
    await stage.app.worker._renew({fresh["id"]: stage.held[fresh["id"]]})
    await take_over(stage.app.store, clock, lost["id"])
    may_go.set()
    lease = stage.held[lost["id"]]
    await renewal
    assert lease.reason == "lost"
    assert stage.held[fresh["id"]].reason is None


@pytest.mark.parametrize("at", range(1, 9))
async def test_a_commit_that_was_applied_and_not_answered_is_not_applied_twice(
    stage: Stage, database: Hooked, clock: Clock, at: int
) -> None:
    run = await stage.start({"turns": []}, metadata={"for": "the assistant and the thread"})
    await stage.rested(run)
    left = at

    async def fail(names: list[str]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Unavailable("The answer was lost.", retry_after_s=0.001)

    database.after = fail
    body = {"role": "user", "content": 'rehearse:{"steps":[{"text":"one two","every_ms":9}]}'}
    thread = f"/threads/{run['thread_id']}"
    await insist(stage, f"{thread}/messages", body, "message")
    again = await insist(stage, f"{thread}/runs", {"assistant_id": run["assistant_id"]}, "run")
    while (await stage.run(again))["status"] != "completed":
        await asyncio.sleep(0.005)
        if again["id"] not in stage.held:
            clock.at += limits.LEASE_S + 1
            stage.app.bell.ring("jobs")
    messages = [one for one in await stage.messages(again) if one["run_id"] == again["id"]]
    whole = [one for one in messages if one["status"] == "completed"]
    assert [one["content"][0]["text"]["value"] for one in whole] == ["one two"]
    said = [one["content"][0]["text"]["value"] for one in await stage.messages(again)]
    assert said.count(body["content"]) == 1
    journal = [(line.key, line.attempt) for line in await stage.app.store.journal(again["id"])]
    assert len(journal) == len(set(journal)) >= len(stage.model.calls) - 1


async def insist(stage: Stage, path: str, body: Json, key: str) -> Json:
    """What a client does that was told to come again: the same request with the same key."""
    headers = {"Idempotency-Key": key}
    while True:
        answer = await stage.http.post(path, json=body, headers=headers)
        if answer.status_code == 200:
            found: Json = answer.json()
            return found
        assert answer.status_code == 503


# Who may write.


async def test_a_driver_whose_lease_was_taken_never_writes(
    stage: Stage, clock: Clock, store: Store
) -> None:
    stage.model.may_speak.clear()
    run = await stage.start(WORDS)
    await stage.until(run, "in_progress")
    lease = stage.held[run["id"]]
    reading = asyncio.create_task(stage.frames(run))
    claim_no_more(stage)
    clock.at += limits.LEASE_S + 1
    taken = await take_over(store, clock, run["id"])
    before = await store.events(run["id"], (0, 0)), (await stage.run(run))["status"]
    stage.model.may_speak.set()
    await lease.done.wait()
    assert (await store.events(run["id"], (0, 0)), (await stage.run(run))["status"]) == before
    assert [(line.fence, line.outcome) for line in await store.journal(run["id"])] == [(1, None)]
    assert await store.job(run["id"]) == replace(taken, was_leased=True)
    assert b"event: error\n" in await reading


async def test_a_driver_whose_heartbeat_is_refused_closes_its_call(
    stage: Stage, clock: Clock, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await silent_run(stage)
    claim_no_more(stage)
    clock.at += limits.LEASE_S + 1
    await take_over(store, clock, run["id"])
    assert stage.model.open
    await stage.app.worker._renew(dict(stage.held))
    await eventually(lambda: not stage.held)
    assert stage.model.open == set()


async def test_two_workers_share_the_jobs_and_repeat_none(store: Store, clock: Clock) -> None:
    bell = LocalBell()
    async with (
        opened_stage(store, clock, bell=bell, works=False, runs_at_once=0) as door,
        opened_stage(store, clock, bell=bell, runs_at_once=4, is_alone=False) as one,
        opened_stage(store, clock, bell=bell, runs_at_once=4, is_alone=False) as two,
    ):
        runs = await asyncio.gather(*(door.start(WORDS) for _ in range(40)))
        for run in runs:
            await door.until(run, "completed")
            assert len(await store.journal(run["id"])) == 1
        calls = one.model.calls + two.model.calls
        assert sorted(calls) == sorted(f"{run['id']}:llm:1:1" for run in runs)
        assert one.model.calls
        assert two.model.calls


async def test_a_lost_run_is_taken_over_though_the_bell_is_never_silent(
    store: Store, clock: Clock
) -> None:
    """No ring tells of it, and claims that follow rings need not find it."""
    bell = LocalBell()
    async with opened_stage(store, clock, bell=bell, is_alone=False) as stage:
        run = await silent_run(stage)
        claim_no_more(stage)
        async with opened_stage(store, clock, bell=bell, is_alone=False) as other:
            ringing = asyncio.create_task(ring_always(bell))
            await asyncio.sleep(2 * limits.POLL_LEAST_S)  # Its first looks are over.
            clock.at += limits.LEASE_S + 1
            await eventually(lambda: run["id"] in other.held)
            ringing.cancel()


async def ring_always(bell: LocalBell) -> None:
    """As where runs come and go all the time."""
    while True:
        bell.ring("jobs")
        await asyncio.sleep(0.005)


async def test_a_project_cannot_take_every_slot(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RUNS_PER_PROJECT", 3)
    async with opened_stage(store, clock, works=False, runs_at_once=0) as door:
        greedy = [await start_later(door) for _ in range(10)]
        await store.commit(new_key(door.app.world, "sk-modest", project="modest", name=""))
        door.http.headers["Authorization"] = "Bearer sk-modest"
        modest = [await start_later(door) for _ in range(2)]
    async with opened_stage(store, clock, runs_at_once=8) as stage:
        await eventually(lambda: len(stage.held) == 5)
        await stage.app.worker._claim(with_lost=True)
        assert set(stage.held) == {run["id"] for run in (*greedy[:3], *modest)}


async def start_later(stage: Stage) -> Json:
    """A run that is due after those before it."""
    stage.clock.at += 1
    return await stage.start(SILENCE)


async def test_more_runs_than_slots_wait_and_all_end(store: Store, clock: Clock) -> None:
    async with opened_stage(store, clock, runs_at_once=2) as stage:
        runs = [await stage.start(WORDS) for _ in range(9)]
        assert len(stage.held) <= 2
        for run in runs:
            assert (await stage.until(run))["status"] == "completed"


async def test_a_run_whose_workers_keep_dying_is_failed(store: Store, clock: Clock) -> None:
    async with opened_stage(store, clock, works=False, runs_at_once=0) as door:
        run = await door.start(SILENCE)
    for number in range(limits.RECLAIMS + 1):
        taken = await take_over(store, clock, run["id"], owner=f"doomed {number}")
        assert taken.reclaims == number
        clock.at += limits.LEASE_S + 1
    async with opened_stage(store, clock) as stage:
        ended = await stage.until(run)
        assert ended["last_error"] == {"code": "server_error", "message": POISONED}
        assert stage.model.calls == []
        assert await store.job(run["id"]) is None


# Without the bell.


async def test_a_lost_bell_delays_a_run_by_a_poll_at_most(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POLL_JOBS_S", 0.02)
    bell = DeafBell()
    async with (
        opened_stage(store, clock, bell=bell, works=False, runs_at_once=0) as door,
        opened_stage(store, clock, bell=bell, is_alone=False) as stage,
    ):
        run = await door.start({"turns": [[{"call": {"name": "look_up"}}], [{"text": "done"}]]})
        waiting = await door.until(run, "requires_action")
        await door.answer(waiting)
        assert (await door.until(run))["status"] == "completed"
        assert len(stage.model.calls) == 2
        assert (await door.frames(run)).count(b"event: thread.run.completed") == 1


async def test_a_lost_bell_delays_a_cancel_by_a_heartbeat_at_most(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POLL_JOBS_S", 0.02)
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.02)
    bell = DeafBell()
    async with (
        opened_stage(store, clock, bell=bell, works=False, runs_at_once=0) as door,
        opened_stage(store, clock, bell=bell, is_alone=False) as stage,
    ):
        run = await door.start(SILENCE)
        await eventually(lambda: bool(stage.model.open))
        assert (await door.post(f"{door.path(run)}/cancel", {}))["status"] == "cancelling"
        assert (await door.until(run))["status"] == "cancelled"
        assert stage.model.open == set()


async def test_a_loop_that_meets_a_bug_goes_on(
    stage: Stage, database: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.limits.POLL_JOBS_S", 0.01)
    claims: list[str] = []

    async def fail_once(queries: list[str]) -> None:
        if "claim_jobs" in queries:
            claims.append("claim")
            if len(claims) == 1:
                raise RuntimeError("a bug")

    database.before = fail_once
    stage.app.bell.ring("jobs")
    await eventually(lambda: len(claims) > 2)


async def test_the_janitor_removes_old_deltas_as_fast_as_they_can_come(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker writes at most so many in a janitor's period; none may stay for ever."""
    assert limits.PRUNE_ROUNDS * limits.PRUNE_BATCH >= limits.DELTA_ROWS_S * limits.JANITOR_S
    monkeypatch.setattr(limits, "PRUNE_BATCH", 3)
    old = clock.now() - limits.DELTAS_KEPT_S - 1
    await store.commit(
        *(
            changes.append_events(
                "run_1", fence=1, seq_from=n, seq_to=n, kind="delta", created_at=old, frames=b""
            )
            for n in range(1, 11)
        )
    )
    async with opened_stage(store, clock):
        async with asyncio.timeout(5):
            while await store.events("run_1", (0, 0)):  # noqa: ASYNC110 (a fact of the record is no event)
                await asyncio.sleep(0.01)


async def test_the_janitor_forgets_old_answers_as_fast_as_they_can_come(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELETE_BATCH", 3)
    old = clock.now() - limits.IDEMPOTENCY_S - 1
    for n in range(10):
        await store.commit(
            changes.remember_answer(
                "default", key=str(n), hash="h", created_at=old, answer=b"{}", run_id=None
            )
        )
    async with opened_stage(store, clock):
        async with asyncio.timeout(5):
            while await store.answer("default", "9"):  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.01)


async def test_a_slot_that_is_free_again_is_told_to_no_other_server(store: Store) -> None:
    """With runs waiting, each that ends would make all of them look."""
    bell = NotedBell()
    async with opened_stage(store, bell=bell, runs_at_once=1) as stage:
        stage.model.may_speak.clear()
        runs = [await stage.start(WORDS) for _ in range(5)]
        bell.rung.clear()
        stage.model.may_speak.set()
        for run in runs:
            await stage.rested(run)
    assert {topic.partition(":")[0] for topic in bell.rung} == {"run"}


async def test_a_server_without_a_free_slot_is_not_busy_looking(
    store: Store, database: Hooked
) -> None:
    """While all servers are full, each run that comes rings at all of them."""
    looks: list[str] = []

    async def note(names: list[str]) -> None:
        looks.extend(name for name in names if name.startswith("claim_"))

    bell = LocalBell()
    async with opened_stage(store, bell=bell, runs_at_once=1) as stage:
        stage.model.may_speak.clear()
        runs = [await stage.start(WORDS) for _ in range(4)]
        await asyncio.sleep(0.1)
        database.before = note
        for _ in range(50):
            bell.ring(f"jobs#{runs[3]['id']}")
            await asyncio.sleep(0.005)
        assert looks.count("claim_jobs") + looks.count("claim_run") <= 1
        stage.model.may_speak.set()
        began_at = asyncio.get_running_loop().time()
        for run in runs:
            assert (await stage.rested(run))["status"] == "completed"
        # One after the other, each at once.
        assert asyncio.get_running_loop().time() - began_at < limits.POLL_JOBS_S
