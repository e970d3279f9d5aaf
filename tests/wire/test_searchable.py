"""Names of files, and whether file_search takes them."""

import pytest

from understudy.wire.searchable import extension_of, is_searchable


@pytest.mark.parametrize(
    ("filename", "extension"),
    [
        ("report.PDF", ".pdf"),
        ("archive.tar.gz", ".gz"),
        ("Makefile", ""),
        (".gitignore", ""),
        ("../folder.d/notes", ""),
        ("C:\\papers\\a.TXT", ".txt"),
        ("line\nbreak.md", ".md"),
        ("copied.txt\u202c ", ".txt"),
        ("Report 2.0", ""),
        ("What. A name", ""),
        ("ends with.", ""),
        ("", ""),
    ],
)
def test_extensions(filename: str, extension: str) -> None:
    """In lower case, of the last part of a path."""
    assert extension_of(filename) == extension


def test_what_is_searchable_by_name() -> None:
    """Names without extension are judged by content, and so are all where more is allowed."""
    assert is_searchable("a.Docx")
    assert is_searchable("README")
    assert not is_searchable("a.csv")
    assert is_searchable("a.csv", more_types=True)
