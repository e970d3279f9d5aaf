"""Stamps: whether a stream of stamped deltas is whole and in order, and how late each delta was.

The upstream writes `000007@0012345.678901` into its eighth delta; both ends are on one machine and
share its monotonic clock. A delta is heard when the read came that has the end of its event.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import msgspec

from benchmarks.connection import BadAnswer, Heard

_STAMP = re.compile(rb'"(?:content|value)":"(\d+)@([\d.]+) "')
_DELTA = "thread.message.delta"
_BEFORE = [
    "thread.created",
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
]
_AFTER = [
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
    "done",
]


@dataclass(frozen=True, slots=True)
class Stamp:
    """One delta's times, of the monotonic clock."""

    written_at: float
    heard_at: float


def stamps(heard: Heard, count: int, *, is_ours: bool) -> list[Stamp]:
    """The deltas of a stream, which must be so many, in order, each as an event of its own."""
    frames = list(_frames(heard))
    if is_ours:
        _check_grammar([frame for frame, _ in frames], count)
        frames = [(frame, at) for frame, at in frames if _name(frame) == _DELTA]
    found = [(match, at) for frame, at in frames if (match := _STAMP.search(frame))]
    numbers = [int(match[1]) for match, _ in found]
    if numbers != list(range(count)):
        raise BadAnswer(f"deltas are missing, doubled or out of order: {numbers}")
    return [Stamp(float(match[2]), at) for match, at in found]


def delays(streams: Sequence[Sequence[Stamp]]) -> list[list[float]]:
    """Seconds that deltas were under way: all, and those written while every stream ran."""
    since = max(stream[0].written_at for stream in streams)
    until = min(stream[-1].written_at for stream in streams)
    every = [stamp for stream in streams for stamp in stream]
    amid = [stamp for stamp in every if since <= stamp.written_at <= until]
    return [[stamp.heard_at - stamp.written_at for stamp in some] for some in (every, amid)]


def _check_grammar(frames: Sequence[bytes], count: int) -> None:
    """The events of a run that says one text, and JSON in each."""
    names = [_name(frame) for frame in frames]
    if names != _BEFORE + [_DELTA] * count + _AFTER:
        raise BadAnswer(f"not the events of a run: {names}")
    for frame in frames[:-1]:
        msgspec.json.decode(frame.partition(b"\ndata: ")[2])


def _name(frame: bytes) -> str:
    return frame.partition(b"\n")[0].removeprefix(b"event: ").decode()


def _frames(heard: Heard) -> Iterator[tuple[bytes, float]]:
    """Each event, and when its last byte came."""
    raw = b"".join(heard.pieces)
    ends = list(accumulate(len(piece) for piece in heard.pieces))
    text, chunk_starts, raw_starts = _unchunked(raw)
    start = 0
    while (end := text.find(b"\n\n", start)) >= 0:
        chunk = bisect_right(chunk_starts, end + 1) - 1
        raw_end = raw_starts[chunk] + (end + 1 - chunk_starts[chunk]) + 1
        yield text[start:end], heard.times[bisect_left(ends, raw_end)]
        start = end + 2


def _unchunked(raw: bytes) -> tuple[bytes, list[int], list[int]]:
    """The body without its chunk sizes; where each chunk starts in it, and in the raw answer."""
    chunks: list[bytes] = []
    chunk_starts: list[int] = []
    raw_starts: list[int] = []
    length, at = 0, raw.index(b"\r\n\r\n") + 4
    while True:
        line_end = raw.index(b"\r\n", at)
        size = int(raw[at:line_end], 16)
        if not size:
            return b"".join(chunks), chunk_starts, raw_starts
        at = line_end + 2
        chunks.append(raw[at : at + size])
        chunk_starts.append(length)
        raw_starts.append(at)
        length += size
        at += size + 2
