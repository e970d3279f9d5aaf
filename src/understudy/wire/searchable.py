"""What file_search reads by name: the extensions of SPEC 7.6, upper case as well as lower."""

import re

SEARCHABLE_EXTENSIONS = frozenset(
    [
        ".c",
        ".cpp",
        ".cs",
        ".css",
        ".doc",
        ".docx",
        ".go",
        ".html",
        ".java",
        ".js",
        ".json",
        ".md",
        ".pdf",
        ".php",
        ".pptx",
        ".py",
        ".rb",
        ".sh",
        ".tex",
        ".ts",
        ".txt",
    ]
)
# A suffix of digits alone is a version or a date ("Report 2.0"), not a kind of file.
_EXTENSION = re.compile(r"(?!\.[0-9]+$)\.[a-z0-9_+-]{1,16}")
# Marks of direction and the like, which a copied name may end with.
_UNSEEN = "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def extension_of(filename: str) -> str:
    """The extension in lower case with its dot; empty when the name has none."""
    name = re.split(r"[/\\]", filename)[-1].strip().strip(_UNSEEN).strip()
    stem, dot, suffix = name.rpartition(".")
    extension = f"{dot}{suffix}".lower()
    return extension if stem and _EXTENSION.fullmatch(extension) else ""


def is_searchable(filename: str, *, more_types: bool = False) -> bool:
    """Whether file_search takes a file of this name; one without extension is judged by content.

    With `more_types` the content alone decides, when the file is read.
    """
    extension = extension_of(filename)
    return more_types or not extension or extension in SEARCHABLE_EXTENSIONS
