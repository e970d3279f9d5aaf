"""Database on PostgreSQL through asyncpg: a few lines, each to one connection.

Every commit is one trip: a function of ours performs its statements (migrations/0001_start.sql), so
that the way to the server costs as much once as it would eight times. Statements that may be done
twice without harm, such as a claim, go alone. Many servers share the record; their clock is the
server's. PostgreSQL groups commits itself, by their concurrency.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog

from understudy import limits
from understudy.store import OnFatal, Row, Statement, Told, Unavailable
from understudy.store.postgres_clock import ServerClock
from understudy.store.postgres_line import TROUBLES, Line, Texts, connect, unavailable
from understudy.store.postgres_text import args_of, text_of
from understudy.store.statements import load_migrations, load_queries
from understudy.world import random_id

# Commits of one statement that nobody minds if they are done twice.
_REPEATABLE = frozenset(
    {
        "claim_ingest",
        "claim_jobs",
        "free_leases",
        "ping",
        "prune_deltas",
        "renew_leases",
        "save_deltas",
    }
)
_LEAST_VERSION = 15
_MIGRATING = 0x756E6465  # The advisory lock of who migrates, within a schema.


async def open_database(
    url: str, on_fatal: OnFatal, beside: bool, is_apart: bool, connections: int
) -> "PostgresDatabase":
    """Open `postgresql://user@host/name`, with all migrations applied; other servers may be at work
    on it. What stands behind `?` goes to the driver and the server (`search_path=`, `sslmode=`)."""
    del on_fatal, beside, is_apart  # There is no file that one process owns.
    database = PostgresDatabase(url, connections)
    try:
        await database.open()
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
            Line(f"{node}:{number}", url, self._texts, self._save_again)
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
        self._is_closed = False

    async def open(self) -> None:
        """Connect, migrate, and look at the clock."""
        await migrate(self._url)
        async with self._line() as line:
            self._clock.heard(*await line.clock())
        self._looks = asyncio.create_task(self._keep_time(), name="record's clock")

    def now(self) -> float:
        """Unix seconds by the server's clock."""
        return self._clock.now()

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """The rows of a reading statement."""
        async with self._line() as line:
            return await line.fetch(query, args)

    def commit(
        self, statements: Sequence[Statement], told: Told | None = None
    ) -> Awaitable[list[list[Row]]]:
        """Apply all statements or none; on the disk when it returns. There is nothing to be told
        before: the rows and the end of the transaction come in one answer."""
        del told
        task = asyncio.ensure_future(self._commit(statements, self._is_closed))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        return asyncio.shield(task)

    async def _commit(self, statements: Sequence[Statement], is_closed: bool) -> list[list[Row]]:
        async with self._line(is_accepted=not is_closed) as line:
            first = statements[0] if len(statements) == 1 else None
            if first is None or first.query not in _REPEATABLE:
                return await line.commit(statements)
            rows = await line.fetch(first.query, args_of(first))
            if first.query == "save_deltas":
                self._note_saved(first)
            return [rows]

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
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        line = self._free.pop()
        try:
            yield line
        finally:
            self._free.append(line)
            self._turns.release()

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
            await asyncio.gather(self._looks, return_exceptions=True)
        await asyncio.gather(*self._commits, return_exceptions=True)
        await asyncio.gather(*(line.close() for line in self._lines))


# Migrations.


async def migrate(url: str) -> None:
    """Apply what is new, each migration in a transaction of its own, one server at a time. Servers
    of the version before go on meanwhile: a migration only adds."""
    try:
        connection = await connect(url)
        try:
            await _migrate(connection)
        finally:
            await connection.close(timeout=limits.CONNECT_S)
    except TROUBLES as error:
        raise unavailable(error) from error


async def _migrate(connection: "asyncpg.Connection[Any]") -> None:
    version = connection.get_server_version()
    if version.major < _LEAST_VERSION:
        raise ValueError(
            f"PostgreSQL {version.major} is too old; {_LEAST_VERSION} or newer is needed"
        )
    schema = await connection.fetchval("select current_schema()")
    if schema is None:
        raise ValueError("the search_path of this database names no schema that exists")
    queries = load_queries("postgres")
    lock = "select pg_advisory_lock($1, hashtext($2))"  # It ends with the connection.
    await connection.execute(lock, _MIGRATING, schema, timeout=limits.MIGRATION_S)
    await connection.execute(queries["create_migrations"])
    applied = {name for (name,) in await connection.fetch(queries["applied_migrations"])}
    record = text_of(queries["record_migration"])
    for name, script in load_migrations("postgres"):
        if name not in applied:
            async with connection.transaction():
                await connection.execute(script, timeout=limits.MIGRATION_S)
                await connection.execute(record.sql, name)
