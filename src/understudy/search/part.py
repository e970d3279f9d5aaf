"""Parts: a document's chunks, a bounded number at a time, with their postings.

A part is what is stored in one commit. Parts depend on the text and the sizes alone, so that a
reading that was interrupted goes on after the last part that was stored.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import msgspec
import numpy as np

from understudy import limits
from understudy.search.chunk import Span, chunks, mended
from understudy.search.words import words

# How often a term is in a chunk, and how many terms that chunk has.
POSTING = np.dtype([("ordinal", "<u4"), ("count", "<u2"), ("words", "<u2")])
_MOST = np.iinfo(np.uint16).max


class Part(msgspec.Struct, frozen=True):
    """Some neighbouring chunks of a document."""

    number: int  # Of the part in its document, from 0.
    first: int  # The ordinal of its first chunk in the document.
    starts: list[int]
    stops: list[int]
    words: list[int]  # The number of terms of each chunk.
    strides: list[str]  # Of each chunk the text up to the start of the next.
    texts: list[str]  # Of each chunk the whole text.
    terms: list[str]
    postings: list[bytes]  # Of each term its POSTINGs in this part.


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
    lengths, terms, postings = _postings(texts, first)
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


def _postings(texts: list[str], first: int) -> tuple[list[int], list[str], list[bytes]]:
    """The number of terms of each text; the distinct terms, sorted; the postings of each."""
    places = _Places()
    lengths: list[int] = []
    distinct: list[int] = []
    found: list[int] = []
    counts: list[int] = []
    for text in texts:
        terms = words(text)
        tally = Counter(terms)
        lengths.append(len(terms))
        distinct.append(len(tally))
        found += [places[term] for term in tally]
        counts += tally.values()
    entries = np.empty(len(found), POSTING)
    entries["ordinal"] = np.repeat(np.arange(first, first + len(texts)), distinct)
    entries["count"] = np.minimum(counts, _MOST)
    entries["words"] = np.repeat(np.minimum(lengths, _MOST), distinct)
    return lengths, *_by_term(places, np.array(found, np.int64), entries)


def _by_term(
    places: dict[str, int], found: np.ndarray, entries: np.ndarray
) -> tuple[list[str], list[bytes]]:
    """Sorted terms, so that an index on them is written in its own order."""
    packed = entries[np.argsort(found, kind="stable")].tobytes()
    stops = np.cumsum(np.bincount(found, minlength=len(places))) * POSTING.itemsize
    bounds = [0, *stops.tolist()]
    terms = sorted(places)
    return terms, [packed[bounds[places[t]] : bounds[places[t] + 1]] for t in terms]
