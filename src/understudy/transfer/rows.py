"""Rows on their way: what becomes of them, how they are compared, and how they are read ahead."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import msgspec

from understudy import limits
from understudy.store import Row
from understudy.store.tables import Table, Tables

# The same bytes for the same values, whatever database they came from.
encode = msgspec.msgpack.Encoder().encode


def at_rest(table: Table, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows as they are when their server is dead: all its leases are over, by any clock. Whose
    they were stays, so that whoever takes the jobs up knows that they were begun."""
    if table.name != "jobs":
        return rows
    [at] = table.places(["lease_until"])
    return [row if row[at] is None else (*row[:at], 0.0, *row[at + 1 :]) for row in rows]


def keys_of(table: Table, rows: Sequence[Row]) -> list[Row]:
    """What tells each row from all others."""
    places = table.places(table.key)
    return [tuple([row[place] for place in places]) for row in rows]


def by_key(table: Table, rows: Sequence[Row]) -> Mapping[Row, Row]:
    """Key → row."""
    return dict(zip(keys_of(table, rows), rows, strict=True))


async def pages(side: Tables, table: Table, after: Row | None = None) -> AsyncGenerator[list[Row]]:
    """All rows behind a place, of bounded size at a time; the next ones are read meanwhile."""

    def read(after: Row | None) -> asyncio.Future[list[Row]]:
        return asyncio.ensure_future(side.read(table, after, limits.COPY_ROWS, limits.COPY_BYTES))

    ahead = read(after)
    try:
        while rows := await ahead:
            ahead = read(side.place(table, rows[-1]))
            yield rows
    finally:  # To its end: a record is asked one thing at a time.
        await asyncio.gather(ahead, return_exceptions=True)
