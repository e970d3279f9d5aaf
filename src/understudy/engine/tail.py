"""Tail: one reader of a run's events: live from memory, otherwise from the store."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import msgspec

from understudy import limits
from understudy.bell import Bell
from understudy.engine import frames
from understudy.engine.listener import Listener
from understudy.engine.live_log import LiveLog, Place
from understudy.errors import ApiError
from understudy.machine.run import ACTIVE
from understudy.store.store import Store
from understudy.wire.events import STREAM_ENDS
from understudy.wire.runs import Run

# Sends a piece now; False: it cannot be sent at this moment, and was not.
Push: TypeAlias = Callable[[bytes], bool]


@dataclass(frozen=True)
class Reads:
    """What a reader wants: whose run, whether frames come with ids, and whether it passes over a
    requires_action that the client has answered."""

    project: str
    run_id: str
    with_ids: bool
    goes_on: bool


class Lives(Protocol):
    """The runs that are driven now, as far as they are seen from here."""

    def live(self, run_id: str) -> LiveLog | None:
        """The log of a run, if it is driven here or mirrored."""
        ...

    def watching(self, run_id: str) -> AbstractContextManager[None]:
        """Mirror the run until the end of the block, if that can be."""
        ...


class Tail:
    """One reader's position in one run's log; `lives` are the runs that are driven now.

    `push` may be given before the frames are asked for. What comes while the reader waits goes to
    the client through it when the log rings, and is not among the frames any more: to wake the
    reader for each delta costs as much as everything else that is done for it.
    """

    def __init__(
        self,
        store: Store,
        bell: Bell,
        lives: Lives,
        reads: Reads,
        after: Place,
    ) -> None:
        self._store = store
        self._bell = bell
        self._lives = lives
        self._reads = reads
        self._place = after
        self._run: Run | None = None
        self._is_over = False
        self.push: Push | None = None
        self.known: Sequence[bytes] = ()  # Frames after the place that need not be read.

    async def frames(self) -> AsyncGenerator[bytes]:
        """The frames after the place, live ones as they come, until the event that ends streams.

        Silence is filled with keep-alive comments. What ends well ends with `done`; when the run's
        thread was deleted or the server stops, an error frame is the last (SPEC 9.3 L).
        """
        quiet_s, look_s = 0.0, limits.POLL_JOBS_S
        run_id = self._reads.run_id
        with self._bell.subscribe(f"run:{run_id}") as rings, self._lives.watching(run_id):
            while not self._is_over:
                live = self._lives.live(run_id)
                if live is not None and live.covers(self._place):
                    listener = live.listener(partial(self._take, live))
                    try:
                        while (chunk := await self._next(live, listener)) is not None:
                            yield chunk
                    finally:
                        live.leave(listener)
                    if live.error is not None and not self._is_over:
                        yield frames.error_frame(live.error)
                        return
                    continue
                read = self._known() or await self._read()
                if read:
                    yield self._closed(read)
                if self._goes_elsewhere(live):
                    continue
                if not read and await self._is_silent():
                    yield await self._end()
                    return
                # What was read a moment ago rings when there is more. The longer nothing comes, the
                # rarer a look for what did not ring: of thousands of silent streams each is a read.
                wait_s = min(look_s, limits.KEEP_ALIVE_S - quiet_s)
                rang = await rings.wait(wait_s)
                is_silent = not rang and not read
                look_s = min(2 * look_s, limits.POLL_SILENT_S) if is_silent else limits.POLL_JOBS_S
                quiet_s = 0.0 if rang else quiet_s + wait_s
                if quiet_s >= limits.KEEP_ALIVE_S:
                    quiet_s = 0.0
                    yield frames.KEEP_ALIVE

    async def _next(self, live: LiveLog, listener: Listener) -> bytes | None:
        """Live frames, everything that came meanwhile in one piece; None when no more come from
        here."""
        while not self._is_over and live.covers(self._place):
            listener.clear()
            fresh = live.since(self._place[1])
            if fresh:
                chunk = self._joined(live, fresh)
                self._place = (live.fence, self._place[1] + len(fresh))
                self._is_over = live.has_ended(self._place[1])
                return self._closed(chunk)
            if live.is_over:
                return None
            if not await listener.heard():
                return frames.KEEP_ALIVE
        return None

    def _take(self, live: LiveLog) -> bool:
        """While the reader waits, push what has come; False: the reader has to look at it."""
        if self.push is None or live.is_over or live.has_ended(live.next_seq):
            return False
        fresh = live.since(self._place[1])
        if not fresh:
            return True  # It was read from the store, between its commit and its show.
        if not self.push(self._joined(live, fresh)):
            return False
        self._place = (live.fence, self._place[1] + len(fresh))
        return True

    def _joined(self, live: LiveLog, fresh: list[bytes]) -> bytes:
        if not self._reads.with_ids:
            return fresh[0] if len(fresh) == 1 else b"".join(fresh)
        first = self._place[1] + 1
        return b"".join(
            frames.with_id(frame, (live.fence, first + offset))
            for offset, frame in enumerate(fresh)
        )

    def _known(self) -> bytes:
        """What the door has committed itself, in the first place."""
        shown, self.known = self.known, ()
        fence, first = self._place
        self._place = (fence, first + len(shown))
        if not self._reads.with_ids:
            return b"".join(shown)
        numbered = enumerate(shown, first + 1)
        return b"".join(frames.with_id(frame, (fence, seq)) for seq, frame in numbered)

    async def _read(self) -> bytes:
        """What the store has after the place, up to the event that ends streams."""
        shown: list[bytes] = []
        for row in await self._store.events(self._reads.run_id, self._place):
            for seq, frame in enumerate(frames.split(row.frames), row.seq_from):
                if (row.fence, seq) <= self._place:
                    continue
                self._place = (row.fence, seq)
                whole = await self._restored(frame) if frames.is_slim(frame) else frame
                shown.append(frames.with_id(whole, self._place) if self._reads.with_ids else whole)
                if frames.name_of(frame) in STREAM_ENDS:
                    goes_on = self._reads.goes_on and await self._has_more()
                    self._is_over = not goes_on
                    if self._is_over:
                        return b"".join(shown)
        return b"".join(shown)

    def _goes_elsewhere(self, live: LiveLog | None) -> bool:
        """Whether there is nothing to wait for in the record: it is over, or live from here on."""
        now = self._lives.live(self._reads.run_id)
        return self._is_over or now is not live or (now is not None and now.covers(self._place))

    async def _is_silent(self) -> bool:
        """Whether nothing more comes: nobody has work left on the run."""
        return await self._store.job(self._reads.run_id) is None and not await self._has_more()

    async def _has_more(self) -> bool:
        """Whether the store has anything after the place."""
        return bool(await self._store.events(self._reads.run_id, self._place))

    def _closed(self, chunk: bytes) -> bytes:
        """The same, with `done` when it is the last."""
        return chunk + frames.DONE if self._is_over else chunk

    async def _end(self) -> bytes:
        """What ends the tail of a run that has no job and nothing more to say. If it never came to
        an end, it was deleted with its thread."""
        record = await self._store.get("run", self._reads.project, self._reads.run_id)
        if record is None or msgspec.json.decode(record.body, type=Run).status in ACTIVE:
            return frames.error_frame(ApiError.thread_deleted())
        return frames.DONE

    async def _restored(self, frame: bytes) -> bytes:
        if self._run is None:
            record = await self._store.get("run", self._reads.project, self._reads.run_id)
            assert record is not None, "a run with events exists"
            self._run = msgspec.json.decode(record.body, type=Run)
        return frames.restored(frame, self._run)
