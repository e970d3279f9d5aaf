"""A haystack: a vector store of 50,000 chunks, and what searching it must find, by brute force.

The chunks are written into the index directly. Each text begins with the place of its chunk, so
that a result tells which one it is. Vectors are small whole numbers, so that their products are
exact whatever the order of the sums.
"""

import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tests.engine.stage import Clock, make_app, opened_store
from understudy import limits
from understudy.engine.app import App
from understudy.engine.index import Index
from understudy.engine.search import found
from understudy.machine.vector_store import StoreBody
from understudy.search import Embedded, rank
from understudy.search.choice import Embedders
from understudy.search.part import POSTING
from understudy.search.question import asked
from understudy.search.rank import ORDINAL_BITS, Ranked
from understudy.store import Conflict, Statement, changes, index_changes
from understudy.wire.vector_stores import Filter

PROJECT = "default"
DIMENSIONS = 16
DOCUMENTS = 2_000
CHUNKS = 50_000
LEAST_CHUNKS = 4  # Of a document.
TERMS = 600
TERMS_PER_CHUNK = 6
CHUNK_CHARS = 100
AT_ONCE = 250  # Documents in one commit.
ATTEMPTS = 20

Json = dict[str, Any]
Keeps = Callable[[Json], bool]
Hit = tuple[int, float]  # A chunk's key, and its score.
Numbers = NDArray[np.int64]


