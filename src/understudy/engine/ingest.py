"""Ingest: the files of a vector store become searchable, and what is gone is removed.

One job per store looks at the store's files that are in_progress, oldest first. A file is read in
a child process, which sends it part by part; each part is embedded and committed as it comes, so
that memory stays flat and a worker that takes over goes on after the last part. The last part's
commit makes the document ready and the file completed, so that a file is in the index once or not
at all. One bad file fails alone, with a text that names what is wrong.

A file that a client detached, deleted or cancelled meanwhile refuses the commit that would have
changed it; what was built of it is gone then.

When no file waits, the vectors of a large store are made once more for a record that compares them
by itself (halves.py), a few seconds at a time: files that come meanwhile go first.
"""

import asyncio
from collections.abc import Sequence

import structlog

from understudy import limits
from understudy.engine.app import App
from understudy.engine.index_file import Away, FileIndexing, Moved, TurnOver
from understudy.engine.lease import Interrupted, Lease, whole
from understudy.engine.spool import sweep
from understudy.store import Conflict, Row, Statement, Unavailable, changes, index_changes
from understudy.store.records import IndexRow, Listed

_log = structlog.get_logger()


class Stopped(Exception):
    """The store is gone or another worker's: nothing may be written any more."""


async def ingest(app: App, lease: Lease) -> None:
    """Index the files of one vector store until none waits, or another store has its turn."""
    try:
        async with lease.interruptible(None):
            await _Ingestion(app, lease).run()
    except Interrupted as stop:
        if stop.reason == "drain":
            await _hand_over(app, lease)
    except Stopped:
        return


async def _hand_over(app: App, lease: Lease) -> None:
    """The server stops in good order: the next worker begins at once."""
    handed = changes.hand_over_job(
        lease.id, owner=lease.owner, fence=lease.fence, now=app.world.now()
    )
    try:
        await app.store.commit(handed)
    except (Conflict, Unavailable):
        return


