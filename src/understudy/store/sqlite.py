"""Database on SQLite through apsw: one writer with group commit, and reader threads.

Every commit of the process goes through one writer. It packs the callers that wait into one
transaction, so that they share one sync to disk. When one of them is refused, the transaction is
undone and done again with a savepoint for each caller, so that a refusal undoes only its own
changes. Nobody is answered before the sync. The writer is a thread, or, for a server, a process
(apart.py). Readers have connections of their own and see what was committed (WAL). A read by a
unique key looks at a handful of pages, in less time than a change of thread takes, so it is done on
the loop. A database in memory has one connection, so there a read travels with the writes. The file
belongs to one server, held by a lock file beside it.
"""

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import apsw
import structlog

from understudy import limits
from understudy.store import (
    AlreadyRunning,
    OnFatal,
    Ring,
    Row,
    Statement,
    Told,
    UnfinishedCopy,
    apart,
)
from understudy.store.lane import Lane, Outcome, Threads
from understudy.store.sqlite_writer import TROUBLES, Writer, connect, rows_of, unavailable
from understudy.store.statements import load_migrations, load_queries

_Read: TypeAlias = tuple[str, Mapping[str, object]]

# Reads of one row by a unique key: they are done on the loop.
_BY_KEY = frozenset({"active_run", "answer", "get", "job", "key"})

# Reads of one page along an index: they have a thread of their own, and wait behind no search. A
# second thread for them only fought the first and the loop for the interpreter.
_PAGES = frozenset(
    {"beginning", "cursor", "events", "get_many", "journal", "list_asc", "list_desc", "next_due"}
)

_WRITER = "understudy.store.sqlite_writer"


async def open_database(
    url: str, on_fatal: OnFatal, beside: bool, is_apart: bool, connections: int
) -> "SqliteDatabase":
    """Open `sqlite:///path`; `sqlite:///:memory:` keeps nothing. With `is_apart` a file that is
    ours alone is written by a process of its own."""
    del connections  # As many as its threads need.
    path = url.removeprefix("sqlite://").removeprefix("/")
    opened = await asyncio.to_thread(_open, path, beside, is_apart)
    queries = load_queries("sqlite")
    writer: Lane[Sequence[Statement]]
    if opened.started is not None:
        writer = await apart.opened(opened.started, bound=limits.WRITE_QUEUE, on_fatal=on_fatal)
    else:
        assert opened.writer is not None, "one of the two writes"
        writer = Threads(
            "writer",
            [Writer(opened.writer, queries).write],
            batch=limits.COMMIT_BATCH,
            bound=limits.WRITE_QUEUE,
            on_fatal=on_fatal,
        )
    return SqliteDatabase(opened, writer, queries, on_fatal)


@dataclass(frozen=True)
class _Opened:
    """A file, or memory, which has no lock and no readers. The readers are the loop's, the one for
    pages and the one for searches; the writer is here or apart."""

    lock: IO[str] | None
    readers: Sequence[apsw.Connection]
    writer: apsw.Connection | None
    started: apart.Started | None = None

    def close_readers(self) -> None:
        """Let go of what reads; whoever writes is the last, so that it can fold the WAL in."""
        for reader in self.readers:
            reader.close()

    def close(self) -> None:
        """Let go of the rest, when the writer has ended."""
        if self.writer is not None:
            self.writer.close()
        if self.lock is not None:
            self.lock.close()


class SqliteDatabase:
    """A SQLite file, or memory."""

    def __init__(
        self,
        opened: _Opened,
        writer: Lane[Sequence[Statement]],
        queries: Mapping[str, str],
        on_fatal: OnFatal,
    ) -> None:
        self._opened = opened
        self._writer = writer
        readers = [_Reader(connection, queries) for connection in opened.readers]
        self._by_key = readers[0] if readers else None
        self._pages = _thread("pages", readers[1:2], on_fatal)
        self._searches = _thread("searches", readers[2:], on_fatal)
        self._looks = 0
        self._in_memory = not opened.readers

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """The rows of a reading statement."""
        if self._in_memory:
            return (await self.commit([Statement(query, args)]))[0]
        if query in _BY_KEY:
            self._looks = (self._looks + 1) % limits.LOOKS_IN_A_ROW
            if not self._looks:
                await asyncio.sleep(0)  # Who reads and reads must not keep the loop to itself.
            found = self._by_key.look(query, args) if self._by_key is not None else None
            if found is not None:
                return found
        lane = self._pages if query in _PAGES else self._searches
        rows: list[Row] = await lane.ask((query, args))
        return rows

    def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> Awaitable[list[list[Row]]]:
        """Apply all statements or none; on the disk when it returns. A writer in a process of its
        own tells the rows before."""
        assert ring is None, "a file's bell is in this process"
        return self._writer.asked(statements, told)

    async def close(self) -> None:
        """Finish what was accepted, then let go of the file and its lock."""
        self._by_key = None
        await self._pages.close()
        await self._searches.close()
        await asyncio.to_thread(self._opened.close_readers)
        await self._writer.close()
        await asyncio.to_thread(self._opened.close)


