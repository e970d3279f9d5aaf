"""Parts: chunks with their postings, a bounded number at a time."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from understudy import limits
from understudy.search.part import POSTING, Part, parts
from understudy.search.words import words

TEXT = "".join(
    f"Section {n}: the value of item{n % 7} is {n * 37}, naïvely.\n" for n in range(2_500)
)


@pytest.fixture(scope="module")
def found() -> list[Part]:
    return list(parts(TEXT, 200, 100))


def test_parts_are_bounded_and_numbered(found: list[Part]) -> None:
    assert len(found) > 2
    assert [part.number for part in found] == list(range(len(found)))
    assert all(len(part.texts) == limits.PART_CHUNKS for part in found[:-1])
    assert [part.first for part in found] == [n * limits.PART_CHUNKS for n in range(len(found))]


def test_the_strides_are_the_text(found: list[Part]) -> None:
    assert "".join(stride for part in found for stride in part.strides) == TEXT


def test_a_chunk_is_made_of_strides(found: list[Part]) -> None:
    starts = [start for part in found for start in part.starts]
    stops = [stop for part in found for stop in part.stops]
    strides = [stride for part in found for stride in part.strides]
    texts = [text for part in found for text in part.texts]
    for at, text in enumerate(texts):
        joined = "".join(strides[at : at + 3])
        assert joined[: stops[at] - starts[at]] == text == TEXT[starts[at] : stops[at]]


def test_postings_say_how_often_a_term_is_in_each_chunk(found: list[Part]) -> None:
    for part in found:
        assert part.terms == sorted(set(part.terms))
        counts = [Counter(words(text)) for text in part.texts]
        assert part.words == [tally.total() for tally in counts]
        told = {
            (term, int(entry["ordinal"])): (int(entry["count"]), int(entry["words"]))
            for term, data in zip(part.terms, part.postings, strict=True)
            for entry in np.frombuffer(data, POSTING)
        }
        assert told == {
            (term, part.first + at): (count, tally.total())
            for at, tally in enumerate(counts)
            for term, count in tally.items()
        }


def test_a_resumed_reading_gives_the_same_parts(found: list[Part]) -> None:
    assert list(parts(TEXT, 200, 100, skip=1)) == found[1:]
    assert list(parts(TEXT, 200, 100, skip=len(found))) == []


@pytest.mark.parametrize(
    "text", ["人工智能改变世界。" * 900, "aBc" * 5_000, " x" * 3_000, "\t" * 9_000]
)
def test_postings_of_any_text_are_those_of_its_chunks(text: str) -> None:
    for part in parts(text, 150, 70):
        tallies = [Counter(words(chunk)) for chunk in part.texts]
        assert part.words == [tally.total() for tally in tallies]
        assert set(part.terms) == {term for tally in tallies for term in tally}


def test_an_empty_text_has_no_part() -> None:
    assert list(parts("", 800, 400)) == []


def test_a_text_without_words_has_a_part_without_terms() -> None:
    (part,) = parts("-- --", 800, 400)
    assert (part.texts, part.words, part.terms, part.postings) == (["-- --"], [0], [], [])


def test_half_characters_are_replaced_so_that_parts_can_be_sent() -> None:
    (part,) = parts("a \ud800 b", 800, 400)
    assert part.texts == ["a \ufffd b"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=Part) == part
