"""Arithmetic on vectors that every embedder needs."""

from collections.abc import Sequence

import numpy as np

from understudy.search import Embedded, EmbedderError, Numbers, Vectors

_NO_LENGTH = 1e-12


def normalised(vectors: Vectors) -> Vectors:
    """The vectors at length 1; one of zeros, as some models give for blank texts, is like none."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise EmbedderError("The embedding model gave numbers that are not finite.")
    found: Vectors = (vectors / np.maximum(lengths, _NO_LENGTH)).astype(np.float32)
    return found


def embedded(
    rows: Sequence[Vectors], owners: Sequence[int], trust: Vectors, *, is_query: bool
) -> Embedded:
    """What an embedder gives for the vectors of all windows; a query has one vector each."""
    if not rows:
        return Embedded(np.empty((0, 0), np.float32), np.empty(0, np.int64), trust)
    vectors, numbers = np.stack(rows), np.array(owners, np.int64)
    if is_query:
        vectors, numbers = _one_each(vectors, numbers)
    return Embedded(vectors, numbers, trust)


def _one_each(vectors: Vectors, owners: Numbers) -> tuple[Vectors, Numbers]:
    """One vector for each text: the middle of those of its windows."""
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    return normalised(np.add.reduceat(vectors, starts)), owners[starts]
