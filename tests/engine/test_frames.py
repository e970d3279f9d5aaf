"""Frames as the log keeps them: smaller, and the same when they come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import frames
from understudy.engine.frames import Row
from understudy.machine.deltas import Pieces
from understudy.wire.events import Event
from understudy.wire.messages import (
    FileCitation,
    FileCitationAnnotation,
    MessageDelta,
    MessageDeltaBody,
    RefusalContentDelta,
    TextContentDelta,
    TextDelta,
)
from understudy.wire.steps import (
    FunctionCallDetails,
    StepDelta,
    StepDeltaBody,
    StepFunctionCall,
    ToolCallsDetails,
)

MARKER = FileCitationAnnotation(
    text="x", start_index=0, end_index=1, file_citation=FileCitation(file_id="file-1")
)
TEXTS = st.text(max_size=6) | st.sampled_from(["+", "\n\n", '"}}]}}', '"text":{"value":'])
PIECES = st.builds(
    Pieces,
    st.sampled_from(["msg_1", "msg_2"]),
    st.integers(0, 1),
    st.lists(TEXTS, min_size=1, max_size=4),
)


def message(delta: TextContentDelta | RefusalContentDelta) -> Event:
    body = MessageDeltaBody(content=[delta])
    return Event(name="thread.message.delta", data=MessageDelta(id="msg_1", delta=body))


def text(value: str, annotations: list[FileCitationAnnotation]) -> Event:
    return message(
        TextContentDelta(index=0, text=TextDelta(value=value, annotations=list(annotations)))
    )


def call(arguments: str) -> Event:
    function = StepFunctionCall(function=FunctionCallDetails(arguments=arguments))
    body = StepDeltaBody(step_details=ToolCallsDetails(tool_calls=[function]))
    return Event(name="thread.run.step.delta", data=StepDelta(id="step_1", delta=body))


OTHERS = st.one_of(
    st.builds(text, TEXTS, st.sampled_from([[], [MARKER]])),
    st.builds(lambda said: message(RefusalContentDelta(index=0, refusal=said)), TEXTS),
    st.builds(call, TEXTS),
)


def row(said: list[Event | Pieces]) -> tuple[Row, list[bytes]]:
    """A row of these, and what clients saw of them."""
    made = Row()
    return made, [frame for one in said for frame in made.add(one)]


SAID = st.lists(PIECES | OTHERS)


@given(SAID, SAID, SAID)
def test_a_row_gives_back_its_frames(
    said: list[Event | Pieces], later: list[Event | Pieces], last: list[Event | Pieces]
) -> None:
    """Also one that was taken together with what came after it."""
    made, shown = row(said)
    more, shown_later = row(later)
    made.extend(more)
    shown += shown_later + [frame for one in last for frame in made.add(one)]
    assert list(frames.split(made.packed())) == shown
    assert made.count == len(shown)


@given(st.lists(TEXTS, min_size=1), TEXTS)
def test_the_frames_of_pieces_are_those_of_single_deltas(texts: list[str], first: str) -> None:
    alone = [message(TextContentDelta(index=0, text=TextDelta(value=one))) for one in texts]
    whole = message(TextContentDelta(index=0, text=TextDelta(value=first)))
    one_by_one, shown = row([whole, *alone])
    together, shown_together = row([whole, Pieces("msg_1", 0, texts)])
    assert shown == shown_together
    assert one_by_one.packed() == together.packed()


@pytest.mark.parametrize("size", [1, 10, 200])
def test_a_word_costs_little_more_than_its_letters(size: int) -> None:
    """However many come together."""
    made, shown = row([Pieces("msg_1", 0, ["word "] * size)] * (200 // size))
    assert len(made.packed()) < 200 * 12 + 200
    assert len(b"".join(shown)) > 200 * 120


def test_rows_of_whole_frames_are_read_too() -> None:
    """As they were written before."""
    _, shown = row([Pieces("msg_1", 0, ["a", "b"])])
    assert list(frames.split(b"".join(shown))) == shown
