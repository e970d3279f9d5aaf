"""Whole tables of a PostgreSQL schema, with the lock of who copies to it.

Rows come in with COPY and are read along the primary key. One connection does everything: what a
killed copier had sent is over when its lock is free.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import asyncpg
from asyncpg import exceptions

from understudy import limits
from understudy.store import AlreadyRunning, Row, Unavailable
from understudy.store.postgres_connect import check, connect
from understudy.store.postgres_migrations import migrate
from understudy.store.postgres_text import storable, text_of
from understudy.store.postgres_troubles import FAILURES, unavailable
from understudy.store.statements import load_queries
from understudy.store.tables import OWN, TABLES, Copying, Kind, NoRecord, Progress, Side, Table

_COPYING = 0x756E6466  # The advisory lock of who copies, within a schema.
_LOCK_LOOK_S = 0.1

_KINDS: dict[str, Kind] = {
    "text": "text",
    "bytea": "bytes",
    "integer": "integer",
    "bigint": "integer",
    "double precision": "number",
    "boolean": "boolean",
}
_ARRAYS: dict[Kind, str] = {"text": "text[]", "integer": "bigint[]"}


async def open_tables(url: str, side: Side) -> "PostgresTables":
    """The record at `postgresql://...`; a source has to be there."""
    check(url)
    with _translated():
        connection = await connect(url, limits.CONNECT_S, limits.COPY_STATEMENT_S)
    try:
        tables = PostgresTables(connection)
        await tables.open(url, side)
    except BaseException:
        connection.terminate()
        raise
    return tables


class PostgresTables:
    """A schema of a PostgreSQL database. One call at a time."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._texts = {name: text_of(sql) for name, sql in load_queries("postgres").items()}

    async def open(self, url: str, side: Side) -> None:
        """See what is there, and take the lock."""
        with _translated():
            await self._connection.execute(_BY_INDEX)
        if side == "source" and not await self._named("any_record"):
            raise NoRecord("This schema of the PostgreSQL database holds no record of Understudy.")
        await migrate(url, compares=False)
        await self._lock()

    async def _lock(self) -> None:
        """It ends with the connection."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + limits.COPY_LOCK_S
        with _translated():
            while not await self._connection.fetchval(_LOCK, _COPYING):
                if loop.time() >= give_up_at:
                    raise AlreadyRunning(
                        "Another copy from or to this PostgreSQL schema is at work."
                    )
                await asyncio.sleep(_LOCK_LOOK_S)

    async def identity(self) -> str:
        """When it was made."""
        [(name, at)] = await self._named("first_migration")
        return f"{name} {at!r}"

    async def servers(self) -> list[str]:
        """Those that said within the last half minute that they are alive."""
        with _translated():
            now: float = await self._connection.fetchval(_NOW)
        seen = await self._named("nodes", since=now - limits.COPY_SEEN_S)
        return [
            f"{id} ({role}, seen {max(0, now - seen_at):.0f} s ago)"
            for id, role, _, _, seen_at, _ in seen
        ]

    async def columns(self) -> dict[str, dict[str, Kind]]:
        """Of all tables that are there."""
        found: dict[str, dict[str, Kind]] = {}
        for table, column, type in await self._named("columns"):
            if type in _KINDS or table not in OWN:
                found.setdefault(table, {})[column] = _KINDS[type]
        return found

    async def count(self, table: Table) -> int:
        """How many rows it has."""
        sql = f"select count(*) from {table.name}"  # noqa: S608 (declared names only)
        [(count,)] = await self._fetched(sql)
        return int(count)

    async def read(self, table: Table, after: Row | None, rows: int, size_bytes: int) -> list[Row]:
        """The next rows: as few of those that the innermost select would bring as have enough
        bytes, which is known without reading the large values themselves."""
        key, columns = ", ".join(table.key), ", ".join(table.columns)
        behind = ""
        if after is not None:
            marks = ", ".join(f"${place + 3}" for place in range(len(table.key)))
            behind = f"where ({key}) > ({marks})"
        large = (name for name, kind in table.kinds.items() if kind in ("text", "bytes"))
        size = " + ".join(f"coalesce(octet_length({name}), 0)" for name in large)
        so_far = f"sum({size}) over (order by {key} rows unbounded preceding)"
        sql = f"""
            select {columns} from (
              select {columns}, {so_far} - ({size}) as before
              from (select {columns} from {table.name} {behind} order by {key} limit $1) as next
            ) as counted
            where before < $2 order by {key}
        """  # noqa: S608 (declared names only)
        return await self._fetched(sql, rows, size_bytes, *(after or ()))

    def place(self, table: Table, row: Row) -> Row:
        """The place of a row in the order of `read`."""
        return tuple(row[place] for place in table.places(table.key))

    async def find(self, table: Table, keys: Sequence[Row]) -> list[Row]:
        """The rows that have these keys."""
        columns = ", ".join(f"found.{name}" for name in table.columns)
        key = ", ".join(table.key)
        arrays = ", ".join(
            f"${place}::{_ARRAYS[table.kinds[name]]}" for place, name in enumerate(table.key, 1)
        )
        sql = f"""
            select {columns} from unnest({arrays}) as wanted ({key})
            join {table.name} as found using ({key})
        """  # noqa: S608 (declared names only)
        return await self._fetched(sql, *(list(part) for part in zip(*keys, strict=True)))

    def storable(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """A text cannot hold a NUL."""
        places = table.text_places
        if not any("\0" in (row[place] or "") for place in places for row in rows):
            return rows
        return [tuple(map(storable, row)) for row in rows]

    async def last_number(self, table: Table) -> int:
        """A sequence has it."""
        [(last,)] = await self._named("last_number", table=table.name, column=table.counter)
        return last or 0

    async def copying(self) -> Copying | None:
        """The unfinished copy that it holds."""
        if not await self._named("unfinished_copy"):
            return None
        return Copying.of(await self._named("copying"))

    async def begin(self, source: str) -> None:
        """From now on it holds an unfinished copy."""
        with _translated():
            async with self._connection.transaction():
                await self._named("create_copying")
                for table in TABLES:
                    await self._named("begin_copying", name=table.name, source=source)

    async def write(self, table: Table, rows: Sequence[Row], progress: Progress) -> None:
        """Add rows and say how far the copy is with them."""
        with _translated():
            async with self._connection.transaction():
                if rows:
                    await self._connection.copy_records_to_table(
                        table.name, records=rows, columns=table.columns
                    )
                await self._named("keep_copying", **progress.args())

    async def settle(self, last_numbers: Mapping[str, int]) -> None:
        """Sequences go on behind these numbers, and the planner knows how much there is."""
        counters = {table.name: table.counter for table in TABLES}
        for name, last in last_numbers.items():
            if last:
                await self._named("number_on", table=name, column=counters[name], last=last)
        for table in TABLES:
            await self._fetched(f"analyze {table.name}")

    async def finish(self) -> None:
        """The copy is complete."""
        await self._named("drop_copying")

    async def close(self) -> None:
        """Hang up, and with it let go of the lock."""
        try:
            with _translated():
                await self._connection.close(timeout=limits.CONNECT_S)
        except Unavailable:
            self._connection.terminate()

    async def _named(self, query: str, **args: object) -> list[Row]:
        text = self._texts[query]
        return await self._fetched(text.sql, *text.values(args))

    async def _fetched(self, sql: str, *args: object) -> list[Row]:
        with _translated():
            return [tuple(row) for row in await self._connection.fetch(sql, *args)]


@contextmanager
def _translated() -> Iterator[None]:
    """The driver's exceptions as ours; a refusal of rows, too, is told in the server's words."""
    try:
        yield
    except (*FAILURES, exceptions.PostgresError, exceptions.InterfaceError) as error:
        raise unavailable(error) from error


_LOCK = "select pg_try_advisory_lock($1, hashtext(current_schema()))"
# A page's rows are looked up one by one: of a large table a join would read all, page after page.
_BY_INDEX = "set enable_hashjoin = off; set enable_mergejoin = off"
_NOW = "select extract(epoch from clock_timestamp())::double precision"
