"""All sessions of a sandbox: one per key, as many as the limits say, and a few made ahead."""

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from understudy import limits
from understudy.sandbox import SandboxLost, SandboxUnavailable, Session

_log = structlog.get_logger()
_WORD_CHARS = 300
_RETRY_S = 5.0  # After a spare session could not be made.


@dataclass(frozen=True)
class Sizes:
    """How many sessions, and for how long; tests take smaller ones."""

    sessions: int = limits.CODE_SESSIONS
    spare: int = limits.CODE_SPARE_SESSIONS
    idle_s: float = limits.CODE_IDLE_S
    age_s: float = limits.CODE_AGE_S
    # At once. As many as processors would let a few endless ones hold up everybody.
    calls: int = max(limits.CODE_CALLS_AT_ONCE, 2 * (os.cpu_count() or 1))


def stopping() -> SandboxUnavailable:
    """There are no sessions any more."""
    return SandboxUnavailable("The server is stopping.", "Try again later.")


class PooledSession(Session, Protocol):
    """A session that can be kept, and let go of when it is old, unused or lost."""

    born_at: float
    used_at: float

    @property
    def is_lost(self) -> bool:
        """Whether it can never run code again."""

    @property
    def is_busy(self) -> bool:
        """Whether somebody uses it."""

    def hang_up(self) -> None:
        """Begin to end it: it is lost from now on."""


Make = Callable[[asyncio.Semaphore], Coroutine[Any, Any, PooledSession]]


class Pool:
    """Sessions by key. `make` makes one; it raises SandboxUnavailable when it cannot."""

    def __init__(self, make: Make, sizes: Sizes) -> None:
        self._make = make
        self._sizes = sizes
        self._slots = asyncio.Semaphore(sizes.calls)
        self._by_key: OrderedDict[str, PooledSession] = OrderedDict()  # The longest unused first.
        self._spare: list[PooledSession] = []
        self._making: set[asyncio.Task[PooledSession]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._is_closed = False

    def open(self) -> None:
        """Begin to make spare sessions, and to end old ones. Opening twice is harmless."""
        self._keeper = self._keeper or asyncio.create_task(self._keep())

    async def session(self, key: str) -> PooledSession:
        """The living session of a key, or a new one. Raises SandboxUnavailable."""
        if session := self._living(key):
            return session
        self._must_be_open()
        new = await self._take()
        if session := self._living(key):  # Somebody else was as fast.
            self.end(new)
            return session
        if self._is_closed:
            self.end(new)
            raise stopping()
        self._by_key[key] = new
        new.used_at = time.monotonic()
        self._make_room()
        return new

    async def forget(self, key: str) -> None:
        """Close the key's session, if there is one."""
        if session := self._by_key.pop(key, None):
            self.end(session)
            await session.close()

    async def drop_spare(self) -> None:
        """End the sessions that nobody has yet."""
        spare, self._spare = self._spare, []
        for session in spare:
            self.end(session)

    def end(self, session: PooledSession) -> None:
        """End a session behind everybody's back; for who still holds it, it is lost from now on.

        Closing the pool waits for it.
        """
        session.hang_up()
        ending = asyncio.create_task(session.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all sessions, and wait until nothing of them is left."""
        self._is_closed = True
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for making in self._making:
            self._cancel(making)
        if self._making:
            await asyncio.wait(self._making)
        await asyncio.sleep(0)  # Who has just got a session sees that it is over, and ends it.
        for session in (*self._by_key.values(), *self._spare):
            self.end(session)
        self._by_key.clear()
        self._spare.clear()
        if self._ending:
            await asyncio.wait(self._ending)

    def _must_be_open(self) -> None:
        if self._is_closed:
            raise stopping()

    async def _made(self) -> PooledSession:
        """A new session. Closing the pool ends its making, too."""
        making = asyncio.create_task(self._make(self._slots))
        self._making.add(making)
        making.add_done_callback(self._making.discard)
        try:
            await asyncio.wait([making])
        except asyncio.CancelledError:
            # It may be ready by now, and nobody else knows of it.
            if making.done():
                self._end_unclaimed(making)
            else:
                self._cancel(making)
                making.add_done_callback(self._end_unclaimed)
            raise
        if making.cancelled():
            raise stopping()
        return making.result()

    def _cancel(self, making: asyncio.Task[PooledSession]) -> None:
        """Once: a second time would keep it from tidying up."""
        if not making.cancelling():
            making.cancel()

    def _end_unclaimed(self, making: asyncio.Task[PooledSession]) -> None:
        if not making.cancelled() and not making.exception():
            self.end(making.result())

    def _living(self, key: str) -> PooledSession | None:
        session = self._by_key.get(key)
        if session is None:
            return None
        if session.is_lost or (self._is_over(session) and not session.is_busy):
            del self._by_key[key]
            self.end(session)
            return None
        self._by_key.move_to_end(key)
        session.used_at = time.monotonic()
        return session

    def _is_over(self, session: PooledSession) -> bool:
        now = time.monotonic()
        return (
            now - session.born_at > self._sizes.age_s or now - session.used_at > self._sizes.idle_s
        )

    async def _take(self) -> PooledSession:
        """A session that nobody has had."""
        self._wanted.set()
        while self._spare:
            session = self._spare.pop(0)
            if not session.is_lost:
                session.born_at = time.monotonic()
                return session
            self.end(session)
        return await self._made()

    def _make_room(self) -> None:
        """Above the limit the longest unused goes; one in a call only when all are."""
        while len(self._by_key) > self._sizes.sessions:
            *others, _newest = self._by_key
            unused = [key for key in others if not self._by_key[key].is_busy]
            self.end(self._by_key.pop((unused or others)[0]))

    async def _keep(self) -> None:
        """Fill up what is spare, and end what is over."""
        while True:
            pause_s = min(self._sizes.idle_s, self._sizes.age_s) / 20
            try:
                await self._fill()
            except (SandboxLost, SandboxUnavailable) as why:
                _log.warning("sandbox_session_not_made", reason=str(why)[:_WORD_CHARS])
                pause_s = min(pause_s, _RETRY_S)
            for key in [key for key, session in self._by_key.items() if not session.is_busy]:
                self._living_or_over(key)
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()

    def _living_or_over(self, key: str) -> None:
        """Let go of a session whose time is over, without calling it used."""
        session = self._by_key[key]
        if session.is_lost or self._is_over(session):
            del self._by_key[key]
            self.end(session)

    async def _fill(self) -> None:
        while len(self._spare) < self._sizes.spare:
            self._spare.append(await self._made())
