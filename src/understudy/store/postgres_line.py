"""A line: a connection to PostgreSQL for one caller at a time, made anew when it breaks.

A line numbers its commits and the server keeps the last number of each line, in the commit itself.
So a commit whose connection broke is done again under the same number, and is applied once: what
was lost may have been the question or the answer. (A prototype that repeated blindly counted twice:
SCALE 4.) An attempt that the server is still busy with holds the row of that number, and the next
one waits for it. Of an attempt that was given up, nothing is applied once a later commit was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import TypeAlias, TypeVar

import asyncpg
from asyncpg import exceptions

from understudy import limits
from understudy.store import Conflict, Ring, Row, Statement, Unavailable
from understudy.store.postgres_apply import Apply, described
from understudy.store.postgres_connect import connect
from understudy.store.postgres_text import (
    Batch,
    Part,
    args_of,
    batch_of,
    rows_of,
    text_of,
)
from understudy.store.postgres_troubles import (
    AGAIN,
    FAILURES,
    TROUBLES,
    UNDONE,
    TrueErrors,
    unavailable,
)

T = TypeVar("T")

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
        self.parts: dict[str, Part] = {}
        self.apply = Apply(queries)

    async def part(
        self, query: str, connection: "asyncpg.Connection[asyncpg.Record]", *, timeout_s: float
    ) -> Part:
        """The statement as a part of a commit."""
        async with asyncio.timeout(timeout_s):
            part = await described(connection, self._queries[query])
        self.parts[query] = part
        return part


class Line:
    """A connection and its commits. `name` is its own among all servers' lines."""

    def __init__(self, name: str, url: str, texts: Texts, joined: Joined) -> None:
        self._name = name
        self._url = url
        self._texts = texts
        self._joined = joined
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._number = 0
        self._used_at = 0.0  # Monotonic, as the next.
        self._give_up_at = 0.0  # When the present caller has had its time.

    async def fetch(
        self, query: str, args: Mapping[str, object], *, once: bool = False
    ) -> list[Row]:
        """The rows of a statement that may be performed twice: it is when its connection breaks,
        unless it is to be asked for `once`. Then it may have been performed."""
        self._give_up_at = monotonic() + limits.OUTCOME_S
        try:
            return await self._fetch(query, args, once=once)
        except FAILURES as error:
            raise unavailable(error) from error

    async def _fetch(
        self, query: str, args: Mapping[str, object], *, once: bool = False
    ) -> list[Row]:
        text = self._texts.alone[query]
        values = text.values(args)
        attempts = 0
        while True:
            was_fresh = self._connection is None or self._connection.is_closed()
            attempts += 1
            try:
                connection = await self._connected()
                found = await self._heard(
                    connection.fetch(text.sql, *values, timeout=self._time_left())
                )
                return [tuple(row) for row in found]
            except AGAIN as error:
                await self._pause(attempts, error)
            except TROUBLES as error:
                if was_fresh or once or isinstance(error, UNDONE):
                    raise

    async def commit(
        self, statements: Sequence[Statement], ring: Ring | None = None
    ) -> list[list[Row]]:
        """All statements or none, once; then the ring. Raises Conflict and Unavailable."""
        self._give_up_at = monotonic() + limits.OUTCOME_S
        try:
            return await self._commit(statements, ring)
        except exceptions.UniqueViolationError as error:
            raise Conflict(_UNIQUE.get(error.constraint_name or "", "exists")) from error
        except FAILURES as error:
            raise unavailable(error) from error
        except exceptions.PostgresError as error:
            if error.sqlstate != _REFUSED:
                raise
            raise Conflict(statements[int(error.detail or 0) - 1].query) from error

    async def _commit(self, statements: Sequence[Statement], ring: Ring | None) -> list[list[Row]]:
        connection = await self._connected()
        parts = [(await self._part(one.query, connection), one) for one in statements]
        batch = batch_of(parts, self._texts.apply.numbers)
        self._number += 1
        found = await self._applied(batch, ring)
        if found is not None:
            return [rows_of(one) for one in found]
        return [await self._once_more(part, statement) for part, statement in parts]

    async def _part(self, query: str, connection: "asyncpg.Connection[asyncpg.Record]") -> Part:
        known = self._texts.parts.get(query)
        if known is not None:
            return known
        return await self._heard(self._texts.part(query, connection, timeout_s=self._time_left()))

    async def _applied(self, batch: Batch, ring: Ring | None) -> list[str | None] | None:
        """What `apply` found; None: an attempt of which nothing was heard had applied it. What
        became of such an attempt is looked for while there is time."""
        apply = self._texts.apply
        text = apply.call if ring is None else apply.call_and_ring
        rings = () if ring is None else (ring.channel, ring.message)
        attempts = 0
        is_open = False  # Whether an attempt may have been applied.
        while True:
            was_open = is_open
            attempts += 1
            try:
                connection = await self._connected()
                is_open = True
                args = (self._name, self._number, *batch.args(), *rings)
                found: list[str | None] | None = await self._heard(
                    connection.fetchval(text, *args, timeout=self._time_left())
                )
                assert found is not None or was_open, "no other line has this one's name"
                return found
            except AGAIN as error:
                is_open = was_open or self._may_be_over(error, ring)
                await self._pause(attempts, error)
            except TROUBLES as error:
                is_undone = isinstance(error, UNDONE) and not self._may_be_over(error, ring)
                if not is_open or (is_undone and not was_open):
                    raise
                # Most breaks are over when they are noticed.
                await self._pause(attempts - 1, error)

    def _may_be_over(self, error: exceptions.PostgresError, ring: Ring | None) -> bool:
        """Whether the commit may have been applied, and its ring been what failed."""
        return ring is not None and not self._texts.apply.was_at_work(error)

    async def _pause(self, attempts: int, error: Exception) -> None:
        """Wait after so many attempts, longer each time: of those who lock each other out some have
        to be away for others to go. Raises the last one's error when there is no time."""
        pause_s = min(limits.DATABASE_RETRY_S * (2**attempts - 1), limits.DATABASE_RETRY_MOST_S)
        if monotonic() + pause_s >= self._give_up_at:
            raise error
        await asyncio.sleep(pause_s)

    async def _once_more(self, part: Part, statement: Statement) -> list[Row]:
        """The rows of a statement whose answer was lost."""
        if not part.gives_rows or (statement.rows is not None and not part.text.is_reading):
            return []
        if not part.text.is_reading:
            raise Unavailable("The answer of a commit was lost; it was applied.")
        return await self._fetch(statement.query, args_of(statement))

    async def clock(self) -> tuple[float, float, float]:
        """When it was asked and when it was heard, by the monotonic clock, and what the server's
        clock told."""
        self._give_up_at = monotonic() + limits.OUTCOME_S
        try:
            connection = await self._connected()
            asked_at = monotonic()  # Not the loop's, which stands still while it is busy.
            told: float = await self._heard(connection.fetchval(_CLOCK))
        except FAILURES as error:
            raise unavailable(error) from error
        return asked_at, monotonic(), told

    async def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed():
            return
        try:
            with TrueErrors():
                await connection.close(timeout=limits.CONNECT_S)
        except TROUBLES:
            connection.terminate()

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The connection, or a new one. What was idle for long may be forgotten on the way, where
        nobody would tell us."""
        now = monotonic()
        if self._connection is not None and now > self._used_at + limits.LINE_IDLE_S:
            self._connection.terminate()
        self._used_at = now
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            wait_s = min(limits.CONNECT_S, self._time_left())
            connection = await connect(self._url, wait_s, limits.STATEMENT_S)
            try:
                with TrueErrors():
                    async with asyncio.timeout(self._time_left()):
                        await self._joined(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def _time_left(self) -> float:
        """Seconds for the next question."""
        left_s = self._give_up_at - monotonic()
        if left_s <= 0:
            raise TimeoutError
        return min(limits.STATEMENT_S, left_s)

    async def _heard(self, asked: Awaitable[T]) -> T:
        """The answer. A connection that met a trouble, or whose answer nobody waited for, says
        nothing more: what it has in its pipe may belong to the question before."""
        try:
            with TrueErrors():
                return await asked
        except exceptions.InsufficientResourcesError:
            raise  # There is nothing wrong with the connection.
        except (*TROUBLES, asyncio.CancelledError):
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            raise


_CLOCK = "select extract(epoch from clock_timestamp())::double precision"
