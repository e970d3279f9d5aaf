"""Whole tables of a SQLite file, which is held as a server holds it.

Rows are read along the key, or along the numbers that SQLite itself has given: that is the order in
which they lie in the file.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import apsw

from understudy import limits
from understudy.store import Row
from understudy.store.sqlite import hold, migrate
from understudy.store.sqlite_writer import connect, rows_of, unavailable
from understudy.store.statements import load_queries
from understudy.store.tables import TABLES, Copying, Kind, NoRecord, Progress, Side, Table

_KINDS: dict[str, Kind] = {
    "text": "text",
    "blob": "bytes",
    "integer": "integer",
    "bigint": "integer",
    "double precision": "number",
    "boolean": "boolean",
}


async def open_tables(url: str, side: Side) -> "SqliteTables":
    """The record at `sqlite:///path`; a source has to be there."""
    path = url.removeprefix("sqlite://").removeprefix("/")
    if path in ("", ":memory:"):
        raise ValueError("a database in memory ends with its process: there is nothing to copy")
    return await asyncio.to_thread(_open, Path(path), side)


def _open(file: Path, side: Side) -> "SqliteTables":
    if side == "source" and not file.exists():
        raise NoRecord(f"There is no database {file}.")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = hold(file, beside=False)
    assert lock is not None, "only one beside a server goes without the lock"
    try:
        with _translated():
            return SqliteTables(lock, _connected(file, side))
    except BaseException:
        lock.close()
        raise


def _connected(file: Path, side: Side) -> apsw.Connection:
    connection = connect(str(file))
    if side == "target":
        connection.pragma("cache_size", -limits.COPY_CACHE_KIB)
    elif not rows_of(connection, load_queries("sqlite")["any_record"], {}):
        raise NoRecord(f"{file} is no database of Understudy.")
    migrate(connection)
    return connection


class SqliteTables:
    """A SQLite file, and nobody else on it. One call at a time."""

    def __init__(self, lock: IO[str], connection: apsw.Connection) -> None:
        self._lock = lock
        self._connection = connection
        self._queries = load_queries("sqlite")

    async def identity(self) -> str:
        """When it was made."""
        [(name, at)] = await self._named("first_migration")
        return f"{name} {at!r}"

    async def servers(self) -> list[str]:
        """None: the lock keeps them out."""
        return []

    async def columns(self) -> dict[str, dict[str, Kind]]:
        """Of all tables that are there."""
        found: dict[str, dict[str, Kind]] = {}
        for table, column, type in await self._named("columns"):
            found.setdefault(table, {})[column] = _KINDS[type.lower()]
        return found

    async def count(self, table: Table) -> int:
        """How many rows it has."""
        sql = f"select count(*) from {table.name}"  # noqa: S608 (declared names only)
        [(count,)] = await self._asked(sql, {})
        return int(count)

    async def read(self, table: Table, after: Row | None, rows: int, size_bytes: int) -> list[Row]:
        """The next rows."""
        return await asyncio.to_thread(self._read, table, after, rows, size_bytes)

    def _read(self, table: Table, after: Row | None, rows: int, size_bytes: int) -> list[Row]:
        columns, order = ", ".join(table.columns), ", ".join(_order(table))
        marks = ", ".join("?" * len(_order(table)))
        behind = "" if after is None else f"where ({order}) > ({marks})"
        sql = f"select {columns} from {table.name} {behind} order by {order} limit ?"  # noqa: S608 (declared names only)
        found: list[Row] = []
        with _translated():
            for row in self._connection.execute(sql, (*(after or ()), rows)):
                found.append(row)
                # Characters and bytes are alike here: a bound does not have to be exact.
                size_bytes -= sum(len(value) for value in row if isinstance(value, str | bytes))
                if size_bytes <= 0:
                    break
        return _with_booleans(table, found)

    def place(self, table: Table, row: Row) -> Row:
        """The place of a row in the order of `read`."""
        return tuple(row[place] for place in table.places(_order(table)))

    async def find(self, table: Table, keys: Sequence[Row]) -> list[Row]:
        """The rows that have these keys."""
        return await asyncio.to_thread(self._find, table, keys)

    def _find(self, table: Table, keys: Sequence[Row]) -> list[Row]:
        wanted = " and ".join(f"{column} = ?" for column in table.key)
        sql = f"select {', '.join(table.columns)} from {table.name} where {wanted}"  # noqa: S608 (declared names only)
        with _translated():
            found = list(cast("Iterator[Row]", self._connection.executemany(sql, keys)))
        return _with_booleans(table, found)

    def storable(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """As they are."""
        del table
        return rows

    async def last_number(self, table: Table) -> int:
        """SQLite keeps it beside the table."""
        found = await self._named("last_number", table=table.name)
        return int(found[0][0]) if found else 0

    async def copying(self) -> Copying | None:
        """The unfinished copy that it holds."""
        if not await self._named("unfinished_copy"):
            return None
        return Copying.of(await self._named("copying"))

    async def begin(self, source: str) -> None:
        """From now on it holds an unfinished copy."""
        await asyncio.to_thread(self._begin, source)

    def _begin(self, source: str) -> None:
        with _translated(), self._connection:
            self._connection.execute(self._queries["create_copying"])
            for table in TABLES:
                named = {"name": table.name, "source": source}
                self._connection.execute(self._queries["begin_copying"], named)

    async def write(self, table: Table, rows: Sequence[Row], progress: Progress) -> None:
        """Add rows and say how far the copy is with them."""
        await asyncio.to_thread(self._write, table, rows, progress)

    def _write(self, table: Table, rows: Sequence[Row], progress: Progress) -> None:
        columns, marks = ", ".join(table.columns), ", ".join("?" * len(table.columns))
        sql = f"insert into {table.name} ({columns}) values ({marks})"  # noqa: S608 (declared names only)
        with _translated(), self._connection:
            self._connection.executemany(sql, rows)
            self._connection.execute(self._queries["keep_copying"], progress.args())

    async def settle(self, last_numbers: Mapping[str, int]) -> None:
        """Counters go on behind these numbers."""
        for name, last in last_numbers.items():
            await self._named("number_on", table=name, last=last)

    async def finish(self) -> None:
        """The copy is complete."""
        await self._named("drop_copying")

    async def close(self) -> None:
        """Let go of the file; what is in its log is folded in."""
        await asyncio.to_thread(self._connection.close)
        self._lock.close()

    async def _named(self, query: str, **args: object) -> list[Row]:
        """The rows of a named statement, which is a transaction of its own."""
        return await self._asked(self._queries[query], args)

    async def _asked(self, sql: str, args: Mapping[str, object]) -> list[Row]:
        return await asyncio.to_thread(self._ask, sql, args)

    def _ask(self, sql: str, args: Mapping[str, object]) -> list[Row]:
        with _translated():
            return rows_of(self._connection, sql, args)


def _order(table: Table) -> tuple[str, ...]:
    return (table.counter,) if table.counter else table.key


def _with_booleans(table: Table, rows: list[Row]) -> list[Row]:
    """SQLite has numbers for them."""
    places = {place for place, kind in enumerate(table.kinds.values()) if kind == "boolean"}
    if not places:
        return rows
    return [
        tuple(bool(value) if place in places else value for place, value in enumerate(row))
        for row in rows
    ]


@contextmanager
def _translated() -> Iterator[None]:
    """The library's exceptions as ours."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:  # The latter for a text that is damaged.
        raise unavailable(error) from error