def _spelled(number: int) -> str:
    """A word for a number."""
    syllables = [first + second for first in "bdfgklmnprtvz" for second in "aou"]
    base = len(syllables)
    return "".join(syllables[number // base**place % base] for place in (2, 1, 0))


WORDS = [_spelled(number) for number in range(TERMS)]
NUMBERS = {word: number for number, word in enumerate(WORDS)}


class Whole:
    """An embedder whose vectors are small whole numbers, chosen by the text."""

    name = "whole"

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """A vector for each text."""
        count = len(texts)
        seeds = [zlib.crc32(text.encode()) for text in texts]
        rows = [vectors(np.random.default_rng(seed), 1)[0] for seed in seeds]
        return Embedded(np.array(rows), np.arange(count), np.ones(count, np.float32))

    async def close(self) -> None:
        """Nothing was opened."""


def vectors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Rows of small whole numbers."""
    return rng.integers(-8, 9, (count, DIMENSIONS)).astype(np.float32)


@dataclass(frozen=True)
class Document:
    """What a brute-force search knows of a document; its number is 0 until it is indexed."""

    file_id: str
    attributes: Json
    terms: Numbers  # A row for each chunk, filled up with -1.
    vectors: NDArray[np.float32]
    number: int = 0

    @property
    def keys(self) -> Numbers:
        """Those of its chunks."""
        return (self.number << ORDINAL_BITS) + np.arange(len(self.terms))


@dataclass
class Haystack:
    """The store's place, and everything that is in it by document number."""

    store_id: str
    number: int
    # asyncio.run looks at the repr of what it returns, which would take long.
    documents: dict[int, Document] = field(default_factory=dict, repr=False)

    def kept(self, keeps: Keeps) -> list[Document]:
        """The documents that a filter keeps, in the order of their numbers."""
        documents = (self.documents[number] for number in sorted(self.documents))
        return [one for one in documents if keeps(one.attributes)]

    def wanted(self, query: str, kept: Sequence[Document], limit: int) -> list[Hit]:
        """What a search must find in the documents that are kept, best first."""
        keyword = _keyword(self.kept(lambda _: True), kept, query)
        fused = rank.fuse(keyword, _dense(kept, query), 1.0)
        return list(zip(fused.keys.tolist(), fused.scores.tolist(), strict=True))[:limit]

    async def found(self, app: App, query: str, filters: Json | None, limit: int) -> list[Hit]:
        """What a search does find."""
        results = await found(
            app,
            PROJECT,
            [self.store_id],
            [query],
            limit=limit,
            filters=None if filters is None else msgspec.convert(filters, Filter),
        )
        hits = []
        for one in results:
            number, ordinal, rest = one.text.split(" ", 2)
            assert rest.strip("x") == "" and len(one.text) == CHUNK_CHARS, "one whole chunk"
            hits.append((int(number) << ORDINAL_BITS | int(ordinal), one.score))
        return hits


def _keyword(everything: Sequence[Document], kept: Sequence[Document], query: str) -> Ranked:
    """BM25 as the formula has it, of every chunk that is kept; one that has all words is nearer
    to 1."""
    if not kept:
        return rank.NOTHING
    terms = np.concatenate([one.terms for one in everything])
    average = (terms >= 0).sum() / len(terms)
    mine = np.concatenate([one.terms for one in kept])
    length = rank.K1 * (1 - rank.B + rank.B * (mine >= 0).sum(axis=1) / average)
    scores, covered, ceiling = np.zeros(len(mine)), np.zeros(len(mine)), 0.0
    for word, weight in sorted(asked(query).items()):
        having = (terms == NUMBERS[word]).any(axis=1).sum()
        worth = weight * np.log1p((len(terms) - having + 0.5) / (having + 0.5))
        count = (mine == NUMBERS[word]).sum(axis=1)
        scores += worth * count / (count + length)
        covered += worth * (count > 0)
        ceiling += worth
    scores, covered = scores / ceiling, covered / ceiling
    nearly = (covered - rank.QUOTED_SHARE) / (1 - rank.QUOTED_SHARE)
    scores += rank.QUOTED * (1 - scores) * np.clip(nearly, 0, 1)
    keys = np.concatenate([one.keys for one in kept])
    fits = scores > 0
    return _ranked(keys[fits], scores[fits])


def _dense(kept: Sequence[Document], query: str) -> Ranked:
    """The product with every vector that is kept."""
    if not kept:
        return rank.NOTHING
    question = vectors(np.random.default_rng(zlib.crc32(query.encode())), 1)[0]
    products = np.concatenate([one.vectors for one in kept]) @ question
    return _ranked(np.concatenate([one.keys for one in kept]), products)


def _ranked(keys: Numbers, scores: NDArray[np.floating[Any]]) -> Ranked:
    """The best ones; equal scores in the order of the keys."""
    short = scores.astype(np.float32)
    order = np.lexsort((keys, -short))[: limits.CANDIDATES]
    return Ranked(keys[order], short[order])


# Making one.


@asynccontextmanager
async def opened_app(
    path: Path | str, *, cache_bytes: int = limits.VECTOR_CACHE_BYTES, works: bool = False
) -> AsyncIterator[App]:
    """An App on a record (a place for one, or a URL); where it works, what is deleted is removed in
    the background."""
    async with opened_store(path) as store:
        app = make_app(store, Clock())
        embedders = Embedders(Whole(), monotonic=app.world.monotonic)
        app = replace(app, embedders=embedders, index=Index(store, size_bytes=cache_bytes))
        if works:
            await app.worker.start(app)
        yield app
        if works:
            await app.worker.drain(0.0)


async def made(path: Path, attributes: Callable[[np.random.Generator], Json]) -> Haystack:
    """A new one, whose documents have attributes that are drawn so."""
    rng = np.random.default_rng(11)
    async with opened_app(path) as app:
        haystack = await empty(app)
        more = CHUNKS - LEAST_CHUNKS * DOCUMENTS
        spread = rng.multinomial(more, np.full(DOCUMENTS, 1 / DOCUMENTS)) + LEAST_CHUNKS
        drafts = [
            draft(rng, f"file-{n}", chunks, attributes(rng))
            for n, chunks in enumerate(spread.tolist())
        ]
        for first in range(0, DOCUMENTS, AT_ONCE):
            await add(app, haystack, drafts[first : first + AT_ONCE])
    return haystack


async def empty(app: App) -> Haystack:
    """A store without files."""
    now = app.world.now()
    store_id = app.world.new_id("vector_store")
    body = msgspec.json.encode(StoreBody(id=store_id, created_at=int(now)))
    await app.store.commit(
        changes.insert_object(
            "vector_store", id=store_id, project=PROJECT, parent=None, created_at=now, body=body
        ),
        index_changes.insert_store(store_id, project=PROJECT, now=now),
    )
    [row] = await app.store.indexes(PROJECT, [store_id])
    return Haystack(store_id, row.number)


def draft(rng: np.random.Generator, file_id: str, chunks: int, attributes: Json) -> Document:
    """A document to be indexed; terms with smaller numbers are commoner."""
    terms = (TERMS * rng.random((chunks, TERMS_PER_CHUNK)) ** 2).astype(np.int64)
    lengths = rng.integers(TERMS_PER_CHUNK // 2, TERMS_PER_CHUNK + 1, chunks)
    terms[np.arange(TERMS_PER_CHUNK) >= lengths[:, None]] = -1
    return Document(file_id, attributes, terms, vectors(rng, chunks))


async def add(app: App, haystack: Haystack, drafts: Sequence[Document]) -> None:
    """Put documents into the index; they can be found when this returns. No file waits for them,
    so an ingestion of the store that ends meanwhile abandons them: then they are put there anew."""
    for _ in range(ATTEMPTS):
        with suppress(Conflict):
            haystack.documents |= await _added(app, haystack, drafts)
            return
    raise AssertionError("an ingestion of the store ends again and again")


async def _added(app: App, haystack: Haystack, drafts: Sequence[Document]) -> dict[int, Document]:
    rows = await app.store.commit(
        *(
            index_changes.insert_document(
                haystack.number,
                one.file_id,
                project=PROJECT,
                attributes=b"{}",
                filename=f"{one.file_id}.txt",
            )
            for one in drafts
        )
    )
    numbered = [replace(one, number=number) for one, [(number,)] in zip(drafts, rows, strict=True)]
    claim = index_changes.claim_embedder(haystack.number, model=Whole.name, dimensions=DIMENSIONS)
    statements = [part for one in numbered for part in _indexed(haystack.number, one)]
    await app.store.commit(claim, *statements)
    return {one.number: one for one in numbered}


async def remove(app: App, haystack: Haystack, number: int) -> None:
    """Delete a document; nothing finds it when this returns."""
    document = haystack.documents.pop(number)
    await app.store.commit(
        *index_changes.drop_document(
            haystack.store_id, document.file_id, project=PROJECT, now=app.world.now()
        )
    )
    app.bell.ring("jobs")


def _indexed(store: int, document: Document) -> list[Statement]:
    """The statements that index a document of one part."""
    where: dict[str, list[tuple[int, int, int]]] = {}
    for ordinal, row in enumerate(document.terms.tolist()):
        terms = [term for term in row if term >= 0]
        for term in sorted(set(terms)):
            where.setdefault(WORDS[term], []).append((ordinal, terms.count(term), len(terms)))
    chunks = len(document.terms)
    starts = [CHUNK_CHARS * n for n in range(chunks)]
    texts = [f"{document.number} {n} ".ljust(CHUNK_CHARS, "x") for n in range(chunks)]
    rows = [(n, at, at + CHUNK_CHARS, texts[n]) for n, at in enumerate(starts)]
    return [
        *index_changes.insert_part(
            store,
            document.number,
            0,
            chunks=rows,
            words=int((document.terms >= 0).sum()),
            trust=float(chunks),
            terms=list(where),
            terms_json=msgspec.json.encode(list(where)),
            postings=[np.array(entries, POSTING).tobytes() for entries in where.values()],
            owners=np.arange(chunks, dtype="<u4").tobytes(),
            vectors=document.vectors.tobytes(),
            size_bytes=CHUNK_CHARS * chunks,
        ),
        *index_changes.ready_document(
            document.number, attributes=msgspec.json.encode(document.attributes)
        ),
    ]
