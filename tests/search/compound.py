"""Writes OLE files by hand: a legacy .doc, which no program here could make, and odd ones."""

import struct
from collections.abc import Mapping

SECTOR = 512
FREE, END, FAT_SECTOR = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
LEAST = 4096  # A smaller stream would be kept in another place.


def compound(streams: Mapping[str, bytes]) -> bytes:
    """An OLE file of these streams. Its file allocation table has one sector: at most 60 KB."""
    padded = {name: _padded(data) for name, data in streams.items()}
    table: list[int] = []
    bodies: list[bytes] = []
    starts: dict[str, int] = {}
    for name, data in padded.items():
        starts[name] = _chain(table, len(data) // SECTOR)
        bodies.append(data)
    entries = [_entry("Root Entry", kind=5, child=1, start=END, size=0)]
    names = list(padded)
    for number, name in enumerate(names, 1):
        right = number + 1 if number < len(names) else FREE
        entries.append(
            _entry(name, kind=2, right=right, start=starts[name], size=len(padded[name]))
        )
    directory = b"".join(entries)
    directory += b"\0" * (-len(directory) % SECTOR)
    directory_start = _chain(table, len(directory) // SECTOR)
    fat_start = len(table)
    table.append(FAT_SECTOR)
    assert len(table) <= SECTOR // 4, "one sector of table"
    table += [FREE] * (SECTOR // 4 - len(table))
    fat = struct.pack(f"<{SECTOR // 4}I", *table)
    return _header(directory_start, fat_start) + b"".join([*bodies, directory, fat])


def _padded(data: bytes) -> bytes:
    size = max(len(data), LEAST)
    return data.ljust(size + (-size % SECTOR), b"\0")


def _chain(table: list[int], count: int) -> int:
    """Neighbouring sectors; the first one's number."""
    start = len(table)
    table += [*range(start + 1, start + count), END]
    return start


def _header(directory_start: int, fat_start: int) -> bytes:
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 16
    head += struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<IIIII", 0, 1, directory_start, 0, LEAST)
    head += struct.pack("<IIII", END, 0, END, 0)
    return head + struct.pack("<109I", fat_start, *[FREE] * 108)


def _entry(
    name: str, *, kind: int, start: int, size: int, child: int = FREE, right: int = FREE
) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    entry = encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded), kind, 1)
    entry += struct.pack("<III", FREE, right, child) + b"\0" * 36
    return entry + struct.pack("<IQ", start, size)


def word_document(text: str, *, flags: int = 0) -> bytes:
    """A Word 97-2003 document in two pieces: one of single bytes, where it can be, and the rest."""
    text = text.replace("\n", "\r")
    narrow = next((at for at, char in enumerate(text) if ord(char) > 0x7F), len(text))
    pieces = [(text[:narrow].encode("cp1252"), True), (text[narrow:].encode("utf-16-le"), False)]
    body = bytearray(b"\0" * 1536)
    positions, places = [0], []
    for data, is_narrow in pieces:
        at = len(body)
        places.append((at * 2) | 1 << 30 if is_narrow else at)
        positions.append(positions[-1] + (len(data) if is_narrow else len(data) // 2))
        body += data.ljust(len(data) + len(data) % 2, b"\0")
    plc = struct.pack(f"<{len(positions)}I", *positions)
    plc += b"".join(struct.pack("<HIH", 0, place, 0) for place in places)
    # A property modifier stands before the pieces, as Word writes it after a hasty save.
    clx = b"\x01" + struct.pack("<H", 3) + b"abc" + b"\x02" + struct.pack("<I", len(plc)) + plc
    struct.pack_into("<HH", body, 0, 0xA5EC, 0xC1)
    struct.pack_into("<H", body, 0x0A, flags | 0x0200)
    struct.pack_into("<I", body, 0x4C, positions[-1])
    struct.pack_into("<II", body, 0x1A2, 0, len(clx))
    return compound({"WordDocument": bytes(body), "1Table": clx})
