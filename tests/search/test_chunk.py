"""Chunks: windows of tokens with exact characters."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.machine import tokens
from understudy.search.chunk import Span, chunks, mended

PROSE = "The quick brown fox jumps over the lazy dog, and 1,234 others follow it.\n" * 400
SAMPLES = [
    PROSE,
    "人工智能正在改变世界。" * 500,
    "👨‍👩‍👧 naïve é\u0301 \U0001f9d1\U0001f3fd‍🚀 " * 400,
    "a" * 20_000,
    " " * 60_000,
    "def f(x):\n\treturn {x: [1, 2]}\n\n" * 500,
    "\ud800broken\udfff " * 500,
]


@pytest.mark.parametrize("text", SAMPLES)
@pytest.mark.parametrize(("size", "overlap"), [(100, 0), (100, 50), (800, 400), (4096, 1)])
def test_windows_cover_the_text_and_get_on(text: str, size: int, overlap: int) -> None:
    spans = list(chunks(text, size, overlap))
    assert spans[0].start == 0
    assert spans[-1].stop == len(text)
    for one, other in pairwise(spans):
        assert one.start < other.start <= one.stop < other.stop
        assert overlap > 0 or one.stop == other.start


@pytest.mark.parametrize("text", SAMPLES)
@pytest.mark.parametrize(("size", "overlap"), [(100, 0), (100, 50), (800, 400)])
def test_no_window_has_more_tokens_than_its_size(text: str, size: int, overlap: int) -> None:
    text = mended(text)
    for span in chunks(text, size, overlap):
        # Cut out of its line, a word may be one token more than in it.
        assert tokens.count(text[span.start : span.stop]) <= size + 1


def test_windows_overlap_by_as_many_tokens_as_asked() -> None:
    spans = list(chunks(PROSE, 800, 400))
    assert len(spans) > 5
    for one, other in pairwise(spans[:-1]):
        assert abs(tokens.count(PROSE[other.start : one.stop]) - 400) <= 2


def test_a_short_text_is_one_window() -> None:
    assert list(chunks("hello", 800, 400)) == [Span(0, 5)]


def test_no_text_has_no_window() -> None:
    assert list(chunks("", 800, 400)) == []


def test_a_text_that_just_fits_is_not_repeated() -> None:
    text = " word" * 800
    assert tokens.count(text) == 800
    assert list(chunks(text, 800, 400)) == [Span(0, len(text))]
    assert len(list(chunks(text + " more", 800, 400))) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["word ", "é", "漢字", "👨‍👩‍👧", "\n\n", "  ", "x1", "\ud83d"]),
        max_size=400,
    ),
    st.integers(100, 140),
    st.integers(0, 50),
)
def test_any_text_is_covered(pieces: list[str], size: int, overlap: int) -> None:
    text = "".join(pieces)
    covered = 0
    for span in chunks(text, size, overlap):
        assert span.start <= covered < span.stop
        covered = span.stop
    assert covered == len(text)


def test_a_long_text_is_cut_as_if_it_were_tokenised_whole() -> None:
    text = PROSE * 12
    ids = tokens.encode(text)
    spans = list(chunks(text, 800, 400))
    starts = [len(tokens.decode(ids[:at]) or "") for at in range(0, len(ids) - 400, 400)]
    assert [span.start for span in spans] == starts


@pytest.mark.parametrize("piece", ["a", " ", "\n", "漢", "x1", "👨‍👩‍👧"])
def test_no_text_takes_long(piece: str) -> None:
    begun = time.monotonic()
    spans = list(chunks(piece * (1_000_000 // len(piece)), 800, 400))
    assert spans[-1].stop == 1_000_000 // len(piece) * len(piece)
    assert time.monotonic() - begun < 20
