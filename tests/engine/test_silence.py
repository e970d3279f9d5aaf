"""A tail that waits: silence is told from a change, on the event loop that serves."""

import asyncio

import pytest
import uvloop

from understudy import limits
from understudy.engine.listener import Listener


def test_silence_is_never_taken_for_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a client hears nothing for twice as long, and gives up."""
    monkeypatch.setattr(limits, "KEEP_ALIVE_S", 0.0037)  # uvloop counts whole milliseconds.

    async def waits() -> list[bool]:
        listener = Listener()
        heard = [await listener.heard() for _ in range(100)]
        listener.close()
        return heard

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert not any(runner.run(waits()))


async def test_a_change_is_heard_at_once() -> None:
    """Long before the silence is over; and one that came before the wait, too."""
    listener = Listener()
    asyncio.get_running_loop().call_soon(listener.ring)
    async with asyncio.timeout(5):
        assert await listener.heard()
        assert await listener.heard()
    listener.close()


async def test_changes_put_the_silence_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted from the last one on."""
    monkeypatch.setattr(limits, "KEEP_ALIVE_S", 0.2)
    loop = asyncio.get_running_loop()
    listener = Listener()
    for _ in range(3):
        loop.call_later(0.1, listener.ring)
        assert await listener.heard()
        listener.clear()
    began = loop.time()
    assert not await listener.heard()
    assert loop.time() - began >= 0.19
    listener.close()
