"""The ZIP archive of an office file: checked before it is opened, read with a bound.

The directory is looked at before Python makes an object of each entry. What it says about sizes
may be a lie, so bytes are counted again while they are unpacked.
"""

import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, NamedTuple, Self

from understudy import limits
from understudy.search import unreadable
from understudy.search.parse.xml import XmlReader, local, read_xml

_PIECE = 64 * 1024
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENCRYPTED = 0x1

MainType = Literal["word", "presentation", "workbook", "other"]
# The last word of the main part's content type, or its folder, says what the file is.
_MAIN: dict[str, MainType] = {"word": "word", "ppt": "presentation", "xl": "workbook"}


class Relation(NamedTuple):
    """What a part of an office file refers to."""

    kind: str  # The last word of its type: `slide`, `header`, `notesSlide`.
    target: str  # The path of the other part.


class Archive:
    """An open office file; close it, or use `with`."""

    def __init__(self, path: Path) -> None:
        _check_directory(path)
        try:
            self._file = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError) as broken:
            raise unreadable.damaged("an office file") from broken
        self._unpacked_bytes = 0
        try:
            self._check_sizes(path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def has(self, name: str) -> bool:
        """Whether there is an entry of this name."""
        return name in self._file.NameToInfo

    def main_part(self) -> str:
        """The path of the part that everything else hangs on; empty when there is none."""
        if not self.has("_rels/.rels"):
            return ""
        return next((r.target for r in self.relations("").values() if r.kind == _OFFICE), "")

    def main_type(self) -> MainType:
        """What kind of office file this is."""
        main = self.main_part()
        return _MAIN.get(main.partition("/")[0], "other") if self.has(main) else "other"

    def relations(self, part: str) -> dict[str, Relation]:
        """What a part refers to inside the file, by id; nothing outside is ever looked at."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if not self.has(path):
            return {}
        reader = _Relations(folder)
        self.read(path, reader)
        return reader.found

    def read(self, name: str, reader: XmlReader) -> None:
        """Feed an XML part to a reader; raises Unreadable."""
        read_xml(self._pieces(name), reader)

    def open(self, name: str) -> IO[bytes]:
        """An entry as a stream whose bytes are not counted."""
        return self._file.open(name)

    def _pieces(self, name: str) -> Iterator[bytes]:
        try:
            with self._file.open(name) as stream:
                while piece := stream.read(_PIECE):
                    self._unpacked_bytes += len(piece)
                    if self._unpacked_bytes > limits.UNPACKED_BYTES:
                        raise unreadable.unpacks_too_large(
                            self._unpacked_bytes, limits.UNPACKED_BYTES
                        )
                    yield piece
        except (
            zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError
        ) as broken:  # fmt: skip
            raise unreadable.damaged("an office file") from broken

    def _check_sizes(self, path: Path) -> None:
        entries = self._file.infolist()
        if any(entry.flag_bits & _ENCRYPTED for entry in entries):
            raise unreadable.encrypted()
        # Pictures and films are never unpacked, so they may be as large as they like.
        read = sum(entry.file_size for entry in entries if _is_read(entry.filename))
        if read > limits.UNPACKED_BYTES:
            raise unreadable.unpacks_too_large(read, limits.UNPACKED_BYTES)
        total = sum(entry.file_size for entry in entries)
        ratio = total // max(path.stat().st_size, 1)
        if total > limits.UNPACKED_FREE_BYTES and ratio > limits.UNPACKED_RATIO:
            raise unreadable.packed_too_tightly(ratio, limits.UNPACKED_RATIO)


_OFFICE = "officeDocument"


def _is_read(name: str) -> bool:
    return name.lower().endswith((".xml", ".rels"))


class _Relations(XmlReader):
    """A .rels part."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.found: dict[str, Relation] = {}
        self._folder = folder

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """One more relation."""
        if local(tag) != "Relationship" or attributes.get("TargetMode") == "External":
            return
        target = attributes.get("Target", "").partition("#")[0]
        path = posixpath.normpath(posixpath.join("/", self._folder, target)).lstrip("/")
        kind = attributes.get("Type", "").rpartition("/")[2]
        self.found[attributes.get("Id", "")] = Relation(kind, path)


def _check_directory(path: Path) -> None:
    """Refuse a directory that would not fit into memory as objects."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 0xFFFF - _END.size - _LOCATOR.size))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + _END.size > len(tail):
            raise unreadable.damaged("an office file")
        _, _, _, _, count, length, _, _ = _END.unpack_from(tail, at)
        if at >= _LOCATOR.size and tail.startswith(b"PK\x06\x07", at - _LOCATOR.size):
            _, _, offset, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
            file.seek(min(offset, size))
            record = file.read(_END64.size)
            if len(record) < _END64.size:
                raise unreadable.damaged("an office file")
            *_, count, length, _ = _END64.unpack(record)
    if count > limits.ARCHIVE_ENTRIES or length > limits.ARCHIVE_DIRECTORY_BYTES:
        raise unreadable.too_many_entries(limits.ARCHIVE_ENTRIES)
