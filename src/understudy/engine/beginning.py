"""Beginning: what a run's driver starts with while the commit that begins the run is on its way.

Most of that commit's time is the disk's. The driver makes its first request meanwhile, of what the
commit has read; it asks nobody, shows nothing and writes nothing before the commit is durable.
"""

import asyncio
from collections.abc import Sequence

from understudy.engine import history
from understudy.engine.record import Versions
from understudy.machine.happenings import State
from understudy.store import Row


class Beginning:
    """The state that the commit writes, with its first call journalled; `frames` are to be shown
    once it is durable; `messages` are those of a thread that is made with the run."""

    def __init__(
        self,
        state: State,
        versions: Versions,
        frames: Sequence[bytes],
        messages: history.Newest | None,
    ) -> None:
        self.state = state
        self.versions = versions
        self.frames = frames
        self._messages = messages
        self._rows: Sequence[Row] | None = None
        self._is_read = asyncio.Event()
        self._is_settled = asyncio.Event()
        self._holds = False

    # The door's side.

    def read(self, rows: Sequence[Row]) -> None:
        """The commit has found this to be the thread's end; it may still be refused."""
        self._rows = rows
        self._is_read.set()

    def settle(self, *, holds: bool) -> None:
        """The commit is durable, or was refused and nothing happened."""
        self._holds = holds
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
