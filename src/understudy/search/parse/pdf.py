"""PDF files, page by page; what a scan shows is no text, and no OCR is made."""

import re
from pathlib import Path

import pypdfium2
from pypdfium2 import raw

from understudy import limits
from understudy.search import unreadable

# A word that is parted at the end of a line: pdfium marks the hyphen.
_PARTED = re.compile("[\x02\ufffe]\r?\n?")
_PAGE_BREAK = "\n\n"


def read(path: Path) -> str:
    """The text of a .pdf file."""
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as broken:
        if broken.err_code == raw.FPDF_ERR_PASSWORD:
            raise unreadable.encrypted() from broken
        raise unreadable.damaged("a PDF document") from broken
    try:
        return _text(document)
    finally:
        document.close()


def _text(document: pypdfium2.PdfDocument) -> str:
    count = len(document)
    if not count:
        raise unreadable.no_pages()
    pages: list[str] = []
    chars = broken = 0
    for number in range(count):
        try:
            page = _page(document, number)
        except pypdfium2.PdfiumError:
            broken += 1  # One page that cannot be read does not spoil the others.
            continue
        chars += len(page)
        if chars > limits.PARSED_TEXT_CHARS:
            raise unreadable.too_many_characters(limits.PARSED_TEXT_CHARS)
        pages.append(page)
    if broken == count:
        raise unreadable.damaged("a PDF document")
    if not chars:
        raise unreadable.scanned(count)
    return _PAGE_BREAK.join(pages)


def _page(document: pypdfium2.PdfDocument, number: int) -> str:
    page = document[number]
    try:
        text_page = page.get_textpage()
        try:
            text = text_page.get_text_range(errors="ignore")
        finally:
            text_page.close()
    finally:
        page.close()
    return _PARTED.sub("", text).strip()
