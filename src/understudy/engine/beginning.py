"""Beginning: what a run's driver starts with while the commit that begins the run is on its way.

Most of that commit's time is the disk's. The driver makes its first request meanwhile, of what the
commit has read; it asks the model nothing and writes nothing before the commit is durable.
"""

import asyncio
from collections.abc import Sequence

from understudy.engine import history
from understudy.engine.lease import Lease
from understudy.engine.live_log import LiveLog
from understudy.engine.record import Versions
from understudy.machine.happenings import State
from understudy.store import Row


class Beginning:
    """The state that the commit writes, with its first call journalled; `frames` are shown as soon
    as it is durable; `messages` are those of a thread that is made with the run."""

    def __init__(
        self,
        state: State,
        versions: Versions,
        frames: Sequence[bytes],
        messages: history.Newest | None,
    ) -> None:
        self.state = state
        self.versions = versions
        self._frames = frames
        self._messages = messages
        self._rows: Sequence[Row] | None = None
        self._is_read = asyncio.Event()
        self._is_settled = asyncio.Event()
        self._holds = False
        self._lease: Lease | None = None
        self._live: LiveLog | None = None

    # The door's side.

    def read(self, rows: Sequence[Row]) -> None:
        """The commit has found this to be the thread's end; it may still be refused."""
        self._rows = rows
        self._is_read.set()

    def adopted(self, lease: Lease, live: LiveLog) -> None:
        """A driver is at work; heartbeats leave its lease alone until the commit has taken it."""
        self._lease, self._live = lease, live
        lease.is_taken = False

    @property
    def is_adopted(self) -> bool:
        """Whether a driver is at work."""
        return self._lease is not None

    def settle(self, *, holds: bool) -> None:
        """The commit is durable, or was refused; then the driver is to stop, wherever it is."""
        self._holds = holds
        if self._lease is not None and self._live is not None:
            self._lease.is_taken = True
            if holds:
                self._live.show(self._frames)
            else:
                self._lease.interrupt("lost")
        self._is_read.set()
        self._is_settled.set()

    # The driver's side.

    async def newest(self) -> history.Newest | None:
        """How the thread ends; None when it has to be read."""
        if self._messages is not None:
            return self._messages
        await self._is_read.wait()
        return None if self._rows is None else history.newest_of(self._rows)

    async def durable(self) -> bool:
        """Whether the commit holds, once that is known."""
        await self._is_settled.wait()
        return self._holds
