"""Name → an empty database of each kind; a new Database is done when its line passes."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from understudy.store import Database, open_database

DATABASES: dict[str, Callable[[Path], Awaitable[Database]]] = {
    "sqlite-file": lambda folder: open_database(f"sqlite:///{folder}/understudy.db"),
    "sqlite-apart": lambda folder: open_database(f"sqlite:///{folder}/understudy.db", apart=True),
    "sqlite-memory": lambda folder: open_database("sqlite:///:memory:"),
}
