"""The text that was read from a file: whole, once, and only of files that are indexed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.ingesting import (
    PROJECT,
    Gate,
    Obedient,
    document,
    make,
    settled,
    upload,
    working,
)
from tests.engine.stage import Clock, Stage
from understudy import limits
from understudy.engine.content import text_of
from understudy.store.store import Store

OVERLAPPING = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50},
}
TEXT = "".join(f"Line {n}: größer, 東京で食べる, naïve 🙂.\n" for n in range(150))


@pytest.fixture
async def stage(store: Store, clock: Clock, tmp_path: Path) -> AsyncIterator[Stage]:
    """An App that is at work."""
    async with working(store, tmp_path, clock=clock) as stage:
        yield stage


@pytest.mark.parametrize("rows", [1, 7, 1_000])
async def test_overlapping_chunks_give_the_text_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(limits, "CONTENT_CHUNKS", rows)
    file = await upload(stage, TEXT, "notes.md")
    store_id = await make(stage, file, chunking_strategy=OVERLAPPING)
    await settled(stage, store_id)
    assert (await document(stage, store_id, file)).chunks > 7
    assert await text_of(stage.app, PROJECT, store_id, file) == TEXT


async def test_only_an_indexed_file_has_a_text(store: Store, tmp_path: Path, clock: Clock) -> None:
    embedder = Obedient()
    async with working(store, tmp_path, embedder, clock) as stage:
        gate = Gate(embedder)
        file = await upload(stage, "apple")
        store_id = await make(stage, file)
        await gate.wait()
        assert await text_of(stage.app, PROJECT, store_id, file) is None
        gate.opened.set()
        await settled(stage, store_id)
        assert await text_of(stage.app, PROJECT, store_id, file) == "apple"
        assert await text_of(stage.app, "another", store_id, file) is None
        assert await text_of(stage.app, PROJECT, "vs_other", file) is None
        await stage.http.delete(f"/vector_stores/{store_id}/files/{file}")
        assert await text_of(stage.app, PROJECT, store_id, file) is None
