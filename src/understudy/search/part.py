"""Parts: a document's chunks, a bounded number at a time, with their postings.

A part is what is stored in one commit. Parts depend on the text and the sizes alone, so that a
reading that was interrupted goes on after the last part that was stored.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np

from understudy import limits
from understudy.search import Numbers
from understudy.search.chunk import Span, chunks, mended
from understudy.search.frames import Part
from understudy.search.words import words

__all__ = ["POSTING", "Part", "parts"]

# How often a term is in a chunk, and how many terms that chunk has.
POSTING = np.dtype([("ordinal", "<u4"), ("count", "<u2"), ("words", "<u2")])
# Characters that are in no term, nor become part of one when the text is folded.
_PARTING = re.compile("[\\s\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]")
_MOST = np.iinfo(np.uint16).max


def parts(text: str, size_tokens: int, overlap_tokens: int, *, skip: int = 0) -> Iterator[Part]:
    """The parts of a text but the first `skip`."""
    text = mended(text)
    spans = chunks(text, size_tokens, overlap_tokens)
    number = 0
    following = next(spans, None)
    while following is not None:
        here = [following, *islice(spans, limits.PART_CHUNKS - 1)]
        following = next(spans, None)
        if number >= skip:
            yield _part(text, number, here, following)
        number += 1


def _part(text: str, number: int, spans: list[Span], following: Span | None) -> Part:
    texts = [text[span.start : span.stop] for span in spans]
    ends = [span.start for span in spans[1:]]
    ends.append(following.start if following else spans[-1].stop)
    first = number * limits.PART_CHUNKS
    lengths, terms, postings = _postings(text, spans, first)
    return Part(
        number=number,
        first=first,
        starts=[span.start for span in spans],
        stops=[span.stop for span in spans],
        words=lengths,
        strides=[text[span.start : end] for span, end in zip(spans, ends, strict=True)],
        texts=texts,
        terms=terms,
        postings=postings,
    )


class _Places(dict[str, int]):
    """Term → its place in the order of appearance."""

    def __missing__(self, term: str) -> int:
        self[term] = place = len(self)
        return place


def _postings(text: str, spans: list[Span], first: int) -> tuple[list[int], list[str], list[bytes]]:
    """The number of terms of each chunk; the distinct terms, sorted; the postings of each."""
    places = _Places()
    chosen = [np.unique(ids, return_counts=True) for ids in _terms(text, spans, places)]
    lengths = [int(counts.sum()) for _, counts in chosen]
    distinct = [len(ids) for ids, _ in chosen]
    found = np.concatenate([ids for ids, _ in chosen])
    entries = np.empty(len(found), POSTING)
    entries["ordinal"] = np.repeat(np.arange(first, first + len(spans)), distinct)
    entries["count"] = np.minimum(np.concatenate([counts for _, counts in chosen]), _MOST)
    entries["words"] = np.repeat(np.minimum(lengths, _MOST), distinct)
    return lengths, *_by_term(places, found, entries)


def _terms(text: str, spans: list[Span], places: _Places) -> Iterator[Numbers]:
    """The places of the terms of each chunk; what several chunks share is looked at once."""
    cuts = _cuts(text, spans)
    seen: dict[tuple[int, int], Numbers] = {}
    for span in spans:
        inside = cuts[bisect_left(cuts, span.start) : bisect_right(cuts, span.stop)]
        pieces = list(pairwise([span.start, *inside, span.stop]))
        for start, stop in pieces:
            if (start, stop) not in seen:
                terms = words(text[start:stop])
                seen[start, stop] = np.array([places[term] for term in terms], np.int64)
        yield np.concatenate([seen[piece] for piece in pieces])


def _cuts(text: str, spans: list[Span]) -> list[int]:
    """The places next to the edges of chunks, before and after, where no term is parted."""
    edges = sorted({edge for span in spans for edge in span})
    cuts = set()
    for edge in edges:
        before = max(edge - limits.TERM_CHARS, 0)
        cuts |= {before + found.start() for found in _last(_PARTING, text[before:edge])}
        if after := _PARTING.search(text, edge, edge + limits.TERM_CHARS):
            cuts.add(after.start())
    return sorted(cuts)


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The last match, if there is one."""
    return list(pattern.finditer(text))[-1:]


def _by_term(
    places: dict[str, int], found: np.ndarray, entries: np.ndarray
) -> tuple[list[str], list[bytes]]:
    """Sorted terms, so that an index on them is written in its own order."""
    packed = entries[np.argsort(found, kind="stable")].tobytes()
    stops = np.cumsum(np.bincount(found, minlength=len(places))) * POSTING.itemsize
    bounds = [0, *stops.tolist()]
    terms = sorted(places)
    return terms, [packed[bounds[places[t]] : bounds[places[t] + 1]] for t in terms]
