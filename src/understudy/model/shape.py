"""Shape: what the chunks of one answer have in common, which is all but their text.

Providers send a chunk of some 200 bytes for each word, and nearly always the same one with another
word in it. Once one was read, the texts of those that follow are cut out and decoded together: a
third of the time that whole chunks take.
"""

import re
from collections.abc import Sequence

import msgspec

from understudy.wire.chat import ChatChunk

_CHUNK = msgspec.json.Decoder(ChatChunk)
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_CONTENT = re.compile(rb'"content": ?"((?:[^"\\]++|\\.)*+)"')  # No steps back.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
_OTHERS = 4  # Events after the texts: the finish, the usage.


class Shape:
    """What stands before and after the text in each event of an answer."""

    __slots__ = ("_after", "_before", "_between")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._between = b"%b\n%b" % (after, before)

    @classmethod
    def of(cls, event: bytes, chunk: ChatChunk) -> "Shape | None":
        """The shape of an event, if its chunk is nothing but a text; that the text is the one which
        was found in the event is tried out."""
        found = _CONTENT.search(event) if chunk.only_text() and chunk.error is None else None
        if found is None:
            return None
        before, after = event[: found.start(1)], event[found.end(1) :]
        try:
            other = _CHUNK.decode(b"%b?%b" % (before, after))
        except _UNREADABLE:  # The chunk had to be repaired.
            return None
        return cls(before, after) if other.only_text() == "?" else None

    def texts(self, events: Sequence[bytes]) -> list[str]:
        """The texts of the events as far as they have this shape, from the first on; nothing when
        there are others between them.

        A text that the cuts have spoilt is found out: it would be more than one string, or none.
        """
        if len(events) == 1:  # As most come of a provider that takes its time.
            return self._text(events[0])
        count = len(events)
        for _ in range(min(_OTHERS, count)):
            if events[count - 1].endswith(self._after):
                break
            count -= 1
        alike = events[:count]
        start, stop = len(self._before), -len(self._after)
        parts = [event[start:stop] for event in alike]
        # Whether each of them begins and ends so is told by one comparison of all.
        rebuilt = b"%b%b%b" % (self._before, self._between.join(parts), self._after)
        if not parts or rebuilt != b"\n".join(alike):
            return []
        try:
            texts = _TEXTS.decode(b'["%b"]' % b'","'.join(parts))
        except _UNREADABLE:
            return []
        return texts if len(texts) == count and "" not in texts else []

    def _text(self, event: bytes) -> list[str]:
        before, after = self._before, self._after
        if not (event.startswith(before) and event.endswith(after)):
            return []
        try:
            text = _TEXT.decode(b'"%b"' % event[len(before) : -len(after)])
        except _UNREADABLE:
            return []
        return [text] if text else []
