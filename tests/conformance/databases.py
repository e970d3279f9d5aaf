"""Name → URL of an empty database of each kind; a new Database is done when its line passes."""

from collections.abc import Callable
from pathlib import Path

DATABASES: dict[str, Callable[[Path], str]] = {
    "sqlite-file": lambda folder: f"sqlite:///{folder}/understudy.db",
    "sqlite-memory": lambda folder: "sqlite:///:memory:",
}
