"""Halves: vectors of a record that compares them by itself, at half precision (halves.sql).

They are made of the vectors of the record's parts, in the background, and so may be missing of any
document. What is asked here is asked of a Database that is Comparing, while it can.
"""

from collections.abc import Sequence

import msgspec

from understudy.store import Database
from understudy.store.records import NearRow

Place = tuple[int, int, int]  # Of a vector: document, part, and which of the part's it is.


class Halves:
    """What is there, what is missing, and what is like a query."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def whole(self, documents: Sequence[int]) -> set[int]:
        """Those of the documents all of whose vectors are there."""
        rows = await self._database.fetch("halved", {"documents": _json(documents)})
        return {row[0] for row in rows}

    async def nearest(self, documents: Sequence[int], query: bytes, *, most: int) -> list[NearRow]:
        """The vectors of such documents that are most like a query (little-endian halves), best
        first. All are looked at."""
        args = {"documents": _json(documents), "query": query, "most": most}
        return [NearRow(*row) for row in await self._database.fetch("nearest", args)]

    async def exact(self, places: Sequence[Place], *, size_bytes: int) -> dict[Place, bytes]:
        """The vectors as they were made (little-endian float32, so many bytes each), as far as they
        still exist."""
        args = {"places": _json(places), "size_bytes": size_bytes}
        rows = await self._database.fetch("vector_rows", args)
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    async def unfinished(self, store: int, *, after: int) -> int | None:
        """The first document behind a number that searches of a store may find, and that lacks
        vectors here."""
        rows = await self._database.fetch("unhalved", {"store": store, "after": after})
        return rows[0][0] if rows else None

    async def missing(self, document: int, *, limit: int) -> list[tuple[int, bytes, bytes]]:
        """(part, owners, vectors) of the first parts of a document that are not here."""
        args = {"document": document, "limit": limit}
        rows = await self._database.fetch("unhalved_parts", args)
        return [(row[0], row[1], row[2]) for row in rows]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
