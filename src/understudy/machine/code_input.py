"""The code in the arguments of a code_interpreter call, decoded while the model writes it.

The arguments are the JSON object `{"code": "..."}`. They come in fragments that may be cut
anywhere: inside an escape, and between the two halves of a surrogate pair. What was shown of the
code while it came is always the start of what `code_of` makes of the whole.

Models make mistakes, and code is better run than refused: a raw line break in the string is taken,
a backslash that escapes nothing stays, half a character becomes U+FFFD, and a string that never
ends is what there is of it. Arguments of another shape show nothing before they are whole.
"""

import re
from typing import Any

import msgspec

# More white space than this between two signs is no way to write the opening.
_SPACE = r"[ \t\r\n]{0,64}"
_OPENING = re.compile(rf'{_SPACE}\{{{_SPACE}"code"{_SPACE}:{_SPACE}"')
# What may become the opening.
_MAY_OPEN = re.compile(
    rf'{_SPACE}(?:\{{{_SPACE}(?:"(?:c(?:o(?:d(?:e(?:"{_SPACE}(?::{_SPACE})?)?)?)?)?)?)?)?'
)
_PLAIN = re.compile(r'[^"\\]+')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_HEX_BEGUN = re.compile(r"[0-9a-fA-F]{0,3}")
_LOW_BEGUN = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F](?:[0-9a-fA-F])?)?)?)?)?")
_LOW = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_ESCAPES = {
    '"': '"',
    "\\": "\\",
    "/": "/",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}
_HALF = "\ufffd"  # What stands for half a character.
# Under which names models put code that was asked for as `code`.
_OTHER_KEYS = ("code", "input", "source", "python", "script")


class CodeInput:
    """One call's arguments on their way: `feed` every fragment, then `finish`."""

    def __init__(self) -> None:
        self.is_open = False  # Whether the arguments begin as they should.
        self._is_over = False
        self._held = ""

    def feed(self, fragment: str) -> str:
        """The code that is known now and was not before."""
        if self._is_over:
            return ""
        text, self._held = self._held + fragment, ""
        if self.is_open:
            return self._decode(text)
        opening = _OPENING.match(text)
        if opening is not None:
            self.is_open = True
            return self._decode(text[opening.end() :])
        if _MAY_OPEN.fullmatch(text):
            self._held = text
        else:
            self._is_over = True
        return ""

    def finish(self) -> str:
        """What is left when nothing more comes: half a character, perhaps."""
        held, self._held = self._held, ""
        is_half = self.is_open and not self._is_over and _HEX.match(held, 2) is not None
        self._is_over = True
        return _HALF if is_half else ""

    def _decode(self, text: str) -> str:
        decoded: list[str] = []
        at = 0
        while at < len(text):
            plain = _PLAIN.match(text, at)
            if plain is not None:
                decoded.append(plain[0])
                at = plain.end()
                continue
            if text[at] == '"':
                self._is_over = True
                return "".join(decoded)
            escape = _escape(text, at)
            if escape is None:
                break
            piece, at = escape
            decoded.append(piece)
        self._held = text[at:]
        return "".join(decoded)


def _escape(text: str, at: int) -> tuple[str, int] | None:
    """What a backslash says, and where it ends; None while that is not known."""
    if at + 1 == len(text):
        return None
    kind = text[at + 1]
    if kind != "u":
        # A backslash that escapes nothing is one of the code: models forget to double it.
        return _ESCAPES.get(kind, "\\" + kind), at + 2
    digits = _HEX.match(text, at + 2)
    if digits is None:
        is_cut = _HEX_BEGUN.fullmatch(text, at + 2) is not None
        return None if is_cut else ("\\u", at + 2)
    unit, end = int(digits[0], 16), at + 6
    if not 0xD800 <= unit <= 0xDFFF:
        return chr(unit), end
    low = _LOW.match(text, end) if unit < 0xDC00 else None
    if low is not None:
        return chr(0x10000 + ((unit - 0xD800) << 10) + int(low[1], 16) - 0xDC00), low.end()
    if unit < 0xDC00 and _LOW_BEGUN.fullmatch(text, end):
        return None
    return _HALF, end


def code_of(arguments: str) -> str:
    """The code in a call's arguments. What is no JSON at all is taken as code."""
    reader = CodeInput()
    code = reader.feed(arguments) + reader.finish()
    if reader.is_open:
        return code
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return arguments
    found = _found(decoded)
    return arguments if found is None else found


def _found(decoded: Any) -> str | None:
    """The code in what a model sent, which is free JSON."""
    if isinstance(decoded, str):
        return decoded
    if isinstance(decoded, dict):
        return next(
            (decoded[key] for key in _OTHER_KEYS if isinstance(decoded.get(key), str)), None
        )
    return None
