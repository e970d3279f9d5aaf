"""Places to move from and to: a record of each kind, filled or empty, and moves between them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests import postgres
from tests.conformance.rows import TEXT, everything, fill
from understudy.blobs import Blobs
from understudy.store import Row
from understudy.store.tables import Tables, open_tables
from understudy.transfer.moving import Report, Sides, move

KINDS: dict[str, Callable[[Path], str]] = {
    "postgres": postgres.url_of,
    "sqlite": lambda folder: f"sqlite:///{folder}/understudy.db",
}


def place(kind: str, folder: Path) -> str:
    """A URL for an empty record of this kind."""
    folder.mkdir(exist_ok=True)
    return KINDS[kind](folder)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Tables]:
    """A record that may be empty."""
    record = await open_tables(url, "target")
    try:
        yield record
    finally:
        await record.close()


async def filled(url: str, count: int = 7, text: str = TEXT) -> str:
    """A record of so many rows in each table, at this URL."""
    async with opened(url) as record:
        await fill(record, count, text)
    return url


async def contents(url: str) -> dict[str, list[Row]]:
    """All rows of a record."""
    async with opened(url) as record:
        return await everything(record)


def tell(step: str, done: int, total: int, size_bytes: int) -> None:
    """Nobody wants to know."""


async def moved(
    source: str,
    target: str,
    blobs: tuple[Blobs, Blobs] | None = None,
    *,
    verify_only: bool = False,
) -> Report:
    """A move between two records."""
    async with opened(source) as one, opened(target) as other:
        return await move(Sides(one, other, blobs), tell, verify_only=verify_only)
