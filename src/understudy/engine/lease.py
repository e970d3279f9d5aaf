"""Lease: this process's right to work on a job, and the way to interrupt that work."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from understudy.store.records import Job

T = TypeVar("T")
Reason = Literal["cancel", "lost", "deleted", "drain"]


class Interrupted(Exception):
    """The work was interrupted: by `reason`, or (None) because the deadline passed."""

    def __init__(self, reason: Reason | None) -> None:
        super().__init__(reason or "deadline")
        self.reason = reason


class Lease:
    """One job held by this process, from the claim until the driver lets go.

    `fence` goes into every write. Interrupting is one mechanism for cancel, deadline, a lost
    lease, a deleted thread and a drain: whatever the driver waits for inside `interruptible`
    ends at once with `Interrupted`.
    """

    def __init__(self, job: Job, owner: str) -> None:
        self.job = job
        self.id = job.id
        self.project = job.project
        self.fence = job.fence
        self.owner = owner
        self.reason: Reason | None = "cancel" if job.cancel_asked_at is not None else None
        self.done = asyncio.Event()
        self._timeout: asyncio.Timeout | None = None

    def interrupt(self, reason: Reason) -> None:
        """Stop the work. A lost lease or deleted thread outranks a cancel: it must not write."""
        if self.reason is None or self.reason == "cancel":
            self.reason = reason
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def interruptible(self, deadline_s: float | None) -> AsyncIterator[None]:
        """Within, any wait may end with Interrupted; `deadline_s` is the time left.

        Work that must not be cut in half (a commit) goes through `whole`.
        """
        if self.reason is not None:
            raise Interrupted(self.reason)
        try:
            async with asyncio.timeout(deadline_s) as self._timeout:
                yield
        except TimeoutError as error:
            if self._timeout is None or not self._timeout.expired():
                raise
            raise Interrupted(self.reason) from error
        finally:
            self._timeout = None


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Finish the work even when the caller is cancelled meanwhile; then the cancel goes on.

    Without it a cancelled commit would leave its caller not knowing whether it happened.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # Seen here; the cancel is what the caller must hear of.
        raise
