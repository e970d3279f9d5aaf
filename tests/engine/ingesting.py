"""What the tests of ingestion share: files put into stores, and an embedder that obeys a test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.engine.stage import WAIT_S, Clock, Json, Stage, opened_stage
from understudy.search import Embedded, Embedder
from understudy.search.embed_hash import HashEmbedder
from understudy.store import index_changes
from understudy.store.records import DocumentRow
from understudy.store.store import Store

PROJECT = "default"
# Small chunks, so that a text of some thousand words has several parts.
SMALL = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}


class Obedient:
    """An embedder that remembers what it got; `before` may wait or raise at each call."""

    def __init__(self, name: str = "model-a", dimensions: int = 8) -> None:
        self.name = name
        self._inner = HashEmbedder(dimensions)
        self.texts: list[str] = []
        self.calls = 0
        self.before: Callable[[], Awaitable[None]] = _nothing

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """The vectors, unless the test has other wishes."""
        if not is_query:
            self.calls += 1
            await self.before()
            self.texts += texts
        embedded = await self._inner.embed(texts, is_query=is_query)
        assert embedded.vectors.dtype == np.float32
        return embedded

    async def close(self) -> None:
        """Nothing is open."""


async def _nothing() -> None:
    """No wish."""


class Gate:
    """Where the embedder waits, from the n-th call on, until the test opens it."""

    def __init__(self, embedder: Obedient, *, at: int = 1) -> None:
        self._embedder = embedder
        self._at = at
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        embedder.before = self._pass

    async def _pass(self) -> None:
        if self._embedder.calls >= self._at:
            self.reached.set()
            await self.opened.wait()

    async def wait(self) -> None:
        """Until somebody waits there."""
        async with asyncio.timeout(WAIT_S):
            await self.reached.wait()


@asynccontextmanager
async def working(
    store: Store, folder: Path, embedder: Embedder | None = None, clock: Clock | None = None
) -> AsyncIterator[Stage]:
    """An App whose files outlive it, as the record does."""
    url = f"file://{folder}/blobs"
    async with opened_stage(store, clock, blobs_url=url, works=False) as stage:
        use(stage, embedder)
        await stage.app.worker.start(stage.app)
        try:
            yield stage
        finally:
            await stage.app.worker.drain(0.0)


def use(stage: Stage, embedder: Embedder | None) -> None:
    """This server has another embedder now."""
    stage.app.embedders._chosen = embedder


def text(words: int, last: str = "omega") -> str:
    """A text of so many words; the last one is its own."""
    return " ".join([f"word{n % 97}" for n in range(words - 1)] + [last])


LONG = 7_000  # Words: three parts of small chunks.


async def upload(stage: Stage, content: str | bytes, name: str = "notes.txt") -> str:
    """A file's id."""
    data = content.encode() if isinstance(content, str) else content
    answer = await stage.http.post(
        "/files", files={"file": (name, data)}, data={"purpose": "assistants"}
    )
    assert answer.status_code == 200, answer.text
    id: str = answer.json()["id"]
    return id


async def make(stage: Stage, *file_ids: str, **body: Any) -> str:
    """The id of a store with these files."""
    id: str = (await stage.post("/vector_stores", {"file_ids": list(file_ids), **body}))["id"]
    return id


async def attach(stage: Stage, store_id: str, file_id: str, **body: Any) -> Json:
    """Put a file into a store."""
    return await stage.post(f"/vector_stores/{store_id}/files", {"file_id": file_id, **body})


async def settled(stage: Stage, store_id: str) -> Json:
    """The counts of a store when none of its files waits any more."""
    async with asyncio.timeout(3 * WAIT_S):
        while True:
            store = await stage.get(f"/vector_stores/{store_id}")
            if not store["file_counts"]["in_progress"]:
                counts: Json = store["file_counts"]
                return counts
            await asyncio.sleep(0.01)


async def quiet(stage: Stage) -> None:
    """Until no job is left, or held; what was just claimed is held a moment later."""
    looks = quiet_looks = 0
    async with asyncio.timeout(3 * WAIT_S):
        while quiet_looks < 3:
            quiet_looks = 0 if stage.held or await _is_any_left(stage) else quiet_looks + 1
            looks += 1
            if looks % 10 == 0:
                stage.app.bell.ring("jobs")
            await asyncio.sleep(0.01)


async def _is_any_left(stage: Stage) -> bool:
    over = stage.app.world.now() + 1e9  # Every lease of an ingestion.
    moments = await stage.app.store.next_ingest(over), await stage.app.store.next_due()
    return moments != (None, None)


async def place(stage: Stage, store_id: str, file_id: str) -> Json:
    """A file as its store has it."""
    return await stage.get(f"/vector_stores/{store_id}/files/{file_id}")


async def document(stage: Stage, store_id: str, file_id: str) -> DocumentRow:
    """A file as the index has it, which must be there."""
    found = await stage.app.store.document(PROJECT, store_id, file_id)
    assert found is not None
    return found


async def number(stage: Stage, store_id: str) -> int:
    """The number of a store in the index."""
    [row] = await stage.app.store.indexes(PROJECT, [store_id])
    return row.number


async def find(stage: Stage, store_id: str, query: str, **more: Any) -> list[str]:
    """The files that a search finds."""
    answer = await stage.post(f"/vector_stores/{store_id}/search", {"query": query, **more})
    return [result["file_id"] for result in answer["data"]]


async def leftovers(stage: Stage, store: int, *documents: int) -> list[str]:
    """What the index still has of a store's documents that should be gone."""
    found = [f"posting of {row[0]}" for row in await stage.app.store.postings([store], _WORDS)]
    for one in documents:
        found += [f"text {row}" for row in await stage.app.store.text(one, start=0, limit=3)]
    found += [f"vectors of {row[0]}" for row in await stage.app.store.vectors(list(documents))]
    if await stage.app.store.job(index_changes.CLEAN_UP) is not None:
        found.append("the job of the clean-up")
    await stage.app.store.commit(index_changes.all_removed())
    return found


_WORDS = ["word1", "word2", "omega"]
