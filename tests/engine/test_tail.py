"""A reader that has a push: what is pushed and what is iterated, in the order of their coming, are
the frames that any other reader gets."""

import asyncio
import random
from collections.abc import Callable

from tests.engine.stage import Json, Stage, eventually
from understudy.engine import frames
from understudy.engine.live_log import LiveLog
from understudy.engine.tail import Reads, Tail

WORDS = {"steps": [{"words": 60, "every_ms": 2}]}


async def heard(stage: Stage, run: Json, may: Callable[[], bool]) -> tuple[bytes, int]:
    """What a reader gets whose client takes a pushed piece when it `may`; how many it took."""
    pieces: list[bytes] = []
    taken = 0

    def push(piece: bytes) -> bool:
        nonlocal taken
        if not may():
            return False
        assert piece, "an empty piece would end a body"
        pieces.append(piece)
        taken += 1
        return True

    tail = stage.app.log.tail("default", run["id"], (0, 0), with_ids=True, goes_on=True)
    tail.push = push
    async for piece in tail.frames():
        pieces.append(piece)
        await asyncio.sleep(0.001)
    return b"".join(pieces), taken


async def test_pushed_frames_come_once_and_in_order(stage: Stage) -> None:
    run = await stage.start(WORDS)
    (all_pushed, many), plain = await asyncio.gather(
        heard(stage, run, lambda: True), stage.frames(run)
    )
    assert all_pushed == plain
    assert many > 30


async def test_a_client_that_is_busy_now_and_then_misses_nothing(stage: Stage) -> None:
    rng = random.Random(7)
    run = await stage.start(WORDS)
    readers = [heard(stage, run, lambda: rng.random() < 0.5) for _ in range(20)]
    seen = await asyncio.gather(*readers)
    assert {whole for whole, _ in seen} == {await stage.frames(run)}
    assert any(count for _, count in seen)


async def test_what_was_read_from_the_store_is_not_pushed_again(stage: Stage) -> None:
    """A commit can be read before the driver shows it."""
    log, pushed = stage.app.log, list[bytes]()
    live = log._live["run_1"] = LiveLog("run_1", 1)
    reads = Reads("default", "run_1", with_ids=False, goes_on=False)
    tail = Tail(stage.app.store, stage.app.bell, log, reads, (1, 2))

    def push(piece: bytes) -> bool:
        pushed.append(piece)
        return True

    tail.push = push
    reading = asyncio.ensure_future(anext(tail.frames()))
    await eventually(lambda: bool(live._listeners))
    for frame in (b"one", b"two"):
        live.show([frame])
        await asyncio.sleep(0)
    assert pushed == []
    live.show([b"three"])
    await asyncio.sleep(0)
    live.show([b"four"])
    live.show([b"five"])  # In the same turn of the loop, so in the same piece.
    await asyncio.sleep(0)
    assert pushed == [b"three", b"fourfive"]
    live.show([b"six"], ends=True)
    assert await reading == b"six" + frames.DONE
    assert pushed == [b"three", b"fourfive"]
