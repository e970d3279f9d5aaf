"""SSE frames of a run's events: as clients see them, and as the log stores them (SPEC 9.1).

A run snapshot may hold 256,000 characters of instructions and is announced several times, so
the log stores large run frames without the fields that never change; a replay puts them back. A
text comes in hundreds of deltas of which only a word is not the same, so of most deltas the log
stores only that.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from understudy import limits
from understudy.errors import ApiError
from understudy.machine.deltas import Pieces
from understudy.wire.events import Event
from understudy.wire.messages import (
    MessageDelta,
    MessageDeltaBody,
    TextContentDelta,
    TextDelta,
)
from understudy.wire.runs import Run
from understudy.wire.tools import ToolResources

DONE = b"event: done\ndata: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
_STORED_RUN = b"\nrun: "  # In place of "\ndata: " where the static fields were left out.
_MORE = b"+"  # Begins a delta that differs from the whole one before it in its text alone.
_BEFORE_TEXT, _AFTER_TEXT = b'"text":{"value":', b"}}]}}\n\n"

_encode = msgspec.json.Encoder().encode
_decode_run = msgspec.json.Decoder(Run).decode


def frame(event: Event) -> bytes:
    """The frame a client sees."""
    return _frame(event.name, _encode(event.data))


def frames_of(events: Iterable[Event]) -> list[bytes]:
    """The frames of events. What is in progress as soon as it is created is encoded once."""
    shown: list[bytes] = []
    data, encoded = None, b""
    for event in events:
        if event.data is not data:
            data, encoded = event.data, _encode(event.data)
        shown.append(_frame(event.name, encoded))
    return shown


def _frame(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


@lru_cache(limits.RUNS_AT_ONCE)
def _around_text(message_id: str, index: int) -> tuple[bytes, bytes]:
    """What stands before and after the text in the frame of its delta."""
    delta = TextContentDelta(index=index, text=TextDelta(value=""))
    data = MessageDelta(id=message_id, delta=MessageDeltaBody(content=[delta]))
    head, _, tail = frame(Event(name="thread.message.delta", data=data)).rpartition(b'""')
    return head, tail


def stored(event: Event, shown: bytes) -> bytes:
    """The frame the log keeps; `shown` is the client's."""
    if not isinstance(event.data, Run) or len(shown) <= limits.WHOLE_FRAME_BYTES:
        return shown
    slim = replace(
        event.data,
        instructions="",
        tools=[],
        tool_resources=ToolResources(),
        response_format="auto",
    )
    return b"event: %b%b%b\n\n" % (event.name.encode(), _STORED_RUN, _encode(slim))


def is_slim(frame: bytes) -> bool:
    """Whether a stored frame needs its run's static fields back."""
    return frame.startswith(b"event: thread.run.") and _STORED_RUN in frame[:64]


def restored(frame: bytes, run: Run) -> bytes:
    """The client's frame from a stored one; `run` has the fields that never change."""
    head, _, data = frame.partition(_STORED_RUN)
    snapshot = replace(
        _decode_run(data),
        instructions=run.instructions,
        tools=run.tools,
        tool_resources=run.tool_resources,
        response_format=run.response_format,
    )
    return b"%b\ndata: %b\n\n" % (head, _encode(snapshot))


class Row:
    """Deltas as the log stores them in one row: `count` of them; `first` is the sequence number of
    the first, for whoever fills the row to set."""

    __slots__ = ("_head", "_parts", "count", "first")

    def __init__(self) -> None:
        self.first = 0
        self.count = 0
        self._parts: list[bytes] = []
        self._head: bytes | None = None  # Of the last whole frame.

    def add(self, said: Event | Pieces) -> list[bytes]:
        """More of them; the frames that clients see."""
        if isinstance(said, Event):
            shown = [frame(said)]
            self._add_one(shown[0])
        else:
            head, tail = _around_text(said.message_id, said.index)
            texts = [_encode(text) for text in said.texts]
            shown = [head + text + tail for text in texts]
            self._add_texts(head, texts, shown[0])
        self.count += len(shown)
        return shown

    def extend(self, later: "Row") -> None:
        """Take over those that come right after these."""
        self.count += later.count
        self._parts += later._parts
        if later.count:
            self._head = later._head

    def packed(self) -> bytes:
        """What the row holds."""
        return b"".join(self._parts)

    def _add_texts(self, head: bytes, texts: Sequence[bytes], whole: bytes) -> None:
        if self._head != head:
            self._head = head
            self._parts.append(whole)
            texts = texts[1:]
        if texts:
            self._parts.append(b"%b%b\n\n" % (_MORE, (b"\n\n" + _MORE).join(texts)))

    def _add_one(self, whole: bytes) -> None:
        if self._head and whole.startswith(self._head) and whole.endswith(_AFTER_TEXT):
            text = whole[len(self._head) : -len(_AFTER_TEXT)]
            self._parts.append(b"%b%b\n\n" % (_MORE, text))
        else:
            self._head = _head(whole)
            self._parts.append(whole)


def split(row: bytes) -> Iterator[bytes]:
    """The single frames of a stored row; JSON has no raw newline, so an empty line ends each."""
    head: bytes | None = None
    for piece in row.split(b"\n\n"):
        if piece.startswith(_MORE) and head is not None:
            yield b"%b%b%b" % (head, piece[len(_MORE) :], _AFTER_TEXT)
        elif piece:
            frame = piece + b"\n\n"
            head = _head(frame)
            yield frame


def _head(frame: bytes) -> bytes | None:
    """What a text's delta begins with, up to its text; None for other frames."""
    head, before, _ = frame.partition(_BEFORE_TEXT)
    return head + before if before and frame.endswith(_AFTER_TEXT) else None


def name_of(frame: bytes) -> str:
    """The event name of a frame."""
    return frame[7 : frame.index(b"\n")].decode()


def with_id(frame: bytes, place: tuple[int, int]) -> bytes:
    """The frame with its event id, `<fence>.<sequence>` (DECISIONS: only where asked for)."""
    return b"id: %d.%d\n%b" % (*place, frame)


def error_frame(error: ApiError) -> bytes:
    """The wrapped form; SDKs swallow a bare error (SPEC 9.3 L)."""
    return b"event: error\ndata: %b\n\n" % _encode(error.envelope())
