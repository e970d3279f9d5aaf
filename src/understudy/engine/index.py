"""Index: what searches keep in memory of vector stores, always as of the record's own version.

A search first reads its stores' rows, which is one small query. As long as a store's version is the
one that is known, its list of documents and its vectors are taken from memory; when it has grown,
the list is read again and the vectors of new documents are added. So a search after an acknowledged
change always sees it, in whatever process it was made.

Vectors lie in a few blocks per store, each sorted by chunk, so that a search is as many matrix
products. What is new is a block that is made one with others of like size, so that a file which
comes to a large store costs no copy of it. All blocks together stay below a bound of bytes, those
used longest ago go first. A store that alone is above it is read from the record block by block,
for each search anew, as far as the search's filter keeps it; where the record compares vectors by
itself, only those that may be among the best are read (halves.py).
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

import msgspec

from understudy import limits
from understudy.search import Numbers, Vectors
from understudy.store.records import IndexRow, ReadyDocument
from understudy.store.store import Store
from understudy.wire.vector_stores import Attribute

if TYPE_CHECKING:
    from understudy.engine.blocks import Held
    from understudy.search.rank import Block


class Documents:
    """The documents of a store that may be found, and what searches must know of them."""

    def __init__(self, rows: Sequence[ReadyDocument]) -> None:
        self.rows = rows

    @cached_property
    def numbers(self) -> Numbers:
        """The documents' numbers, sorted."""
        import numpy as np  # Loaded late, as blocks.py is: the first search needs both.

        return np.array([one.number for one in self.rows], np.int64)

    @cached_property
    def attributes(self) -> list[dict[str, Attribute]]:
        """Of each document the attributes."""
        decode = msgspec.json.Decoder(dict[str, Attribute]).decode
        return [decode(one.attributes) if one.attributes != "{}" else {} for one in self.rows]

    @cached_property
    def by_number(self) -> dict[int, ReadyDocument]:
        """Number → document."""
        return {one.number: one for one in self.rows}


@dataclass(frozen=True)
class View:
    """A store as a search sees it: its row, and the documents that may be found."""

    row: IndexRow
    documents: Documents


