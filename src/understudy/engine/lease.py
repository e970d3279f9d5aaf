"""Lease: this process's right to work on a job, and the way to interrupt that work."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Literal, TypeVar

from understudy.store.records import Job

T = TypeVar("T")
Reason = Literal["cancel", "lost", "deleted", "drain"]


class Interrupted(Exception):
    """The work was interrupted: by `reason`, or (None) because the deadline passed."""

    def __init__(self, reason: Reason | None) -> None:
        super().__init__(reason or "deadline")
        self.reason = reason


class Stopped(Exception):
    """The run is somebody else's now, or gone: nothing may be written any more."""


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
        self.timeout: asyncio.Timeout | None = None  # Of the wait that may be interrupted.
        self.is_taken = True  # False while the commit that takes it is on its way.

    def interrupt(self, reason: Reason) -> None:
        """Stop the work. A lost lease or deleted thread outranks a cancel: it must not write."""
        if self.reason is None or self.reason == "cancel":
            self.reason = reason
        if self.timeout is not None and not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time())

    def interruptible(self, deadline_s: float | None) -> "Interruptible":
        """A context within which any wait may end with Interrupted; `deadline_s` is the time left.

        Work that must not be cut in half (a commit) goes through `Uncut`.
        """
        return Interruptible(self, deadline_s)


class Interruptible:
    """Made by Lease.interruptible. (As a generator it would cost each run three times as much.)"""

    def __init__(self, lease: Lease, deadline_s: float | None) -> None:
        self._lease = lease
        self._timeout = asyncio.timeout(deadline_s)

    async def __aenter__(self) -> None:
        if self._lease.reason is not None:
            raise Interrupted(self._lease.reason)
        self._lease.timeout = await self._timeout.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lease.timeout = None
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError as over:
            raise Interrupted(self._lease.reason) from over


class Uncut:
    """Waits that a cancel does not cut: it is kept until `go_on`.

    Without it a cancelled commit would leave its caller not knowing whether it happened. Waiting in
    place, and not in a task of its own, saves three turns of the loop.
    """

    def __init__(self) -> None:
        self._cancel: asyncio.CancelledError | None = None

    async def wait(self, work: Awaitable[T]) -> T:
        """What the work comes to, in any case."""
        future = asyncio.ensure_future(work)
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as cancel:
                if not future.cancelled():
                    self._cancel = cancel
            except Exception:  # noqa: BLE001 (the result below raises it)
                break
        return future.result()

    def go_on(self) -> None:
        """The cancel that came meanwhile goes on now."""
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            raise cancel


async def whole(work: Awaitable[T]) -> T:
    """Finish the work even when the caller is cancelled meanwhile; then the cancel goes on."""
    uncut = Uncut()
    try:
        return await uncut.wait(work)
    finally:
        uncut.go_on()
