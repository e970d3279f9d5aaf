"""Log: append to and tail a run's events.

Facts before sight: a lifecycle event is shown after the commit that made it true. Deltas before
commit: they are shown from memory at once and persisted one row per tick, so a live stream never
waits for the disk. `LiveLog` is one run's frames in this process while it is driven; a tail reads
it by position, so a slow client costs no queue: what it missed is still in the list, or, once the
list was trimmed, in the store.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from understudy import limits
from understudy.bell import Bell
from understudy.engine import frames
from understudy.engine.lease import Lease
from understudy.engine.listener import Listener
from understudy.errors import ApiError
from understudy.machine.run import ACTIVE
from understudy.store import Conflict, Statement, Unavailable, changes
from understudy.store.store import Store
from understudy.wire.events import STREAM_ENDS, Event
from understudy.wire.runs import Run
from understudy.world import World

Place = tuple[int, int]  # (fence, sequence)


class LiveLog:
    """The frames of one run under one fence, from `first_seq` on."""

    def __init__(self, run_id: str, fence: int) -> None:
        self.run_id = run_id
        self.fence = fence
        self.is_over = False
        self.error: ApiError | None = None
        self.next_seq = 1
        self._frames: list[bytes] = []
        self._first = 1  # The sequence of _frames[0].
        self._bytes = 0
        self._unsaved: list[bytes] = []
        self._unsaved_from = 1
        self._end: int | None = None  # The sequence of the event that ends streams.
        self._listeners: set[Listener] = set()
        self.saving = asyncio.Lock()

    # The driver's side.

    def show(self, shown: Sequence[bytes], *, ends: bool = False) -> None:
        """Clients see these frames now."""
        self._frames.extend(shown)
        self.next_seq += len(shown)
        self._bytes += sum(map(len, shown))
        if ends:
            self._end = self.next_seq - 1
        if self._bytes > limits.LIVE_LOG_BYTES:
            self._trim()
        self._wake()

    def show_deltas(self, shown: Sequence[bytes]) -> None:
        """Clients see these deltas now; the next save persists them."""
        if not self._unsaved:
            self._unsaved_from = self.next_seq
        self._unsaved.extend(shown)
        self.show(shown)

    @contextmanager
    def unsaved(self) -> Iterator[tuple[int, list[bytes]]]:
        """The deltas that no commit holds yet, and the sequence of the first, for a commit
        inside the block. When that fails they are unsaved again: the next one takes them."""
        first, taken = self._unsaved_from, self._unsaved
        self._unsaved = []
        try:
            yield first, taken
        except BaseException:
            if taken:
                self._unsaved[:0] = taken
                self._unsaved_from = first
            raise

    def close(self, error: ApiError | None = None) -> None:
        """No more frames come from here; with an error, tails end with it."""
        self.is_over = True
        self.error = error
        self._wake()

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

    def listener(self) -> Listener:
        """It hears every change until `leave`."""
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """The reader is gone."""
        self._listeners.discard(listener)
        listener.close()

    def _wake(self) -> None:
        for listener in self._listeners:
            listener.ring()

    def _trim(self) -> None:
        """Forget the older half; saved frames can be read from the store. Unsaved ones stay."""
        saved = len(self._frames) - len(self._unsaved)
        drop = min(saved, len(self._frames) // 2)
        self._bytes -= sum(map(len, self._frames[:drop]))
        del self._frames[:drop]
        self._first += drop


class Log:
    """All live logs of this process, the ticker that saves deltas, and tails over both."""

    def __init__(self, store: Store, bell: Bell, world: World) -> None:
        self._store = store
        self._bell = bell
        self._world = world
        self._live: dict[str, LiveLog] = {}
        self._dirty: dict[LiveLog, Lease] = {}
        self._ticker: asyncio.Task[None] | None = None

    def open(self, lease: Lease) -> LiveLog:
        """The live log of a run that this process begins to drive."""
        live = LiveLog(lease.id, lease.fence)
        self._live[lease.id] = live
        return live

    def announce(self, live: LiveLog) -> None:
        """Tails that wait on the store learn that the run is live here."""
        self._bell.ring(f"run:{live.run_id}")

    def close(self, live: LiveLog, error: ApiError | None = None) -> None:
        """The driver lets go."""
        self._dirty.pop(live, None)
        if self._live.get(live.run_id) is live:
            del self._live[live.run_id]
        live.close(error)
        self._bell.ring(f"run:{live.run_id}")

    def save_soon(self, live: LiveLog, lease: Lease) -> None:
        """The next tick saves this log's deltas."""
        self._dirty[live] = lease
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        """One row per live run and tick; ends when nothing is dirty. Many live runs make the tick
        longer, since clients see deltas at once and the rows are for replays only."""
        try:
            while self._dirty:
                await asyncio.sleep(
                    max(limits.DELTA_TICK_S, len(self._dirty) / limits.DELTA_ROWS_S)
                )
                batch, self._dirty = self._dirty, {}
                saves = [self._save(live, lease) for live, lease in batch.items()]
                await asyncio.gather(*saves)
        finally:
            self._ticker = None

    async def _save(self, live: LiveLog, lease: Lease) -> None:
        async with live.saving:
            guard = changes.hold_job(
                lease.id, owner=lease.owner, fence=lease.fence, cancelled_ok=True
            )
            try:
                with live.unsaved() as (first, taken):
                    if taken:
                        await self._store.commit(guard, self._delta_row(live, first, taken))
            except Conflict:
                lease.interrupt("lost")
            except Unavailable:
                if not live.is_over:
                    self._dirty[live] = lease  # The next tick tries again.

    def append(
        self, live: LiveLog, unsaved: tuple[int, list[bytes]], events: Sequence[Event]
    ) -> tuple[list[Statement], list[bytes]]:
        """The statements that persist these lifecycle events (and the deltas before them), and
        the frames to show once they are committed. Call it under `live.saving`."""
        first, taken = unsaved
        statements = [self._delta_row(live, first, taken)] if taken else []
        shown = [frames.frame(event) for event in events]
        if shown:
            kept = [frames.stored(event, one) for event, one in zip(events, shown, strict=True)]
            statements.append(self.life_row(live.run_id, live.fence, live.next_seq, kept))
        return statements, shown

    def life_row(self, run_id: str, fence: int, first: int, kept: Sequence[bytes]) -> Statement:
        """The row of lifecycle events that begin at sequence `first`."""
        return changes.append_events(
            run_id,
            fence=fence,
            seq_from=first,
            seq_to=first + len(kept) - 1,
            kind="life",
            created_at=self._world.now(),
            frames=b"".join(kept),
        )

    def _delta_row(self, live: LiveLog, first: int, taken: Sequence[bytes]) -> Statement:
        return changes.append_events(
            live.run_id,
            fence=live.fence,
            seq_from=first,
            seq_to=first + len(taken) - 1,
            kind="delta",
            created_at=self._world.now(),
            frames=b"".join(taken),
        )

    async def tail(
        self,
        project: str,
        run_id: str,
        after: Place,
        *,
        with_ids: bool = False,
        goes_on: bool = False,
    ) -> AsyncIterator[bytes]:
        """The frames after a place, live ones as they come, until the event that ends streams;
        one that `goes_on` passes over a requires_action that the client has answered.

        Silence is filled with keep-alive comments. What ends well ends with `done`; when the run's
        thread was deleted or the server stops, an error frame is the last (SPEC 9.3 L).
        """
        tail = _Tail(self._store, project, run_id, after, with_ids, goes_on)
        quiet_s = 0.0
        with self._bell.subscribe(f"run:{run_id}") as rings:
            while not tail.is_over:
                live = self._live.get(run_id)
                if live is not None and live.covers(tail.place):
                    async for chunk in tail.follow(live):
                        yield chunk
                    continue
                chunk = await tail.read()
                if chunk:
                    yield tail.closed(chunk)
                    continue
                if self._live.get(run_id) is not live:
                    continue
                if await self._store.job(run_id) is None and not await tail.has_more():
                    yield await tail.end()
                    return
                rang = await rings.wait(limits.POLL_JOBS_S)
                quiet_s = 0.0 if rang else quiet_s + limits.POLL_JOBS_S
                if quiet_s >= limits.KEEP_ALIVE_S:
                    quiet_s = 0.0
                    yield frames.KEEP_ALIVE


