"""Database on SQLite through apsw: one writer thread with group commit, and reader threads.

Every commit of the process goes through one thread. It packs the callers that wait into one
transaction, so that they share one sync to disk. When one of them is refused, the transaction is
undone and done again with a savepoint for each caller, so that a refusal undoes only its own
changes. Nobody is answered before the sync. Readers have connections of their own and see what was
committed (WAL). A read by a unique key looks at a handful of pages, in less time than a change of
thread takes, so it is done on the loop. A database in memory has one connection, so there a read
travels with the writes. The file belongs to one process, held by a lock file beside it.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Awaitable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TypeAlias, cast

import apsw
import structlog

from understudy import limits
from understudy.store import AlreadyRunning, Conflict, OnFatal, Row, Statement, Unavailable
from understudy.store.lane import Lane, Outcome
from understudy.store.statements import load_migrations, load_queries

_Read: TypeAlias = tuple[str, Mapping[str, object]]

_PRAGMAS = """
pragma journal_mode = wal;
pragma synchronous = full;
pragma fullfsync = on;
pragma checkpoint_fullfsync = on;
pragma temp_store = memory;
pragma cache_size = -8192;
pragma journal_size_limit = 67108864;
"""

# Reads of one row by a unique key: they are done on the loop.
_BY_KEY = frozenset({"active_run", "answer", "get", "job", "key"})

# Unique values → what a Conflict calls them; any other one "exists".
_UNIQUE = {"jobs.thread_id": "thread_lock", "idempotency.project": "idempotency"}

# Troubles of the file or the disk: they strike the transaction, not the caller that met them.
_TROUBLES = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.InterruptError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)


async def open_database(url: str, on_fatal: OnFatal, beside: bool) -> "SqliteDatabase":
    """Open `sqlite:///path`; `sqlite:///:memory:` keeps nothing."""
    path = url.removeprefix("sqlite://").removeprefix("/")
    lock, connections = await asyncio.to_thread(_open, path, beside)
    return SqliteDatabase(lock, connections, on_fatal)


class SqliteDatabase:
    """A SQLite file, or memory; `connections` is the writer's, the loop's, then one per reader."""

    def __init__(
        self, lock: IO[str] | None, connections: Sequence[apsw.Connection], on_fatal: OnFatal
    ) -> None:
        self._lock = lock
        self._connections = connections
        queries = load_queries("sqlite")
        writer = _Writer(connections[0], queries)
        self._writer = Lane[Sequence[Statement]](
            "writer",
            [writer.write],
            batch=limits.COMMIT_BATCH,
            bound=limits.WRITE_QUEUE,
            on_fatal=on_fatal,
        )
        self._readers = Lane[_Read](
            "readers",
            [_Reader(connection, queries).read for connection in connections[2:]],
            batch=limits.READ_BATCH,
            bound=limits.READ_QUEUE,
            on_fatal=on_fatal,
        )
        self._looks = 0
        self._by_key = _Reader(connections[1], queries) if len(connections) > 1 else None

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """The rows of a reading statement."""
        if len(self._connections) == 1:
            return (await self.commit([Statement(query, args)]))[0]
        if query in _BY_KEY:
            self._looks = (self._looks + 1) % limits.LOOKS_IN_A_ROW
            if not self._looks:
                await asyncio.sleep(0)  # Who reads and reads must not keep the loop to itself.
            found = self._by_key.look(query, args) if self._by_key is not None else None
            if found is not None:
                return found
        rows: list[Row] = await self._readers.ask((query, args))
        return rows

    def commit(self, statements: Sequence[Statement]) -> Awaitable[list[list[Row]]]:
        """Apply all statements or none; on the disk when it returns."""
        return self._writer.asked(statements)

    async def close(self) -> None:
        """Finish what was accepted, then let go of the file and its lock."""
        self._by_key = None
        await self._writer.close()
        await self._readers.close()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        for connection in reversed(self._connections):
            connection.close()  # The writer's last, so that it can fold the WAL in.
        if self._lock is not None:
            self._lock.close()


class _Writer:
    """The work of the writer thread."""

    def __init__(self, connection: apsw.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    def write(self, callers: Sequence[Sequence[Statement]]) -> list[Outcome]:
        """One transaction for all callers; the exception of a refused one is its outcome."""
        try:
            return self._together(callers) or self._apart(callers)
        except _TROUBLES as error:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            return _unavailable(error, len(callers))

    def _together(self, callers: Sequence[Sequence[Statement]]) -> list[Outcome]:
        """All callers without savepoints, which cost more than most statements do. When any of
        them is refused, which is rare, nothing happened and nothing is returned."""
        self._connection.execute("begin immediate")
        try:
            outcomes = [[self._run(statement) for statement in caller] for caller in callers]
        except _TROUBLES:
            raise
        except Exception:  # noqa: BLE001 - whose it is, and what it means, is found out apart.
            self._connection.execute("rollback")
            return []
        self._connection.execute("commit")
        return outcomes

    def _apart(self, callers: Sequence[Sequence[Statement]]) -> list[Outcome]:
        """A savepoint for each caller, so that a refusal undoes only its own changes."""
        self._connection.execute("begin immediate")
        outcomes = [self._attempt(statements) for statements in callers]
        self._connection.execute("commit")
        return outcomes

    def _attempt(self, statements: Sequence[Statement]) -> Outcome:
        self._connection.execute("savepoint caller")
        outcome: Outcome
        try:
            outcome = [self._run(statement) for statement in statements]
        except _TROUBLES:
            raise
        except Exception as error:  # noqa: BLE001 - a caller's bug must not strike the others.
            self._connection.execute("rollback to caller")
            outcome = _translated(error)
        self._connection.execute("release caller")
        return outcome

    def _run(self, statement: Statement) -> list[Row]:
        if statement.many is not None:
            self._connection.executemany(self._queries[statement.query], statement.many)
            return []
        sql = self._queries[statement.query]
        if statement.rows is None:
            return _rows(self._connection, sql, statement.args)
        before = self._connection.total_changes()
        # SQLite has done all of it when it gives the first row, and with each step the thread
        # loses the interpreter to the loop, so there is no step more than is needed.
        rows = _some_rows(self._connection, sql, statement.args, statement.rows)
        touched = len(rows) or self._connection.total_changes() - before
        if touched != statement.rows:
            raise Conflict(statement.query)
        return rows


class _Reader:
    """The work of a reader thread."""

    def __init__(self, connection: apsw.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    def read(self, calls: Sequence[_Read]) -> list[Outcome]:
        """The rows of each call, or the exception that it met."""
        return [self._answer(query, args) for query, args in calls]

    def look(self, query: str, args: Mapping[str, object]) -> list[Row] | None:
        """The rows; None when the file cannot be read at once: a thread waits, or says why."""
        try:
            return _rows(self._connection, self._queries[query], args)
        except _TROUBLES:
            return None

    def _answer(self, query: str, args: Mapping[str, object]) -> Outcome:
        try:
            return _rows(self._connection, self._queries[query], args)
        except _TROUBLES as error:
            return _unavailable(error, 1)[0]
        except Exception as error:  # noqa: BLE001 - a caller's bug must not end the thread.
            return error


def _rows(connection: apsw.Connection, sql: str, args: Mapping[str, object]) -> list[Row]:
    return connection.execute(sql, cast("Mapping[str, apsw.SQLiteValue]", args)).fetchall()


def _some_rows(
    connection: apsw.Connection, sql: str, args: Mapping[str, object], count: int
) -> list[Row]:
    cursor = connection.execute(sql, cast("Mapping[str, apsw.SQLiteValue]", args))
    return list(islice(cursor, max(1, count)))


def _translated(error: Exception) -> Exception:
    """A unique violation in our words; anything else is a bug and stays what it is."""
    what, _, columns = str(error).partition(": ")  # "UNIQUE constraint failed: jobs.thread_id"
    if isinstance(error, apsw.ConstraintError) and what.startswith("UNIQUE"):
        return Conflict(_UNIQUE.get(columns.partition(",")[0], "exists"))
    return error


def _unavailable(error: Exception, count: int) -> list[Outcome]:
    structlog.get_logger("store").error("store_unavailable", error=str(error), callers=count)
    return [Unavailable(f"The database file cannot be used: {error}") for _ in range(count)]


# Opening.


def _open(path: str, beside: bool) -> tuple[IO[str] | None, list[apsw.Connection]]:
    """The lock and the connections of a file; one connection and no lock for memory."""
    if path in ("", ":memory:"):
        connection = _connect(":memory:")
        _migrate(connection)
        return None, [connection]
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock: IO[str] | None = _lock(file)
    except AlreadyRunning:
        if not beside:
            raise
        lock = None  # SQLite's own locks keep two writers apart for the moment that this takes.
    _warn_when_full(file)
    writer = _connect(path)
    if lock is not None:
        _migrate(writer)
    readers = [_connect(path) for _ in range(1 + limits.READERS)]
    for reader in readers:
        reader.execute("pragma query_only = on")
    readers[0].set_busy_timeout(0)  # The loop waits for nobody.
    return lock, [writer, *readers]


def _connect(path: str) -> apsw.Connection:
    connection = apsw.Connection(path, statementcachesize=limits.STATEMENT_CACHE)
    connection.set_busy_timeout(limits.BUSY_TIMEOUT_MS)
    # A plan must not depend on the arguments: SQLite prepared many statements anew for each call,
    # half of a list's time, and read all files of a project to find one by its id.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.execute(_PRAGMAS).fetchall()
    return connection


def _lock(file: Path) -> IO[str]:
    """The lock file, held until it is closed or the process ends, however it ends."""
    lock = file.with_name(f"{file.name}.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise AlreadyRunning(
            f"The database {file} is in use by another server process (pid {holder}). "
            "Stop that one first, or choose another data folder."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _warn_when_full(file: Path) -> None:
    free = shutil.disk_usage(file.parent).free
    if free < limits.FREE_BYTES_FLOOR:
        structlog.get_logger("store").warning("disk_nearly_full", path=str(file), free_bytes=free)


def _migrate(connection: apsw.Connection) -> None:
    """Apply what is new, each migration in a transaction of its own."""
    queries = load_queries("sqlite")
    connection.execute(queries["create_migrations"])
    applied = {name for (name,) in connection.execute(queries["applied_migrations"])}
    for name, script in load_migrations("sqlite"):
        if name not in applied:
            with connection:
                connection.execute(script).fetchall()
                connection.execute(queries["record_migration"], {"name": name})
