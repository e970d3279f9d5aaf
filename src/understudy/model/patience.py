"""How long an answer may be silent or go on: one timer a stream, none a chunk."""

import asyncio
from typing import Literal

import aiohttp


class Patience:
    """Closes a response that makes us wait for too long; `spent` then says why.

    The reader notes each arrival (`heard`) and when its own consumer is at work (`busy`), which
    costs an attribute write each; the timer looks at the notes when it fires.
    """

    __slots__ = ("_ends_at", "_heard_at", "_loop", "_response", "_silence_s", "_timer", "spent")

    def __init__(
        self, response: aiohttp.ClientResponse, *, silence_s: float, total_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._silence_s = silence_s
        self._heard_at: float | None = self._loop.time()  # None: the consumer is at work.
        self._ends_at = self._loop.time() + total_s
        self._timer = self._loop.call_later(min(silence_s, total_s), self._look)
        self.spent: Literal["silence", "total"] | None = None

    def heard(self) -> None:
        """The wait for the next piece begins now."""
        self._heard_at = self._loop.time()

    def busy(self) -> None:
        """The provider is not waited for."""
        self._heard_at = None

    def shorten(self, silence_s: float) -> None:
        """Wait less from now on: only the tail of the answer is missing."""
        self._silence_s = min(self._silence_s, silence_s)
        self._timer.cancel()
        self._timer = self._loop.call_later(self._silence_s, self._look)

    def stop(self) -> None:
        """The answer is over."""
        self._timer.cancel()

    def _look(self) -> None:
        """The timer: give up, or sleep until the next moment that could be one to give up."""
        now = self._loop.time()
        heard_at = now if self._heard_at is None else self._heard_at
        if now >= self._ends_at:
            self.spent = "total"
        elif now - heard_at >= self._silence_s:
            self.spent = "silence"
        else:
            wake_at = min(heard_at + self._silence_s, self._ends_at)
            self._timer = self._loop.call_at(wake_at, self._look)
            return
        self._response.close()
