"""Reading files: the text of one file, whatever it is called. Runs in a child process only.

Content decides over the name: a PDF called .txt is read as PDF, and a text called .pdf as text.
The name only says whether the file may be searched at all, and that a text is HTML. Parsers are
imported when the first file needs them, so that a child starts quickly.
"""

import re
from pathlib import Path
from typing import assert_never

from understudy import limits
from understudy.search import unreadable
from understudy.search.parse.kind import Kind, kind_of
from understudy.wire.searchable import SEARCHABLE_EXTENSIONS, extension_of

# Control characters that no text needs, lone surrogates, and line ends other than ours.
_UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff\x85\u2028\u2029]")
_ENDS = re.compile("\r\n?|[\x0b\x85\u2028\u2029]")
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")

# Kinds that the default searches, by whatever name they come.
_DOCUMENTS: frozenset[Kind] = frozenset({"pdf", "docx", "pptx", "doc", "html"})


def read_text(path: Path, filename: str, *, more_types: bool = False) -> str:
    """The text of a file; raises Unreadable."""
    extension = extension_of(filename)
    if not path.stat().st_size:
        raise unreadable.empty()
    kind = kind_of(path, extension)
    if not _is_allowed(kind, extension, more_types=more_types):
        if extension and extension not in SEARCHABLE_EXTENSIONS:
            raise unreadable.unsupported_extension(extension)
        raise unreadable.unsupported_content(_SAID[kind], extension)
    text = clean(_read(kind, path, extension))
    if len(text) > limits.PARSED_TEXT_CHARS:
        raise unreadable.too_many_characters(limits.PARSED_TEXT_CHARS)
    if not text or text.isspace():
        raise unreadable.no_text(extension)
    return text


def clean(text: str) -> str:
    """The text with one kind of line end and without what is no character."""
    if not _UNCLEAN.search(text):
        return text
    return _DROPPED.sub("", _ENDS.sub("\n", text))


def _is_allowed(kind: Kind, extension: str, *, more_types: bool) -> bool:
    if more_types or kind in _DOCUMENTS:
        return True
    if kind == "xlsx":
        return False
    return not extension or extension in SEARCHABLE_EXTENSIONS


_SAID: dict[Kind, str] = {
    "pdf": "a PDF document",
    "docx": "a Word document",
    "pptx": "a PowerPoint presentation",
    "xlsx": "an Excel workbook",
    "doc": "a Word document",
    "rtf": "an RTF document",
    "html": "an HTML page",
    "text": "a text",
}


def _read(kind: Kind, path: Path, extension: str) -> str:
    match kind:
        case "pdf":
            from understudy.search.parse import pdf

            return pdf.read(path)
        case "docx":
            from understudy.search.parse import docx

            return docx.read(path)
        case "pptx":
            from understudy.search.parse import pptx

            return pptx.read(path)
        case "xlsx":
            from understudy.search.parse import xlsx

            return xlsx.read(path)
        case "doc":
            from understudy.search.parse import doc

            return doc.read(path)
        case "rtf":
            from understudy.search.parse import rtf

            return rtf.read(path)
        case "html":
            from understudy.search.parse import html

            return html.read(path, extension)
        case "text":
            from understudy.search.parse import text

            return text.read(path, extension)
        case _:
            assert_never(kind)
