"""Lane: calls from the event loop that are answered elsewhere, in batches, in the order of arrival.

Whoever answers takes whatever waits, up to a bound, and never waits to fill a batch: under load
the calls that arrive during one batch become the next. What is asked in one turn of the loop is
handed over together, at its end, so that a thread does not wake for the first call only to fight
the loop for the interpreter; and a whole batch comes back with one wake-up. The state of a lane
belongs to the loop's thread; of Threads only the queue is shared.
"""

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import structlog

from understudy.store import OnFatal, Unavailable

T = TypeVar("T")
# What a call comes back with; an exception is raised at the caller.
Outcome: TypeAlias = Any  # Rows of one statement or of several: the lane does not look.
# Answers the first call and as many after it as it likes; the others are asked again.
Work: TypeAlias = Callable[[Sequence[T]], list[Outcome]]


@dataclass(frozen=True, slots=True, eq=False)
class Asked(Generic[T]):
    """A call and who waits for it; who is `told` hears the outcome before it is certain, where the
    lane knows it by then."""

    payload: T
    future: "asyncio.Future[Outcome]"
    told: Callable[[Outcome], None] | None = None


class Lane(ABC, Generic[T]):
    """What every lane does on the loop's side; opened by making it, on the event loop."""

    def __init__(self, name: str, *, bound: int, on_fatal: OnFatal) -> None:
        self._name = name
        self._bound = bound
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._fresh: list[Asked[T]] = []  # Asked in this turn of the loop.
        self._waiting = 0
        self._closed: str | None = None

    async def ask(self, payload: T) -> Outcome:
        """What the work answers; Unavailable when too many wait or the lane is closed."""
        return await self.asked(payload)

    def asked(
        self, payload: T, told: Callable[[Outcome], None] | None = None
    ) -> "asyncio.Future[Outcome]":
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
        self._fresh.append(Asked(payload, future, told))
        return future

    async def close(self) -> None:
        """Answer what was accepted, refuse what comes, and end."""
        if self._closed is None:
            self._closed = "The store is closed."
            self._hand_over()
            self._end()
        await self._ended()

    def _hand_over(self) -> None:
        fresh, self._fresh = self._fresh, []
        if fresh:
            self._begin(fresh)

    @abstractmethod
    def _begin(self, calls: list[Asked[T]]) -> None:
        """Give these to whoever answers."""

    @abstractmethod
    def _end(self) -> None:
        """Tell whoever answers that nothing more comes."""

    @abstractmethod
    async def _ended(self) -> None:
        """Wait until all is answered and let go."""

    def _answered(self, calls: list[Asked[T]], outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):
                log = structlog.get_logger("store")
                log.error("store_unavailable", error=str(outcome), callers=len(calls))
                break
        self._deliver(calls, outcomes)

    def _deliver(self, calls: list[Asked[T]], outcomes: list[Outcome]) -> None:
        self._waiting -= len(calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            if call.future.done():  # The caller was cancelled.
                continue
            if isinstance(outcome, BaseException):
                call.future.set_exception(outcome)
            else:
                call.future.set_result(outcome)

    def _died(self) -> str:
        """The reason of a lane whose other side is gone."""
        return f"The store's {self._name} died."

    def _die(self, calls: list[Asked[T]]) -> None:
        """Nobody may wait for an other side that is gone: neither these nor who asked just now."""
        self._closed = self._died()
        calls, self._fresh = calls + self._fresh, []
        self._deliver(calls, [Unavailable(self._closed) for _ in calls])


class Threads(Lane[T]):
    """A lane with one queue and a thread per `work`."""

    def __init__(
        self, name: str, works: Sequence[Work[T]], *, batch: int, bound: int, on_fatal: OnFatal
    ) -> None:
        super().__init__(name, bound=bound, on_fatal=on_fatal)
        self._batch = batch
        self._queue: queue.SimpleQueue[Asked[T] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(work,), name=f"store-{name}", daemon=True)
            for work in works
        ]
        for thread in self._threads:
            thread.start()

    def _begin(self, calls: list[Asked[T]]) -> None:
        for call in calls:
            self._queue.put(call)

    def _end(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    async def _ended(self) -> None:
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _serve(self, work: Work[T]) -> None:
        """The thread: an end by exception is the end of the lane."""
        calls: list[Asked[T]] = []
        is_done = False
        try:
            while calls := self._take(calls):
                outcomes = work([call.payload for call in calls])
                answered, calls = calls[: len(outcomes)], calls[len(outcomes) :]
                if not self._wake(self._answered, answered, outcomes):
                    break
            is_done = True
        finally:
            if not is_done:
                self._wake(self._die_with_queue, calls)
                self._on_fatal(self._died())

    def _take(self, calls: list[Asked[T]]) -> list[Asked[T]]:
        """These and what waits, at least one call; nothing means that the lane is closed."""
        while not calls or (len(calls) < self._batch and not self._queue.empty()):
            try:
                call = self._queue.get(block=not calls)
            except queue.Empty:  # Another thread of the lane was quicker.
                return calls
            if call is None:
                break
            calls.append(call)
        else:
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

    def _die_with_queue(self, calls: list[Asked[T]]) -> None:
        while not self._queue.empty():
            call = self._queue.get_nowait()
            if call is not None:
                calls.append(call)
        self._die(calls)
