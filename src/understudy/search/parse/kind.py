"""What a file is, by its content; the name decides only between text and HTML."""

import re
import zipfile
from pathlib import Path
from typing import Literal

from understudy import limits
from understudy.search import unreadable
from understudy.search.parse.archive import Archive

Kind = Literal["pdf", "docx", "pptx", "xlsx", "doc", "rtf", "html", "text"]

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Sources that may begin with a tag and are still to be read as they are.
_SOURCES = ".c .cpp .cs .css .go .java .js .json .md .php .py .rb .sh .tex .ts"
_DATA = ".csv .tsv .xml .yaml .yml"
_AS_IT_IS = frozenset([*_SOURCES.split(), *_DATA.split()])
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
# Other kinds of archive, by a file that each of them has.
_OTHER_ARCHIVES = {
    "META-INF/MANIFEST.MF": "a Java archive",
    "mimetype": "an OpenDocument or EPUB file",
    "xl/workbook.bin": "a binary Excel workbook",
}


def kind_of(path: Path, extension: str) -> Kind:
    """The kind of a file that has at least one byte; raises Unreadable for one of no use."""
    with path.open("rb") as file:
        head = file.read(limits.SNIFFED_BYTES)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) and zipfile.is_zipfile(path):
        return _kind_of_archive(path, extension)
    if head.startswith(_OLE):
        return _kind_of_compound(path, extension)
    if _is_pdf(head, extension):
        return "pdf"
    if head.lstrip().startswith(b"{\\rtf"):
        return "rtf"
    return "html" if _is_html(head, extension) else "text"


def _is_pdf(head: bytes, extension: str) -> bool:
    """Readers of PDF allow the mark in the first 1,024 bytes; a text may speak of it there."""
    if head.lstrip(b"\xef\xbb\xbf\0 \t\r\n").startswith(b"%PDF-"):
        return True
    return extension == ".pdf" and b"%PDF-" in head[:1024]


def _is_html(head: bytes, extension: str) -> bool:
    if extension in {".html", ".htm", ".xhtml"}:
        return True
    if extension in _AS_IT_IS:
        return False
    # Without zeros UTF-16 reads as ASCII here.
    plain = head[:4096].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")
    return _HTML.match(plain) is not None


def _kind_of_archive(path: Path, extension: str) -> Kind:
    with Archive(path) as archive:
        match archive.main_type():
            case "word":
                return "docx"
            case "presentation":
                return "pptx"
            case "workbook":
                return "xlsx"
        said = next(
            (said for name, said in _OTHER_ARCHIVES.items() if archive.has(name)), "a ZIP archive"
        )
    raise unreadable.unsupported_content(said, extension)


def _kind_of_compound(path: Path, extension: str) -> Kind:
    import olefile  # Loaded late: few files need it.

    try:
        with olefile.OleFileIO(path) as file:
            if file.exists("WordDocument"):
                return "doc"
            if file.exists("EncryptedPackage"):
                raise unreadable.encrypted()
            said = "an unknown office file"
            if file.exists("PowerPoint Document"):
                said = "a PowerPoint 97-2003 presentation"
            elif file.exists("Workbook") or file.exists("Book"):
                said = "an Excel 97-2003 workbook"
    except (OSError, ValueError, IndexError) as broken:
        raise unreadable.damaged("a Word 97-2003 document") from broken
    raise unreadable.unsupported_content(said, extension)
