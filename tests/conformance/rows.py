"""Rows for every table of a record, whatever columns it has, and whole records of them."""

from understudy.store import Row
from understudy.store.tables import TABLES, Kind, Progress, Table, Tables

BY_NAME = {table.name: table for table in TABLES}
# Columns that may be null; every third row has it so.
_NULLABLE = frozenset(
    {
        *("private", "revoked_at", "thread_id", "lease_owner", "next_call", "expires_at"),
        *("lease_until", "cancel_asked_at", "outcome", "ended_at", "run_id"),
        *("embedding_model", "dimensions", "owners", "vectors"),
    }
)
TEXT = "é中😀"
_JSON = frozenset({"body", "private", "attributes", "terms"})


def rows_of(table: Table, count: int, *, first: int = 1, text: str = TEXT) -> list[Row]:
    """So many rows, all of whose keys and unique values differ; `text` is in most texts."""
    return [
        tuple(
            None
            if column in _NULLABLE and column not in table.key and number % 3 == 0
            else _value(column, kind, number, text)
            for column, kind in table.kinds.items()
        )
        for number in range(first, first + count)
    ]


def _value(column: str, kind: Kind, number: int, text: str) -> object:
    match kind:
        case "text" if column in _JSON:
            return f'{{"id":"{column} {number}","text":"{text}"}}'
        case "text":
            return f"{column} {text} {number:04}"
        case "bytes":
            return f"{number} \0 \xff".encode("latin-1") * (number % 5)
        case "integer":
            return number
        case "number":
            return number + 0.1
        case "boolean":
            return number % 2 == 1


async def fill(tables: Tables, count: int = 7, text: str = TEXT) -> None:
    """A record of so many rows in each table; counters are at a thousand."""
    await tables.begin("a test")
    for table in TABLES:
        await tables.write(table, rows_of(table, count, text=text), Progress(table.name))
    await tables.settle({table.name: 1_000 for table in TABLES if table.counter})
    await tables.finish()


async def everything(tables: Tables) -> dict[str, list[Row]]:
    """All rows of a record, by the names of their tables, in an order that is the same for all."""
    found = {}
    for table in TABLES:
        rows = await tables.read(table, None, 1_000, 10**9)
        assert len(rows) < 1_000
        found[table.name] = sorted(rows, key=repr)
    return found