class _Reader:
    """The work of a reader thread."""

    def __init__(self, connection: apsw.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    def read(self, calls: Sequence[_Read]) -> list[Outcome]:
        """The rows of each call, or the exception that it met; of the first ones when that takes
        long, for nobody waits for another's long read or keeps all its rows in memory."""
        outcomes: list[Outcome] = []
        stop_at = time.monotonic() + limits.READ_BATCH_S
        for query, args in calls:
            outcomes.append(self._answer(query, args))
            if time.monotonic() >= stop_at:
                break
        return outcomes

    def look(self, query: str, args: Mapping[str, object]) -> list[Row] | None:
        """The rows; None when the file cannot be read at once: a thread waits, or says why."""
        try:
            return rows_of(self._connection, self._queries[query], args)
        except TROUBLES:
            return None

    def _answer(self, query: str, args: Mapping[str, object]) -> Outcome:
        try:
            return rows_of(self._connection, self._queries[query], args)
        except TROUBLES as error:
            return unavailable(error)
        except Exception as error:  # noqa: BLE001 - a caller's bug must not end the thread.
            return error


def _thread(name: str, readers: Sequence[_Reader], on_fatal: OnFatal) -> Threads[_Read]:
    return Threads(
        name,
        [reader.read for reader in readers],
        batch=limits.READ_BATCH,
        bound=limits.READ_QUEUE,
        on_fatal=on_fatal,
    )


# Opening.


def _open(path: str, beside: bool, is_apart: bool) -> _Opened:
    if path in ("", ":memory:"):
        connection = connect(":memory:")
        migrate(connection)
        return _Opened(None, [], connection)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = hold(file, beside)
    _warn_when_full(file)
    with ExitStack() as undo:
        if lock is not None:
            undo.enter_context(lock)
        opened = _with_writer(path, lock, undo) if lock and is_apart else _alone(path, lock)
        undo.pop_all()
    return opened


def _alone(path: str, lock: IO[str] | None) -> _Opened:
    writer = connect(path)
    if lock is not None:
        migrate(writer)
    _require_whole(writer)
    return _Opened(lock, _readers(path), writer)


def _with_writer(path: str, lock: IO[str], undo: ExitStack) -> _Opened:
    started = apart.start(_WRITER, path, lock)
    undo.callback(started.kill)
    migrator = connect(path)
    undo.callback(migrator.close)
    migrate(migrator)
    _require_whole(migrator)
    readers = _readers(path)
    migrator.close()
    return _Opened(lock, readers, None, started)


def _readers(path: str) -> list[apsw.Connection]:
    readers = [connect(path) for _ in range(3)]
    for reader in readers:
        reader.execute("pragma query_only = on")
    readers[0].set_busy_timeout(0)  # The loop waits for nobody.
    return readers


def hold(file: Path, beside: bool) -> IO[str] | None:
    """The lock file, held until it is closed or the process ends, however it ends; so does the
    writer of a killed server, which may need a moment. None beside a server: SQLite's own locks
    keep two writers apart for the moment that this takes."""
    lock = file.with_name(f"{file.name}.lock").open("a+", encoding="utf-8")
    give_up_at = time.monotonic() + limits.LOCK_WAIT_S
    while not _is_locked(lock):
        if beside:
            lock.close()
            return None
        if time.monotonic() >= give_up_at:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise AlreadyRunning(
                f"The database {file} is in use by another server process (pid {holder}). "
                "Stop that one first, or choose another data folder."
            )
        time.sleep(limits.LOCK_LOOK_S)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _is_locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _warn_when_full(file: Path) -> None:
    free = shutil.disk_usage(file.parent).free
    if free < limits.FREE_BYTES_FLOOR:
        structlog.get_logger("store").warning("disk_nearly_full", path=str(file), free_bytes=free)


def migrate(connection: apsw.Connection) -> None:
    """Apply what is new, each migration in a transaction of its own."""
    queries = load_queries("sqlite")
    connection.execute(queries["create_migrations"])
    applied = {name for (name,) in connection.execute(queries["applied_migrations"])}
    for name, script in load_migrations("sqlite"):
        if name not in applied:
            with connection:
                connection.execute(script).fetchall()
                connection.execute(queries["record_migration"], {"name": name})


def _require_whole(connection: apsw.Connection) -> None:
    if connection.execute(load_queries("sqlite")["unfinished_copy"]).fetchall():
        raise UnfinishedCopy
