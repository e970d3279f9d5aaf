"""What ends the work on a run early: cancel, deadline, a deleted thread, a drain."""

import asyncio
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from tests.api.serving import KEY, Running, running
from tests.crash.checks import check_order, check_places
from tests.crash.client import events_in as events
from tests.engine.stage import (
    Clock,
    Hooked,
    Json,
    Stage,
    eventually,
    opened_stage,
    opened_store,
)
from understudy import limits
from understudy.bell.local import LocalBell
from understudy.store import Database, changes
from understudy.store.store import Store

SILENCE: Json = {"steps": [{"text": "one two "}, {"silence": True}]}
WORDS: Json = {"steps": [{"text": "one two three"}]}
_CANCELS = 100
_AT_ONCE = 4


async def silent(stage: Stage, run: Json, word: bytes = b"two ") -> None:
    """Wait until the model has said its last word."""

    def has_spoken() -> bool:
        live = stage.app.log._live.get(run["id"])
        return live is not None and any(word in frame for frame in live.since(0))

    await eventually(has_spoken)


async def saved(stage: Stage, run: Json, word: bytes) -> None:
    """Wait until a word is in the stored log."""
    async with asyncio.timeout(5):
        while True:
            rows = await stage.app.store.events(run["id"], (0, 0))
            if any(word in row.frames for row in rows):
                return
            await asyncio.sleep(0.002)


def text(message: Json) -> str:
    """The text of a message."""
    value: str = message["content"][0]["text"]["value"]
    return value


# Cancel.


