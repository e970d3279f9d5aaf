"""What leaves vector stores, and the removal of it from the index, on every Database."""

import pytest

from tests.conformance.indexing import (
    NOW,
    TERMS,
    begun,
    cleaned,
    indexed,
    moved,
    part,
    place,
    ready,
    row,
    sums,
    vector_store,
    version,
)
from tests.conformance.shapes import OTHER, PROJECT
from understudy.store import Conflict, changes, index_changes
from understudy.store.store import Store


async def test_a_detached_file_leaves_one_store(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    for id in ("vs_1", "vs_2"):
        await indexed(store, "file-1", id)
    gone = index_changes.forget_store_file("vs_1", "file-1", project=PROJECT, now=NOW)
    await store.commit(gone)
    assert (await ready(store), await ready(store, "vs_2")) == ([], ["file-1"])
    assert await sums(store) == (0, 0, 0.0, 0)
    assert (await sums(store, "vs_2"))[0] == 2
    assert await store.document(PROJECT, "vs_1", "file-1") is None
    job = await store.job(index_changes.CLEAN_UP)
    assert job is not None
    with pytest.raises(Conflict, match="delete_object"):
        await store.commit(gone)


async def test_a_deleted_file_leaves_every_store_of_its_project(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"), vector_store("vs_far", project=OTHER))
    for id in ("vs_1", "vs_2"):
        await indexed(store, "file-1", id)
        await indexed(store, "file-2", id)
    await indexed(store, "file-1", "vs_far", project=OTHER)
    before = await version(store)
    await store.commit(index_changes.forget_file("file-1", project=PROJECT, now=NOW))
    for id in ("vs_1", "vs_2"):
        assert await ready(store, id) == ["file-2"]
        assert (await sums(store, id))[0] == 2
        assert (await store.store_facts([id]))[id].files == {"completed": 1}
    assert await version(store) == before + 1
    assert (await row(store, "vs_far", project=OTHER)).chunks == 2
    # A deleted place is still a cursor.
    await store.list(
        "vector_store_file",
        PROJECT,
        "vs_1",
        limit=1,
        order="asc",
        after="vs_1/file-1",
        before=None,
    )
    await store.commit(index_changes.forget_file("file-1", project=PROJECT, now=NOW))


async def test_a_deleted_store_goes_with_all_that_is_in_it(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    number = (await row(store)).number
    document = await indexed(store, "file-1", parts=2, vectors=b"12345678")
    await begun(store, "file-2")
    await store.commit(index_changes.wake_ingest("vs_1", project=PROJECT, now=NOW))
    gone = index_changes.forget_store("vs_1", project=PROJECT, now=NOW)
    await store.commit(gone)
    assert await store.indexes(PROJECT, ["vs_1"]) == []
    assert await store.store_facts(["vs_1"]) == {}
    assert await store.get("vector_store", PROJECT, "vs_1") is None
    job = await store.job("vs_1")
    assert job is not None
    assert job.kind == "purge"
    with pytest.raises(Conflict, match="delete_object"):
        await store.commit(gone)
    while any(await store.commit(changes.purge_children("vs_1", limit=1))):
        pass
    assert await store.get("vector_store_file", PROJECT, "vs_1/file-1") is None
    await cleaned(store)
    assert await store.postings([number], TERMS) == []
    assert await store.text(document, start=0, limit=9) == []


async def test_who_ingested_a_deleted_store_cannot_write_as_its_remover(store: Store) -> None:
    await store.commit(vector_store())
    await store.commit(index_changes.wake_ingest("vs_1", project=PROJECT, now=NOW))
    [ingest] = await store.claim_ingest(owner="boot_a", now=NOW, lease_until=NOW + 15, free=1)
    await store.commit(index_changes.forget_store("vs_1", project=PROJECT, now=NOW))
    claimed = await store.claim(
        owner="boot_a", now=NOW, lease_until=NOW + 15, free=5, per_project=5
    )
    assert {one.job.kind for one in claimed} == {"purge", "clean_up"}
    hold = changes.hold_job("vs_1", owner="boot_a", fence=ingest.job.fence, cancelled_ok=True)
    with pytest.raises(Conflict, match="hold_job"):
        await store.commit(hold)


async def test_the_clean_up_removes_everything_in_bounded_batches(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    numbers = [(await row(store, id)).number for id in ("vs_1", "vs_2")]
    documents = [
        await indexed(store, f"file-{n}", id, parts=3, terms=(*TERMS, f"word{n}"), vectors=bytes(8))
        for n in range(4)
        for id in ("vs_1", "vs_2")
    ]
    await store.commit(part(numbers[0], await begun(store, "file-9"), 0))
    kept = documents.pop()
    for n in range(3):
        await store.commit(index_changes.forget_file(f"file-{n}", project=PROJECT, now=NOW))
    await store.commit(
        index_changes.forget_store_file("vs_1", "file-3", project=PROJECT, now=NOW),
        index_changes.abandon_documents(numbers[0]),
    )
    with pytest.raises(Conflict, match="any_gone"):
        await store.commit(index_changes.all_removed())
    assert await cleaned(store, chunks=4) > 22 + 42 / 4
    await store.commit(index_changes.all_removed())
    assert await store.gone_part() is None
    assert await store.vectors(documents) == []
    for document in documents:
        assert await store.text(document, start=0, limit=9) == []
    assert {row[1] for row in await store.postings(numbers, [*TERMS, "word0", "word3"])} == {kept}
    assert len(await store.text(kept, start=0, limit=9)) == 6


async def test_documents_that_are_gone_are_removed_a_batch_at_a_time(store: Store) -> None:
    await store.commit(vector_store())
    for n in range(5):
        await begun(store, f"file-{n}")
    number = (await row(store)).number
    [abandoned] = await store.commit(index_changes.abandon_documents(number))
    assert len(abandoned) == 5
    removed = [
        len((await store.commit(index_changes.purge_documents(limit=2)))[0]) for _ in range(4)
    ]
    assert removed == [2, 2, 1, 0]


async def test_what_was_begun_is_abandoned_in_one_store_only(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    await indexed(store, "file-1")
    await begun(store, "file-2")
    await begun(store, "file-2", "vs_2")
    number = (await row(store)).number
    [abandoned] = await store.commit(index_changes.abandon_documents(number))
    assert len(abandoned) == 1
    assert await ready(store) == ["file-1"]
    assert await store.document(PROJECT, "vs_2", "file-2") is not None


async def test_a_clean_up_is_called_for_only_when_something_is_gone(store: Store) -> None:
    await store.commit(vector_store())
    await store.commit(index_changes.wake_clean_up_if_gone(now=NOW))
    assert await store.job(index_changes.CLEAN_UP) is None
    await begun(store, "file-1")
    number = (await row(store)).number
    await store.commit(
        index_changes.abandon_documents(number), index_changes.wake_clean_up_if_gone(now=NOW)
    )
    job = await store.job(index_changes.CLEAN_UP)
    assert job is not None
    assert (job.kind, job.due_at) == ("clean_up", NOW)
    await store.commit(index_changes.wake_clean_up_if_gone(now=NOW - 5))
    job = await store.job(index_changes.CLEAN_UP)
    assert job is not None
    assert job.due_at == NOW - 5


async def test_a_place_must_still_wait_for_its_index(store: Store) -> None:
    await store.commit(vector_store(), place("vs_1", "file-1"))
    guard = index_changes.require_store_file("vs_1/file-1", project=PROJECT)
    await store.commit(guard)
    with pytest.raises(Conflict, match="any_in_progress"):
        await store.commit(index_changes.all_ingested("vs_1"))
    await store.commit(index_changes.all_ingested("vs_2"))
    await store.commit(moved("vs_1", "file-1", "cancelled"))
    with pytest.raises(Conflict, match="require_in_progress"):
        await store.commit(guard)
    await store.commit(index_changes.all_ingested("vs_1"))
    with pytest.raises(Conflict, match="require_in_progress"):
        await store.commit(index_changes.require_store_file("vs_1/file-2", project=PROJECT))
