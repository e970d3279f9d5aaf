"""Listener: what a tail of a live log waits on, tens of thousands of times a second in all.

An asyncio.Event and a timer for each wait would do the same, and take longer.
"""

import asyncio
from collections.abc import Callable

from understudy import limits

_LEAST_S = 0.001  # uvloop counts whole milliseconds.


class Listener:
    """Hears each change, and each silence that a keep-alive fills; one timer, moved when it rings
    too early. While somebody waits, `take` may deal with a change in place: it returns True, and
    they wait on."""

    __slots__ = ("_heard_at", "_is_rung", "_loop", "_take", "_timer", "_waiter")

    def __init__(self, take: Callable[[], bool] = lambda: False) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._is_rung = False
        self._waiter: asyncio.Future[bool] | None = None
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(limits.KEEP_ALIVE_S, self._look)

    def ring(self) -> None:
        """Something has changed."""
        if self._waiter is None or self._waiter.done():
            self._is_rung = True
        elif self._take():
            self._heard_at = self._loop.time()
        else:
            self._is_rung = True
            self._waiter.set_result(True)

    def clear(self) -> None:
        """What has changed so far is known."""
        self._is_rung = False

    async def heard(self) -> bool:
        """Waits for a change since `clear`; False after a silence."""
        if self._is_rung:
            return True
        self._heard_at = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Nobody waits any more."""
        self._timer.cancel()

    def _look(self) -> None:
        """The timer: a silence, or the start of one that is not over. uvloop's timers may be a
        moment early, and then there is a next one at once."""
        now = self._loop.time()
        if self._waiter is None:
            self._heard_at = now  # The tail is at work.
        elif now - self._heard_at >= limits.KEEP_ALIVE_S:
            self._heard_at = now
            if not self._waiter.done():
                self._waiter.set_result(False)
        wait_s = max(self._heard_at + limits.KEEP_ALIVE_S - now, _LEAST_S)
        self._timer = self._loop.call_later(wait_s, self._look)
