"""The SSE parser: the same events, however the body is cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.model.sse import DONE, LineTooLong, SseParser

LIMIT = 10_000

BODY = (
    "\ufeff: a comment\r\n"
    "event: message\r\n"
    'data: {"text": "héllo 🌍"}\r\n'
    "\r\n"
    'data:{"no": "space"}\n'
    "id: 7\n"
    "\n"
    ": keep-alive\n\n"
    "data: {\n"
    'data:   "lines": 2\n'
    "data: }\n\n"
    "retry: 3000\r\r"
    'data: {"cr": true}\r\r'
    "data: [DONE]\n\n"
).encode()

EVENTS = [
    '{"text": "héllo 🌍"}'.encode(),
    b'{"no": "space"}',
    b'{\n  "lines": 2\n}',
    b'{"cr": true}',
    DONE,
]


PARTS = [b"data: {", b"data:", b"data:\n", b"}", b"\n", b"\n\n", b"\r", b"[DONE]", b"x"]
PARTS += [b"data: {}\n\n", b"data: [DONE] \n\n", b"data: \n\n", b"\xef\xbb\xbf"]


def parse(pieces: list[bytes]) -> list[bytes]:
    """All events of a body that arrives in these pieces."""
    parser = SseParser(LIMIT)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish()


def test_a_body_in_one_piece() -> None:
    assert parse([BODY]) == EVENTS


@pytest.mark.parametrize("cut", range(len(BODY) + 1))
def test_a_cut_at_every_byte_changes_nothing(cut: int) -> None:
    assert parse([BODY[:cut], BODY[cut:]]) == EVENTS


def test_one_byte_at_a_time() -> None:
    assert parse([BODY[at : at + 1] for at in range(len(BODY))]) == EVENTS


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_any_cuts_change_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[start:end] for start, end in itertools.pairwise(edges)]
    assert parse(pieces) == EVENTS


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_line_feeds_alone_do_too(cuts: list[int]) -> None:
    body = BODY.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    edges = [0, *sorted(cuts), len(BODY)]
    assert parse([body[start:end] for start, end in itertools.pairwise(edges)]) == EVENTS


@given(st.lists(st.sampled_from(PARTS)))
def test_a_line_at_a_time_is_the_same(pieces: list[bytes]) -> None:
    """Events that come together, or alone, have a shorter way."""
    body = b"".join(pieces)
    assert parse([body]) == parse(body.splitlines(keepends=True)) == parse(pieces)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_survived_and_cuts_still_change_nothing(pieces: list[bytes]) -> None:
    assert parse(pieces) == parse([b"".join(pieces)])


def test_events_without_blank_lines_are_told_apart() -> None:
    assert parse([b'data: {"a": 1}\ndata: {"b": 2}\ndata: [DONE]\n']) == [
        b'{"a": 1}',
        b'{"b": 2}',
        DONE,
    ]


def test_done_is_seen_at_once_without_a_blank_line() -> None:
    assert SseParser(LIMIT).feed(b'data: {"a": 1}\ndata: [DONE]\n') == [b'{"a": 1}', DONE]


def test_the_last_event_may_end_with_the_body() -> None:
    assert parse([b'data: {"a": 1}\n\ndata: {"b": 2}']) == [b'{"a": 1}', b'{"b": 2}']


def test_an_endless_line_is_refused() -> None:
    parser = SseParser(100)
    with pytest.raises(LineTooLong):
        for _ in range(20):
            parser.feed(b"data: 0123456789")


def test_an_endless_event_is_refused() -> None:
    parser = SseParser(100)
    with pytest.raises(LineTooLong):
        for _ in range(20):
            parser.feed(b"data: 0123456789\n")


def test_long_streams_of_short_lines_are_not_refused() -> None:
    parser = SseParser(100)
    for _ in range(1_000):
        assert parser.feed(b"data: 0123456789\n\n") == [b"0123456789"]
