"""Ranking: BM25 over postings, exact products over vectors, and both sides made one.

A chunk's key is one number: `document << 20 | ordinal`. Everything is sorted by score and then by
key, so that the same question over the same index has the same answer.

Scores are 0..1, and none depends on how many results are wanted:

- keyword: the share that a chunk has of the best BM25 score that any text could have for this
  query. It says how much of the query (weighed by rarity) is in the chunk, whatever the other
  chunks are, so that a threshold means the same for every query.
- both sides: each side's scores are stretched so that its best chunk has 1 and what it no longer
  finds has 0, then weighed and added; a chunk that is best on both sides has 1. Measured against
  reciprocal ranks (nDCG@10, MiniLM; product_docs, xquad_en, and xquad_zh, of which that model
  understands nothing): .800, .980, .929 at equal weights, against .794, .971, .762. Scores still
  tell a clear winner from a crowd, where ranks do not, and so a weak side does less harm.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy import limits
from understudy.search.part import POSTING

# Of BM25: how soon repeats of a term are enough, and how far a long chunk must have more of them.
K1 = 1.2
B = 0.75
# A chunk that has all words of a query is what a quotation looks for, however long it is: it comes
# this far nearer to 1, and one that has nearly all a part of it. It changes no development set.
QUOTED = 0.5
QUOTED_SHARE = 0.95
DENSE_SPREAD = 0.05  # Cosines that differ less are no ranking: of two chunks one is not hopeless.
GATHERED_SHARE = 0.25  # Of the rows; above it the product of all is quicker than their copy.
NEIGHBOUR_SHARE = 0.5  # Of a passage's score: what a neighbour must have to lengthen it.
ORDINAL_BITS = 20

Numbers = NDArray[np.int64]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Chunks and their scores, best first."""

    keys: Numbers
    scores: Scores


@dataclass(frozen=True)
class Block:
    """Vectors (rows, float32), and the key of each one's chunk, never decreasing."""

    vectors: Scores
    keys: Numbers

    @property
    def size_bytes(self) -> int:
        """Its size in memory."""
        return self.vectors.nbytes + self.keys.nbytes

    @cached_property
    def starts(self) -> Numbers:
        """The first row of each chunk."""
        return _starts(self.keys)

    def only(self, rows: Numbers | Mask) -> "Block":
        """A block of some of the rows, in the given order."""
        return Block(self.vectors[rows], self.keys[rows])


class Passage(NamedTuple):
    """Overlapping neighbours as one result: the chunks `first` to `last` of a document."""

    document: int
    first: int
    last: int
    score: float


NOTHING = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))


def pruned(frequencies: Mapping[str, int], chunks: int) -> list[str]:
    """The terms worth reading, rarest first, of those in a query with the chunks that have each.

    Only what is common goes, only while there is too much to read, and never the rarest.
    """
    kept = sorted(frequencies, key=lambda term: (frequencies[term], term))
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
    (sorted) counts for a term's rarity, but is not found. `terms` are those of the query with
    the weight of each (`question.asked`); one that no row has lowers every score.
    """
    found = list(rows)
    if not found or chunks < 1:
        return NOTHING
    numbers = np.array([document for _, document, _ in found], np.int64)
    lengths = np.array([len(data) for _, _, data in found], np.int64) // POSTING.itemsize
    places: dict[str, int] = {}
    places_of = np.array([places.setdefault(term, len(places)) for term, _, _ in found], np.int64)
    exists = _among(numbers, documents)
    frequencies = np.bincount(places_of, (lengths * exists).astype(np.float64), len(places))
    weights = _weights(places, frequencies, terms or dict.fromkeys(places, 1.0), chunks)
    wanted = exists if allowed is None else exists & _among(numbers, allowed)
    chosen = np.repeat(wanted, lengths)
    entries = np.frombuffer(b"".join(data for _, _, data in found), POSTING)[chosen]
    if not len(entries):
        return NOTHING
    shares = np.repeat(weights[places_of], lengths)[chosen]
    keys = np.repeat(numbers << ORDINAL_BITS, lengths)[chosen] | entries["ordinal"]
    distinct, owners = np.unique(keys, return_inverse=True)
    scores = np.bincount(owners, shares * _saturated(entries, words / chunks))
    covered = np.bincount(owners, shares)
    scores += QUOTED * (1 - scores) * np.clip((covered - QUOTED_SHARE) / (1 - QUOTED_SHARE), 0, 1)
    return _best(distinct, scores.astype(np.float32), limit)


def _weights(
    places: Mapping[str, int],
    frequencies: Numbers | NDArray[np.float64],
    terms: Mapping[str, float],
    chunks: int,
) -> NDArray[np.float64]:
    """What each term is worth by its rarity, as a share of what all terms of the query are."""
    common = np.minimum(frequencies, chunks)
    weights = np.log1p((chunks - common + 0.5) / (common + 0.5))
    weights *= [terms.get(term, 0.0) for term in places]
    missing = sum(weight for term, weight in terms.items() if term not in places)
    ceiling = weights.sum() + missing * np.log1p((chunks + 0.5) / 0.5)
    shares: NDArray[np.float64] = weights / max(ceiling, 1e-9)
    return shares


def _saturated(entries: NDArray[np.void], average: float) -> NDArray[np.float64]:
    """How much of a term's worth each posting brings: more repeats bring ever less."""
    count = entries["count"].astype(np.float64)
    length = 1 - B + B * entries["words"] / max(average, 1.0)
    gains: NDArray[np.float64] = count / (count + K1 * length)
    return gains


