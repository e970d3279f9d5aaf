"""Names of files below /mnt/data: from any client's or any code's name to one that is safe there.

A path is relative, its parts are parted by `/`, and none of them is empty, `.` or `..`.
"""

import re
from collections.abc import Container

from understudy import limits

_NAMELESS = "file"
# Control characters, marks of direction, line ends of other kinds, and halves of characters.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def safe_name(filename: str) -> str:
    """The name of an uploaded file as code finds it."""
    return _safe(re.split(r"[/\\]", filename)[-1]) or _NAMELESS


def safe_path(path: str) -> str | None:
    """A path as code made it, or as it was kept; None when nothing of it is a name."""
    parts = [safe for part in path.split("/") if (safe := _safe(part))]
    return "/".join(parts[-limits.CODE_FOLDER_DEPTH :]) or None


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def free_path(path: str, taken: Container[str]) -> str:
    """The path, or with the first number that makes it one of its own: `name (2).csv`."""
    number, free = 1, path
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    while free in taken:
        number += 1
        free = f"{folder}{slash}{stem} ({number}){dot}{extension}"
    return free


def _safe(name: str) -> str:
    """One part of a path; empty when nothing of it can be one."""
    name = _UNSAFE.sub("_", name).replace("\\", "_")
    if not name.strip() or name in (".", ".."):
        return ""
    if len(name.encode()) <= limits.CODE_PATH_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = (dot + extension)[:32] if stem else ""
    room = limits.CODE_PATH_BYTES - len(ending.encode())
    return (stem or name).encode()[:room].decode(errors="ignore") + ending
