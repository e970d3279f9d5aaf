"""Texts cut out of chunks that are alike are those that the chunks have."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.asking import text, whole
from understudy.model.reading import Reading
from understudy.model.shape import Shape
from understudy.wire.chat import ChatChunk

TEXTS = st.text(min_size=1) | st.sampled_from(
    ['","', '"', "\\", '\\"', '"}}]}', "?", "\n", "\x00", "é", "漢"]
)


def event(content: str | None, *, spaced: bool = False, **more: Any) -> bytes:
    """A chunk as providers write it."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    found = {"id": "c1", "choices": [{**choice, **more}], "usage": None}
    return json.dumps(found, separators=None if spaced else (",", ":")).encode()


def shape_of(one: bytes) -> Shape | None:
    return Shape.of(one, msgspec.json.decode(one, type=ChatChunk))


def known(one: bytes) -> Shape:
    found = shape_of(one)
    assert found is not None
    return found


@pytest.mark.parametrize("spaced", [False, True])
@given(st.lists(TEXTS, min_size=1))
def test_texts_come_back(spaced: bool, texts: list[str]) -> None:
    events = [event(one, spaced=spaced) for one in texts]
    assert known(event("x", spaced=spaced)).texts(events) == texts


def test_texts_up_to_what_ends_an_answer() -> None:
    end = [event(None, finish_reason="stop"), b'{"choices":[],"usage":{"prompt_tokens":1}}']
    assert known(event("x")).texts([event("a"), event("b"), *end]) == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [
        event("b", logprobs=None),
        event(None),
        event(""),
        event("b").replace(b'"content":"b"', b'"content":"b","refusal":"c"'),
        event("b").replace(b'"content":"b"', b'"content":"\\ud83d"'),
        b"nonsense",
    ],
)
def test_one_that_is_not_alike_is_left_to_others(other: bytes) -> None:
    assert known(event("x")).texts([event("a"), other, event("c")]) == []
    assert known(event("x")).texts([other]) == []


def test_a_text_that_is_more_than_one_is_none() -> None:
    """Though the cuts fit."""
    twice = event("b").replace(b'"content":"b"', b'"content":"b","content":"c"')
    assert known(event("x")).texts([event("a"), twice]) == []


@pytest.mark.parametrize(
    "one",
    [
        event("a", finish_reason="stop"),
        event(None),
        event(""),
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"\\"content\\":\\"x\\""}}]}}]}',
        b'{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"delta":{"content":"a"}}],"error":"x"}',
        # The text is not the one that is found first.
        b'{"meta":{"content":"a"},"choices":[{"delta":{"content":"a"}}]}',
    ],
)
def test_what_is_more_than_a_text_has_no_shape(one: bytes) -> None:
    assert shape_of(one) is None


@given(st.lists(st.lists(TEXTS | st.sampled_from(["", None]), max_size=6), max_size=6))
def test_a_body_reads_the_same_however_it_comes(reads: list[list[str | None]]) -> None:
    events = [event(one) for read in reads for one in read]
    alone, together = Reading(), Reading()
    one_by_one = [chunk for one in events for chunk in alone.take(b"data: %b\n\n" % one)]
    chunks = [
        chunk
        for read in reads
        for chunk in together.take(b"".join(b"data: %b\n\n" % event(one) for one in read))
    ]
    assert text(whole(chunks)) == text(whole(one_by_one))
    assert len(whole(chunks)) == len(whole(one_by_one)) == len(events)


def test_a_chunk_that_had_to_be_repaired_has_no_shape() -> None:
    odd = [event(one, index="0") for one in ("a", "b", "c")]
    chunks = Reading().take(b"".join(b"data: %b\n\n" % one for one in odd))
    assert text(whole(chunks)) == "abc"
    assert all(isinstance(one, ChatChunk) for one in chunks)
