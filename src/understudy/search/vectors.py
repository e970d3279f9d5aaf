"""Arithmetic on vectors that every embedder needs."""

import numpy as np

from understudy.search import EmbedderError, Numbers, Vectors

_NO_LENGTH = 1e-12


def normalised(vectors: Vectors) -> Vectors:
    """The vectors at length 1; raises EmbedderError where one holds no direction."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise EmbedderError("The embedding model gave numbers that are not finite.")
    found: Vectors = (vectors / np.maximum(lengths, _NO_LENGTH)).astype(np.float32)
    return found


def one_each(vectors: Vectors, owners: Numbers) -> tuple[Vectors, Numbers]:
    """One vector for each text: the middle of those of its windows."""
    if not len(owners):
        return vectors, owners
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    return normalised(np.add.reduceat(vectors, starts)), owners[starts]
