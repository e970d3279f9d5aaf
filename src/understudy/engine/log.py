"""Log: append to and tail a run's events.

Facts before sight: a lifecycle event is shown after the commit that made it true. Deltas before
commit: they are shown from memory at once and persisted one row per tick, so a live stream never
waits for the disk. While a run is driven in this process, tails (tail.py) read its `LiveLog`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from functools import partial

from understudy import limits
from understudy.bell import Bell
from understudy.engine import frames, mirrors
from understudy.engine.frames import Row
from understudy.engine.lease import Lease
from understudy.engine.live_log import LiveLog, Place
from understudy.engine.mirrors import Mirrors
from understudy.engine.tail import Reads, Tail
from understudy.errors import ApiError
from understudy.store import Statement, Unavailable, changes
from understudy.store.changes import Stretch
from understudy.store.store import Store
from understudy.wire.events import Event
from understudy.world import World


class Log:
    """All live logs of this process, the ticker that saves deltas, and tails over both."""

    def __init__(self, store: Store, bell: Bell, world: World) -> None:
        self._store = store
        self._bell = bell
        self._world = world
        self._live: dict[str, LiveLog] = {}
        self._mirrors = Mirrors(bell)
        self._dirty: dict[LiveLog, Lease] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._rests_until = 0.0  # No tick saves before, by the loop's clock.

    def open(self, lease: Lease) -> LiveLog:
        """The live log of a run that this process begins to drive. Its readers here come over from
        the record, in which there is nothing new for others."""
        told = partial(mirrors.tell, self._bell, lease.id, lease.fence)
        tell = told if self._bell.carries_bytes else None
        live = LiveLog(lease.id, lease.fence, tell=tell)
        self._live[lease.id] = live
        self._bell.ring_here(f"run:{lease.id}")
        return live

    def announce(self, live: LiveLog) -> None:
        """Tails that read from the store learn that there is more."""
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
        after them longer, since clients see deltas at once and the rows are for replays only."""
        now = asyncio.get_running_loop().time
        try:
            while self._dirty:
                await asyncio.sleep(max(limits.DELTA_TICK_S, self._rests_until - now()))
                batch, self._dirty = self._dirty, {}
                self._rests_until = now() + len(batch) / limits.DELTA_ROWS_S
                await self._save(batch)
        finally:
            self._ticker = None

    async def _save(self, batch: Mapping[LiveLog, Lease]) -> None:
        """The deltas of all these in one commit; then whoever reads from the record is told. A run
        that is not ours any more saves nothing: its driver hears it from its next commit or
        heartbeat."""
        stretches: list[Stretch] = []
        try:
            async with AsyncExitStack() as stack:
                for live, lease in batch.items():
                    if live.saving.locked():
                        self._dirty[live] = lease  # Its driver commits; what comes after waits.
                        continue
                    await stack.enter_async_context(live.saving)
                    deltas = stack.enter_context(live.unsaved())
                    if deltas.count:
                        stretches.append(_stretch(lease, deltas))
                if stretches:
                    now = self._world.now()
                    await self._store.commit(changes.save_deltas(stretches, created_at=now))
        except Unavailable:
            for live, lease in batch.items():
                if not live.is_over:
                    self._dirty[live] = lease  # The next tick tries again.
            return
        for stretch in stretches:
            self._bell.ring(f"run:{stretch.run_id}")

    def append(
        self, live: LiveLog, deltas: Row, events: Sequence[Event]
    ) -> tuple[list[Statement], list[bytes]]:
        """The statements that persist these lifecycle events (and the deltas before them), and
        the frames to show once they are committed. Call it under `live.saving`."""
        statements = [self._delta_row(live, deltas)] if deltas.count else []
        shown = frames.frames_of(events)
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

    def _delta_row(self, live: LiveLog, deltas: Row) -> Statement:
        return changes.append_deltas(
            live.run_id,
            fence=live.fence,
            seq_from=deltas.first,
            seq_to=deltas.first + deltas.count - 1,
            created_at=self._world.now(),
            frames=deltas.packed(),
        )

    def tail(
        self,
        project: str,
        run_id: str,
        after: Place,
        *,
        with_ids: bool = False,
        goes_on: bool = False,
    ) -> Tail:
        """A reader of a run's frames after a place; one that `goes_on` passes over a
        requires_action that the client has answered."""
        reads = Reads(project, run_id, with_ids=with_ids, goes_on=goes_on)
        return Tail(self._store, self._bell, self, reads, after)

    def live(self, run_id: str) -> LiveLog | None:
        """The log of a run that is driven now: here, or elsewhere and mirrored here."""
        return self._live.get(run_id) or self._mirrors.get(run_id)

    def watching(self, run_id: str) -> AbstractContextManager[None]:
        """Hear of a run that is driven elsewhere, if that can be, until the end of the block."""
        return self._mirrors.watching(run_id)


def _stretch(lease: Lease, deltas: Row) -> Stretch:
    last = deltas.first + deltas.count - 1
    return Stretch(lease.id, lease.fence, deltas.first, last, deltas.packed(), lease.owner)
