"""Index: what searches keep in memory of vector stores, always as of the record's own version.

A search first reads its stores' rows, which is one small query. As long as a store's version is the
one that is known, its list of documents and its vectors are taken from memory; when it has grown,
the list is read again and the vectors of new documents are added. So a search after an acknowledged
change always sees it, in whatever process it was made.

Vectors lie in one array per store, sorted by chunk, so that a search is one matrix product. All
arrays together stay below a bound of bytes, those used longest ago go first; a store that alone is
above it is read from the record block by block, for each search anew.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from understudy import limits
from understudy.search.rank import ORDINAL_BITS
from understudy.store.records import IndexRow, ReadyDocument
from understudy.store.store import Store
from understudy.wire.vector_stores import Attribute

Numbers = NDArray[np.int64]
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """A store as a search sees it: its row, and the documents that may be found."""

    row: IndexRow
    documents: Sequence[ReadyDocument]

    @cached_property
    def numbers(self) -> Numbers:
        """The documents' numbers, sorted."""
        return np.array([one.number for one in self.documents], np.int64)

    @cached_property
    def attributes(self) -> list[dict[str, Attribute]]:
        """Of each document the attributes."""
        decode = msgspec.json.Decoder(dict[str, Attribute]).decode
        return [decode(one.attributes) if one.attributes != "{}" else {} for one in self.documents]

    @cached_property
    def by_number(self) -> dict[int, ReadyDocument]:
        """Number → document."""
        return {one.number: one for one in self.documents}


@dataclass
class _Held:
    """The vectors of a store in memory, sorted by the keys of their chunks."""

    matrix: Matrix
    keys: Numbers
    version: int = -1
    loaded: set[int] = field(default_factory=set)

    @property
    def size_bytes(self) -> int:
        return self.matrix.nbytes + self.keys.nbytes

    def add(self, blocks: Sequence[tuple[Matrix, Numbers]], alive: Numbers) -> None:
        """Take vectors in, and let go of those of documents that are no more."""
        documents = self.keys >> ORDINAL_BITS
        kept = np.isin(documents, alive, assume_unique=False)
        if not kept.all():
            self.matrix, self.keys = self.matrix[kept], self.keys[kept]
        if blocks:
            self.matrix = np.concatenate([self.matrix, *(block[0] for block in blocks)])
            self.keys = np.concatenate([self.keys, *(block[1] for block in blocks)])
        if len(self.keys) > 1 and (np.diff(self.keys) < 0).any():
            order = np.argsort(self.keys, kind="stable")
            self.matrix, self.keys = self.matrix[order], self.keys[order]
        self.loaded = set(alive.tolist())


class Index:
    """The views and vectors of the stores that were searched lately."""

    def __init__(self, store: Store, *, size_bytes: int = limits.VECTOR_CACHE_BYTES) -> None:
        self._store = store
        self._bound = size_bytes
        self._views: OrderedDict[int, View] = OrderedDict()
        self._held: OrderedDict[int, _Held] = OrderedDict()

    async def views(self, project: str, store_ids: Sequence[str]) -> list[View]:
        """These stores as they are now, as far as they exist."""
        rows = await self._store.indexes(project, store_ids)
        return [await self._view(row) for row in rows]

    async def _view(self, row: IndexRow) -> View:
        known = self._views.get(row.number)
        if known is None or known.row.version != row.version:
            known = View(row, await self._store.ready_documents(row.number))
        elif known.row != row:
            known = View(row, known.documents)
        self._views[row.number] = known
        self._views.move_to_end(row.number)
        while len(self._views) > limits.VIEWS_CACHED:
            self._views.popitem(last=False)
        return known

    async def vectors(self, view: View) -> AsyncIterator[tuple[Matrix, Numbers]]:
        """The vectors of exactly a view's documents, with the keys of their chunks: one block from
        memory, or several from the record when the store is too large to keep."""
        if not view.row.dimensions:
            return
        if view.row.chunks * view.row.dimensions * 4 > self._bound:
            async for block in self._read(view.documents, view.row.dimensions):
                yield block
            return
        held = await self._hold(view, view.row.dimensions)
        yield held.matrix, held.keys

    async def _hold(self, view: View, dimensions: int) -> _Held:
        """The store's vectors in memory, as of this view."""
        number = view.row.number
        held = self._held.get(number)
        if held is None:
            held = _Held(np.empty((0, dimensions), np.float32), np.empty(0, np.int64))
        if held.version != view.row.version:
            new = [one for one in view.documents if one.number not in held.loaded]
            blocks = [block async for block in self._read(new, dimensions)]
            # A copy, because another search may be reading the one that is held.
            held = _Held(held.matrix, held.keys)
            held.add(blocks, view.numbers)
            held.version = view.row.version
        self._held[number] = held
        self._held.move_to_end(number)
        while sum(one.size_bytes for one in self._held.values()) > self._bound:
            self._held.popitem(last=False)
        return held

    async def _read(
        self, documents: Sequence[ReadyDocument], dimensions: int
    ) -> AsyncIterator[tuple[Matrix, Numbers]]:
        """The vectors of documents, some parts at a time."""
        for some in _batches(documents):
            rows = await self._store.vectors([one.number for one in some])
            if not rows:
                continue
            data = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
            keys = [
                np.frombuffer(owners, "<u4").astype(np.int64) | (document << ORDINAL_BITS)
                for document, owners, _ in rows
            ]
            yield data.reshape(-1, dimensions), np.concatenate(keys)


def _batches(documents: Sequence[ReadyDocument]) -> Iterator[list[ReadyDocument]]:
    """Documents with no more parts together than one read should bring."""
    batch: list[ReadyDocument] = []
    parts = 0
    for document in documents:
        batch.append(document)
        parts += document.parts
        if parts >= limits.VECTOR_READ_PARTS:
            yield batch
            batch, parts = [], 0
    if batch:
        yield batch
