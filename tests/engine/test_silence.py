"""A tail that waits: silence is told from a change, on the event loop that serves."""

import asyncio

import pytest
import uvloop

from understudy import limits
from understudy.engine.log import _heard


def test_silence_is_never_taken_for_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a client hears nothing for twice as long, and gives up."""
    monkeypatch.setattr(limits, "KEEP_ALIVE_S", 0.0037)  # uvloop counts whole milliseconds.

    async def waits() -> list[bool]:
        return [await _heard(asyncio.Event()) for _ in range(100)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert not any(runner.run(waits()))


async def test_a_change_is_heard_at_once() -> None:
    """Long before the silence is over."""
    reader = asyncio.Event()
    asyncio.get_running_loop().call_soon(reader.set)
    async with asyncio.timeout(5):
        assert await _heard(reader)
