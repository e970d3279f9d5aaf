"""Excel workbooks, where the operator allows them: sheets in order, a row is one line."""

import datetime
import warnings
from pathlib import Path
from typing import Any

from understudy.search import unreadable
from understudy.search.parse.archive import Archive
from understudy.search.parse.blocks import Blocks


def read(path: Path) -> str:
    """The text of an .xlsx file; formulas as the values that were stored with them."""
    import openpyxl  # Loaded late: a fifth of a second.

    Archive(path).close()  # Only for its checks.
    with warnings.catch_warnings(), path.open("rb") as file:  # A path would need the right suffix.
        warnings.simplefilter("ignore")  # Of styles and extensions that openpyxl leaves out.
        try:
            return _text(openpyxl.load_workbook(file, read_only=True, data_only=True))
        except (KeyError, ValueError, OSError, TypeError, SyntaxError) as broken:
            raise unreadable.damaged("an Excel workbook") from broken


def _text(book: Any) -> str:  # openpyxl has no types.
    blocks = Blocks()
    for sheet in book.worksheets:
        blocks.gap()
        blocks.add(sheet.title)
        blocks.end()
        sheet.reset_dimensions()  # What the file says of its size may be a lie.
        for row in sheet.iter_rows(values_only=True):
            blocks.start_row()
            for cell in row:
                if cell is not None:
                    blocks.start_cell()
                    blocks.add(_said(cell))
            blocks.end_row()
    return blocks.text()


def _said(cell: object) -> str:
    if isinstance(cell, datetime.datetime) and not (cell.hour or cell.minute or cell.second):
        return cell.date().isoformat()
    return str(cell)
