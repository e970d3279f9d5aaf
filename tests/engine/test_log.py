"""The log of a run: live readers of every kind see what the store replays, byte for byte."""

import asyncio
import time

import pytest

from tests.crash.checks import check_order, check_places
from tests.crash.client import events_in as events
from tests.engine.stage import Clock, Hooked, Json, Stage, eventually, opened_stage
from understudy import limits
from understudy.bell.local import LocalBell
from understudy.engine import frames
from understudy.engine.live_log import LiveLog
from understudy.machine.deltas import Pieces
from understudy.store import Conflict
from understudy.store.store import Store


def words(count: int, every_ms: float = 1) -> Json:
    """A script that says so many words."""
    return {"steps": [{"words": count, "every_ms": every_ms}]}


async def slowly(stage: Stage, run: Json, pause_s: float, after: tuple[int, int] = (0, 0)) -> bytes:
    """What a reader gets that takes its time between two pieces."""
    pieces = []
    tail = stage.app.log.tail("default", run["id"], after, with_ids=True, goes_on=True)
    async for piece in tail.frames():
        pieces.append(piece)
        await asyncio.sleep(pause_s)
    return b"".join(pieces)


async def test_a_trimmed_log_gives_late_and_slow_readers_the_same_frames(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIVE_LOG_BYTES", 2_000)
    run = await stage.start(words(150))
    quick = asyncio.create_task(stage.frames(run))
    slow = asyncio.create_task(slowly(stage, run, 0.04))
    await eventually(lambda: stage.app.log._live[run["id"]]._first > 20)
    late = asyncio.create_task(stage.frames(run))
    first = await quick
    assert await late == first
    assert await slow == first
    assert await stage.frames(run) == first
    check_places([event.place for event in events(first)])
    check_order(events(first))


async def test_only_saved_frames_are_trimmed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIVE_LOG_BYTES", 100)
    monkeypatch.setattr(limits, "DELTA_TICK_S", 3600.0)
    run = await stage.start(words(60))
    whole = events(await stage.frames(run))
    check_places([event.place for event in whole])
    assert sum(event.is_delta for event in whole) == 60


async def test_frames_of_a_commit_under_way_are_not_trimmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader that needs them would find them nowhere."""
    monkeypatch.setattr(limits, "LIVE_LOG_BYTES", 4)
    live = LiveLog("run_1", 1)
    live.show([b"fact"])
    live.show_deltas([Pieces("msg_1", 0, ["one ", "two "])])
    before = live.since(1)
    with live.unsaved() as taken:
        live.show_deltas([Pieces("msg_1", 0, ["three", "four"])])
        assert (taken.first, taken.count) == (2, 2)
        assert live.since(1)[:2] == list(frames.split(taken.packed())) == before
        assert len(live.since(1)) == 4
        await asyncio.sleep(0)  # The end of this turn.
        assert not live.covers((1, 0))
    live.show([b"fact"])
    await asyncio.sleep(0)
    assert not live.covers((1, 1))
    assert len(live.since(3)) == 3


async def test_what_a_commit_could_not_save_is_saved_by_the_next() -> None:
    """In one row with what came meanwhile."""
    live = LiveLog("run_1", 1)
    live.show([b"fact"])
    live.show_deltas([Pieces("msg_1", 0, ["one ", "two "])])
    with pytest.raises(Conflict), live.unsaved():
        live.show_deltas([Pieces("msg_1", 0, ["three"])])
        raise Conflict("hold_job")
    with live.unsaved() as taken:
        assert (taken.first, taken.count) == (2, 3)
        assert list(frames.split(taken.packed())) == live.since(1)


async def test_two_hundred_readers_see_the_same(stage: Stage) -> None:
    run = await stage.start(words(40, every_ms=2))
    tails = [asyncio.create_task(slowly(stage, run, 0.001 * (n % 7))) for n in range(200)]
    seen = await asyncio.gather(*tails)
    assert set(seen) == {await stage.frames(run)}


async def test_deltas_are_in_the_store_while_the_model_thinks_on(stage: Stage) -> None:
    run = await stage.start({"steps": [{"text": "one two three"}, {"silence": True}]})
    async with asyncio.timeout(5):
        while True:
            rows = await stage.app.store.events(run["id"], (0, 0))
            deltas = [row for row in rows if row.kind == "delta"]
            if deltas and b"three" in deltas[-1].frames:
                break
            await asyncio.sleep(0.005)
    check_places([(row.fence, seq) for row in rows for seq in range(row.seq_from, row.seq_to + 1)])
    assert stage.model.open


async def test_many_deltas_are_few_rows(stage: Stage) -> None:
    run = await stage.start(words(200, every_ms=1))
    await stage.rested(run)
    rows = await stage.app.store.events(run["id"], (0, 0))
    assert 1 < len([row for row in rows if row.kind == "delta"]) < 50


@pytest.mark.parametrize("kind", ["live", "over"])
async def test_a_replay_from_every_place_goes_on_with_the_next_event(
    stage: Stage, kind: str
) -> None:
    run = await stage.start(words(20))
    if kind == "over":
        await stage.rested(run)
    places = [(1, seq) for seq in range(1, 15)]
    parts = await asyncio.gather(*(stage.frames(run, place) for place in places))
    whole = events(await stage.frames(run))
    for (_, seq), part in zip(places, parts, strict=True):
        assert events(part) == whole[seq:]


async def test_a_reader_follows_a_run_through_the_answer_of_its_client(stage: Stage) -> None:
    script = {"turns": [[{"call": {"name": "look_up"}}], [{"words": 5, "every_ms": 2}]]}
    run = await stage.start(script)
    waiting = await stage.until(run, "requires_action")
    first = events(await stage.frames(run))
    assert first[-1].name == "thread.run.requires_action"
    await stage.answer(waiting)
    rest = events(await stage.frames(run, first[-1].place))
    assert events(await stage.frames(run)) == first + rest
    check_order(first + rest)
    assert rest[0].place == (first[-1].place[0] + 1, 1)


async def test_a_reader_in_another_process_gets_the_same_from_the_store(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POLL_JOBS_S", 0.01)
    async with (
        opened_stage(store, clock, bell=LocalBell()) as one,
        opened_stage(store, clock, bell=LocalBell(), works=False) as two,
    ):
        run = await one.start(words(60, every_ms=3))
        near, far = await asyncio.gather(one.frames(run), two.frames(run))
        assert far == near


async def test_a_silent_stream_looks_ever_more_rarely(
    store: Store, clock: Clock, database: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a read, and thousands may be silent; what rings is read at once all the same."""
    monkeypatch.setattr(limits, "POLL_JOBS_S", 0.02)
    monkeypatch.setattr(limits, "POLL_SILENT_S", 0.08)
    monkeypatch.setattr(limits, "KEEP_ALIVE_S", 0.3)
    looks = 0

    async def count(names: list[str]) -> None:
        nonlocal looks
        looks += names == ["events"]

    async with opened_stage(store, clock, bell=LocalBell()) as one:
        run = await one.start({"steps": [{"silence": True}]})
        await one.until(run, "in_progress")
        async with opened_stage(store, clock, bell=LocalBell(), works=False) as two:
            tail = two.app.log.tail("default", run["id"], (0, 0), with_ids=False, goes_on=True)
            shown = tail.frames()
            assert b"thread.run.in_progress" in await anext(shown)
            database.reading = count
            assert await anext(shown) == frames.KEEP_ALIVE
            # After .02, .04, .08, .08 and the rest of .3 s, where fifteen others would fit.
            assert looks <= 6
            await shown.aclose()


async def test_the_log_forgets_the_run_and_its_readers(stage: Stage) -> None:
    run = await stage.start(words(20, every_ms=2))
    live = stage.app.log._live[run["id"]]
    tails = [asyncio.create_task(stage.frames(run)) for _ in range(5)]
    await eventually(lambda: len(live._listeners) == 5)
    tails[0].cancel()
    await asyncio.gather(*tails[1:])
    assert live._listeners == set()
    await stage.rested(run)
    assert stage.app.log._live == {}
    assert stage.app.log._dirty == {}


async def test_many_runs_together_save_no_more_rows_than_they_may(
    stage: Stage, database: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each tick begins with one of them, and the others speak before its end."""
    monkeypatch.setattr(limits, "DELTA_ROWS_S", 40)
    saves = 0

    async def count(names: list[str]) -> None:
        nonlocal saves
        saves += names == ["save_deltas"]

    database.before = count
    started = time.monotonic()
    runs = []
    for _ in range(4):
        runs.append(await stage.start({"steps": [{"words": 20, "every_ms": 50}]}))
        await asyncio.sleep(0.006)
    for run in runs:
        await stage.rested(run)
    assert 2 < saves < 2 + (time.monotonic() - started) * 40 / 3  # Of three or four rows.
