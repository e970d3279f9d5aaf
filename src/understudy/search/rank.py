"""Ranking: BM25 over postings, the exact product over vectors, and both sides made one.

A chunk's key is one number: `document << 20 | ordinal`. Everything is sorted by score and then by
key, so that the same question over the same index has the same answer.

Scores are 0..1, and none depends on how many results are wanted:

- keyword: the share that a chunk has of the best BM25 score that any text could have for this
  query. It says how much of the query (weighed by rarity) is in the chunk, whatever the other
  chunks are, so that a threshold means the same for every query.
- both sides: reciprocal ranks, scaled so that a chunk which is first on both sides has 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy import limits
from understudy.search.part import POSTING

K1 = 1.2
B = 0.75
RANK_OFFSET = 60  # Of reciprocal ranks: how little the first places differ.
ORDINAL_BITS = 20

Numbers = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Chunks and their scores, best first."""

    keys: Numbers
    scores: Scores


class Passage(NamedTuple):
    """Overlapping neighbours as one result: the chunks `first` to `last` of a document."""

    document: int
    first: int
    last: int
    score: float


NOTHING = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))


def pruned(frequencies: Mapping[str, int], chunks: int) -> list[str]:
    """The terms worth reading, of those in a query with the number of chunks that have each."""
    kept = sorted(frequencies, key=lambda term: frequencies[term])
    entries = sum(frequencies.values())
    while len(kept) > limits.RAREST_KEPT and entries > limits.POSTINGS_READ:
        if frequencies[kept[-1]] < limits.COMMON_SHARE * chunks:
            break
        entries -= frequencies[kept.pop()]
    return kept


def keyword(
    rows: Iterable[tuple[str, int, bytes]],
    *,
    chunks: int,
    words: int,
    documents: Numbers,
    allowed: Numbers | None = None,
    terms: Mapping[str, float] | None = None,
    limit: int = limits.CANDIDATES,
) -> Ranked:
    """The chunks that have the terms of a query, by BM25.

    `rows` are postings as stored: term, document, data. `chunks` and `words` are those of the
    store. A document that is not in `documents` (sorted) no longer exists; one not in `allowed`
    counts for a term's rarity, but is not found. `terms` are those of the query with
    the weight of each; one that no row has lowers every score.
    """
    found = list(rows)
    if not found or not chunks:
        return NOTHING
    numbers = np.array([document for _, document, _ in found], np.int64)
    lengths = np.array([len(data) for _, _, data in found]) // POSTING.itemsize
    places: dict[str, int] = {}
    of_term = np.array([places.setdefault(term, len(places)) for term, _, _ in found])
    exists = _within(numbers, documents)
    frequency = np.bincount(of_term, lengths * exists, len(places))
    weights = np.log1p((chunks - np.minimum(frequency, chunks) + 0.5) / (frequency + 0.5))
    terms = terms or dict.fromkeys(places, 1.0)
    weights *= [terms.get(term, 0.0) for term in places]
    missing = sum(weight for term, weight in terms.items() if term not in places)
    ceiling = weights.sum() + missing * np.log1p((chunks + 0.5) / 0.5)

    wanted = exists if allowed is None else exists & _within(numbers, allowed)
    entries = np.frombuffer(b"".join(data for _, _, data in found), POSTING)
    chosen = np.repeat(wanted, lengths)
    entries = entries[chosen]
    if not len(entries):
        return NOTHING
    keys = np.repeat(numbers << ORDINAL_BITS, lengths)[chosen] | entries["ordinal"]
    weight = np.repeat(weights[of_term], lengths)[chosen]
    average = max(words / chunks, 1.0)
    count = entries["count"].astype(np.float64)
    length = K1 * (1 - B + B * entries["words"] / average)
    gains = weight * count / (count + length)
    distinct, owner = np.unique(keys, return_inverse=True)
    scores = np.bincount(owner, gains) / max(ceiling, 1e-9)
    return _best(distinct, scores.astype(np.float32), limit)


