"""Frames as the log keeps them: smaller, and the same when they come back."""

from hypothesis import given
from hypothesis import strategies as st

from understudy.engine import frames
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
    Pieces, st.sampled_from(["msg_1", "msg_2"]), st.integers(0, 1), st.lists(TEXTS, max_size=4)
)


def message(delta: TextContentDelta | RefusalContentDelta) -> bytes:
    body = MessageDeltaBody(content=[delta])
    return frames.frame(
        Event(name="thread.message.delta", data=MessageDelta(id="msg_1", delta=body))
    )


def text(value: str, annotations: list[FileCitationAnnotation]) -> bytes:
    return message(
        TextContentDelta(index=0, text=TextDelta(value=value, annotations=list(annotations)))
    )


def call(arguments: str) -> bytes:
    function = StepFunctionCall(function=FunctionCallDetails(arguments=arguments))
    body = StepDeltaBody(step_details=ToolCallsDetails(tool_calls=[function]))
    return frames.frame(
        Event(name="thread.run.step.delta", data=StepDelta(id="step_1", delta=body))
    )


OTHERS = st.one_of(
    st.builds(text, TEXTS, st.sampled_from([[], [MARKER]])),
    st.builds(lambda said: message(RefusalContentDelta(index=0, refusal=said)), TEXTS),
    st.builds(call, TEXTS),
)


@given(st.lists(st.builds(frames.pieces, PIECES) | st.builds(lambda one: [one], OTHERS)))
def test_a_row_gives_back_its_frames(groups: list[list[bytes]]) -> None:
    shown = [frame for group in groups for frame in group]
    assert list(frames.split(frames.packed(shown))) == shown


@given(st.lists(TEXTS, min_size=1))
def test_the_frames_of_pieces_are_those_of_single_deltas(texts: list[str]) -> None:
    alone = [message(TextContentDelta(index=0, text=TextDelta(value=one))) for one in texts]
    assert frames.pieces(Pieces("msg_1", 0, texts)) == alone


def test_a_word_costs_little_more_than_its_letters() -> None:
    shown = frames.pieces(Pieces("msg_1", 0, ["word "] * 200))
    assert len(frames.packed(shown)) < 200 * 12 + 200
    assert len(b"".join(shown)) > 200 * 120


def test_rows_of_whole_frames_are_read_too() -> None:
    """As they were written before."""
    shown = frames.pieces(Pieces("msg_1", 0, ["a", "b"]))
    assert list(frames.split(b"".join(shown))) == shown
