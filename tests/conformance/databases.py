"""Name → an empty database of each kind; a new Database is done when its line passes."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests import postgres
from understudy.store import Database, open_database

DATABASES: dict[str, Callable[[Path], Awaitable[Database]]] = {
    "postgres": lambda folder: open_database(postgres.url_of(folder)),
    "sqlite-file": lambda folder: open_database(f"sqlite:///{folder}/understudy.db"),
    "sqlite-apart": lambda folder: open_database(f"sqlite:///{folder}/understudy.db", apart=True),
    "sqlite-memory": lambda folder: open_database("sqlite:///:memory:"),
}
