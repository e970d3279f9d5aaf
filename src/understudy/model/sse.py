"""An incremental parser of server-sent events that returns the data of each event as bytes.

It follows the standard (lines end with CR, LF or CRLF; a blank line ends an event; `data:`
lines of one event are joined), and is lenient where providers are not:

* an event that lacks its blank line ends where the next JSON object or `[DONE]` begins (no
  JSON text has a line that ends with `}` before one that begins with `{`);
* the last event may end with the body instead of a blank line (`finish`).

Only whole lines are looked at, so a piece may end anywhere, inside a character too.
"""

DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


class LineTooLong(Exception):
    """A line or an event of the provider exceeds the bound."""


class SseParser:
    """Takes the pieces of one body in order."""

    __slots__ = ("_data", "_is_first", "_limit", "_parts", "_size", "_skip_lf")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._parts: list[bytes] = []  # The line that has not ended yet.
        self._size = 0  # Bytes held: that line and the open event.
        self._data: list[bytes] = []  # The `data:` lines of the open event.
        self._skip_lf = False  # The last piece ended with CR; a LF now belongs to it.
        self._is_first = True

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that this piece completes."""
        if _is_one_event(piece) and not (self._parts or self._data or self._skip_lf):
            self._is_first = False
            return [piece[6:-2]]
        if self._skip_lf and piece:
            self._skip_lf = False
            piece = piece.removeprefix(b"\n")
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        if not end:
            self._hold(piece)
            return []
        self._skip_lf = piece.endswith(b"\r")
        whole, rest = (piece, b"") if end == len(piece) else (piece[:end], piece[end:])
        if self._parts:
            self._parts.append(whole)
            whole = b"".join(self._parts)
            self._parts.clear()
        events = self._lines(whole)
        self._size = sum(map(len, self._data))
        self._hold(rest)
        return events

    def finish(self) -> list[bytes]:
        """The data of the events that only the end of the body completes."""
        events = self._lines(b"".join(self._parts)) if self._parts else []
        self._parts.clear()
        if self._data:
            events.append(self._event())
        return events

    def _hold(self, piece: bytes) -> None:
        """Keep the beginning of a line."""
        self._size += len(piece)
        if self._size > self._limit:
            raise LineTooLong
        if piece:
            self._parts.append(piece)

    def _lines(self, text: bytes) -> list[bytes]:
        """The events that these whole lines complete."""
        if self._is_first:
            self._is_first = False
            text = text.removeprefix(_BOM)
        events: list[bytes] = []
        if self._data or b"\r" in text:
            self._each_line(text, events)
            return events
        if (plain := _single_lines(text)) is not None:
            return plain
        *blocks, rest = text.split(b"\n\n")
        for block in blocks:
            self._each_line(block, events)
            if self._data:
                events.append(self._event())
        self._each_line(rest, events)
        return events

    def _each_line(self, text: bytes, events: list[bytes]) -> None:
        for line in text.splitlines():
            if not line:
                if self._data:
                    events.append(self._event())
            elif line.startswith(b"data:"):
                self._add(line[6:] if line.startswith(b"data: ") else line[5:], events)

    def _add(self, value: bytes, events: list[bytes]) -> None:
        """One more `data:` line, which may show that the event before it was over."""
        value = _value(value)
        is_done = value == DONE
        if self._data and (is_done or _begins_anew(self._data[-1], value)):
            events.append(self._event())
        if is_done:
            events.append(value)
        else:
            self._data.append(value)

    def _event(self) -> bytes:
        """The open event's data; closes it."""
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        return data


def _is_one_event(piece: bytes) -> bool:
    """Whether a piece is just one event of one line, as most are of a provider that takes its time.
    It is told from nothing but its ends and the first line feed."""
    return (
        piece.startswith(b"data: {")
        and piece.endswith(b"\n\n")
        and piece.find(b"\n") == len(piece) - 2
        and b"\r" not in piece
    )


def _single_lines(text: bytes) -> list[bytes] | None:
    """The events of a text without CR that is nothing but events of one line, as nearly every one
    is; None of any other. Each line feed is accounted for, so no line is looked at by itself."""
    if not (text.startswith(b"data: ") and text.endswith(b"\n\n")):
        return None
    events = text[6:-2].split(b"\n\ndata: ")
    if text.count(b"\n") != 2 * len(events):
        return None
    return [event if event[:1] == b"{" else _value(event) for event in events]


def _value(value: bytes) -> bytes:
    """The value of a `data:` line; some providers put spaces around [DONE]."""
    return DONE if value.strip() == DONE else value


def _begins_anew(last: bytes, value: bytes) -> bool:
    """Whether no JSON text can have these two lines in a row."""
    return last.rstrip().endswith(b"}") and value.lstrip().startswith(b"{")
