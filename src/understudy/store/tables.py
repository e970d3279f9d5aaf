"""Whole tables of a record, as they are read and written by whoever moves it to another database.

Store (store.py) knows objects and jobs, and writes commit by commit what a server has promised. A
move knows only tables: it takes rows as they are from a record that no server is on, and writes
them to one that nobody uses before all are there. Each batch is one transaction with the place up
to which it goes (`Progress`), so that a move that died goes on exactly there. While it lasts the
target has a table `copying`, with which no server opens it (UnfinishedCopy).

TABLES declares what a record is made of; a test compares it with the real schemas. Statements for
a table are made of these declared names, and of nothing else.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from understudy.store import Row

Kind: TypeAlias = Literal["text", "bytes", "integer", "number", "boolean"]
Side: TypeAlias = Literal["source", "target"]

# Tables that are a database's own, and are not taken along: its migrations, the servers that are on
# it and their sessions of code, the last commits on their connections, how far a copy to it is, and
# what it made of vectors to compare them by itself.
OWN = frozenset({"commits", "copying", "halved", "halves", "migrations", "nodes", "pins"})

SCHEMES: dict[str, str] = {
    "sqlite": "understudy.store.sqlite_tables",
    "postgresql": "understudy.store.postgres_tables",
    "postgres": "understudy.store.postgres_tables",
}


class NoRecord(Exception):
    """There is no record that could be copied; the text says what there is instead."""


class Table(msgspec.Struct, frozen=True):
    """A table, its columns, and the ones that tell a row from all others. `counter` is a column
    that the database numbers itself, never using a number twice."""

    name: str
    kinds: Mapping[str, Kind]
    key: tuple[str, ...]
    counter: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """In the order in which rows have them."""
        return tuple(self.kinds)

    def places(self, columns: Sequence[str]) -> tuple[int, ...]:
        """Where these columns are in a row."""
        return tuple(map(self.columns.index, columns))

    @property
    def text_places(self) -> tuple[int, ...]:
        """Where its texts are in a row."""
        return tuple(place for place, kind in enumerate(self.kinds.values()) if kind == "text")


def _table(
    name: str,
    key: str,
    counter: str | None = None,
    *,
    text: str = "",
    bytes: str = "",
    integer: str = "",
    number: str = "",
    boolean: str = "",
) -> Table:
    of_kind: dict[Kind, str] = {
        "text": text,
        "bytes": bytes,
        "integer": integer,
        "number": number,
        "boolean": boolean,
    }
    kinds = {column: kind for kind, columns in of_kind.items() for column in columns.split()}
    return Table(name, kinds, tuple(key.split()), counter)


TABLES = (
    _table("keys", "id", text="id project hash prefix name", number="created_at revoked_at"),
    _table(
        "objects",
        "id",
        "seq",
        text="id kind project parent body private",
        integer="seq version children",
        number="created_at",
    ),
    _table("tombstones", "id", text="id kind project parent", integer="seq", number="created_at"),
    _table(
        "jobs",
        "id",
        text="id kind project thread_id lease_owner next_call",
        integer="fence reclaims",
        number="due_at expires_at lease_until cancel_asked_at",
        boolean="was_leased",
    ),
    _table(
        "events",
        "run_id fence seq_from",
        text="run_id kind",
        bytes="frames",
        integer="fence seq_from seq_to",
        number="created_at",
    ),
    _table(
        "journal",
        "run_id key attempt",
        text="run_id key outcome",
        integer="attempt fence",
        number="started_at ended_at",
    ),
    _table(
        "idempotency",
        "project key",
        text="project key hash answer run_id",
        number="created_at",
    ),
    _table(
        "stores",
        "number",
        "number",
        text="id project embedding_model",
        integer="number version chunks words size_bytes dimensions",
        number="last_active_at trust",
    ),
    _table(
        "documents",
        "number",
        "number",
        text="file_id project state attributes filename",
        integer="number store attempts parts chunks words size_bytes",
        number="trust",
    ),
    _table("chunks", "document ordinal", text="text", integer="document ordinal start stop"),
    _table("parts", "document part", text="terms", bytes="owners vectors", integer="document part"),
    _table(
        "postings",
        "store term document part",
        text="term",
        bytes="data",
        integer="store document part",
    ),
)


class Progress(msgspec.Struct, frozen=True):
    """How far the copy of a table is: `place` is that of the last row in the order in which its
    source reads, `replaced` counts the texts that the target cannot hold as they were."""

    table: str
    place: Row | None = None
    rows: int = 0
    size_bytes: int = 0
    replaced: int = 0
    is_done: bool = False

    def args(self) -> dict[str, object]:
        """Of the statement that keeps it."""
        place = self.place
        return {
            "name": self.table,
            "place": None if place is None else msgspec.json.encode(place).decode(),
            "copied_rows": self.rows,
            "size_bytes": self.size_bytes,
            "replaced": self.replaced,
            "is_done": self.is_done,
        }


class Copying(msgspec.Struct, frozen=True):
    """A copy that is not finished: of which record, and how far each table is."""

    source: str
    progress: Mapping[str, Progress]

    @staticmethod
    def of(rows: Sequence[Row]) -> "Copying":
        """From the rows that say so."""
        progress = {}
        for _, name, place, copied, size_bytes, replaced, is_done in rows:
            at = None if place is None else tuple(msgspec.json.decode(place, type=list[Any]))
            progress[name] = Progress(name, at, copied, size_bytes, replaced, bool(is_done))
        return Copying(rows[0][0], progress)


class Tables(Protocol):
    """A record for one who copies, or is copied to. All of it may raise Unavailable, also for rows
    that the database refuses."""

    async def identity(self) -> str:
        """What no other record has; copying does not take it along."""
        ...

    async def servers(self) -> list[str]:
        """The servers that were on it a moment ago, in words; none where a lock keeps them out."""
        ...

    async def columns(self) -> Mapping[str, Mapping[str, Kind]]:
        """Of all tables that are there."""
        ...

    async def count(self, table: Table) -> int:
        """How many rows it has."""
        ...

    async def read(self, table: Table, after: Row | None, rows: int, size_bytes: int) -> list[Row]:
        """The rows behind a place: so many at most, and none behind the one with which they have
        so many bytes. None at the end."""
        ...

    def place(self, table: Table, row: Row) -> Row:
        """The place of a row in the order of `read`."""
        ...

    async def find(self, table: Table, keys: Sequence[Row]) -> list[Row]:
        """The rows that have these keys."""
        ...

    def storable(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows as this database can hold them."""
        ...

    async def last_number(self, table: Table) -> int:
        """The highest number that the table's counter has given, also to what is gone."""
        ...

    async def copying(self) -> Copying | None:
        """The unfinished copy that it holds."""
        ...

    async def begin(self, source: str) -> None:
        """From now on it holds an unfinished copy."""
        ...

    async def write(self, table: Table, rows: Sequence[Row], progress: Progress) -> None:
        """Add rows and say how far the copy is with them: both or neither, and durably."""
        ...

    async def settle(self, last_numbers: Mapping[str, int]) -> None:
        """All rows are there. Counters go on behind these numbers, and what the database must know
        of many rows to be quick, it learns. May be done again."""
        ...

    async def finish(self) -> None:
        """The copy is complete: servers may come."""
        ...

    async def close(self) -> None:
        """Let go of the record."""
        ...


async def open_tables(url: str, side: Side) -> Tables:
    """The record at this URL, alone and at this version's schema. A target is made if there is
    none. Raises NoRecord, AlreadyRunning, and ValueError when the URL is none."""
    scheme = url.partition(":")[0]
    if scheme not in SCHEMES:
        raise ValueError(f"No database for {scheme}:// URLs; known: {', '.join(SCHEMES)}")
    module = importlib.import_module(SCHEMES[scheme])
    tables: Tables = await module.open_tables(url, side)
    return tables


def unknown_columns(found: Mapping[str, Mapping[str, Kind]]) -> list[str]:
    """Tables and columns which are there and that this version does not know."""
    known = {table.name: table.kinds for table in TABLES}
    return sorted(
        f"{name}.{column}"
        for name, columns in found.items()
        if name not in OWN
        for column in columns
        if column not in known.get(name, ())
    )
