"""A vector store that is filled directly, as ingestion would fill it through many requests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from benchmarks import texts
from benchmarks.instant import NAME
from understudy.engine.app import App
from understudy.machine.vector_store import StoreBody
from understudy.search.part import Part, parts
from understudy.store import Statement, changes, index_changes
from understudy.store.store import Store

PROJECT = "default"
_TOKENS, _OVERLAP = 800, 400
_WORDS_PER_CHUNK = 440  # Of a text cut with overlap; a little more than needed.
_SHORT = (120, 600)  # Words of a file of one chunk.
_FILES_AT_ONCE = 50  # In one commit.
_PART = 64


@dataclass(frozen=True)
class Layout:
    """How chunks are spread over files."""

    files: int
    chunks: int  # Of each file.

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.files:,} x {self.chunks}"


async def new_store(app: App) -> tuple[str, int]:
    """An empty vector store; its id and its number."""
    now = app.world.now()
    id = app.world.new_id("vector_store")
    body = StoreBody(id=id, created_at=int(now))
    await app.store.commit(
        changes.insert_object(
            "vector_store",
            id=id,
            project=PROJECT,
            parent=None,
            created_at=now,
            body=msgspec.json.encode(body),
        ),
        index_changes.insert_store(id, project=PROJECT, now=now),
    )
    [row] = await app.store.indexes(PROJECT, [id])
    return id, row.number


async def fill(store: Store, number: int, layout: Layout, seed: int) -> list[str]:
    """Files of prose into a store, with a vector per chunk; the texts of all chunks."""
    rng = np.random.default_rng(seed)
    pieces: list[str] = []

    def cut() -> Iterator[Part]:
        for part in _cut(rng, layout.chunks):
            pieces.extend(part.texts)
            yield part

    await _filled(store, number, layout, rng, cut)
    return pieces


async def fill_vectors(store: Store, number: int, layout: Layout, seed: int) -> None:
    """The same with vectors only: nothing is found by words."""

    def cut() -> Iterator[Part]:
        for first in range(0, layout.chunks, _PART):
            count = min(_PART, layout.chunks - first)
            nothing = [0] * count
            yield Part(first // _PART, first, nothing, nothing, nothing, [""] * count, [], [], [])

    await _filled(store, number, layout, np.random.default_rng(seed), cut)


async def _filled(
    store: Store,
    number: int,
    layout: Layout,
    rng: np.random.Generator,
    cut: Callable[[], Iterator[Part]],
) -> None:
    """Some files in each commit, so that the disk is not what takes the time."""
    claim = index_changes.claim_embedder(number, model=NAME, dimensions=texts.DIMENSIONS)
    for first in range(0, layout.files, _FILES_AT_ONCE):
        names = [
            f"file-{number}-{n}" for n in range(first, min(first + _FILES_AT_ONCE, layout.files))
        ]
        rows = await store.commit(*(_document(number, name) for name in names))
        statements: list[Statement] = []
        for [(document,)] in rows:
            assert isinstance(document, int)
            for part in cut():
                vectors = texts.vectors(rng, len(part.starts))
                statements += _part(number, document, part, vectors)
            statements += index_changes.ready_document(document, attributes=b"{}")
        await store.commit(claim, *statements)


def _document(number: int, file_id: str) -> Statement:
    return index_changes.insert_document(
        number, file_id, project=PROJECT, attributes=b"{}", filename=f"{file_id}.txt"
    )


def _cut(rng: np.random.Generator, count: int) -> Iterator[Part]:
    """The parts of a text of exactly so many chunks; a file of one chunk is shorter than that."""
    if count == 1:
        yield from parts(texts.prose(rng, int(rng.integers(*_SHORT))), _TOKENS, _OVERLAP)
        return
    text = texts.prose(rng, _WORDS_PER_CHUNK * (count + 1))
    left = count
    for part in parts(text, _TOKENS, _OVERLAP):
        kept = min(left, len(part.texts))
        left -= kept
        if kept < len(part.texts):
            text = text[: part.stops[kept - 1]]
            yield next(iter(parts(text, _TOKENS, _OVERLAP, skip=part.number)))
        else:
            yield part
        if not left:
            return
    raise AssertionError("the text is too short")


def _part(number: int, document: int, part: Part, vectors: np.ndarray) -> tuple[Statement, ...]:
    ordinals = range(part.first, part.first + len(part.starts))
    return index_changes.insert_part(
        number,
        document,
        part.number,
        chunks=list(zip(ordinals, part.starts, part.stops, part.strides, strict=True)),
        words=sum(part.words),
        trust=float(len(part.starts)),
        terms=part.terms,
        terms_json=msgspec.json.encode(part.terms),
        postings=part.postings,
        owners=np.array(ordinals, "<u4").tobytes(),
        vectors=vectors.astype("<f4").tobytes(),
        size_bytes=vectors.nbytes,
    )
