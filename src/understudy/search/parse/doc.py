"""Legacy .doc files: the text of Word 97 to 2003, and of Word 6 and 95 when saved in full.

A .doc is a small file system (OLE). Its stream `WordDocument` starts with a table of offsets (the
FIB); the text lies in pieces whose list (the piece table, in the Clx of the table stream) gives
the order and whether a piece has one or two bytes per character. Main text, notes, headers and
text boxes follow each other in it. Source: [MS-DOC] 2.4.1, 2.5, 2.8.35 and 2.9.38.
"""

import re
import struct
from pathlib import Path

import olefile

from understudy import limits
from understudy.search import unreadable

_MAGIC = 0xA5EC
_WORD_6_MAGIC = 0xA5DC
_WORD_97 = 0xC1  # The first nFib whose text may be Unicode.
_ENCRYPTED = 0x0100
_IS_COMPLEX = 0x0004
_TABLE_1 = 0x0200
_FC_CLX = 0x01A2
_PRC = 1
_PIECES = 2
_COMPRESSED = 1 << 30

# A field is 13 instruction 14 result 15: only the result is seen. Fields may be nested.
_FIELD_CODE = re.compile("\x13[^\x13\x14\x15]*(?:\x14([^\x13\x14\x15]*))?\x15")
_FIELD_DEPTH = 20
_ROW_END = re.compile("\x07\x07")
_UNSEEN = re.compile("[\x01-\x08\x13-\x15\x1f]")
_LITERAL = str.maketrans({"\r": "\n", "\x0b": "\n", "\x0c": "\n\n", "\x0e": "\n", "\x1e": "-"})


def read(path: Path) -> str:
    """The text of a .doc file."""
    try:
        with olefile.OleFileIO(path) as file:
            return _seen(_raw(file))
    except (OSError, struct.error, IndexError, ValueError) as broken:
        raise unreadable.damaged("a Word 97-2003 document") from broken


def _raw(file: olefile.OleFileIO) -> str:
    main = _stream(file, "WordDocument")
    magic, version = struct.unpack_from("<HH", main)
    (flags,) = struct.unpack_from("<H", main, 0x0A)
    if flags & _ENCRYPTED:
        raise unreadable.encrypted()
    if magic not in {_MAGIC, _WORD_6_MAGIC}:
        raise unreadable.damaged("a Word 97-2003 document")
    if version < _WORD_97:
        return _word_6(main, flags)
    table = _stream(file, "1Table" if flags & _TABLE_1 else "0Table")
    start, length = struct.unpack_from("<II", main, _FC_CLX)
    if not length:
        raise unreadable.damaged("a Word 97-2003 document")
    return _pieces(main, _piece_table(table[start : start + length]))


def _stream(file: olefile.OleFileIO, name: str) -> bytes:
    if not file.exists(name):
        raise unreadable.damaged("a Word 97-2003 document")
    size = file.get_size(name)
    if size > limits.OLE_STREAM_BYTES:
        raise unreadable.too_many_bytes(size, limits.OLE_STREAM_BYTES)
    data: bytes = file.openstream(name).read()
    return data


def _word_6(main: bytes, flags: int) -> str:
    """Word 6 and 95 keep the text in one run of bytes, unless it was saved in a hurry."""
    if flags & _IS_COMPLEX:
        raise unreadable.unsupported_content("a fast-saved Word 6 or 95 document", ".doc")
    start, stop = struct.unpack_from("<II", main, 0x18)
    return main[start:stop].decode("cp1252", "ignore")


def _piece_table(clx: bytes) -> bytes:
    """The piece table, behind any number of property modifiers."""
    at = 0
    while clx[at] == _PRC:
        (length,) = struct.unpack_from("<H", clx, at + 1)
        at += 3 + length
    if clx[at] != _PIECES:
        raise unreadable.damaged("a Word 97-2003 document")
    (length,) = struct.unpack_from("<I", clx, at + 1)
    return clx[at + 5 : at + 5 + length]


def _pieces(main: bytes, table: bytes) -> str:
    """The text: n + 1 character positions, then n descriptors of 8 bytes."""
    count = (len(table) - 4) // 12
    positions = struct.unpack_from(f"<{count + 1}I", table)
    found: list[str] = []
    chars = 0
    for number in range(count):
        length = positions[number + 1] - positions[number]
        (place,) = struct.unpack_from("<I", table, 4 * (count + 1) + 8 * number + 2)
        if length < 0:
            raise unreadable.damaged("a Word 97-2003 document")
        chars += length
        if chars > limits.PARSED_TEXT_CHARS:
            raise unreadable.too_many_characters(limits.PARSED_TEXT_CHARS)
        if place & _COMPRESSED:
            start = (place & ~_COMPRESSED) // 2
            found.append(main[start : start + length].decode("cp1252", "ignore"))
        else:
            found.append(main[place : place + 2 * length].decode("utf-16-le", "ignore"))
    return "".join(found)


def _seen(text: str) -> str:
    """Without the instructions of fields and the marks of pictures and notes."""
    for _ in range(_FIELD_DEPTH):
        text, changes = _FIELD_CODE.subn(lambda field: field[1] or "", text)
        if not changes:
            break
    rows = _ROW_END.sub("\n", text).replace("\r\x07", "\x07").replace("\x07", " | ")
    return _UNSEEN.sub("", rows.translate(_LITERAL))