def _summed(keys: Numbers, gains: NDArray[np.float64]) -> tuple[Numbers, Scores]:
    """The distinct keys in order, and the sum of the gains of each."""
    distinct, owners = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(owners, gains, len(distinct)).astype(np.float32)


def _among(numbers: Numbers, chosen: Numbers) -> Mask:
    """Which of the numbers are in a sorted array."""
    if not len(chosen):
        return np.zeros(len(numbers), np.bool_)
    at = np.searchsorted(chosen, numbers)
    found: Mask = chosen[np.minimum(at, len(chosen) - 1)] == numbers
    return found


def _best(keys: Numbers, scores: Scores, limit: int) -> Ranked:
    """The best of chunks that come in the order of their keys; equal scores in that order."""
    if len(keys) > limit:
        least = np.partition(scores, len(scores) - limit)[-limit]
        chosen = np.flatnonzero(scores >= least)
        keys, scores = keys[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")[:limit]
    return Ranked(keys[order], scores[order])


def dense(
    block: Block,
    queries: Scores,
    *,
    documents: Numbers | None = None,
    allowed: Numbers | None = None,
    limit: int = limits.CANDIDATES,
) -> list[Ranked]:
    """For each query (a row) the chunks that are most like it, exactly; scores are cosines.

    A chunk of several rows has the score of its best. Only documents that are in `documents` and
    in `allowed` (sorted, where given) are found.
    """
    mask = visible(block.keys, documents, allowed)
    if mask is not None and mask.mean() < GATHERED_SHARE:
        block, mask = block.only(np.flatnonzero(mask)), None
    if not len(block.keys):
        return [NOTHING for _ in queries]
    return [_nearest(block, block.vectors @ query, mask, limit) for query in queries]


def _nearest(block: Block, scores: Scores, mask: Mask | None, limit: int) -> Ranked:
    """The chunks with the best rows."""
    keys = block.keys
    if mask is not None:
        scores[~mask] = -np.inf
    if len(block.starts) < len(keys):
        scores = np.maximum.reduceat(scores, block.starts)
        keys = keys[block.starts]
    found = _best(keys, scores, limit)
    if mask is None:
        return found
    seen = int(np.searchsorted(-found.scores, np.inf))
    return Ranked(found.keys[:seen], found.scores[:seen])


def visible(keys: Numbers, *chosen: Numbers | None) -> Mask | None:
    """Which rows belong to documents in each of the sorted arrays; None where all do."""
    mask: Mask | None = None
    for documents in chosen:
        if documents is not None:
            here = _of_documents(keys, documents)
            mask = here if mask is None else mask & here
    return None if mask is None or mask.all() else mask


def _of_documents(keys: Numbers, documents: Numbers) -> Mask:
    """Which of the sorted keys belong to one of the documents."""
    numbers = keys >> ORDINAL_BITS
    starts = _starts(numbers)
    return np.repeat(_among(numbers[starts], documents), np.diff(starts, append=len(keys)))


def _starts(keys: Numbers) -> Numbers:
    """Where each distinct value of a sorted array begins."""
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate([np.zeros(min(len(keys), 1), np.int64), changes])


def fuse(keyword: Ranked, dense: Ranked | None, dense_weight: float = 1.0) -> Ranked:
    """Both sides as one; without a dense side, or trust in it, the keyword side as it is.

    Both must have been asked for `limits.CANDIDATES`: a side that found as many gives its last
    chunk the 0 of what it did not find.
    """
    if dense is None or dense_weight <= 0 or not len(dense.keys):
        return keyword
    keys = np.concatenate([keyword.keys, dense.keys])
    words = _stretched(keyword.scores, floor=0.0)
    meaning = _stretched(dense.scores, floor=float(dense.scores[-1]), spread=DENSE_SPREAD)
    gains = np.concatenate([words, dense_weight * meaning]) / (1 + dense_weight)
    return _best(*_summed(keys, gains), limits.CANDIDATES)


def _stretched(scores: Scores, *, floor: float, spread: float = 1e-9) -> NDArray[np.float64]:
    """Scores from 1 for the best down to 0 for the floor, or for what was not found."""
    if not len(scores):
        return np.empty(0, np.float64)
    best = float(scores[0])
    floor = float(scores[-1]) if len(scores) >= limits.CANDIDATES else floor
    floor = min(floor, best - spread)
    stretched: NDArray[np.float64] = (scores.astype(np.float64) - floor) / (best - floor)
    return stretched


def together(rankings: Sequence[Ranked]) -> Ranked:
    """Several queries' rankings as one: each chunk has the best of its scores.

    So a chunk that answers one of the questions fully is above one that answers each a little.
    """
    if len(rankings) == 1:
        return rankings[0]
    if not rankings:
        return NOTHING
    keys = np.concatenate([ranked.keys for ranked in rankings])
    scores = np.concatenate([ranked.scores for ranked in rankings])
    distinct, owners = np.unique(keys, return_inverse=True)
    best = np.zeros(len(distinct), np.float32)
    np.maximum.at(best, owners, scores)
    return _best(distinct, best, limits.CANDIDATES)


def merge(ranked: Ranked, spans: Mapping[int, tuple[int, int]]) -> list[Passage]:
    """The chunks as passages, best first: neighbours whose characters overlap are one.

    `spans` are the characters of the chunks that are looked at, by key; others are left out.
    """
    passages: dict[int, Passage] = {}  # By the key of the first chunk.
    firsts: dict[int, int] = {}  # Of each chunk the first of its passage.
    for key, score in zip(ranked.keys.tolist(), ranked.scores.tolist(), strict=True):
        if key not in spans:
            continue
        document, ordinal = divmod(key, 1 << ORDINAL_BITS)
        found = Passage(document, ordinal, ordinal, score)
        for neighbour, (left, right) in ((key - 1, (key - 1, key)), (key + 1, (key, key + 1))):
            if neighbour in firsts and spans[left][1] > spans[right][0]:
                other = passages[firsts[neighbour]]
                if _belong_together(found, other, score):
                    del passages[firsts[neighbour]]
                    found = _joined(found, other)
        first = document << ORDINAL_BITS | found.first
        passages[first] = found
        firsts |= dict.fromkeys(range(first, first + found.last - found.first + 1), first)
    return sorted(passages.values(), key=lambda passage: (-passage.score, passage[:2]))


def _belong_together(one: Passage, other: Passage, score: float) -> bool:
    """Whether a chunk of this score may make both passages one."""
    length = one.last - one.first + other.last - other.first + 2
    return (
        one.document == other.document
        and length <= limits.MERGED_CHUNKS
        and score >= NEIGHBOUR_SHARE * max(one.score, other.score)
    )


def _joined(one: Passage, other: Passage) -> Passage:
    return Passage(
        one.document,
        min(one.first, other.first),
        max(one.last, other.last),
        max(one.score, other.score),
    )
