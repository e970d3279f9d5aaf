"""A line: a connection to PostgreSQL for one caller at a time, made anew when it breaks.

A line numbers its commits and the server keeps the last number of each line, in the commit itself.
So a commit whose connection broke is done again under the same number, and is applied once: what
was lost may have been the question or the answer. (A prototype that repeated blindly counted twice:
SCALE 4.)
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias, TypeVar

import asyncpg
from asyncpg import exceptions

from understudy import limits
from understudy.store import Conflict, Row, Statement, Unavailable
from understudy.store.postgres_text import (
    Batch,
    Part,
    Text,
    args_of,
    batch_of,
    part_of,
    rows_of,
    text_of,
)

T = TypeVar("T")

# Troubles of the server or the way to it, which strike whoever asks just then.
TROUBLES = (
    OSError,
    TimeoutError,
    exceptions.PostgresConnectionError,
    exceptions.InsufficientResourcesError,  # The disk is full, no memory, too many connections.
    exceptions.OperatorInterventionError,  # It shuts down, crashed, or starts.
    exceptions.PostgresSystemError,
    exceptions.ReadOnlySQLTransactionError,  # It has become a standby.
    exceptions.CannotConnectNowError,
)
# Of these nothing is left to find out: the server lives and has undone the commit.
_UNDONE = (exceptions.InsufficientResourcesError, exceptions.ReadOnlySQLTransactionError)
_AGAIN = (exceptions.DeadlockDetectedError, exceptions.SerializationError)

_REFUSED = "UD001"  # `apply` raises it for a guard.
# Named constraints → what a Conflict calls them; any other one "exists".
_UNIQUE = {"jobs_thread": "thread_lock", "idempotency_pkey": "idempotency"}


# Hears of each connection before it is used.
Joined: TypeAlias = Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[None]]


class Texts:
    """All statements, with what a server told about their parameters."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = queries
        self.alone = {name: text_of(sql) for name, sql in queries.items()}
        self._parts: dict[str, Part] = {}

    async def part(self, query: str, connection: "asyncpg.Connection[asyncpg.Record]") -> Part:
        """The statement as a part of a commit."""
        if query not in self._parts:
            text = self.alone[query]
            prepared = await connection.prepare(text.sql)
            types = [parameter.name for parameter in prepared.get_parameters()]
            self._parts[query] = part_of(self._queries[query], text, types)
        return self._parts[query]