class Index:
    """The views and vectors of the stores that were searched lately."""

    def __init__(self, store: Store, *, size_bytes: int = limits.VECTOR_CACHE_BYTES) -> None:
        self._store = store
        self._bound = size_bytes
        self._views: OrderedDict[int, View] = OrderedDict()
        self._held: OrderedDict[int, Held] = OrderedDict()
        self._lacking: dict[int, IndexRow] = {}
        self._told: OrderedDict[int, float] = OrderedDict()  # When a store's lack was told last.

    async def views(self, project: str, store_ids: Sequence[str]) -> list[View]:
        """These stores as they are now, as far as they exist."""
        rows = await self._store.indexes(project, store_ids)
        return [await self._view(row) for row in rows]

    async def _view(self, row: IndexRow) -> View:
        known = self._views.get(row.number)
        if known is None or known.row.version != row.version:
            known = View(row, Documents(await self._store.ready_documents(row.number)))
        elif known.row != row:
            known = View(row, known.documents)
        self._views[row.number] = known
        self._views.move_to_end(row.number)
        while len(self._views) > limits.VIEWS_CACHED:
            number, _ = self._views.popitem(last=False)
            self._held.pop(number, None)
        return known

    def forget(self, store_id: str) -> None:
        """The store is gone; what is held of stores that went elsewhere makes room in time."""
        for number in [n for n, view in self._views.items() if view.row.id == store_id]:
            del self._views[number]
            self._held.pop(number, None)

    async def vectors(
        self,
        view: View,
        allowed: "Numbers | None" = None,
        queries: "Vectors | None" = None,
    ) -> "AsyncIterator[Block]":
        """The vectors of exactly a view's documents, with the keys of their chunks: from memory,
        or from the record when the store is too large to keep. Then none but those of the allowed
        ones and, if queries are given, maybe none but those which are in question for these. No
        chunk is in two blocks."""
        if not view.row.dimensions:
            return
        if view.row.size_bytes > self._bound:  # Of vectors and texts.
            numbers = None if allowed is None else set(allowed.tolist())
            wanted = [
                one for one in view.documents.rows if numbers is None or one.number in numbers
            ]
            async for block in self._unkept(view.row, wanted, queries):
                yield block
            return
        for block in await self._hold(view, view.row.dimensions):
            yield block

    async def _unkept(
        self, row: IndexRow, documents: Sequence[ReadyDocument], queries: "Vectors | None"
    ) -> "AsyncIterator[Block]":
        """The vectors of documents of a large store, as far as they are in question."""
        assert row.dimensions is not None, "a store has vectors, or none of its documents has"
        if queries is not None:
            near, documents = await self._near(row, documents, queries)
            if near is not None:
                yield near
        async for block in self._read(documents, row.dimensions):
            yield block

    async def _near(
        self, row: IndexRow, documents: Sequence[ReadyDocument], queries: "Vectors"
    ) -> "tuple[Block | None, Sequence[ReadyDocument]]":
        """What is in question of the documents which the record can compare; and the other ones."""
        halves = self._store.halves
        is_worth_it = (
            sum(one.parts for one in documents) > limits.NEAR_LEAST_PARTS
            and len(queries) <= limits.NEAR_QUERIES
        )
        if halves is None or not is_worth_it:
            return None, documents
        from understudy.engine.halves import near

        whole = await halves.whole([one.number for one in documents])
        if len(whole) < len(documents) and self.wants_halves(row):
            self._lacking[row.number] = row
        here = [one for one in documents if one.number in whole]
        block = await near(halves, here, queries) if here else None
        if block is None:
            return None, documents
        return block, [one for one in documents if one.number not in whole]

    def wants_halves(self, row: IndexRow) -> bool:
        """Whether the record should be able to compare the vectors of this store, and might: it is
        too large to keep in memory, or may soon be."""
        is_fit = 0 < (row.dimensions or 0) <= limits.HALVES_DIMENSIONS
        return is_fit and row.size_bytes > self._bound // 2 and self._store.halves is not None

    def lacking(self, now: float) -> list[IndexRow]:
        """The stores of which searches found something that the record could not compare, without
        those that this told a moment ago."""
        rows = [
            row
            for number, row in self._lacking.items()
            if now >= self._told.get(number, -inf) + limits.HALVES_ASKED_S
        ]
        self._lacking.clear()
        for row in rows:
            self._told[row.number] = now
            self._told.move_to_end(row.number)
        while len(self._told) > limits.VIEWS_CACHED:
            self._told.popitem(last=False)
        return rows

    async def _hold(self, view: View, dimensions: int) -> "Sequence[Block]":
        """The store's vectors in memory, as of this view."""
        from understudy.engine.blocks import Held

        number = view.row.number
        held = self._held.get(number, Held(Documents([])))
        if held.documents is not view.documents:
            known = held.documents.by_number
            new = [one for one in view.documents.rows if one.number not in known]
            blocks = [block async for block in self._read(new, dimensions)]
            # Not changed but replaced: another search may be reading the one that is held.
            held = held.moved(view.documents, blocks)
        self._held[number] = held
        self._held.move_to_end(number)
        while self._is_full():
            self._held.popitem(last=False)
        return held.blocks

    def _is_full(self) -> bool:
        """Whether the vectors are too many, or those of too many stores."""
        size_bytes = sum(one.size_bytes for one in self._held.values())
        return size_bytes > self._bound or len(self._held) > limits.VIEWS_CACHED

    async def _read(
        self, documents: Sequence[ReadyDocument], dimensions: int
    ) -> "AsyncIterator[Block]":
        """The vectors of documents, a block's worth at a time."""
        from understudy.engine.blocks import as_block

        rows: list[tuple[int, bytes, bytes]] = []
        size_bytes = 0
        for some in batches(documents, limits.VECTOR_READ_PARTS):
            more = await self._store.vectors([one.number for one in some])
            rows += more
            size_bytes += sum(len(row[2]) for row in more)
            if size_bytes >= limits.VECTOR_BLOCK_BYTES:
                yield as_block(rows, dimensions)
                rows, size_bytes = [], 0
        if rows:
            yield as_block(rows, dimensions)


def batches(
    documents: Sequence[ReadyDocument], most_parts: int
) -> Iterator[Sequence[ReadyDocument]]:
    """Documents in turn, a batch as soon as it has so many parts."""
    batch: list[ReadyDocument] = []
    parts = 0
    for document in documents:
        batch.append(document)
        parts += document.parts
        if parts >= most_parts:
            yield batch
            batch, parts = [], 0
    if batch:
        yield batch
