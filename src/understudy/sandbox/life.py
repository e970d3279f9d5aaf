"""Processes of sessions, held so that the server can end them and knows when they have ended."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable

from understudy import limits
from understudy.sandbox.cgroup import Group
from understudy.sandbox.jail import Jailed

_TICK_S = 0.01


class Pid1:
    """The first process of a session: when it has ended, the kernel has ended all others.

    `group` is the session's cgroup; `after` is what there is to do when it has ended.
    """

    def __init__(self, pid: int, group: Group | None, after: Callable[[], Awaitable[None]]) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._group = group
        self._after = after

    def kill(self) -> None:
        """End the session now. Harmless when it has ended."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until the session has ended, and let go of what was held for it."""
        if self._pidfd >= 0:
            await _readable(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
            if self._group:
                self._group.remove()
            await self._after()


async def ended(jail: Jailed) -> None:
    """Wait until a jail is over; in the end it is killed."""
    if not await over(jail):
        jail.kill()
        while not await over(jail):
            pass
    jail.release()


async def over(jail: Jailed) -> bool:
    """Give a jail some time to end by itself; whether it has."""
    for _ in range(int(limits.CODE_CLOSE_S / _TICK_S)):
        if jail.has_ended():
            return True
        await asyncio.sleep(_TICK_S)
    return False


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
