"""Searches of a store that is too large for memory: its vectors read each time, or named by
pgvector, on a PostgreSQL of its own.

The vectors lie in clusters, and the engine's answers are compared with the product of all of them.
Decision 0011 has figures of it.
"""

import argparse
import asyncio
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from statistics import median

import msgspec
import numpy as np
from numpy.typing import NDArray

from tests.engine import haystack as hay
from tests.engine.stage import Clock, make_app
from tests.fleet.clusters import private
from tests.fleet.installations import wheel
from tests.fleet.statements import fetch
from understudy import limits
from understudy.engine.app import App
from understudy.engine.halves import made
from understudy.engine.index import Index, View
from understudy.engine.search import found
from understudy.search import Embedded, rank
from understudy.search.choice import Embedders
from understudy.search.vectors import normalised
from understudy.store import (
    Comparing,
    Database,
    Ring,
    Row,
    Statement,
    Told,
    index_changes,
    open_database,
)
from understudy.store.postgres_connect import connect
from understudy.store.postgres_vectors import prepare
from understudy.store.store import Store

Vectors = NDArray[np.float32]
_CLUSTERS = 400
_SPREAD = 1.2
_SHARES = (1.0, 0.5, 0.01)
_SIZES = """
select pg_table_size('halves') / 1e6, pg_total_relation_size('parts') / 1e6
"""


class Clustered:
    """An embedder whose vectors lie around some middles."""

    name = "clustered"

    def __init__(self, dimensions: int) -> None:
        rng = np.random.default_rng(1)
        self._middles = rng.standard_normal((_CLUSTERS, dimensions)).astype(np.float32)

    def drawn(self, rng: np.random.Generator, count: int) -> Vectors:
        """So many vectors."""
        middles = self._middles[rng.integers(_CLUSTERS, size=count)]
        return normalised(middles + _SPREAD * rng.standard_normal(middles.shape, np.float32))

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """A vector for each text, chosen by it."""
        rows = [self.drawn(np.random.default_rng(zlib.crc32(text.encode())), 1) for text in texts]
        count = len(texts)
        return Embedded(np.concatenate(rows), np.arange(count), np.ones(count, np.float32))

    async def close(self) -> None:
        """Nothing was opened."""


class Counting:
    """A database that counts the bytes of vectors and the like which it gives; it `compares` only
    while it may."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.may_compare = True
        self.size_bytes = 0

    @property
    def compares(self) -> bool:
        """As the inner one, unless it may not."""
        return self.may_compare and isinstance(self._inner, Comparing) and self._inner.compares

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """As the inner one."""
        rows = await self._inner.fetch(query, args)
        self.size_bytes += sum(len(one) for row in rows for one in row if isinstance(one, bytes))
        return rows

    async def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> list[list[Row]]:
        """As the inner one."""
        return await self._inner.commit(statements, told, ring)

    async def close(self) -> None:
        """As the inner one."""
        await self._inner.close()


def main() -> None:
    """Measure, and print lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.halves", description=__doc__)
    parser.add_argument("--documents", type=int, default=1_450)
    parser.add_argument("--chunks", type=int, default=64, help="of each, which are one part")
    parser.add_argument("--dimensions", type=int, default=1_536)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument(
        "--hnsw", action="store_true", help="what an index of neighbours would find"
    )
    arguments = parser.parse_args()
    with private(wheel(), on_disk=True, max_wal_size="4GB") as cluster:
        asyncio.run(_measure(cluster.url, arguments))


async def _measure(url: str, arguments: argparse.Namespace) -> None:
    database = Counting(await open_database(url))
    store = Store(database)
    clustered = Clustered(arguments.dimensions)
    app = make_app(store, Clock())
    embedders = Embedders(clustered, monotonic=app.world.monotonic)
    app = replace(app, embedders=embedders, index=Index(store, size_bytes=1))
    haystack = await hay.empty(app)
    whole = await _filled(app, haystack, clustered, arguments.documents, arguments.chunks)
    [view] = await app.index.views(hay.PROJECT, [haystack.store_id])
    size_mb = view.row.size_bytes / 1e6
    is_large = view.row.size_bytes > limits.VECTOR_CACHE_BYTES
    _say(f"{view.row.chunks:,} chunks, {size_mb:,.0f} MB, too large for memory: {is_large}")
    began_at = time.perf_counter()
    assert await made(app, view.row, inf)
    taken_s = time.perf_counter() - began_at
    [(halves_mb, parts_mb)] = fetch(url, _SIZES)
    _say(f"made in {taken_s:.1f} s; halves {halves_mb:.0f} MB, parts {parts_mb:.0f} MB")
    rng = np.random.default_rng(3)
    queries = clustered.drawn(rng, arguments.times)
    for share in _SHARES:
        allowed = _some(rng, view.documents.numbers, share)
        for database.may_compare in (False, True):
            await _vectors(app, view, queries, allowed, whole, f"{share:4.0%}")
    for database.may_compare in (False, True):
        await _searches(app, haystack.store_id, arguments.times)
    if arguments.hnsw:
        await _neighbours(url, queries, view, whole)
    await store.close()


def _say(line: str) -> None:
    print(line, flush=True)


def _some(rng: np.random.Generator, numbers: rank.Numbers, share: float) -> rank.Numbers | None:
    """The documents that a filter keeps; None for all."""
    if share == 1:
        return None
    return np.sort(rng.choice(numbers, max(1, int(share * len(numbers))), replace=False))


