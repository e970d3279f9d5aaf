"""Searching: the vector part against numpy's exact product, the whole against a bare FTS5 query.

The embedder is instant (instant.py). Every query of ours is paired with the bare one for the same
words and vector (bare.py); a figure is the ratio of the medians of some rounds' pairs. Searches are
called in this process, where no HTTP blurs them, and the whole ones through a server as well.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import texts
from benchmarks.bare import Bare, product
from benchmarks.corpus import PROJECT, Layout, fill, fill_vectors, new_store
from benchmarks.figures import Figure, judged, median
from benchmarks.instant import SERVER, Instant, with_instant
from benchmarks.plan import Plan
from benchmarks.shelf import Shelf
from benchmarks.stage import Stage, understudy
from understudy.assembly import opened_app
from understudy.engine.app import App
from understudy.engine.index import Index, View
from understudy.engine.search import _by_meaning, found
from understudy.settings import Settings

VECTORS = (Layout(100, 100), Layout(10_000, 1), Layout(1_000, 100))
WHOLE = (Layout(100, 100), Layout(10_000, 1))
_WARM = 3  # Queries before the ones that count.
_NOBODY = "http://127.0.0.1:9"  # No provider is asked.


@dataclass(frozen=True)
class _Store:
    """A filled store, and the bare index of the same chunks."""

    id: str
    matrix: NDArray[np.float32]
    bare: Bare


def measure(_stage: Stage | None, plan: Plan) -> Iterator[Figure]:
    """Both, for several layouts."""
    for layout in VECTORS:
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
            yield from asyncio.run(_vector_part(Path(folder), layout, plan))
    for layout in WHOLE:
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
            yield from _whole(Path(folder), layout, plan)


# The vector part.


async def _vector_part(folder: Path, layout: Layout, plan: Plan) -> list[Figure]:
    """Warm, and cold: the first search after a start reads the vectors into memory."""
    async with opened_app(_settings(folder)) as opened:
        app = with_instant(opened)
        id, number = await new_store(app)
        await fill_vectors(app.store, number, layout, seed=1)
        view, matrix = await _view(app, id)
        queries = texts.queries(np.random.default_rng(2), plan.searches)
        embedded = await Instant().embed(queries, is_query=True)

        async def ours(place: int) -> None:
            await _by_meaning(app, [view], [queries[place]], None)

        async def theirs(place: int) -> None:
            product(matrix, embedded.vectors[place])

        our_s, their_s = await _paired(len(queries), ours, theirs)
        cold_s, read_s = await _cold(app, id)
    chunks = f"{layout.files * layout.chunks:,} vectors x {texts.DIMENSIONS}"
    return [
        _ratio(f"vector part of a search, {chunks} ({layout.name})", our_s, their_s, 1.5),
        Figure(
            name=f"first search after a start, {chunks} ({layout.name})",
            ours=_ms(cold_s),
            baseline=_ms(read_s),
            result=f"{cold_s / read_s:.2f} times",
            note="reads all vectors into memory; the baseline fetches the same rows",
        ),
    ]


async def _view(app: App, id: str) -> tuple[View, NDArray[np.float32]]:
    """A store as searches see it, and all its vectors as one matrix for the bare product."""
    [view] = await app.index.views(PROJECT, [id])
    return view, np.concatenate([block.vectors async for block in app.index.vectors(view)])


async def _cold(app: App, id: str) -> tuple[float, float]:
    """Seconds until the vectors are in memory, and seconds to fetch their rows."""
    taken = []
    for _ in range(3):
        index = Index(app.store)
        started = time.perf_counter()
        [view] = await index.views(PROJECT, [id])
        async for _block in index.vectors(view):
            pass
        middle = time.perf_counter()
        await app.store.vectors([one.number for one in view.documents.rows])
        taken.append((middle - started, time.perf_counter() - middle))
    return median([one[0] for one in taken]), median([one[1] for one in taken])


# The whole of a search.


def _whole(folder: Path, layout: Layout, plan: Plan) -> Iterator[Figure]:
    """In this process, and through a server on the same data."""
    queries = texts.queries(np.random.default_rng(3), plan.searches)
    store = asyncio.run(_filled(folder, layout))
    with closing(store.bare):
        our_s, their_s = asyncio.run(_in_process(folder, store, queries))
        chunks = f"{layout.files * layout.chunks:,} chunks ({layout.name})"
        yield _ratio(f"hybrid search, {chunks}", our_s, their_s, 3.0)
        our_s, their_s = _through_http(folder, store, queries)
        yield _ratio(f"hybrid search through HTTP, {chunks}", our_s, their_s, 3.0)


async def _filled(folder: Path, layout: Layout) -> _Store:
    async with opened_app(_settings(folder)) as app:
        id, number = await new_store(app)
        bare = Bare(folder / "bare.db")
        bare.fill(await fill(app.store, number, layout, seed=4))
        _, matrix = await _view(app, id)
    return _Store(id, matrix, bare)


async def _in_process(
    folder: Path, store: _Store, queries: Sequence[str]
) -> tuple[list[float], list[float]]:
    async with opened_app(_settings(folder)) as opened:
        app = with_instant(opened)

        async def ours(place: int) -> None:
            await found(app, PROJECT, [store.id], [queries[place]], limit=10)

        return await _paired(len(queries), ours, await _bare_search(store, queries))


def _through_http(
    folder: Path, store: _Store, queries: Sequence[str]
) -> tuple[list[float], list[float]]:
    with (
        understudy(folder, _NOBODY, main=SERVER) as server,
        closing(Shelf(server.port)) as shelf,
    ):

        async def ours(place: int) -> None:
            shelf.search(store.id, queries[place])

        async def pairs() -> tuple[list[float], list[float]]:
            return await _paired(len(queries), ours, await _bare_search(store, queries))

        return asyncio.run(pairs())


async def _bare_search(store: _Store, queries: Sequence[str]) -> Callable[[int], Awaitable[None]]:
    """The bare FTS5 query, then the bare product."""
    embedded = await Instant().embed(queries, is_query=True)

    async def search(place: int) -> None:
        store.bare.search(queries[place])
        product(store.matrix, embedded.vectors[place])

    return search


async def _paired(
    count: int,
    ours: Callable[[int], Awaitable[None]],
    theirs: Callable[[int], Awaitable[None]],
) -> tuple[list[float], list[float]]:
    """The seconds of each, query by query, now one first and now the other."""
    for place in range(min(_WARM, count)):
        await ours(place)
        await theirs(place)
    our_s, their_s = [], []
    for place in range(count):
        if place % 2:
            their_s.append(await _seconds(theirs, place))
            our_s.append(await _seconds(ours, place))
        else:
            our_s.append(await _seconds(ours, place))
            their_s.append(await _seconds(theirs, place))
    return our_s, their_s


async def _seconds(work: Callable[[int], Awaitable[None]], place: int) -> float:
    started = time.perf_counter()
    await work(place)
    return time.perf_counter() - started


def _ratio(name: str, ours: Sequence[float], theirs: Sequence[float], at_most: float) -> Figure:
    """The ratio of the medians."""
    ratio = median(ours) / median(theirs)
    return judged(
        Figure(
            name=name,
            ours=_ms(median(ours)),
            baseline=_ms(median(theirs)),
            result=f"{ratio:.2f} times",
            note=f"{len(ours)} queries; fastest {_ms(min(ours))} and {_ms(min(theirs))}",
        ),
        ratio,
        at_most=at_most,
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def _settings(folder: Path) -> Settings:
    return Settings(
        data=str(folder), upstream_url=f"{_NOBODY}/v1", embedding_model="off", sandbox="off"
    )


if __name__ == "__main__":
    from benchmarks import report
    from benchmarks.plan import QUICK

    plan = QUICK if "--quick" in sys.argv else Plan()
    print(report.conditions())
    for one in measure(None, plan):
        print(f"{one.name}: {one.ours} / {one.baseline} = {one.result}; {one.note}", flush=True)
