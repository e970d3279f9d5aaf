"""Plain texts, code and markup: bytes in whatever encoding become text, or it is no text."""

import codecs
import contextlib
import re
import unicodedata
from pathlib import Path

from understudy import limits
from understudy.search import unreadable
from understudy.search.parse.encoding import UnknownEncoding, encoding_of

_MARKS = (  # UTF-32 first: its little-endian mark starts as that of UTF-16 does.
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\x0b\f\r\b\x1b")) + b"\x7f"
_CONTROLS_IN_ASCII = 0.1  # A log may have some; a program or a picture has more.
_CONTROLS_ELSEWHERE = 0.01  # One byte per character makes any bytes text, so less is allowed.
_ODD = frozenset({"Cc", "Cn", "Co", "Cs"})
_ODD_SHARE = 0.02
# What texts of all scripts share, and what the wrong order of bytes makes of nothing common.
_COMMON = re.compile("[\t\n\r -~\u3001\u3002\uff0c]")
_COMMON_EVERY = 50  # Characters; a sentence has at least a full stop or a line end.
_FEW_BROKEN = 20  # Good characters for each broken one, and it is still UTF-8.


class NotText(Exception):
    """Bytes that are no text in any encoding we know."""


def read(path: Path, extension: str) -> str:
    """The text of a text file."""
    size = path.stat().st_size
    if size > limits.TEXT_BYTES:
        with path.open("rb") as file:
            _decoded(file.read(limits.SNIFFED_BYTES), extension)
        raise unreadable.too_many_bytes(size, limits.TEXT_BYTES)
    return _decoded(path.read_bytes(), extension)


def _decoded(data: bytes, extension: str) -> str:
    try:
        return decoded(data)
    except NotText:
        said = _known_format(data[: limits.SNIFFED_BYTES])
        if said:
            raise unreadable.unsupported_content(said, extension) from None
        raise unreadable.not_text(extension) from None


def decoded(data: bytes, *, declared: str | None = None) -> str:
    """The text of these bytes; raises NotText. What UTF-8 explains, no declaration overrides."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _plausible(data[len(mark) :].decode(encoding, "ignore"))
    controls = len(data) - len(data.translate(None, _CONTROLS))
    is_narrow = controls <= len(data) * _CONTROLS_IN_ASCII
    if 0 in data and not (is_narrow and _is_utf8(data)) and (wide := _wide(data)):
        return _plausible(data.decode(wide, "ignore"))
    if not is_narrow:
        raise NotText
    if b"\x1b$B" in data and data.isascii():
        return _plausible(data.decode("iso2022_jp", "ignore"))
    text = _utf8(data)
    if text is not None:
        return text
    if controls > len(data) * _CONTROLS_ELSEWHERE:
        raise NotText
    try:
        encoding = _declared(data, declared) or encoding_of(data)
    except UnknownEncoding:
        raise NotText from None
    return _plausible(data.decode(encoding, "replace"))


def _utf8(data: bytes) -> str | None:
    """The text if it is UTF-8, perhaps with some broken bytes; None if it is something else."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - broken
    return text if good >= broken * _FEW_BROKEN else None


def _wide(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: line ends, spaces and digits of any script have zeros."""
    for encoding in ("utf-32-le", "utf-32-be"):
        with contextlib.suppress(UnicodeDecodeError):
            data.decode(encoding)  # Random bytes never are: three of four numbers are too large.
            return encoding
    scores: dict[str, int] = {}
    for encoding in ("utf-16-le", "utf-16-be"):
        with contextlib.suppress(UnicodeDecodeError):
            text = data[: len(data) // 2 * 2].decode(encoding)
            scores[encoding] = len(_COMMON.findall(text))
    if not scores:
        return None
    best = max(scores, key=lambda name: scores[name])
    other = min(scores.values()) if len(scores) == 2 else 0
    is_clear = scores[best] > 2 * other and scores[best] * _COMMON_EVERY * 2 >= len(data)
    return best if is_clear else None


def _is_utf8(data: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        data.decode()
        return True
    return False


def _declared(data: bytes, declared: str | None) -> str | None:
    """The encoding that a page declares, if Python knows it and the bytes agree."""
    if not declared:
        return None
    try:
        name = codecs.lookup(declared).name
        name = "cp1252" if name in {"iso8859-1", "ascii"} else name
        if data.decode(name, "replace").count("\ufffd") * _FEW_BROKEN * 5 > len(data):
            return None
    except (LookupError, ValueError):
        return None
    return name


def _plausible(text: str) -> str:
    """The text, if it looks like one."""
    sample = text[: limits.DETECTED_BYTES]
    odd = sum(
        char == "\ufffd"
        or (unicodedata.category(char) in _ODD and char not in "\t\n\x0b\f\r\b\x1b\x85")
        for char in sample
    )
    if not sample or odd > len(sample) * _ODD_SHARE:
        raise NotText
    return text


def _known_format(head: bytes) -> str:
    """What the bytes are instead, if their first ones say so; empty otherwise."""
    import puremagic  # Loaded late: few files need it.

    try:
        found = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return ""
    best = max(found, key=lambda match: match.confidence)
    sure = best.confidence >= 0.6 and len(best.byte_match or b"") >= 3
    kind = best.mime_type.partition("/")[0] if best.mime_type else ""
    return f"of the type {best.mime_type}" if sure and kind else ""
