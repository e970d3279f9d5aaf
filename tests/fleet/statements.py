"""SQL from tests without a connection of their own, whether a loop runs in their thread or not."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")

_CONNECT_S = 10.0
_STATEMENT_S = 30.0


def execute(url: str, *statements: str) -> None:
    """Perform these one after the other, each in a transaction of its own."""

    async def work() -> None:
        connection = await asyncpg.connect(url, timeout=_CONNECT_S)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=_STATEMENT_S)
        finally:
            await connection.close(timeout=_CONNECT_S)

    _apart(work())


def fetch(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of a query; what a column holds depends on its type."""

    async def work() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url, timeout=_CONNECT_S)
        try:
            rows = await connection.fetch(query, *values, timeout=_STATEMENT_S)
            return [tuple(row) for row in rows]
        finally:
            await connection.close(timeout=_CONNECT_S)

    return _apart(work())


def _apart(work: Coroutine[Any, Any, T]) -> T:
    """In a thread with a loop of its own: the caller's may be running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
