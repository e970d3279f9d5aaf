"""Halves: searches of stores that are too large for memory, where the record compares vectors.

Such a record holds the vectors of a store once more, at half precision, and tells which of them are
most like a query. It looks at all of those that the search's filter keeps, so it misses none. What
it names is compared anew with the vectors as they were made, and it names so many that no other one
can be among the best: half precision costs nothing either.

They are made by the store's ingestion, once its files are indexed, of whatever the record lacks:
files of the time before the store was large, before the extension came, or of a server that knew
nothing of all this. A search that meets such files reads their vectors, and asks for the rest.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from understudy import limits
from understudy.engine.app import App
from understudy.engine.index import batches
from understudy.search import Vectors
from understudy.search.rank import ORDINAL_BITS, Block
from understudy.store import Conflict, Unavailable, changes, index_changes
from understudy.store.halves import Halves, Place
from understudy.store.records import IndexRow, NearRow, ReadyDocument


async def near(
    halves: Halves, documents: Sequence[ReadyDocument], queries: Vectors
) -> Block | None:
    """Vectors among which are those of the `limits.CANDIDATES` chunks that are most like each of
    the queries. None where too many are as like as the last of these: then all have to be read."""
    keys: dict[Place, int] = {}
    for query in queries:
        rows = await _near(halves, documents, query)
        if rows is None:
            return None
        for row in rows:
            keys[row.document, row.part, row.place] = row.document << ORDINAL_BITS | row.ordinal
    dimensions = queries.shape[1]
    found: dict[Place, bytes] = {}
    places = list(keys)
    for first in range(0, len(places), limits.NEAR_READ):
        some = places[first : first + limits.NEAR_READ]
        found |= await halves.exact(some, size_bytes=4 * dimensions)
    ordered = sorted(found, key=lambda place: (keys[place], place))  # Documents go meanwhile.
    data = np.frombuffer(b"".join(found[place] for place in ordered), "<f4")
    return Block(
        data.reshape(-1, dimensions), np.array([keys[place] for place in ordered], np.int64)
    )


def error_of(dimensions: int) -> float:
    """The most by which the product of two vectors of length 1 at half precision is off: a half has
    11 bits, so it is off by 2**-11 of its size at most, and each of both vectors is by that much of
    its length; and each addition is off by the last bit of a float32."""
    return 2.0**-10 + dimensions * 2.0**-23


@dataclass
class _Look:
    """Some documents, and their vectors that are most like a query."""

    documents: Sequence[int]
    most: int
    rows: Sequence[NearRow] = ()

    def may_lack(self, least: float) -> bool:
        """Whether it may have left out any of this score or above."""
        return len(self.rows) == self.most and self.rows[-1].score >= least


async def _near(
    halves: Halves, documents: Sequence[ReadyDocument], query: Vectors
) -> list[NearRow] | None:
    """All vectors that may be among those of the best chunks. With E for `error_of`: what is truly
    among the best K has a half score of no less than that of the Kth, as halves go, less 2 E; for
    K chunks truly have that one's less E, so it has, and its half score is off by E at most."""
    half = query.astype("<f2").tobytes()
    looks = [
        _Look([one.number for one in some], 2 * limits.CANDIDATES)
        for some in batches(documents, limits.NEAR_PARTS)
    ]
    asked = looks
    while asked:
        for look in asked:
            look.rows = await halves.nearest(look.documents, half, most=look.most)
        least = _last_score(row for look in looks for row in look.rows)
        least -= 2 * error_of(len(query))
        asked = [look for look in looks if look.may_lack(least)]
        for look in asked:
            look.most *= 4
            if look.most > limits.NEAR_MOST:
                return None
    return [row for look in looks for row in look.rows if row.score >= least]


def _last_score(rows: Iterable[NearRow]) -> float:
    """The half score of the last of the best chunks; a chunk has that of its best vector."""
    chunks = set()
    for row in sorted(rows, key=lambda row: -row.score):
        chunks.add((row.document, row.ordinal))
        if len(chunks) == limits.CANDIDATES:
            return row.score
    return -np.inf


# Making them.


async def made(app: App, row: IndexRow, until: float) -> bool:
    """Make what a store lacks; False if that is not all of it when the time is over (by the
    monotonic clock). It may be cut off anywhere, and done by two at once."""
    halves = app.store.halves
    if halves is None or row.dimensions is None:
        return True
    done = 0  # Not looked at again: of 10,000 documents that would take longer than all else.
    while (document := await halves.unfinished(row.number, after=done)) is not None:
        while parts := await halves.missing(document, limit=limits.HALVES_PARTS):
            for part, owners, vectors in parts:
                rows = np.frombuffer(vectors, "<f4").reshape(-1, row.dimensions).astype("<f2")
                kept = index_changes.keep_halves(
                    document,
                    part,
                    ordinals=np.frombuffer(owners, "<u4").tolist(),
                    halves=[one.tobytes() for one in rows],
                )
                await app.store.commit(kept)
            if app.world.monotonic() >= until:
                return False
        await app.store.commit(index_changes.mark_halved(document))
        done = document
        if app.world.monotonic() >= until:
            return False
    return True


async def ask(app: App) -> None:
    """Have made what searches here found missing, now and then: who takes the job may be a server
    of an older version, which knows nothing of it."""
    for row in app.index.lacking(app.world.monotonic()):
        with suppress(Conflict, Unavailable):  # The search has what it wants.
            await app.store.commit(
                changes.require_object(row.id, kind="vector_store", project=row.project),
                index_changes.wake_ingest(row.id, project=row.project, now=app.world.now()),
            )
            app.bell.ring("ingest")
