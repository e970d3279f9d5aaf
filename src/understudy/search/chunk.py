"""Chunks: windows of tokens over a text, with the exact characters where they start and stop.

Tokens are pieces of bytes, so one may end inside a character; a window's edge then moves back to
the border of that character. A long text is tokenised piece by piece: memory is bounded, and the
cuts lie where the tokenizer would part the text anyway.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from understudy import limits
from understudy.machine import tokens

_BROKEN = re.compile("[\ud800-\udfff]")


class Span(NamedTuple):
    """Where a chunk starts and stops in its text, in characters."""

    start: int
    stop: int


def chunks(text: str, size_tokens: int, overlap_tokens: int) -> Iterator[Span]:
    """Windows of `size_tokens` that share `overlap_tokens`, from the first character to the last.

    The last one starts before the last token that no other holds: it never only repeats.
    """
    assert 0 <= overlap_tokens <= size_tokens // 2, "each window must get on"
    window = _Window(iter(_pieces(mended(text))))
    start = 0
    while window.fill(size_tokens + 1):
        ids = window.ids
        is_last = len(ids) <= size_tokens
        stop_at, stop_chars = (len(ids), None) if is_last else _border(ids, size_tokens)
        length = len(tokens.decode(ids) or "") if stop_chars is None else stop_chars
        yield Span(start, start + length)
        if is_last:
            return
        step, step_chars = _border(ids, max(stop_at - overlap_tokens, 1))
        start += step_chars
        window.drop(step)


def mended(text: str) -> str:
    """The text with halves of characters replaced: they cannot be stored. Its length stays."""
    return _BROKEN.sub("\ufffd", text) if _BROKEN.search(text) else text


@dataclass(slots=True)
class _Window:
    """The tokens from the present start on, as far as they are needed."""

    pieces: Iterator[str]
    ids: list[int]

    def __init__(self, pieces: Iterator[str]) -> None:
        self.pieces = pieces
        self.ids = []

    def fill(self, wanted: int) -> bool:
        """Have `wanted` tokens if the text has them; whether there are any."""
        while len(self.ids) < wanted and (piece := next(self.pieces, None)) is not None:
            self.ids += tokens.encode(piece)
        return bool(self.ids)

    def drop(self, count: int) -> None:
        """Go on by as many tokens."""
        del self.ids[:count]


def _border(ids: list[int], at: int) -> tuple[int, int]:
    """The last border of characters at or before a token, and the characters before it.

    Where the window holds not even one whole character, the first border after it.
    """
    candidates = [*range(at, max(at - limits.TOKENS_PER_CHARACTER, 0), -1)]
    candidates += range(at + 1, at + limits.TOKENS_PER_CHARACTER + 1)
    for place in candidates:
        text = tokens.decode(ids[:place])
        if text is not None:
            return place, len(text)
    raise AssertionError("a character has at most four bytes")


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that can be tokenised one by one."""
    start = 0
    while len(text) - start > limits.TOKENISED_CHARS:
        stop = _cut(text, start + limits.TOKENISED_CHARS)
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def _cut(text: str, at: int) -> int:
    """A place shortly before `at` where a single space starts a word, or `at` itself."""
    place = text.rfind(" ", at - limits.TOKENISED_CHARS // 2, at)
    while place > 0:
        if not text[place - 1].isspace() and not text[place + 1].isspace():
            return place
        place = text.rfind(" ", at - limits.TOKENISED_CHARS // 2, place)
    return at
