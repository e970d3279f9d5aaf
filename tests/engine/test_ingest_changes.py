"""Ingestion while clients change what is being indexed: nothing comes back, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.engine.ingesting import (
    LONG,
    PROJECT,
    SMALL,
    Gate,
    Obedient,
    attach,
    document,
    find,
    leftovers,
    make,
    number,
    place,
    quiet,
    settled,
    text,
    upload,
    working,
)
from tests.engine.stage import Clock, Hooked, Json, Stage, eventually
from understudy import limits
from understudy.store.store import Store

ROUGH = {"type": "static", "static": {"max_chunk_size_tokens": 4000, "chunk_overlap_tokens": 0}}


@pytest.fixture
async def stage(store: Store, clock: Clock, tmp_path: Path) -> AsyncIterator[Stage]:
    """An App that is at work, with an embedder."""
    async with working(store, tmp_path, Obedient(), clock) as stage:
        yield stage


@pytest.fixture
def embedder(stage: Stage) -> Obedient:
    """The embedder of the App at work."""
    embedder = stage.app.embedders._chosen
    assert isinstance(embedder, Obedient)
    return embedder


async def delete(stage: Stage, path: str) -> None:
    """A DELETE that must succeed."""
    answer = await stage.http.delete(path)
    assert answer.status_code == 200, answer.text


async def detach(stage: Stage, store_id: str, file: str) -> None:
    """Take a file out of the store."""
    await delete(stage, f"/vector_stores/{store_id}/files/{file}")


async def delete_file(stage: Stage, store_id: str, file: str) -> None:
    """Delete a file."""
    await delete(stage, f"/files/{file}")


async def delete_store(stage: Stage, store_id: str, file: str) -> None:
    """Delete the store."""
    await delete(stage, f"/vector_stores/{store_id}")


async def batch(stage: Stage, store_id: str, *files: str, **more: object) -> str:
    """The id of a batch of files."""
    path = f"/vector_stores/{store_id}/file_batches"
    id: str = (await stage.post(path, {"file_ids": list(files), **more}))["id"]
    return id


async def cancel(stage: Stage, store_id: str, batch_id: str) -> Json:
    """Cancel a batch."""
    return await stage.post(f"/vector_stores/{store_id}/file_batches/{batch_id}/cancel", {})


Change = Callable[[Stage, str, str], Awaitable[None]]


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("change", [detach, delete_file, delete_store])
async def test_what_goes_while_it_is_indexed_is_gone(
    stage: Stage, embedder: Obedient, change: Change, at: int
) -> None:
    gate = Gate(embedder, at=at)
    file = await upload(stage, text(LONG))
    store_id = await make(stage, file, chunking_strategy=SMALL)
    await gate.wait()
    building = await document(stage, store_id, file)
    await change(stage, store_id, file)
    gate.opened.set()
    await quiet(stage)
    assert await leftovers(stage, building.store, building.number) == []
    if change is not delete_store:
        other = await upload(stage, "apple")
        await attach(stage, store_id, other)
        assert (await settled(stage, store_id)) == {
            "in_progress": 0,
            "completed": 1,
            "failed": 0,
            "cancelled": 0,
            "total": 1,
        }
        assert await find(stage, store_id, "omega apple") == [other]
    await quiet(stage)


@pytest.mark.parametrize("change", [detach, delete_file])
async def test_files_that_go_while_they_wait_hold_up_nothing(
    stage: Stage, embedder: Obedient, change: Change
) -> None:
    gate = Gate(embedder)
    files = [await upload(stage, f"apple {n}") for n in range(8)]
    store_id = await make(stage, *files)
    await gate.wait()
    await asyncio.sleep(0.05)  # Both workers of the page are at it.
    for file in files[3:6]:
        await change(stage, store_id, file)
    gate.opened.set()
    counts = await settled(stage, store_id)
    assert (counts["completed"], counts["total"]) == (5, 5)
    kept = files[:3] + files[6:]
    assert sorted(await find(stage, store_id, "apple")) == sorted(kept)
    job = await stage.app.store.job(store_id)
    assert job is None or job.fence == 1, "the job had to be begun again"
    await quiet(stage)


async def test_a_batch_cancelled_meanwhile_leaves_nothing_half_done(
    stage: Stage, embedder: Obedient
) -> None:
    store_id = await make(stage, await upload(stage, "done before"))
    await settled(stage, store_id)
    gate = Gate(embedder, at=4)
    long = await upload(stage, text(LONG))
    others = [await upload(stage, f"apple {n}") for n in range(5)]
    batch_id = await batch(stage, store_id, long, *others, chunking_strategy=SMALL)
    await gate.wait()
    counts = (await cancel(stage, store_id, batch_id))["file_counts"]
    assert counts["in_progress"] == 0
    assert counts["cancelled"] + counts["completed"] == 6
    gate.opened.set()
    await quiet(stage)
    found = await stage.get(f"/vector_stores/{store_id}/file_batches/{batch_id}")
    assert (found["status"], found["file_counts"]) == ("cancelled", counts)
    store = await stage.get(f"/vector_stores/{store_id}")
    assert store["file_counts"]["completed"] == counts["completed"] + 1
    documents = await stage.app.store.ready_documents(await number(stage, store_id))
    assert len(documents) == counts["completed"] + 1
    assert await find(stage, store_id, "done before") != []
    if (await place(stage, store_id, long))["status"] == "cancelled":
        # A small file may have been begun, and be done, before the long one.
        gone = set(range(1, 8)) - {one.number for one in documents}
        assert await leftovers(stage, await number(stage, store_id), *gone) == []


async def test_a_cancelled_file_can_be_attached_again_and_cut_in_another_way(
    stage: Stage, embedder: Obedient
) -> None:
    gate = Gate(embedder)
    first, second = [await upload(stage, f"first {n} {text(300)}") for n in range(2)]
    waiting = await upload(stage, text(LONG))
    store_id = await make(stage)
    batch_id = await batch(stage, store_id, first, second, waiting, chunking_strategy=SMALL)
    await gate.wait()
    await cancel(stage, store_id, batch_id)
    for file in (first, waiting):
        placed = await attach(stage, store_id, file, chunking_strategy=ROUGH)
        assert placed["status"] == "in_progress"
    gate.opened.set()
    counts = await settled(stage, store_id)
    assert (counts["completed"], counts["cancelled"]) == (2, 1)
    await quiet(stage)
    for file, chunks in ((first, 1), (waiting, 5)):
        placed = await place(stage, store_id, file)
        assert placed["chunking_strategy"] == ROUGH
        assert (await document(stage, store_id, file)).chunks <= chunks
    assert sorted(set(await find(stage, store_id, "first"))) == sorted([first, waiting])


async def test_attributes_that_change_meanwhile_are_not_lost(
    stage: Stage, embedder: Obedient
) -> None:
    gate = Gate(embedder, at=2)
    file = await upload(stage, text(LONG))
    store_id = await make(stage, chunking_strategy=SMALL)
    await attach(stage, store_id, file, chunking_strategy=SMALL, attributes={"year": 1})
    await gate.wait()
    path = f"/vector_stores/{store_id}/files/{file}"
    await stage.post(path, {"attributes": {"year": 2}})
    gate.opened.set()
    await settled(stage, store_id)
    assert (await place(stage, store_id, file))["attributes"] == {"year": 2}
    for year, expected in ((1, set()), (2, {file})):
        only = {"type": "eq", "key": "year", "value": year}
        assert set(await find(stage, store_id, "omega", filters=only)) == expected


async def test_attributes_that_change_without_pause_do_not_stop_the_file(
    stage: Stage, database: Hooked
) -> None:
    file = await upload(stage, "apple")
    store_id = await make(stage)
    changes = 0

    async def change(names: list[str]) -> None:
        nonlocal changes
        if "ready_document" in names and changes < 5:
            changes += 1
            path = f"/vector_stores/{store_id}/files/{file}"
            await stage.post(path, {"attributes": {"change": changes}})

    database.before = change
    await attach(stage, store_id, file)
    assert (await settled(stage, store_id))["completed"] == 1
    assert (await place(stage, store_id, file))["attributes"] == {"change": 5}
    [ready] = await stage.app.store.ready_documents(await number(stage, store_id))
    assert ready.attributes == '{"change":5}'
    assert (await place(stage, store_id, file))["usage_bytes"] == len("apple") + 4 * 8


async def test_a_file_that_comes_while_the_job_ends_is_not_forgotten(
    stage: Stage, database: Hooked
) -> None:
    first, late = await upload(stage, "apple"), await upload(stage, "pear")
    comes, is_there = False, False

    async def come(names: list[str]) -> None:
        nonlocal comes, is_there
        if "any_in_progress" in names and not comes:
            comes = True
            await attach(stage, store_id, late)
            is_there = True

    store_id = await make(stage)
    database.before = come
    await attach(stage, store_id, first)
    await eventually(lambda: is_there)
    assert (await settled(stage, store_id))["completed"] == 2
    assert (await find(stage, store_id, "pear"))[0] == late
    await quiet(stage)


async def test_a_store_that_goes_between_two_looks_ends_the_work(
    stage: Stage, database: Hooked
) -> None:
    store_id = await make(stage)
    is_gone = False

    async def go(names: list[str]) -> None:
        nonlocal is_gone
        if "insert_document" in names and not is_gone:
            is_gone = True
            await delete(stage, f"/vector_stores/{store_id}")
            await quiet_purge(stage, store_id)

    database.before = go
    store = await number(stage, store_id)
    await attach(stage, store_id, await upload(stage, "apple"))
    await quiet(stage)
    assert is_gone
    assert await leftovers(stage, store, 1) == []
    assert await stage.app.store.get_many("vector_store_file", PROJECT, [store_id]) == []


async def quiet_purge(stage: Stage, store_id: str) -> None:
    """Until the remover of the store's children has the job, in the place of the ingestion."""
    async with asyncio.timeout(10):
        while (job := await stage.app.store.job(store_id)) is not None and not job.lease_owner:
            stage.app.bell.ring("jobs")
            await asyncio.sleep(0.005)


async def test_one_file_in_two_stores_is_two_documents(stage: Stage) -> None:
    file = await upload(stage, "apple")
    stores = [await make(stage, file) for _ in range(2)]
    for store_id in stores:
        await settled(stage, store_id)
        assert await find(stage, store_id, "apple") == [file]
    documents = [await document(stage, store_id, file) for store_id in stores]
    assert documents[0].number != documents[1].number
    await detach(stage, stores[0], file)
    await quiet(stage)
    assert await find(stage, stores[0], "apple") == []
    assert await find(stage, stores[1], "apple") == [file]


async def test_the_clean_up_goes_on_in_another_lease(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLEAN_UP_BATCHES", 2)
    monkeypatch.setattr(limits, "CLEAN_UP_CHUNKS", 50)
    file = await upload(stage, text(LONG))
    store_id = await make(stage, file, chunking_strategy=SMALL)
    await settled(stage, store_id)
    found = await document(stage, store_id, file)
    await detach(stage, store_id, file)
    assert (await stage.get(f"/vector_stores/{store_id}"))["usage_bytes"] == 0
    await quiet(stage)
    assert await leftovers(stage, found.store, found.number) == []