def test_a_cancel_reaches_a_silent_provider_quickly(tmp_path: Path) -> None:
    """From the client's cancel to the closed socket that the provider sees; p95 of 100."""
    with running(tmp_path / "data") as server:
        taken: list[float] = []
        workers = [
            threading.Thread(target=cancel_some, args=(server, _CANCELS // _AT_ONCE, taken))
            for _ in range(_AT_ONCE)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert len(taken) == _CANCELS
    assert sorted(taken)[int(_CANCELS * 0.95) - 1] < 0.5, sorted(taken)[-10:]


def cancel_some(server: Running, count: int, taken: list[float]) -> None:
    """Cancel runs whose provider is silent, one after the other, and note how long it takes."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(base_url=server.url, headers=headers, timeout=20) as http:
        assistant = http.post("/assistants", json={"model": "m"}).json()["id"]
        for _ in range(count):
            content = 'rehearse:{"steps":[{"text":"hm"},{"silence":true}]}'
            messages = [{"role": "user", "content": content}]
            body = {"assistant_id": assistant, "thread": {"messages": messages}}
            run = http.post("/threads/runs", json=body).json()
            path = f"/threads/{run['thread_id']}/runs/{run['id']}"
            with http.stream("GET", f"{path}/events") as stream:
                for line in stream.iter_lines():
                    if line == "event: thread.message.delta":
                        break
            asked_at = time.time()
            assert http.post(f"{path}/cancel").json()["status"] == "cancelling"
            assert http.get(path).json()["status"] == "cancelled"
            taken.append(left_at(server, run["id"]) - asked_at)


def left_at(server: Running, run_id: str) -> float:
    """When the provider saw that the run's call was left."""
    give_up_at = time.monotonic() + 10
    while time.monotonic() < give_up_at:
        for call in httpx2.get(f"{server.rehearsal}/rehearsal/calls").json()["data"]:
            if (call["call_id"] or "").startswith(run_id) and call["left_at"]:
                at: float = call["left_at"]
                return at
        time.sleep(0.01)
    raise AssertionError("the provider still talks to nobody")


@pytest.mark.parametrize("ticks", range(12))
async def test_a_cancel_at_any_moment_keeps_text_and_stream_alike(stage: Stage, ticks: int) -> None:
    run = await stage.start({"steps": [{"words": 4, "every_ms": 1}]})
    for _ in range(ticks * 4):
        await asyncio.sleep(0)
    answer = await stage.http.post(f"{stage.path(run)}/cancel", json={})
    ended = await stage.rested(run)
    assert ended["status"] == ("cancelled" if answer.status_code == 200 else "completed")
    replay = events(await stage.frames(run))
    check_places([event.place for event in replay])
    check_order(replay)
    deltas = [event.object["delta"] for event in replay if event.name == "thread.message.delta"]
    said = "".join(one["text"]["value"] for delta in deltas for one in delta["content"])
    assert "".join(text(one) for one in await stage.messages(run) if one["run_id"]) == said


async def test_a_cancel_that_comes_with_the_end_keeps_the_whole_text(stage: Stage) -> None:
    """The turn is over and its commit is refused, because the cancel was first."""
    run = await stage.start({"steps": [{"text": "all of it."}, {"delay_ms": 50}]})
    await silent(stage, run, b"it.")
    stage.model.may_speak.clear()
    stage.held[run["id"]].interrupt = lambda reason: None
    cancelling = asyncio.create_task(stage.post(f"{stage.path(run)}/cancel", {}))
    await saved(stage, run, b"it.")
    while (job := await stage.app.store.job(run["id"])) and job.cancel_asked_at is None:
        pass
    stage.model.may_speak.set()
    await cancelling
    assert (await stage.rested(run))["status"] == "cancelled"
    assert text((await stage.messages(run))[-1]) == "all of it."
    replay = events(await stage.frames(run))
    check_places([event.place for event in replay])
    check_order(replay)


async def test_a_cancel_of_a_run_whose_driver_died_keeps_its_text(
    store: Store, clock: Clock
) -> None:
    async with opened_stage(store, clock) as stage:
        run = await stage.start(SILENCE)
        await silent(stage, run)
        await saved(stage, run, b"two ")
    clock.at += limits.LEASE_S + 1
    async with opened_stage(store, clock, works=False) as door:
        assert (await door.post(f"{door.path(run)}/cancel", {}))["status"] == "cancelling"
        assert (await door.run(run))["status"] == "cancelled"
        assert text((await door.messages(run))[-1]) == "one two "
        check_order(events(await door.frames(run)))


# The deadline.


async def test_a_deadline_cuts_a_silent_provider(store: Store, clock: Clock) -> None:
    async with opened_stage(store, clock, works=False, runs_at_once=0) as door:
        run = await door.start(SILENCE)
    clock.at = run["expires_at"] - 0.1
    async with opened_stage(store, clock) as stage:
        await silent(stage, run)
        clock.at += 1
        assert (await stage.rested(run))["status"] == "expired"
        message = (await stage.messages(run))[-1]
        assert message["incomplete_details"] == {"reason": "run_expired"}
        assert text(message) == "one two "
        assert stage.model.open == set()
        check_order(events(await stage.frames(run)))


@pytest.mark.parametrize("slots", [0, 5])
async def test_a_run_that_nobody_started_expires_without_a_slot(
    store: Store, clock: Clock, slots: int
) -> None:
    async with opened_stage(store, clock, works=False, runs_at_once=0) as door:
        run = await door.start(SILENCE)
    clock.at = run["expires_at"]
    async with opened_stage(store, clock, runs_at_once=slots) as stage:
        assert (await stage.rested(run))["status"] == "expired"
        assert stage.model.calls == []


async def test_a_client_that_never_answers_lets_the_run_expire(stage: Stage, clock: Clock) -> None:
    run = await stage.start({"steps": [{"call": {"name": "look_up"}}]})
    waiting = await stage.until(run, "requires_action")
    clock.at = run["expires_at"]
    body = {"tool_outputs": [{"tool_call_id": "call_1", "output": ""}]}
    late = await stage.http.post(f"{stage.path(run)}/submit_tool_outputs", json=body)
    assert (late.status_code, "expired" in late.text) == (400, True)
    stage.app.bell.ring("jobs")
    assert (await stage.until(run, "expired"))["expires_at"] == waiting["expires_at"]
    check_order(events(await stage.frames(run)))


# A deleted thread.


async def test_a_deleted_thread_ends_its_run_and_stream(stage: Stage, store: Store) -> None:
    run = await stage.start(SILENCE)
    reading = asyncio.create_task(stage.frames(run))
    await silent(stage, run)
    await stage.http.delete(f"/threads/{run['thread_id']}")
    tail = (await reading).rpartition(b"event: error\n")
    assert b"deleted" in tail[2]
    await eventually(lambda: not stage.held)
    assert stage.model.open == set()
    async with asyncio.timeout(5):
        while await store.job(run["thread_id"]):  # The purge.
            pass
    assert await store.get("run", "default", run["id"]) is None
    assert (await store.events(run["id"], (0, 0)), await store.journal(run["id"])) == ([], [])


# The drain.


async def test_a_drain_lets_a_live_run_finish_and_takes_no_other(
    store: Store, clock: Clock
) -> None:
    async with opened_stage(store, clock) as stage:
        run = await stage.start({"steps": [{"words": 10, "every_ms": 10}]})
        draining = asyncio.create_task(stage.app.worker.drain(5.0))
        await asyncio.sleep(0)
        other = await stage.start({"steps": [{"text": "later"}]})
        await draining
        assert (await stage.run(run))["status"] == "completed"
        assert (await stage.run(other))["status"] == "queued"
    async with opened_stage(store, clock) as stage:
        assert (await stage.until(other))["status"] == "completed"


async def test_a_drain_hands_over_what_does_not_finish(store: Store, clock: Clock) -> None:
    async with opened_stage(store, clock) as stage:
        run = await stage.start(SILENCE)
        reading = asyncio.create_task(stage.frames(run))
        await saved(stage, run, b"two ")
        await stage.app.worker.drain(0.05)
        assert stage.model.open == set()
        assert b"event: error\n" in await reading
        assert (await stage.run(run))["status"] == "in_progress"
    async with opened_stage(store, clock) as stage:
        await eventually(lambda: bool(stage.model.open))
        assert stage.model.calls == [f"{run['id']}:llm:1:2"]
        await stage.post(f"{stage.path(run)}/cancel", {})
        assert (await stage.rested(run))["status"] == "cancelled"
        first = next(one for one in await stage.messages(run) if one["run_id"])
        assert (text(first), first["status"]) == ("one two ", "incomplete")
        check_order(events(await stage.frames(run)))


async def test_a_drain_while_a_message_begins_saves_what_clients_saw(
    tmp_path: Path, clock: Clock
) -> None:
    """Its first words came with the commit that the drain did not cut."""
    hooked: list[Hooked] = []

    def wrap(database: Database) -> Database:
        hooked.append(Hooked(database))
        return hooked[0]

    draining: list[asyncio.Task[None]] = []
    async with opened_store(tmp_path / "drained.db", wrap) as store:
        async with opened_stage(store, clock) as stage:

            async def after(names: list[str]) -> None:
                if {"hold_job", "insert_object"} <= set(names) and not draining:
                    draining.append(asyncio.create_task(stage.app.worker.drain(0.02)))
                    await asyncio.sleep(0.06)

            hooked[0].after = after
            seen = events(await stage.frames(await stage.start(SILENCE)))
            await draining[0]
        shown = [event.place for event in seen if event.name != "error"]
        rows = await store.events(seen[0].object["id"], (0, 0))
        kept = [(row.fence, seq) for row in rows for seq in range(row.seq_from, row.seq_to + 1)]
        assert any(event.is_delta for event in seen)
        assert kept == shown


async def test_restarts_in_good_order_are_no_deaths(store: Store, clock: Clock) -> None:
    """A run that outlives more restarts than a poisoned run may have reclaims goes on."""
    async with opened_stage(store, clock) as stage:
        run = await stage.start(SILENCE)
        await saved(stage, run, b"two ")
        await stage.app.worker.drain(0.05)
    for restart in range(1, limits.RECLAIMS + 3):
        async with opened_stage(store, clock) as stage:
            await eventually(lambda: bool(stage.model.open))
            assert stage.model.calls == [f"{run['id']}:llm:1:{restart + 1}"]
            job = await store.job(run["id"])
            assert job is not None and job.reclaims == 0
            await stage.app.worker.drain(0.05)


async def test_a_drain_leaves_no_run_that_was_just_being_claimed(
    store: Store, database: Hooked, clock: Clock
) -> None:
    """A claim that is on its way when the server is told to stop: whoever comes next need not wait
    until its lease is over."""
    is_claiming, may_go_on = asyncio.Event(), asyncio.Event()

    async def hold_back(names: list[str]) -> None:
        if names[0].startswith("claim_") and not may_go_on.is_set():
            is_claiming.set()
            await may_go_on.wait()

    async with opened_stage(store, clock, works=False, runs_at_once=0) as door:
        run = await door.start(WORDS)
    database.after = hold_back
    async with opened_stage(store, clock, is_alone=False) as stage:
        await is_claiming.wait()
        draining = asyncio.create_task(stage.app.worker.drain(1.0))
        await asyncio.sleep(0.05)
        may_go_on.set()
        await draining
    async with opened_stage(store, clock, is_alone=False) as stage:
        assert (await stage.rested(run))["status"] == "completed"


async def test_a_cancel_is_heard_by_its_own_driver_on_another_server_and_touches_no_other_lease(
    store: Store, clock: Clock
) -> None:
    bell = LocalBell()
    async with AsyncExitStack() as stack:
        opened = opened_stage(store, clock, is_alone=False, bell=bell)
        stage = await stack.enter_async_context(opened)
        opened = opened_stage(store, clock, is_alone=False, bell=bell, works=False)
        door = await stack.enter_async_context(opened)
        runs = [await stage.start(SILENCE) for _ in range(3)]
        for run in runs:
            await silent(stage, run)
        clock.at += 1
        before = [await store.job(run["id"]) for run in runs[1:]]
        answer = await door.post(f"{door.path(runs[0])}/cancel", {})
        assert answer["status"] == "cancelling"
        assert (await stage.rested(runs[0]))["status"] == "cancelled"
        assert [await store.job(run["id"]) for run in runs[1:]] == before
        await store.commit(changes.ask_cancel(runs[1]["id"], now=clock.now()))
        bell.ring_all()  # It has lost its way for a moment.
        assert (await stage.rested(runs[1]))["status"] == "cancelled"
