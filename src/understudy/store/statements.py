"""The loader: queries.sql and the migrations, as one dialect reads them."""

from pathlib import Path
from typing import Literal, TypeAlias

Dialect: TypeAlias = Literal["sqlite", "postgres"]

_FOLDER = Path(__file__).parent
_NAME = "-- name: "


def load_queries(dialect: Dialect, text: str | None = None) -> dict[str, str]:
    """Name → statement, without the twins of other dialects; `text` replaces queries.sql."""
    if text is None:
        text = (_FOLDER / "queries.sql").read_text(encoding="utf-8")
    queries: dict[str, str] = {}
    for block in text.split(f"\n{_NAME}")[1:]:
        title, _, statement = block.partition("\n")
        name, _, only = title.strip().partition(".")
        if only in ("", dialect):
            assert name not in queries, f"two statements are called {name}"
            queries[name] = _bare(statement)
    return queries


def load_migrations(dialect: Dialect) -> list[tuple[str, str]]:
    """(name, script) of every migration, in the order they are applied."""
    files = sorted((_FOLDER / "migrations").glob("*.sql"))
    return [(file.stem, _part(file.read_text(encoding="utf-8"), dialect)) for file in files]


def _bare(statement: str) -> str:
    """A statement without its comments and its semicolon."""
    lines = [line for line in statement.splitlines() if not line.startswith("--")]
    return "\n".join(lines).strip().removesuffix(";")


def _part(script: str, dialect: Dialect) -> str:
    """A script without the parts that begin with another dialect's line (`-- sqlite:`)."""
    kept: list[str] = []
    is_ours = True
    for line in script.splitlines():
        if line in ("-- sqlite:", "-- postgres:", "-- all:"):
            is_ours = line in (f"-- {dialect}:", "-- all:")
        elif is_ours:
            kept.append(line)
    return "\n".join(kept)
