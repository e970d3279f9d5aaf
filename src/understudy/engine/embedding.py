"""Embedding: texts into the vectors that a vector store holds, of one model for all of its life."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.engine.app import App
from understudy.search import Embedded, Embedder, EmbedderError
from understudy.store.records import IndexRow

if TYPE_CHECKING:  # A store of keywords alone needs no numpy.
    import numpy as np

KEYWORDS_ONLY = ""  # The model of a store whose first file was indexed without an embedder.


@dataclass(frozen=True)
class Vectors:
    """The vectors of some chunks as the record keeps them; none without an embedder."""

    model: str
    dimensions: int
    trust: float  # The sum over the chunks.
    data: bytes | None
    places: "np.ndarray | None"

    def owners(self, first: int) -> bytes | None:
        """Of each vector the ordinal of its chunk; `first` is that of the first chunk."""
        return None if self.places is None else (self.places + first).astype("<u4").tobytes()


NO_VECTORS = Vectors(KEYWORDS_ONLY, 0, 0.0, None, None)


async def vectors_of(app: App, index: IndexRow, texts: Sequence[str]) -> Vectors:
    """The vectors of chunks of a store. Raises EmbedderError, also when the store's model is not
    this server's: vectors of two models cannot be compared."""
    embedder = await embedder_of(app, index)
    if embedder is None:
        return NO_VECTORS
    embedded = await embedder.embed(texts, is_query=False)
    dimensions = embedded.vectors.shape[1]
    if index.dimensions not in (None, dimensions):
        raise EmbedderError(
            f"The embedding model {embedder.name} gave vectors of {dimensions} dimensions, but "
            f"those of the vector store have {index.dimensions}."
        )
    return Vectors(
        model=embedder.name,
        dimensions=dimensions,
        trust=float(embedded.trust.sum()),
        data=embedded.vectors.astype("<f4").tobytes(),
        places=embedded.owners,
    )


async def embedder_of(app: App, index: IndexRow) -> Embedder | None:
    """The embedder for a store's texts and queries; None for one that has keywords only."""
    if index.embedding_model == KEYWORDS_ONLY:
        return None
    if index.embedding_model is None:
        return await app.embedders.current()
    embedder = await app.embedders.of(index.embedding_model)
    if embedder is None or embedder.name != index.embedding_model:
        now = "none" if embedder is None else f"'{embedder.name}'"
        raise EmbedderError(
            f"The vector store was made with the embedding model '{index.embedding_model}', and "
            f"this server now uses {now}. Set UNDERSTUDY_EMBEDDING_MODEL back, or put the files "
            "into a new vector store."
        )
    return embedder


async def embedded_queries(app: App, index: IndexRow, queries: Sequence[str]) -> Embedded | None:
    """The vectors of queries for a store; None where it has no vectors."""
    if not index.embedding_model:
        return None
    embedder = await embedder_of(app, index)
    return None if embedder is None else await embedder.embed(queries, is_query=True)