def _within(numbers: Numbers, among: Numbers) -> NDArray[np.bool_]:
    """Which of the numbers are in a sorted array."""
    if not len(among):
        return np.zeros(len(numbers), np.bool_)
    at = np.searchsorted(among, numbers)
    found: NDArray[np.bool_] = among[np.minimum(at, len(among) - 1)] == numbers
    return found


def _best(keys: Numbers, scores: Scores, limit: int) -> Ranked:
    """The best of chunks in the order of their keys; equal scores in that order."""
    if len(keys) > limit:
        least = np.partition(scores, len(scores) - limit)[-limit]
        chosen = np.flatnonzero(scores >= least)
        keys, scores = keys[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")[:limit]
    return Ranked(keys[order], scores[order])


def visible(keys: Numbers, *among: Numbers | None) -> NDArray[np.bool_] | None:
    """Which rows belong to documents in each sorted array; None where all do."""
    mask: NDArray[np.bool_] | None = None
    for documents in among:
        if documents is not None:
            here = _of_documents(keys, documents)
            mask = here if mask is None else mask & here
    return None if mask is None or mask.all() else mask


def _of_documents(keys: Numbers, documents: Numbers) -> NDArray[np.bool_]:
    """Which of the sorted keys belong to one of the documents, by the borders of its rows."""
    borders = np.zeros(len(keys) + 1, np.int64)
    first = documents << ORDINAL_BITS
    np.add.at(borders, np.searchsorted(keys, first), 1)
    np.add.at(borders, np.searchsorted(keys, first + (1 << ORDINAL_BITS)), -1)
    found: NDArray[np.bool_] = np.cumsum(borders[:-1]) > 0
    return found


def dense(
    matrix: Scores,
    keys: Numbers,
    queries: Scores,
    *,
    documents: Numbers | None = None,
    allowed: Numbers | None = None,
    limit: int = limits.CANDIDATES,
) -> list[Ranked]:
    """For each query (a row) the chunks that are most alike, exactly.

    `keys` names the chunk of each row of the matrix, in order; a chunk of several rows has the
    score of its best. Scores are cosines.
    """
    if not len(keys):
        return [NOTHING for _ in queries]
    mask = visible(keys, documents, allowed)
    if mask is not None:
        matrix, keys = matrix[mask], keys[mask]
    if not len(keys):
        return [NOTHING for _ in queries]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    found = []
    for query in queries:
        scores = matrix @ query
        if len(starts) < len(keys):
            scores = np.maximum.reduceat(scores, starts)
        found.append(_best(keys[starts], scores, limit))
    return found


def fuse(
    keyword: Ranked, dense: Ranked | None, dense_weight: float = 1.0, *, k: int = RANK_OFFSET
) -> Ranked:
    """Both sides as one; without a dense side the keyword side as it is."""
    if dense is None or dense_weight <= 0:
        return keyword
    keys = np.concatenate([keyword.keys, dense.keys])
    gains = np.concatenate(
        [
            1 / (k + 1 + np.arange(len(keyword.keys))),
            dense_weight / (k + 1 + np.arange(len(dense.keys))),
        ]
    )
    distinct, owner = np.unique(keys, return_inverse=True)
    scores = np.bincount(owner, gains, len(distinct)) * (k + 1) / (1 + dense_weight)
    return _best(distinct, scores.astype(np.float32), limits.CANDIDATES)


def together(rankings: Sequence[Ranked]) -> Ranked:
    """Several queries' rankings as one: each chunk has the best of its scores."""
    if len(rankings) == 1:
        return rankings[0]
    if not rankings:
        return NOTHING
    keys = np.concatenate([ranked.keys for ranked in rankings])
    scores = np.concatenate([ranked.scores for ranked in rankings])
    distinct, owner = np.unique(keys, return_inverse=True)
    best = np.zeros(len(distinct), np.float32)
    np.maximum.at(best, owner, scores)
    return _best(distinct, best, limits.CANDIDATES)