class Line:
    """A connection and its commits. `name` is its own among all servers' lines."""

    def __init__(self, name: str, url: str, texts: Texts, joined: Joined) -> None:
        self._name = name
        self._url = url
        self._texts = texts
        self._joined = joined
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._number = 0

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """The rows of a statement that may be performed twice: it is when its connection breaks."""
        text = self._texts.alone[query]
        try:
            return await self._fetch(text, args)
        except TROUBLES as error:
            if isinstance(error, _UNDONE) or self._is_well:
                raise unavailable(error) from error
        try:
            return await self._fetch(text, args)
        except TROUBLES as error:
            raise unavailable(error) from error

    async def _fetch(self, text: Text, args: Mapping[str, object]) -> list[Row]:
        connection = await self._connected()
        with _TrueErrors():
            found = await self._heard(connection.fetch(text.sql, *text.values(args)))
        return [tuple(row) for row in found]

    async def commit(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """All statements or none, once. Raises Conflict and Unavailable."""
        try:
            connection = await self._connected()
            with _TrueErrors():
                parts = [
                    (await self._heard(self._texts.part(one.query, connection)), one)
                    for one in statements
                ]
        except TROUBLES as error:
            raise unavailable(error) from error
        self._number += 1
        batch = batch_of(parts)
        try:
            found = await self._applied(batch)
        except exceptions.UniqueViolationError as error:
            raise Conflict(_UNIQUE.get(error.constraint_name or "", "exists")) from error
        except exceptions.PostgresError as error:
            if error.sqlstate != _REFUSED:
                raise
            raise Conflict(statements[int(error.detail or 0) - 1].query) from error
        if found is not None:
            return [rows_of(one) for one in found]
        return [await self._once_more(part, statement) for part, statement in parts]

    async def _applied(self, batch: Batch) -> list[str | None] | None:
        """What `apply` found; None: an attempt of which nothing was heard had applied it."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + limits.OUTCOME_S
        pause_s = limits.DATABASE_RETRY_S
        deadlocks = 0
        is_sent = False
        while True:
            try:
                connection = await self._connected()
                is_sent = True
                with _TrueErrors():
                    found: list[str | None] | None = await self._heard(
                        connection.fetchval(_APPLY, self._name, self._number, *batch.args())
                    )
                return found
            except _AGAIN as error:
                deadlocks += 1
                if deadlocks >= limits.DEADLOCKS:
                    raise unavailable(error) from error
            except TROUBLES as error:
                if not is_sent or isinstance(error, _UNDONE) or clock() >= give_up_at:
                    raise unavailable(error) from error
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, limits.DATABASE_RETRY_MOST_S)

    async def _once_more(self, part: Part, statement: Statement) -> list[Row]:
        """The rows of a statement whose answer was lost."""
        if not part.gives_rows or (statement.rows is not None and not part.text.is_reading):
            return []
        if not part.text.is_reading:
            raise Unavailable("The answer of a commit was lost; it was applied.")
        return await self.fetch(statement.query, args_of(statement))

    async def clock(self) -> tuple[float, float, float]:
        """When it was asked, when it was heard, and what the server's clock told."""
        loop = asyncio.get_running_loop()
        try:
            connection = await self._connected()
            asked_at = loop.time()
            told: float = await self._heard(connection.fetchval(_CLOCK))
        except TROUBLES as error:
            raise unavailable(error) from error
        return asked_at, loop.time(), told

    async def close(self) -> None:
        """Hang up; the server forgets the line, unless it cannot be reached."""
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed():
            return
        with suppress(*TROUBLES, exceptions.InterfaceError):
            async with asyncio.timeout(limits.CONNECT_S):
                await connection.execute(_FORGET, self._name)
                await connection.close()
        connection.terminate()

    @property
    def _is_well(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The connection; a new one introduces the line to the server."""
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            connection = await connect(self._url)
            try:
                await connection.execute(_INTRODUCE, self._name)
                await self._joined(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    async def _heard(self, asked: Awaitable[T]) -> T:
        """The answer. A connection that met a trouble, or whose answer nobody waited for, says
        nothing more: what it has in its pipe may belong to the question before."""
        try:
            with _TrueErrors():
                return await asked
        except (*TROUBLES, asyncio.CancelledError):
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            raise


class _TrueErrors:
    """The driver's words for a connection that is gone, and for arguments that fit no parameter."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, exceptions.DataError):
            raise TypeError(str(error)) from error
        if isinstance(error, exceptions.InterfaceError | exceptions.InternalClientError):
            raise ConnectionError(str(error)) from error


async def connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection with the settings that all of ours have."""
    with _TrueErrors():
        return await asyncpg.connect(
            url,
            timeout=limits.CONNECT_S,
            command_timeout=limits.STATEMENT_S,
            statement_cache_size=limits.STATEMENT_CACHE,
            max_cached_statement_lifetime=0,
            # Compiling a plan takes longer than any of our statements.
            server_settings={"application_name": "understudy", "jit": "off"},
        )


def unavailable(error: BaseException) -> Unavailable:
    """A trouble in our words."""
    words = str(error).partition("\n")[0] or type(error).__name__
    return Unavailable(f"PostgreSQL cannot be used: {words}")


_APPLY = "select apply($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_CLOCK = "select extract(epoch from clock_timestamp())::double precision"
_FORGET = "delete from commits where connection = $1"
_INTRODUCE = """
insert into commits (connection, number, begun_at)
values ($1, 0, extract(epoch from clock_timestamp()))
on conflict (connection) do nothing
"""
