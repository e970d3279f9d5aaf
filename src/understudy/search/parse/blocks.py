"""Putting the text of a document together: blocks, and rows of tables, one per line."""

import re

from understudy import limits
from understudy.search import unreadable

_SPACES = re.compile(r"[ \xa0\n]+")


class Blocks:
    """The blocks of a document in order. A table's row is one line, its cells with bars between."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._open: list[str] = []
        self._rows: list[list[str]] = []  # Of nested tables the cells so far, innermost last.
        self._chars = 0

    def add(self, text: str) -> None:
        """Go on with the open block."""
        self._chars += len(text)
        if self._chars > limits.PARSED_TEXT_CHARS:
            raise unreadable.too_many_characters(limits.PARSED_TEXT_CHARS)
        self._open.append(text)

    def end(self, *, before: str = "") -> bool:
        """End the open block, and tell whether it had any text; `before` is put in front of it."""
        text = "".join(self._open).strip()
        self._open.clear()
        if text:
            self._put(before + text)
        return bool(text)

    def gap(self) -> None:
        """An empty line, before a heading or a new page."""
        if not self._rows and self._done and self._done[-1]:
            self._done.append("")

    def start_row(self) -> None:
        """A row of a table begins."""
        self.end()
        self._rows.append([])

    def start_cell(self) -> None:
        """A cell begins."""
        self.end()
        if self._rows:
            self._rows[-1].append("")

    def end_row(self) -> None:
        """The row is a line, in the cell around it if there is one."""
        self.end()
        if self._rows:
            cells = self._rows.pop()
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                self._put(" | ".join(cells))

    def text(self) -> str:
        """All of it."""
        while self._rows:
            self.end_row()
        self.end()
        return "\n".join(self._done)

    def _put(self, text: str) -> None:
        if not self._rows:
            self._done.append(text)
            return
        cells = self._rows[-1] or [""]
        cells[-1] = f"{cells[-1]} {_SPACES.sub(' ', text)}".strip()
        self._rows[-1] = cells