class _Ingestion:
    """One lease on a store's files."""

    def __init__(self, app: App, lease: Lease) -> None:
        self.app = app
        self.lease = lease
        self.store_id = lease.id
        self.project = lease.project
        self.tried: set[int] = set()
        self.reading = asyncio.Lock()
        self._began_at = app.world.monotonic()

    async def run(self) -> None:
        """Until the store has nothing more to index, or another one has its turn. When the record
        cannot be used, the work waits; without a record for too long, the lease is lost."""
        await asyncio.to_thread(sweep)
        is_over = False
        while not is_over:
            try:
                await self._pages()
                is_over = True
            except* Unavailable as away:
                reason = str(away.exceptions[0])
                _log.warning("ingestion waits for the store", store_id=self.store_id, reason=reason)
                await asyncio.sleep(limits.POLL_JOBS_S)
            if self.lease.reason is not None:  # Maybe the group of errors hid the interruption.
                raise Interrupted(self.lease.reason)

    async def _pages(self) -> None:
        clock = self.app.world.monotonic
        over_at = clock() + limits.INGEST_SLICE_S
        while True:
            index = await self._index()
            page, _ = await self.app.store.list(
                "vector_store_file",
                self.project,
                self.store_id,
                limit=limits.INGEST_PAGE,
                order="asc",
                after=None,
                before=None,
                where={"status": "in_progress"},
            )
            if not page:
                if await self._is_compared(index, clock() + limits.INGEST_SLICE_S):
                    if await self._is_done(index):
                        return
                elif await self._others_wait():
                    await self._rest()
                    return
                continue  # Maybe files came meanwhile.
            if await self._are_away(index, page, over_at):
                await self._rest(limits.INGEST_AWAY_S)
                return
            if clock() >= over_at:
                if await self._others_wait():
                    await self._rest()
                    return
                over_at = clock() + limits.INGEST_SLICE_S

    async def _is_compared(self, index: IndexRow, until: float) -> bool:
        """Whether the record can compare the vectors of a large store, or will not; what it lacks
        is made while there is time."""
        if not self.app.index.wants_halves(index):
            return True
        from understudy.engine.halves import made  # Loaded late: it brings numpy.

        return await made(self.app, index, until)

    async def _index(self) -> IndexRow:
        found = await self.app.store.indexes(self.project, [self.store_id])
        if not found:
            raise Stopped  # The store was deleted, and its job with it.
        return found[0]

    async def _is_done(self, index: IndexRow) -> bool:
        """The job goes, unless files came meanwhile."""
        try:
            [_, abandoned, *_] = await self.commit(
                index_changes.all_ingested(self.store_id),
                index_changes.abandon_documents(index.number),
                index_changes.wake_clean_up_if_gone(now=self.app.world.now()),
                changes.delete_job(self.lease.id, fence=self.lease.fence),
            )
        except Conflict:
            return False
        if abandoned:
            self.app.bell.ring("jobs")
        return True

    async def _rest(self, wait_s: float = 0.0) -> None:
        """The job waits for its next turn."""
        due_at = self.app.world.now() + wait_s
        await self.commit(changes.rest_job(self.lease.id, fence=self.lease.fence, due_at=due_at))

    async def is_over(self) -> bool:
        """Whether a file has to stop between two parts: reading it again is not for nothing."""
        lasted_s = self.app.world.monotonic() - self._began_at
        return lasted_s >= limits.INGEST_FILE_SLICE_S and await self._others_wait()

    async def _others_wait(self) -> bool:
        now = self.app.world.now()
        due = await self.app.store.next_ingest(now)
        return due is not None and due <= now

    async def _are_away(self, index: IndexRow, page: Sequence[Listed], over_at: float) -> bool:
        """Index these files, some at a time; none is begun when the time is over, or when the bytes
        of one turn out to be away."""
        waiting = list(reversed(page))
        is_stopped = is_away = False

        async def work() -> None:
            nonlocal is_stopped, is_away
            is_first = True
            while waiting and (is_first or self.app.world.monotonic() < over_at):
                is_first = False
                record = waiting.pop()
                try:
                    await FileIndexing(self.app, index, record, self).run()
                except Moved:
                    continue
                except TurnOver:
                    waiting.clear()
                except Away as away:
                    is_away = True
                    reason = str(away)
                    _log.warning("files wait for blobs", store_id=self.store_id, reason=reason)
                    waiting.clear()
                except Stopped:
                    is_stopped = True
                    waiting.clear()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(limits.INGEST_FILES_AT_ONCE, len(page))):
                group.create_task(work())
        if is_stopped:
            raise Stopped
        return is_away

    async def commit(self, *statements: Statement | tuple[Statement, ...]) -> list[list[Row]]:
        """Commit under this lease, whole even when the work is interrupted meanwhile. Raises
        Stopped when the lease is another worker's by now."""
        hold = changes.hold_job(
            self.lease.id, owner=self.lease.owner, fence=self.lease.fence, cancelled_ok=True
        )
        try:
            rows = await whole(self.app.store.begin_commit(hold, *statements))
        except Conflict as conflict:
            if conflict.what == "hold_job":
                raise Stopped from conflict
            raise
        return rows[1:]


async def clean_up(app: App, lease: Lease) -> None:
    """Remove what is gone from the index, a bounded batch per commit. Each may be done again."""
    try:
        for _ in range(limits.CLEAN_UP_BATCHES):
            if not await _removed_some(app) and await _all_removed(app, lease):
                return
        again = app.world.now()
        await app.store.commit(changes.rest_job(lease.id, fence=lease.fence, due_at=again))
    except Conflict as conflict:
        _log.info("another worker cleans up", refused=conflict.what)
    except Unavailable as away:
        _log.warning("clean-up waits for the next lease", reason=str(away))


async def _removed_some(app: App) -> bool:
    """Whether there was anything left to remove."""
    part = await app.store.gone_part()
    if part is not None:
        document, store, number = part
        await app.store.commit(index_changes.purge_part(store, document, number))
        return True
    for purge in (
        index_changes.purge_chunks(limit=limits.CLEAN_UP_CHUNKS),
        index_changes.purge_documents(limit=limits.CLEAN_UP_CHUNKS),
    ):
        [removed] = await app.store.commit(purge)
        if removed:
            return True
    return False


async def _all_removed(app: App, lease: Lease) -> bool:
    """The job goes, unless more is gone meanwhile."""
    try:
        await app.store.commit(index_changes.end_clean_up(fence=lease.fence))
    except Conflict as conflict:
        if conflict.what == "any_gone":
            return False
        raise
    return True
