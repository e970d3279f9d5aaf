"""Writing beside others: clients that edit metadata meanwhile, and a store that goes away."""

import asyncio
from itertools import count

import pytest

from tests.crash.checks import check_order, check_places
from tests.crash.client import events_in as events
from tests.engine.stage import Clock, Hooked, Stage, eventually, opened_stage
from tests.engine.test_stops import saved, silent
from understudy import limits
from understudy.engine.worker import Worker
from understudy.store import Unavailable
from understudy.store.store import Store

_EDITORS = 20


@pytest.mark.parametrize("editors", [1, _EDITORS])
async def test_every_metadata_edit_during_a_run_is_kept(stage: Stage, editors: int) -> None:
    """Editors write as fast as they can, to the run and to the message being written."""
    run = await stage.start({"steps": [{"words": 60, "every_ms": 5}]})
    numbers, acknowledged = count(1), [0]

    async def edit() -> None:
        while stage.held:
            number = next(numbers)
            answer = await stage.http.post(
                stage.path(run), json={"metadata": {"edit": str(number)}}
            )
            assert answer.status_code in (200, 503)
            if answer.status_code == 200:
                acknowledged.append(number)

    async def edit_message() -> None:
        while stage.held:
            for message in await stage.messages(run):
                path = f"/threads/{run['thread_id']}/messages/{message['id']}"
                await stage.http.post(path, json={"metadata": {"note": message["id"]}})

    await asyncio.gather(*(edit() for _ in range(editors)), edit_message())
    ended = await stage.rested(run)
    assert ended["status"] == "completed"
    assert int(ended["metadata"]["edit"]) in acknowledged[-2 * editors :]
    assert len(acknowledged) > 20
    for message in await stage.messages(run):
        assert message["metadata"] == {"note": message["id"]}
        assert message["status"] == "completed"
    replay = events(await stage.frames(run))
    check_places([event.place for event in replay])
    check_order(replay)
    assert len(await stage.app.store.journal(run["id"])) == 1


@pytest.mark.parametrize("first", range(1, 8))
async def test_a_store_that_is_away_for_a_moment_delays_a_run(
    stage: Stage, database: Hooked, first: int
) -> None:
    run = await stage.start({"turns": []})
    await stage.rested(run)
    seen = 0

    async def fail(names: list[str]) -> None:
        nonlocal seen
        if names[0] == "hold_job":
            seen += 1
            if first <= seen < first + 5:
                raise Unavailable("The disk is full.", retry_after_s=0.01)

    database.before = fail
    body = {"role": "user", "content": 'rehearse:{"steps":[{"words":12,"every_ms":15}]}'}
    await stage.post(f"/threads/{run['thread_id']}/messages", body)
    again = await stage.post(
        f"/threads/{run['thread_id']}/runs", {"assistant_id": run["assistant_id"]}
    )
    assert (await stage.rested(again))["status"] == "completed"
    replay = events(await stage.frames(again))
    check_places([event.place for event in replay])
    check_order(replay)
    said = [event.object["delta"] for event in replay if event.name == "thread.message.delta"]
    assert len(said) == 12
    assert len(await stage.app.store.journal(again["id"])) == 1


async def test_deltas_that_could_not_be_saved_are_saved_when_the_store_is_back(
    stage: Stage, database: Hooked
) -> None:
    is_away = True

    async def fail(names: list[str]) -> None:
        if is_away and names == ["save_deltas"]:
            raise Unavailable("The disk is full.", retry_after_s=0.01)

    database.before = fail
    run = await stage.start({"steps": [{"text": "one two three"}, {"silence": True}]})
    await silent(stage, run, b"three")
    await asyncio.sleep(0.1)
    assert [r.kind for r in await stage.app.store.events(run["id"], (0, 0))].count("delta") == 0
    is_away = False
    await saved(stage, run, b"three")


