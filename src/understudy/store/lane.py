"""Lane: threads that answer calls from the event loop in batches, in the order of arrival.

A thread takes whatever waits, up to a bound, and never waits to fill a batch: under load the
calls that arrive during one batch become the next. What is asked in one turn of the loop is
handed over together, at its end, so that a thread does not wake for the first call only to fight
the loop for the interpreter; and a whole batch comes back with one wake-up. The state of a lane
belongs to the loop's thread; only the queue is shared.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from understudy.store import OnFatal, Unavailable

T = TypeVar("T")
# What a call comes back with; an exception is raised at the caller.
Outcome: TypeAlias = Any  # Rows of one statement or of several: the lane does not look.
Work: TypeAlias = Callable[[Sequence[T]], list[Outcome]]


@dataclass(frozen=True, slots=True, eq=False)
class _Call(Generic[T]):
    payload: T
    future: "asyncio.Future[Outcome]"


class Lane(Generic[T]):
    """One queue and a thread per `work`; opened by making it, on the event loop."""

    def __init__(
        self, name: str, works: Sequence[Work[T]], *, batch: int, bound: int, on_fatal: OnFatal
    ) -> None:
        self._name = name
        self._batch = batch
        self._bound = bound
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Call[T] | None] = queue.SimpleQueue()
        self._fresh: list[_Call[T]] = []  # Asked in this turn of the loop.
        self._waiting = 0
        self._closed: str | None = None
        self._threads = [
            threading.Thread(target=self._serve, args=(work,), name=f"store-{name}", daemon=True)
            for work in works
        ]
        for thread in self._threads:
            thread.start()

    async def ask(self, payload: T) -> Outcome:
        """What the work answers; Unavailable when too many wait or the lane is closed."""
        return await self.asked(payload)

    def asked(self, payload: T) -> "asyncio.Future[Outcome]":
        """The same, as the future that it is: who wants to wait whatever happens needs no task."""
        future = self._loop.create_future()
        if self._closed is not None:
            future.set_exception(Unavailable(self._closed))
            return future
        if self._waiting >= self._bound:
            reason = f"Too many calls wait for the store's {self._name}."
            future.set_exception(Unavailable(reason))
            return future
        self._waiting += 1
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(_Call(payload, future))
        return future

    async def close(self) -> None:
        """Answer what was accepted, refuse what comes, and end the threads."""
        if self._closed is None:
            self._closed = "The store is closed."
            self._hand_over()
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _hand_over(self) -> None:
        fresh, self._fresh = self._fresh, []
        for call in fresh:
            self._queue.put(call)

    def _serve(self, work: Work[T]) -> None:
        """The thread: an end by exception is the end of the lane."""
        calls: list[_Call[T]] = []
        is_done = False
        try:
            while calls := self._take():
                outcomes = work([call.payload for call in calls])
                if not self._wake(self._deliver, calls, outcomes):
                    break
            is_done = True
        finally:
            if not is_done:
                reason = f"The store's {self._name} died."
                self._wake(self._die, calls, reason)
                self._on_fatal(reason)

    def _take(self) -> list[_Call[T]]:
        """What waits, at least one call; nothing means that the lane is closed."""
        call = self._queue.get()
        calls: list[_Call[T]] = []
        while call is not None:
            calls.append(call)
            if len(calls) == self._batch or self._queue.empty():
                return calls
            try:
                call = self._queue.get_nowait()
            except queue.Empty:  # Another thread of the lane was quicker.
                return calls
        if calls:
            self._queue.put(None)  # Answer these first; nothing can have come behind the end.
        return calls

    def _wake(self, callback: Callable[..., None], *args: object) -> bool:
        """Run this on the loop; False when there is no loop any more."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            return False
        return True

    def _deliver(self, calls: list[_Call[T]], outcomes: list[Outcome]) -> None:
        self._waiting -= len(calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            if call.future.done():  # The caller was cancelled.
                continue
            if isinstance(outcome, BaseException):
                call.future.set_exception(outcome)
            else:
                call.future.set_result(outcome)

    def _die(self, calls: list[_Call[T]], reason: str) -> None:
        """Nobody may wait for a thread that is gone."""
        self._closed = reason
        self._hand_over()
        while not self._queue.empty():
            call = self._queue.get_nowait()
            if call is not None:
                calls.append(call)
        self._deliver(calls, [Unavailable(reason) for _ in calls])
