"""The work of the one who writes a SQLite file, in a thread or in a process of its own.

`python -m understudy.store.sqlite_writer` is that process. It needs no more than this file imports,
and logs nothing: what goes wrong is an answer. Signals are blocked where it is started, so it ends
with its server and not before: at the END it folds the WAL into the file; when the server is gone
without one (kill -9), what was asked for is finished and the rest left to the next start.
"""

import gc
import marshal
import os
import pickle
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, cast

import apsw

from understudy import heaps, limits
from understudy.store import Conflict, Row, Statement, Unavailable
from understudy.store.frames import TOLD, Frames, framed
from understudy.store.statements import load_queries

_PRAGMAS = f"""
pragma journal_mode = wal;
pragma synchronous = full;
pragma fullfsync = on;
pragma checkpoint_fullfsync = on;
pragma temp_store = memory;
pragma cache_size = -2048;
pragma journal_size_limit = 67108864;
pragma wal_autocheckpoint = {limits.WAL_PAGES};
"""  # The last is for whoever writes without a Wal: a thread of a command, a database in memory.

# Unique values → what a Conflict calls them; any other one "exists".
_UNIQUE = {"jobs.thread_id": "thread_lock", "idempotency.project": "idempotency"}

# Troubles of the file or the disk: they strike the transaction, not the caller that met them.
TROUBLES = (
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


def connect(path: str) -> apsw.Connection:
    """A connection with the settings that all of ours have."""
    connection = apsw.Connection(path, statementcachesize=limits.STATEMENT_CACHE)
    connection.set_busy_timeout(limits.BUSY_TIMEOUT_MS)
    # A plan must not depend on the arguments: SQLite prepared many statements anew for each call,
    # half of a list's time, and read all files of a project to find one by its id.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.execute(_PRAGMAS).fetchall()
    return connection


def rows_of(connection: apsw.Connection, sql: str, args: Mapping[str, object]) -> list[Row]:
    """All rows of a statement."""
    return connection.execute(sql, cast("Mapping[str, apsw.SQLiteValue]", args)).fetchall()


def unavailable(error: Exception) -> Unavailable:
    """A trouble in our words."""
    return Unavailable(f"The database file cannot be used: {error}")


class Writer:
    """Many callers' commits in one transaction."""

    def __init__(self, connection: apsw.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries

    def write(
        self,
        callers: Sequence[Sequence[Statement]],
        tell: Callable[[list[Any]], None] | None = None,
    ) -> list[Any]:
        """One transaction for all callers; the exception of a refused one is its outcome. `tell`
        gets the outcomes when nobody was refused, before the disk has them."""
        try:
            return self._together(callers, tell) or self._apart(callers)
        except TROUBLES as error:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            return [unavailable(error) for _ in callers]

    def _together(
        self, callers: Sequence[Sequence[Statement]], tell: Callable[[list[Any]], None] | None
    ) -> list[Any]:
        """All callers without savepoints, which cost more than most statements do. When any of
        them is refused, which is rare, nothing happened and nothing is returned."""
        self._connection.execute("begin immediate")
        try:
            outcomes = [[self._run(statement) for statement in caller] for caller in callers]
        except TROUBLES:
            raise
        except Exception:  # noqa: BLE001 - whose it is, and what it means, is found out apart.
            self._connection.execute("rollback")
            return []
        if tell is not None:
            tell(outcomes)
        self._connection.execute("commit")
        return outcomes

    def _apart(self, callers: Sequence[Sequence[Statement]]) -> list[Any]:
        """A savepoint for each caller, so that a refusal undoes only its own changes."""
        self._connection.execute("begin immediate")
        outcomes = [self._attempt(statements) for statements in callers]
        self._connection.execute("commit")
        return outcomes

    def _attempt(self, statements: Sequence[Statement]) -> list[list[Row]] | Exception:
        self._connection.execute("savepoint caller")
        outcome: list[list[Row]] | Exception
        try:
            outcome = [self._run(statement) for statement in statements]
        except TROUBLES:
            raise
        except Exception as error:  # noqa: BLE001 - a caller's bug must not strike the others.
            self._connection.execute("rollback to caller")
            outcome = _translated(error)
        self._connection.execute("release caller")
        return outcome

    def _run(self, statement: Statement) -> list[Row]:
        sql = self._queries[statement.query]
        if statement.many is not None:
            self._connection.executemany(sql, statement.many)
            return []
        if statement.rows is None:
            return rows_of(self._connection, sql, statement.args)
        before = self._connection.total_changes()
        # SQLite has done all of it when it gives the first row, and with each step a thread loses
        # the interpreter to the loop, so there is no step more than is needed.
        rows = _some_rows(self._connection, sql, statement.args, max(1, statement.rows))
        touched = len(rows) or self._connection.total_changes() - before
        if touched != statement.rows:
            raise Conflict(statement.query)
        return rows


def _some_rows(
    connection: apsw.Connection, sql: str, args: Mapping[str, object], count: int
) -> list[Row]:
    cursor = connection.execute(sql, cast("Mapping[str, apsw.SQLiteValue]", args))
    return list(islice(cursor, count))


class Wal:
    """The write-ahead log of a file that one connection writes: folded in beside its commits.

    Left to itself, SQLite folds the log into the file within the commit that finds it long, and
    whoever is in that commit waits for all of it. Here a thread does it while commits go on, and
    once more for what they wrote meanwhile. The log begins anew only when all of it is in the file,
    so what is left after some passes is folded in between two commits.
    sqlite.org/wal.html, "Performance Considerations".
    """

    def __init__(self, writer: apsw.Connection, beside: apsw.Connection) -> None:
        self._writer = writer
        self._beside = beside
        self._pages = 0  # Of the log, as the last commit left it.
        self._due_at = limits.WAL_PAGES  # When it has so many.
        self._is_asked = False
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._done = threading.Event()
        # In the place of SQLite's own, which `pragma wal_autocheckpoint` would put back.
        writer.set_wal_hook(self._committed)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def keep_short(self) -> None:
        """What is due between two commits, if anything is."""
        if not self._is_asked:
            if self._pages >= self._due_at:
                self._is_asked = True
                self._asked.put(True)
            return
        if self._pages >= self._due_at + limits.WAL_PAGES_BEHIND:
            self._done.wait()
        if self._done.is_set():
            self._done.clear()
            self._is_asked = False
            if self._pages >= self._due_at:  # Else it has begun anew: the thread had all of it.
                _fold(self._writer)
                # Where a reader keeps it from beginning anew, not before as much again was written.
                self._due_at = self._pages + limits.WAL_PAGES

    def close(self) -> None:
        """Wait for the thread."""
        self._asked.put(False)
        self._thread.join()
        self._beside.close()

    def _committed(self, _: apsw.Connection, name: str, pages: int) -> int:
        if pages < self._pages:  # It has begun anew.
            self._due_at = limits.WAL_PAGES
        self._pages = pages
        return apsw.SQLITE_OK

    def _work(self) -> None:
        while self._asked.get():
            for _ in range(limits.WAL_PASSES):
                if _fold(self._beside):
                    break
            self._done.set()


def _fold(connection: apsw.Connection) -> bool:
    """Fold in what no reader needs any more, waiting for nobody; whether it is all. What is not
    stays in the log, and of a lasting trouble with the disk the commits will hear."""
    try:
        pages, folded = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.Error:
        return False
    return pages == folded


def _translated(error: Exception) -> Exception:
    """A unique violation in our words; anything else is a bug and stays what it is."""
    what, _, columns = str(error).partition(": ")  # "UNIQUE constraint failed: jobs.thread_id"
    if isinstance(error, apsw.ConstraintError) and what.startswith("UNIQUE"):
        return Conflict(_UNIQUE.get(columns.partition(",")[0], "exists"))
    return error


# The process.


def serve(server: socket.socket, path: str) -> bool:
    """Answer what the server asks, batch by batch. A message is a caller's statements, and whether
    it is to be told their rows before they are durable; an answer, the outcomes of as many as went
    into one transaction. False when the server died without an END."""
    frames = Frames()
    file = _File(path)
    while piece := server.recv(limits.WRITER_READ_BYTES):
        messages = frames.take(piece)
        callers = [marshal.loads(message) for message in messages if message]  # noqa: S302 (ours)
        for start in range(0, len(callers), limits.COMMIT_BATCH):
            batch = callers[start : start + limits.COMMIT_BATCH]
            told = [place for place, (is_told, _) in enumerate(batch) if is_told]
            tell = partial(_tell, server, told) if told else None
            server.sendall(_answer(file.write([caller for _, caller in batch], tell)))
            file.tidy()
        if b"" in messages:
            file.close()
            return True
    return False


class _File:
    """The file, opened by the first write: the server has migrated it by then."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None
        self._writer: Writer | None = None
        self._wal: Wal | None = None
        self._give_back_at = time.monotonic() + limits.GIVE_BACK_S

    def write(
        self,
        callers: Sequence[Sequence[Sequence[Any]]],
        tell: Callable[[list[Any]], None] | None = None,
    ) -> list[Any]:
        """The outcomes of callers whose statements are tuples; `tell` as in Writer."""
        if self._writer is None:
            try:
                connection, beside = connect(self._path), connect(self._path)
            except TROUBLES as error:
                return [unavailable(error) for _ in callers]
            self._connection, self._wal = connection, Wal(connection, beside)
            self._writer = Writer(connection, load_queries("sqlite"))
        return self._writer.write([[Statement(*one) for one in caller] for caller in callers], tell)

    def tidy(self) -> None:
        """What is due after a commit, when its callers have their answers."""
        if self._wal is not None:
            self._wal.keep_short()
        if time.monotonic() >= self._give_back_at:
            self._give_back_at = time.monotonic() + limits.GIVE_BACK_S
            heaps.give_back()

    def close(self) -> None:
        """Let go; the last one who does folds the WAL in."""
        if self._wal is not None:
            self._wal.close()
        if self._connection is not None:
            self._connection.close()


def _tell(server: socket.socket, places: Sequence[int], outcomes: list[Any]) -> None:
    """Send what is told to the callers at these places, unless it is so much that the transaction
    would wait for the server to read it. A server that is gone hears nothing, and what it asked for
    is finished all the same."""
    told = framed(TOLD + marshal.dumps([(place, outcomes[place]) for place in places]))
    if len(told) <= limits.TOLD_BYTES:
        with suppress(OSError):
            server.sendall(told)


def _answer(outcomes: list[Any]) -> bytes:
    """The frame; a bug whose exception cannot travel is told in words."""
    try:
        return framed(pickle.dumps(outcomes))
    except (pickle.PicklingError, TypeError, AttributeError):
        told = [RuntimeError(repr(one)) if isinstance(one, Exception) else one for one in outcomes]
        return framed(pickle.dumps(told))


def main() -> None:
    """The process: its arguments are the number of its socket and the path of the file."""
    gc.freeze()
    gc.set_threshold(limits.GC_OBJECTS)
    with socket.socket(fileno=int(sys.argv[1])) as server:
        try:
            is_ended = serve(server, sys.argv[2])
        except OSError:  # The server died while it was answered.
            is_ended = False
    if not is_ended:
        os._exit(0)  # Its successor may be waiting for the lock: no time to fold the WAL in.


if __name__ == "__main__":
    main()