async def test_a_store_that_stays_away_stops_the_driver_before_its_lease_ends(
    stage: Stage, database: Hooked, clock: Clock
) -> None:
    stage.model.may_speak.clear()
    run = await stage.start({"steps": [{"text": "one two"}]})
    await stage.until(run, "in_progress")
    lease = stage.held[run["id"]]

    async def fail(names: list[str]) -> None:
        clock.at += 1
        raise Unavailable("The disk is full.", retry_after_s=0.001)

    database.before = fail
    until: float | None = lease.job.lease_until
    stage.model.may_speak.set()
    await lease.done.wait()
    assert until is not None
    assert clock.at < until
    assert stage.model.open == set()


async def test_deltas_that_were_saved_although_the_answer_was_lost_leave_no_gap(
    stage: Stage, database: Hooked
) -> None:
    """What came meanwhile is saved with them: by the next tick, or by the driver's next commit."""
    lost = 0

    async def lose(names: list[str]) -> None:
        nonlocal lost
        if names == ["save_deltas"] and lost < 3:
            lost += 1
            raise Unavailable("The answer is lost.", retry_after_s=0.01)

    database.after = lose
    run = await stage.start({"steps": [{"words": 30, "every_ms": 10}]})
    assert (await stage.rested(run))["status"] == "completed"
    assert lost == 3
    replay = events(await stage.frames(run))
    check_places([event.place for event in replay])
    said = [event.object["delta"] for event in replay if event.name == "thread.message.delta"]
    assert len(said) == 30


async def test_the_last_deltas_may_have_been_saved_although_the_answer_was_lost(
    stage: Stage, database: Hooked
) -> None:
    """The driver's commit has them once more, and is not refused for that."""

    async def lose(names: list[str]) -> None:
        if names == ["save_deltas"]:
            raise Unavailable("The answer is lost.", retry_after_s=0.01)

    database.after = lose
    run = await stage.start({"steps": [{"words": 12, "every_ms": 10}]})
    assert (await stage.rested(run))["status"] == "completed"
    replay = events(await stage.frames(run))
    check_places([event.place for event in replay])
    said = [event.object["delta"] for event in replay if event.name == "thread.message.delta"]
    assert len(said) == 12
    assert len(await stage.app.store.journal(run["id"])) == 1


async def test_a_claimed_run_that_cannot_be_read_for_a_moment_is_delayed(
    store: Store, database: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the claim has not read it along."""
    work_of = Worker._work_of
    monkeypatch.setattr(Worker, "_work_of", lambda worker, lease, _: work_of(worker, lease, None))
    async with opened_stage(store, works=False, runs_at_once=0) as door:
        run = await door.start({"steps": [{"text": "one two"}]})
    away = 0

    async def fail(names: list[str]) -> None:
        nonlocal away
        if names == ["beginning"] and away < 3:
            away += 1
            raise Unavailable("Nobody answers.", retry_after_s=0.01)

    database.reading = fail
    async with opened_stage(store) as stage:
        assert (await stage.rested(run))["status"] == "completed"
        assert away == 3
        assert {event.place[0] for event in events(await stage.frames(run))} == {0, 1}


async def test_a_thread_that_cannot_be_read_leaves_its_run_to_the_next_driver(
    stage: Stage, database: Hooked, clock: Clock
) -> None:
    """It fails none: the model was not asked yet."""
    script = {"turns": [[{"call": {"name": "look_up"}}], [{"words": 5, "every_ms": 2}]]}
    run = await stage.start(script)
    waiting = await stage.until(run, "requires_action")
    [call] = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    away = 0

    async def fail(names: list[str]) -> None:
        nonlocal away
        if names[0].startswith("list_") and not away:
            away += 1
            raise Unavailable("Nobody answers.", retry_after_s=0.01)

    database.reading = fail
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "42"}]}
    await stage.post(f"{stage.path(run)}/submit_tool_outputs", outputs)
    await eventually(lambda: away == 1 and not stage.held)
    assert (await stage.run(run))["status"] == "in_progress"
    clock.at += limits.LEASE_S
    stage.app.bell.ring("jobs")
    assert (await stage.rested(run))["status"] == "completed"