async def _filled(
    app: App, haystack: hay.Haystack, clustered: Clustered, documents: int, chunks: int
) -> rank.Block:
    """All vectors that were put into the store."""
    rng = np.random.default_rng(2)
    vectors, keys = [], []
    claim = index_changes.claim_embedder(
        haystack.number, model=clustered.name, dimensions=clustered.drawn(rng, 1).shape[1]
    )
    for number in range(documents):
        insert = index_changes.insert_document(
            haystack.number,
            f"file-{number}",
            project=hay.PROJECT,
            attributes=b"{}",
            filename="x.txt",
        )
        [[(document,)]] = await app.store.commit(insert)
        vectors.append(clustered.drawn(rng, chunks))
        keys.append((document << rank.ORDINAL_BITS) + np.arange(chunks))
        part = index_changes.insert_part(
            haystack.number,
            document,
            0,
            chunks=[(n, 100 * n, 100 * n + 100, "x" * 100) for n in range(chunks)],
            words=chunks,
            trust=float(chunks),
            terms=[],
            terms_json=msgspec.json.encode([]),
            postings=[],
            owners=np.arange(chunks, dtype="<u4").tobytes(),
            vectors=vectors[-1].tobytes(),
            size_bytes=vectors[-1].nbytes + 100 * chunks,
        )
        ready = index_changes.ready_document(document, attributes=b"{}")
        await app.store.commit(claim, part, ready)
    return rank.Block(np.concatenate(vectors), np.concatenate(keys))


async def _vectors(
    app: App,
    view: View,
    queries: Vectors,
    allowed: rank.Numbers | None,
    whole: rank.Block,
    name: str,
) -> None:
    """The vectors' part of a search, and how many of the best chunks it misses."""
    database = app.store._database
    assert isinstance(database, Counting)
    times, missed = [], 0
    database.size_bytes = 0
    for query in queries[:, None]:
        began_at = time.perf_counter()
        parts = [
            (await asyncio.to_thread(rank.dense, block, query, allowed=allowed))[0]
            async for block in app.index.vectors(view, allowed, query)
        ]
        times.append(time.perf_counter() - began_at)
        [wanted] = rank.dense(whole, query, allowed=allowed)
        there = np.concatenate([one.keys for one in parts])
        missed += len(set(wanted.keys.tolist()) - set(there.tolist()))
    way = "named" if database.compares else "read"
    size_mb = database.size_bytes / len(queries) / 1e6
    _say(f"{name} {way:5} {_ms(times)}, {size_mb:7.1f} MB, {missed} of the best missed")


async def _searches(app: App, store_id: str, times: int) -> None:
    """Whole searches."""
    taken = []
    for number in range(times):
        began_at = time.perf_counter()
        await found(app, hay.PROJECT, [store_id], [f"question {number}"], limit=10)
        taken.append(time.perf_counter() - began_at)
    way = "named" if app.store.halves is not None else "read"
    _say(f"a whole search {way:5} {_ms(taken)}")


def _ms(times: Sequence[float]) -> str:
    return f"{median(times) * 1e3:6.0f} ms ({min(times) * 1e3:.0f} to {max(times) * 1e3:.0f})"


async def _neighbours(url: str, queries: Vectors, view: View, whole: rank.Block) -> None:
    """An HNSW index over these vectors, and which of the best it finds."""
    connection = await connect(url, limits.CONNECT_S, limits.MIGRATION_S)
    await prepare(connection)
    cast = f"embedding::public.halfvec({queries.shape[1]})"
    began_at = time.perf_counter()
    await connection.execute("set maintenance_work_mem = '1GB'; analyze halves")
    await connection.execute(
        f"create index neighbours on halves using hnsw (({cast}) public.halfvec_ip_ops)"
    )
    size = await connection.fetchval("select pg_relation_size('neighbours') / 1e6")
    _say(f"HNSW: {size:.0f} MB, built in {time.perf_counter() - began_at:.0f} s")
    await connection.execute("set hnsw.ef_search = 200; set enable_sort = off")
    rng = np.random.default_rng(4)
    for share in _SHARES:
        allowed = _some(rng, view.documents.numbers, share)
        numbers = view.documents.numbers if allowed is None else allowed
        where = (
            "where document = any ($2)" if allowed is not None else "where $2::bigint[] is not null"
        )
        for scan in ("off", "strict_order"):
            await connection.execute(f"set hnsw.iterative_scan = {scan}")
            times, hits = [], 0
            for query in queries[:, None]:
                began_at = time.perf_counter()
                rows = await connection.fetch(
                    f"select document, ordinal from halves {where} "
                    f"order by {cast} operator(public.<#>) $1::public.halfvec limit 200",
                    query[0].astype("<f2").tobytes(),
                    numbers.tolist(),
                )
                times.append(time.perf_counter() - began_at)
                [wanted] = rank.dense(whole, query, allowed=allowed)
                there = {one << rank.ORDINAL_BITS | ordinal for one, ordinal in rows}
                hits += len(there & set(wanted.keys.tolist()))
            recall = hits / len(queries) / limits.CANDIDATES
            _say(f"{share:4.0%} HNSW, {scan:12} {_ms(times)}, recall {recall:.3f}")
    await connection.close()


if __name__ == "__main__":
    main()
