"""HTML pages: what a reader sees of them, block by block; no scripts, no styles, no tree."""

import re
from collections.abc import Mapping
from pathlib import Path

from lxml import etree

from understudy import limits
from understudy.search import unreadable
from understudy.search.parse.blocks import Blocks
from understudy.search.parse.text import NotText, decoded

_SKIPPED = frozenset({"script", "style", "template", "noscript", "svg", "object", "iframe"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_NAMES = (
    "address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption"
    " figure footer form head header hr legend li main nav ol optgroup option p pre section"
    " select summary table tbody tfoot thead title ul"
)
_BLOCKS = _HEADINGS | frozenset(_NAMES.split())
_EMPTY = "area base br col embed hr img input link meta source track wbr"
_VOID = frozenset(_EMPTY.split())
_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.I)
_SPACES = re.compile(r"[ \t\n\r\f\xa0]+")
_PIECE = 256 * 1024


def read(path: Path, extension: str) -> str:
    """The text of an HTML file."""
    size = path.stat().st_size
    if size > limits.TEXT_BYTES:
        raise unreadable.too_many_bytes(size, limits.TEXT_BYTES)
    data = path.read_bytes()
    declared = _DECLARED.search(data[:4096])
    try:
        source = decoded(data, declared=declared[1].decode("ascii") if declared else None)
    except NotText:
        raise unreadable.not_text(extension) from None
    del data
    if "<" not in source and "&" not in source:
        return source
    page = _Page()
    # Always UTF-8 here, whatever the page says of itself. Nothing is built, so depth is no matter.
    parser = etree.HTMLParser(target=page, encoding="utf-8", huge_tree=True)
    for start in range(0, len(source), _PIECE):
        piece = source[start : start + _PIECE].replace("\0", "")
        parser.feed(piece.encode("utf-8", "ignore"))
    try:
        parser.close()
    except etree.LxmlError as broken:
        if not page.has_started:
            raise unreadable.damaged("an HTML page") from broken
    return page.blocks.text()


class _Page:
    """What lxml calls."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.has_started = False
        self._hidden = 0  # Elements open inside of one that is not seen, itself included.
        self._pre = 0
        self._is_after_space = True
        self._is_item = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self.has_started = True
        if self._hidden or tag in _SKIPPED or _is_hidden(attributes):
            self._hidden += tag not in _VOID
        elif tag == "br":
            self._add("\n")
        elif tag == "tr":
            self.blocks.start_row()
        elif tag in {"td", "th"}:
            self.blocks.start_cell()
            self._is_after_space = True
        elif tag in _BLOCKS:
            self._end_block()
            self._is_item = self._is_item or tag == "li"
            self._pre += tag == "pre"
            if tag in _HEADINGS:
                self.blocks.gap()

    def end(self, tag: str) -> None:
        """An element ends."""
        if self._hidden:
            self._hidden -= tag not in _VOID
        elif tag == "tr":
            self.blocks.end_row()
            self._is_after_space = True
        elif tag in _BLOCKS:
            self._end_block()
            self._pre -= tag == "pre"

    def data(self, text: str) -> None:
        """Some of the text in an element."""
        if self._hidden:
            return
        self._add(text if self._pre else _SPACES.sub(" ", text))

    def _add(self, text: str) -> None:
        if not self._pre and self._is_after_space:
            text = text.lstrip(" ")
        if text:
            self._is_after_space = text[-1] in " \n"
            self.blocks.add(text)

    def _end_block(self) -> None:
        if self.blocks.end(before="- " if self._is_item else ""):
            self._is_item = False
        self._is_after_space = True

    def close(self) -> None:
        """The page ends."""


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    style = attributes.get("style", "").replace(" ", "").lower()
    return "hidden" in attributes or "display:none" in style
