"""The seam to the record: what a Database is, what it may raise, and how one is opened.

Rules of this floor. A Database knows named statements (queries.sql) and nothing of our nouns;
Store (store.py) speaks our words and works on any Database. The only way to write is `commit`:
a list of statements, each with an optional guard, applied all or nothing. It is not interactive,
so that many callers can share one transaction and none stays open across an `await`.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from understudy import limits

# Column types are the statement's; records.py turns rows into typed records.
Row: TypeAlias = tuple[Any, ...]
OnFatal: TypeAlias = Callable[[str], None]
Told: TypeAlias = Callable[[list[list[Row]]], None]

# URL scheme → module with an `open_database` of its own, imported
# when asked for, so that the embedded server does not need the drivers of the others.
SCHEMES: dict[str, str] = {
    "sqlite": "understudy.store.sqlite",
    "postgresql": "understudy.store.postgres",
    "postgres": "understudy.store.postgres",
}


class Conflict(Exception):
    """A commit was refused and left no trace: a guard failed or a unique value was taken.

    `what` is the guard's query name, or "thread_lock", "exists" or "idempotency" for a value.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Unavailable(Exception):
    """The record cannot be written or read now; nothing was acknowledged."""

    def __init__(self, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class AlreadyRunning(Exception):
    """Another process has this record open, and the record allows only one."""


class UnfinishedCopy(ValueError):
    """The record is the target of a move that was not finished (tables.py): it lacks rows."""

    def __init__(self) -> None:
        super().__init__(
            "this database holds a copy that is not finished. Finish it with `understudy migrate`, "
            "or take an empty database."
        )


class UnknownCursor(Exception):
    """A list cursor that is neither an object nor a deleted one; `id` is the cursor."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.id = id


class Statement(msgspec.Struct, frozen=True, gc=False):
    """A named statement with its arguments.

    `rows` is a guard: exactly that many rows must be changed or returned, else Conflict.
    `many` runs a statement that returns nothing once for each tuple, whose values are its
    parameters in the order in which they stand in the statement.
    """

    query: str
    args: Mapping[str, object]
    rows: int | None = None
    many: Sequence[Row] | None = None


class Ring(msgspec.Struct, frozen=True, gc=False):
    """What a server that holds a record and a bell's connections (bell/) tells those who listen."""

    channel: str
    message: str


class Database(Protocol):
    """An engine that runs named statements."""

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """The rows of a reading statement; sees every commit that was acknowledged before."""
        ...

    def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> Awaitable[list[list[Row]]]:
        """Apply all statements or none; durable when it returns. One row list per statement.

        It may not remove a row and make another one of the same id: commits that wait for the row
        would find it gone on some engines. It replaces it (`replace_job`).

        `told` may be called with the rows a moment before that: most of a commit's time is the
        disk's. Nothing may be shown then, for the commit may still fail.

        `ring` is rung by the engine's own server the moment the commit is durable, sooner than
        whoever waits for the commit could. It may get lost, as all rings may.

        A caller that is cancelled while waiting does not know whether its commit was applied.
        """
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go of the record."""
        ...


@runtime_checkable
class Clocked(Protocol):
    """A Database with a clock of its own, which everybody who shares it goes by."""

    def now(self) -> float:
        """Unix seconds."""
        ...


@runtime_checkable
class Comparing(Protocol):
    """A Database that may have vectors once more, at half precision, and compare them by itself."""

    @property
    def compares(self) -> bool:
        """Whether it can now; if not, it knows none of the statements about halves."""
        ...


def log_fatal(reason: str) -> None:
    """What `on_fatal` does when nobody asked for more; a server ends its process instead."""
    import structlog  # Not at the top: the writer's process imports this file and logs nothing.

    structlog.get_logger("store").critical("store_died", reason=reason)


async def open_database(
    url: str,
    *,
    on_fatal: OnFatal = log_fatal,
    beside: bool = False,
    apart: bool = False,
    connections: int = limits.CONNECTIONS,
) -> Database:
    """Open the record at this URL with all migrations applied.

    `beside` is for a short look or change next to the server that owns the record: where one
    runs, nothing is migrated and AlreadyRunning is not raised. `apart` is for a server: an engine
    that works within this process may move its work into another one. `connections` bounds those to
    an engine that is a server.
    `sqlite:///relative/path`, `sqlite:////absolute/path`, `sqlite:///:memory:` or
    `postgresql://user:password@host/name`. `on_fatal` is called, from any thread, when the record
    can never be written again by this process.
    """
    scheme = url.partition(":")[0]
    if scheme not in SCHEMES:
        raise ValueError(f"No database for {scheme}:// URLs; known: {', '.join(SCHEMES)}")
    module = importlib.import_module(SCHEMES[scheme])
    database: Database = await module.open_database(url, on_fatal, beside, apart, connections)
    return database
