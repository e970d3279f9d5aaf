"""LiveLog: one run's frames in this process while it is driven.

A slow client costs no queue: what it missed is still in the list, or, once the list was trimmed, in
the store.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from understudy import limits
from understudy.engine.frames import Row
from understudy.engine.listener import Listener
from understudy.errors import ApiError
from understudy.machine.deltas import Pieces
from understudy.wire.events import Event

Place = tuple[int, int]  # (fence, sequence)
Tell: TypeAlias = Callable[[int, Sequence[bytes]], None]


class LiveLog:
    """The frames of one run under one fence, as far back as they are kept, from `first` on. `tell`
    gets each of them once: the sequence of the first of some, and these."""

    def __init__(
        self, run_id: str, fence: int, *, first: int = 1, tell: Tell | None = None
    ) -> None:
        self.run_id = run_id
        self.fence = fence
        self.is_over = False
        self.error: ApiError | None = None
        self.next_seq = first
        self._frames: list[bytes] = []
        self._first = first  # The sequence of _frames[0].
        self._tell = tell
        self._told = first  # The sequence of the first frame that it did not get.
        self._bytes = 0
        self._unsaved = Row()
        self._in_commit = 0  # How many are in a commit just now.
        self._end: int | None = None  # The sequence of the event that ends streams.
        self._listeners: set[Listener] = set()
        self._loop = asyncio.get_running_loop()
        self._is_waking = False
        self.saving = asyncio.Lock()

    # The driver's side.

    def show(self, shown: Sequence[bytes], *, ends: bool = False) -> None:
        """Clients see these frames now, in one piece with what follows in this turn of the loop: a
        commit with the deltas after it, and with those that came from the provider meanwhile."""
        self._frames.extend(shown)
        self.next_seq += len(shown)
        self._bytes += sum(map(len, shown))
        if ends:
            self._end = self.next_seq - 1
        self._wake_soon()

    def show_deltas(self, deltas: Sequence[Event | Pieces]) -> None:
        """Clients see these deltas now; the next save persists them."""
        unsaved = self._unsaved
        if not unsaved.count:
            unsaved.first = self.next_seq
        self.show([frame for delta in deltas for frame in unsaved.add(delta)])

    @contextmanager
    def unsaved(self) -> Iterator[Row]:
        """The deltas that no commit holds yet, for a commit inside the block. When that fails
        they are unsaved again: the next one takes them."""
        taken, self._unsaved = self._unsaved, Row()
        self._in_commit = taken.count
        try:
            yield taken
        except BaseException:
            if taken.count:
                taken.extend(self._unsaved)
                self._unsaved = taken
            raise
        finally:
            self._in_commit = 0

    def close(self, error: ApiError | None = None) -> None:
        """No more frames come from here; with an error, tails end with it."""
        self.is_over = True
        self.error = error
        self._wake_soon()

    def _wake_soon(self) -> None:
        if not self._is_waking:
            self._is_waking = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        """Tell the readers; then forget what is too much: who waits has taken it."""
        self._is_waking = False
        for listener in self._listeners:
            listener.ring()
        if self._tell is not None and self.next_seq > self._told:
            self._tell(self._told, self.since(self._told - 1))
            self._told = self.next_seq
        if self._bytes > limits.LIVE_LOG_BYTES:
            self._trim()

    # The readers' side.

    def covers(self, place: Place) -> bool:
        """Whether everything after this place is, or will be, here."""
        return place[0] == self.fence and place[1] >= self._first - 1

    def since(self, seq: int) -> list[bytes]:
        """The frames after a sequence number, as far as they came."""
        return self._frames[seq - self._first + 1 :]

    def has_ended(self, seq: int) -> bool:
        """Whether the event that ends streams is at or before this sequence number."""
        return self._end is not None and seq >= self._end

    def listener(self, take: Callable[[], bool]) -> Listener:
        """It hears every change until `leave`; `take` as in Listener."""
        listener = Listener(take)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """The reader is gone."""
        self._listeners.discard(listener)
        listener.close()

    def _trim(self) -> None:
        """Forget the older half; saved frames can be read from the store. Unsaved ones stay."""
        saved = len(self._frames) - self._unsaved.count - self._in_commit
        drop = min(saved, len(self._frames) // 2)
        self._bytes -= sum(map(len, self._frames[:drop]))
        del self._frames[:drop]
        self._first += drop