class _Tail:
    """One reader's position in one run's log."""

    def __init__(
        self,
        store: Store,
        project: str,
        run_id: str,
        place: Place,
        with_ids: bool,
        goes_on: bool,
    ) -> None:
        self._store = store
        self._project = project
        self._run_id = run_id
        self._with_ids = with_ids
        self._goes_on = goes_on
        self._run: Run | None = None
        self.place = place
        self.is_over = False

    async def follow(self, live: LiveLog) -> AsyncIterator[bytes]:
        """Live frames, everything that came meanwhile in one piece."""
        listener = live.listener()
        try:
            while live.covers(self.place):
                listener.clear()
                fresh = live.since(self.place[1])
                if fresh:
                    chunk = self._joined(live.fence, fresh)
                    self.is_over = live.has_ended(self.place[1])
                    yield self.closed(chunk)
                if self.is_over or (live.is_over and not live.since(self.place[1])):
                    break
                if not await listener.heard():
                    yield frames.KEEP_ALIVE
        finally:
            live.leave(listener)
        if live.error is not None and not self.is_over:
            self.is_over = True
            yield frames.error_frame(live.error)

    def _joined(self, fence: int, fresh: list[bytes]) -> bytes:
        first = self.place[1] + 1
        self.place = (fence, self.place[1] + len(fresh))
        if not self._with_ids:
            return b"".join(fresh)
        return b"".join(
            frames.with_id(frame, (fence, first + offset)) for offset, frame in enumerate(fresh)
        )

    async def read(self) -> bytes:
        """What the store has after the place, up to the event that ends streams."""
        shown: list[bytes] = []
        for row in await self._store.events(self._run_id, self.place):
            for seq, frame in enumerate(frames.split(row.frames), row.seq_from):
                if (row.fence, seq) <= self.place:
                    continue
                self.place = (row.fence, seq)
                whole = await self._restored(frame) if frames.is_slim(frame) else frame
                shown.append(frames.with_id(whole, self.place) if self._with_ids else whole)
                if frames.name_of(frame) in STREAM_ENDS:
                    place = (row.fence, seq)
                    self.is_over = not (self._goes_on and await self.has_more(from_row=place))
                    if self.is_over:
                        return b"".join(shown)
        return b"".join(shown)

    async def has_more(self, from_row: Place | None = None) -> bool:
        """Whether the store has anything after the place."""
        return bool(await self._store.events(self._run_id, from_row or self.place))

    def closed(self, chunk: bytes) -> bytes:
        """The same, with `done` when it is the last."""
        return chunk + frames.DONE if self.is_over else chunk

    async def end(self) -> bytes:
        """What ends the tail of a run that has no job and nothing more to say. If it never came to
        an end, it was deleted with its thread."""
        record = await self._store.get("run", self._project, self._run_id)
        if record is None or msgspec.json.decode(record.body, type=Run).status in ACTIVE:
            return frames.error_frame(ApiError.thread_deleted())
        return frames.DONE

    async def _restored(self, frame: bytes) -> bytes:
        if self._run is None:
            record = await self._store.get("run", self._project, self._run_id)
            assert record is not None, "a run with events exists"
            self._run = msgspec.json.decode(record.body, type=Run)
        return frames.restored(frame, self._run)
