"""Database on PostgreSQL through asyncpg: a few lines, each to one connection.

Every commit is one trip: a function of ours performs its statements (postgres_apply.py), so that
the way to the server costs as much once as it would eight times. Claims, and statements that may be
done twice without harm, go alone. Many servers share the record; their clock is the server's.
PostgreSQL groups commits itself, by their concurrency.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog

from understudy import limits
from understudy.store import OnFatal, Ring, Row, Statement, Told, Unavailable, UnfinishedCopy
from understudy.store.postgres_clock import ServerClock
from understudy.store.postgres_line import Line, Texts
from understudy.store.postgres_migrations import migrate
from understudy.store.postgres_text import args_of
from understudy.store.postgres_vectors import prepare
from understudy.store.statements import load_queries
from understudy.world import random_id

# Commits of one statement that nobody minds if they are done twice.
_REPEATABLE = frozenset(
    {
        "claim_run",
        "free_leases",
        "keep_halves",
        "mark_halved",
        "ping",
        "prune_deltas",
        "renew_leases",
        "save_deltas",
    }
)
# And such as are done once or not at all, when their connection breaks: what they took, the store
# looks up.
_CLAIMS = frozenset({"claim_ingest", "claim_jobs"})


async def open_database(
    url: str, on_fatal: OnFatal, beside: bool, is_apart: bool, connections: int
) -> "PostgresDatabase":
    """Open `postgresql://user@host/name`, with all migrations applied; other servers may be at work
    on it. What stands behind `?` goes to the driver and the server (`search_path=`, `sslmode=`)."""
    del on_fatal, is_apart  # There is no file that one process owns.
    database = PostgresDatabase(url, connections)
    try:
        await database.open(compares=not beside)
    except BaseException:
        await database.close()
        raise
    return database


class PostgresDatabase:
    """A schema of a PostgreSQL database."""

    def __init__(self, url: str, connections: int) -> None:
        self._url = url
        node = random_id("boot")
        self._texts = Texts(load_queries("postgres"))
        self._free = [
            Line(f"{node}:{number}", url, self._texts, self._joined)
            for number in range(connections)
        ]
        self._lines = tuple(self._free)
        self._turns = asyncio.Semaphore(connections)
        self._waiting = 0
        self._commits: set[asyncio.Task[list[list[Row]]]] = set()
        self._clock = ServerClock()
        self._saved: deque[tuple[float, Statement]] = deque()  # Of deltas, lately.
        self._saving_again = asyncio.Lock()
        self._looks: asyncio.Task[None] | None = None
        self._compares: bool | None = None
        self._is_closed = False

    async def open(self, *, compares: bool = True) -> None:
        """Migrate, connect, look at the clock, and forget what servers left that are long gone."""
        await migrate(self._url, compares=compares)
        async with self._line() as line:
            if await line.fetch("unfinished_copy", {}):
                raise UnfinishedCopy
            self._clock.heard(*await line.clock())
            before = self._clock.now() - limits.COMMITS_KEPT_S
            await line.fetch("forget_commits", {"before": before})
        self._looks = asyncio.create_task(self._keep_time(), name="record's clock")

    def now(self) -> float:
        """Unix seconds by the server's clock."""
        return self._clock.now()

    @property
    def compares(self) -> bool:
        """Whether the server compares vectors."""
        return self._compares is True

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """The rows of a reading statement."""
        async with self._line() as line:
            return await line.fetch(query, args)

    def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> Awaitable[list[list[Row]]]:
        """Apply all statements or none; on the disk when it returns. There is nothing to be told
        before: the rows and the end of the transaction come in one answer."""
        del told
        task = asyncio.ensure_future(self._commit(statements, ring, self._is_closed))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        return asyncio.shield(task)

    async def _commit(
        self, statements: Sequence[Statement], ring: Ring | None, is_closed: bool
    ) -> list[list[Row]]:
        async with self._line(is_accepted=not is_closed) as line:
            first = statements[0] if len(statements) == 1 else None
            if first is None or first.query not in _REPEATABLE | _CLAIMS:
                return await line.commit(statements, ring)
            is_once = first.query in _CLAIMS
            rows = await line.fetch(first.query, args_of(first), once=is_once)
            if first.query == "save_deltas":
                self._note_saved(first)
            return [rows]

    async def _joined(self, connection: "asyncpg.Connection[Any]") -> None:
        """A new connection. What compares vectors may be gone by now; if it only came after a
        start it is not used, for older connections would not know it."""
        await self._save_again(connection)
        self._compares = self._compares is not False and await prepare(connection)

    # Deltas are committed without a wait for the disk, so a server that crashes may forget those of
    # the last moment, and a log that went on would have a gap. Whatever connects first saves them
    # again, the same rows, before anything else is written.

    def _note_saved(self, statement: Statement) -> None:
        now = asyncio.get_running_loop().time()
        self._saved.append((now, statement))
        while self._saved[0][0] < now - limits.DELTAS_UNSURE_S:
            self._saved.popleft()

    async def _save_again(self, connection: "asyncpg.Connection[Any]") -> None:
        async with self._saving_again:
            text = self._texts.alone["save_deltas"]
            for _, statement in list(self._saved):
                await connection.execute(text.sql, *text.values(args_of(statement)))

    @asynccontextmanager
    async def _line(self, *, is_accepted: bool = False) -> AsyncIterator[Line]:
        """A line for a while; the one that was free last, since the others may have been cut."""
        if self._is_closed and not is_accepted:
            raise Unavailable("The store is closed.")
        if self._waiting >= limits.WRITE_QUEUE:
            raise Unavailable("Too many calls wait for the store's connections.")
        if self._turns.locked():
            await self._turn()
        else:
            await self._turns.acquire()
        line = self._free.pop()
        try:
            yield line
        finally:
            self._free.append(line)
            self._turns.release()

    async def _turn(self) -> None:
        """Wait for a line to be free, but not for long."""
        self._waiting += 1
        try:
            async with asyncio.timeout(limits.LINE_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("The store's connections are all busy.") from None
        finally:
            self._waiting -= 1

    async def _keep_time(self) -> None:
        """Look at the server's clock now and then."""
        while True:
            await asyncio.sleep(limits.CLOCK_S)
            try:
                async with self._line() as line:
                    self._clock.heard(*await line.clock())
            except Unavailable as away:
                structlog.get_logger("store").warning("store_unavailable", error=str(away))

    async def close(self) -> None:
        """Finish what was accepted, then hang up."""
        self._is_closed = True
        if self._looks is not None:
            self._looks.cancel()
            await asyncio.wait([self._looks])
        if self._commits:
            await asyncio.wait(self._commits)  # Who gives up waiting here cancels none of them.
        for _ in self._lines:  # Reads that are on their way come before.
            await self._turns.acquire()
        await asyncio.gather(*(line.close() for line in self._lines))
        for _ in self._lines:
            self._turns.release()
