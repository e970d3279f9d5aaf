"""Servers that compare vectors, and one that does not: what the tests of halves stand on."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from math import inf

import numpy as np
from numpy.typing import NDArray

from tests.engine import haystack as hay
from tests.engine.haystack import Haystack
from tests.fleet import installations
from tests.fleet.clusters import database, private
from tests.fleet.installations import Installation
from tests.fleet.statements import fetch
from understudy import limits
from understudy.engine.app import App
from understudy.engine.halves import made
from understudy.engine.index import View
from understudy.search import rank
from understudy.search.rank import Block, Ranked

Vectors = NDArray[np.float32]
SMALL = 1  # A cache that holds no store.
WHERE: dict[str, Callable[[], Installation]] = {
    "with pgvector": installations.wheel,
    "without": installations.machine,
}


def server(kind: str) -> Iterator[str]:
    """For a fixture: the URL of a server of this kind."""
    with private(WHERE[kind]()) as cluster:
        yield cluster.url


@asynccontextmanager
async def opened(url: str, *, cache_bytes: int = SMALL, works: bool = False) -> AsyncIterator[App]:
    """An App on a database of its own on this server."""
    with database(url) as fresh:
        async with hay.opened_app(fresh, cache_bytes=cache_bytes, works=works) as app:
            yield app


async def filled(
    app: App, documents: int, chunks: int, attributes: list[hay.Json] | None = None
) -> Haystack:
    """A store of so many documents of so many chunks each."""
    rng = np.random.default_rng(5)
    haystack = await hay.empty(app)
    drafts = [
        hay.draft(rng, f"file-{n}", chunks, {} if attributes is None else attributes[n])
        for n in range(documents)
    ]
    await hay.add(app, haystack, drafts)
    return haystack


async def view_of(app: App, haystack: Haystack) -> View:
    """The store as a search sees it now."""
    [view] = await app.index.views(hay.PROJECT, [haystack.store_id])
    return view


async def make(app: App, haystack: Haystack) -> None:
    """Have the record compare all of a store."""
    assert await made(app, (await view_of(app, haystack)).row, inf)


async def blocks(
    app: App, view: View, queries: Vectors, allowed: rank.Numbers | None = None
) -> list[Block]:
    """What the index gives to a search."""
    return [block async for block in app.index.vectors(view, allowed, queries)]


def best(found: list[Block], query: Vectors) -> Ranked:
    """The best chunks of some blocks, exactly."""
    if not found:
        return rank.NOTHING
    parts = [rank.dense(block, query[None])[0] for block in found]
    keys = np.concatenate([one.keys for one in parts])
    scores = np.concatenate([one.scores for one in parts])
    order = np.lexsort((keys, -scores))[: limits.CANDIDATES]
    return Ranked(keys[order], scores[order])


def count(url: str, table: str) -> int:
    """How many rows a table has."""
    [(found,)] = fetch(url, f"select count(*) from {table}")
    return int(found)
