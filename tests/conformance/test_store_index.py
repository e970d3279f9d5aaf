"""Vector stores and their search index on every Database."""

import asyncio

import msgspec
import pytest

from tests.conformance.indexing import (
    NOW,
    begun,
    cleaned,
    indexed,
    part,
    place,
    ready,
    row,
    sums,
    vector_store,
    version,
)
from tests.conformance.shapes import OTHER, PROJECT, thread
from understudy.store import Conflict, Statement, changes, index_changes
from understudy.store.records import ChunkRow, DocumentRow, ReadyDocument
from understudy.store.store import Store

# Stores.


async def test_a_new_store_is_empty(store: Store) -> None:
    await store.commit(vector_store(now=90.5))
    found = await row(store)
    assert (found.id, found.project, found.last_active_at) == ("vs_1", PROJECT, 90.5)
    assert (found.embedding_model, found.dimensions) == (None, None)
    assert await sums(store) == (0, 0, 0.0, 0)
    facts = (await store.store_facts(["vs_1", "vs_2"]))["vs_1"]
    assert (facts.last_active_at, facts.size_bytes, facts.files) == (90.5, 0, {})


async def test_a_store_s_id_is_taken_once(store: Store) -> None:
    await store.commit(vector_store())
    with pytest.raises(Conflict):
        await store.commit(index_changes.insert_store("vs_1", project=OTHER, now=NOW))


async def test_a_use_is_remembered_and_never_taken_back(store: Store) -> None:
    await store.commit(vector_store())
    for now in (120.0, 110.0):
        await store.commit(index_changes.touch_store("vs_1", now=now))
    assert (await row(store)).last_active_at == 120.0
    await store.commit(index_changes.touch_store("vs_2", now=now))  # It went meanwhile.


async def test_facts_count_files_by_status(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    await store.commit(
        place("vs_1", "file-1"),
        place("vs_1", "file-2"),
        place("vs_1", "file-3", status="failed"),
        place("vs_2", "file-1", status="cancelled"),
    )
    facts = await store.store_facts(["vs_1", "vs_2"])
    assert facts["vs_1"].files == {"in_progress": 2, "failed": 1}
    assert facts["vs_2"].files == {"cancelled": 1}
    counts = (await store.store_counts(["vs_1"]))["vs_1"]
    assert (counts.in_progress, counts.failed, counts.total) == (2, 1, 3)


async def test_a_batch_counts_its_files_that_are_still_there(store: Store) -> None:
    await store.commit(vector_store())
    await store.commit(
        *[place("vs_1", f"file-{n}", status="completed") for n in range(3)],
        place("vs_1", "file-9", status="failed"),
    )
    counts = await store.batch_counts(["vs_1/file-0", "vs_1/file-9", "vs_1/file-gone", "vs_1"])
    assert (counts.completed, counts.failed, counts.total) == (1, 1, 2)
    assert (await store.batch_counts([])).total == 0


async def test_what_is_listed_can_be_filtered(store: Store) -> None:
    def file(id: str, purpose: str) -> Statement:
        body = msgspec.json.encode({"purpose": purpose})
        return changes.insert_object(
            "file", id=id, project=PROJECT, parent=None, created_at=NOW, body=body
        )

    await store.commit(file("file-a", "assistants"), file("file-b", "vision"))
    await store.commit(file("file-c", "assistants"), vector_store())
    await store.commit(
        place("vs_1", "file-a"), place("vs_1", "file-b", status="failed"), place("vs_1", "file-c")
    )

    async def ids(
        kind: str,
        parent: str | None,
        where: dict[str, str] | None = None,
        ids: list[str] | None = None,
    ) -> list[str]:
        page, more = await store.list(
            kind,
            PROJECT,
            parent,
            limit=9,
            order="asc",
            after=None,
            before=None,
            where=where,
            ids=ids,
        )
        assert not more
        return [record.id for record in page]

    assert await ids("file", None, where={"purpose": "assistants"}) == ["file-a", "file-c"]
    assert await ids("file", None, where={"purpose": "batch"}) == []
    waiting = {"status": "in_progress"}
    assert await ids("vector_store_file", "vs_1", where=waiting) == ["vs_1/file-a", "vs_1/file-c"]
    named = ["vs_1/file-c", "vs_1/file-b", "vs_2/file-a"]
    both = await ids("vector_store_file", "vs_1", where=waiting, ids=named)
    assert both == ["vs_1/file-c"]
    assert await ids("vector_store_file", "vs_1", ids=[]) == []


async def test_filtered_lists_are_walked_in_both_directions(store: Store) -> None:
    await store.commit(vector_store())
    await store.commit(
        *[
            place("vs_1", f"file-{n}", at=NOW + n // 2, status="failed" if n % 3 else "completed")
            for n in range(12)
        ]
    )
    expected = [f"vs_1/file-{n}" for n in range(12) if n % 3]
    seen: list[str] = []
    after, has_more = None, True
    while has_more:
        page, has_more = await store.list(
            "vector_store_file",
            PROJECT,
            "vs_1",
            limit=3,
            order="desc",
            after=after,
            before=None,
            where={"status": "failed"},
        )
        seen += [record.id for record in page]
        after = seen[-1]
    assert seen == expected[::-1]
    page, has_more = await store.list(
        "vector_store_file",
        PROJECT,
        "vs_1",
        limit=2,
        order="asc",
        after=None,
        before=expected[4],
        where={"status": "failed"},
    )
    assert ([record.id for record in page], has_more) == (expected[2:4], True)


@pytest.mark.parametrize("kind", ["assistant", "thread"])
async def test_who_else_names_a_store(store: Store, kind: str) -> None:
    def user(id: str, store_id: str | None, project: str = PROJECT) -> Statement:
        ids = [store_id] if store_id else []
        body = {"tool_resources": {"file_search": {"vector_store_ids": ids}} if ids else {}}
        return changes.insert_object(
            kind,
            id=id,
            project=project,
            parent=None,
            created_at=NOW,
            body=msgspec.json.encode(body),
        )

    await store.commit(
        user("one", "vs_1"), user("two", "vs_2"), user("none", None), user("far", "vs_2", OTHER)
    )
    assert await store.store_is_referenced(PROJECT, "vs_1", besides="two")
    assert not await store.store_is_referenced(PROJECT, "vs_1", besides="one")
    assert not await store.store_is_referenced(PROJECT, "vs_2", besides="two")
    assert not await store.store_is_referenced(PROJECT, "vs_3", besides="one")


# Documents.


async def test_a_document_grows_part_by_part_and_is_seen_when_it_is_ready(store: Store) -> None:
    await store.commit(vector_store(), place("vs_1", "file-1"))
    number = (await row(store)).number
    document = await begun(store, "file-1", attributes=b'{"a":1}')
    assert await store.document(PROJECT, "vs_1", "file-1") == DocumentRow(
        document, number, "file-1", "building", 0, 0, 0, 0, 0
    )
    await store.commit(part(number, document, 0))
    await store.commit(part(number, document, 1, chunks=3))
    found = await store.document(PROJECT, "vs_1", "file-1")
    assert found == DocumentRow(document, number, "file-1", "building", 0, 2, 5, 15, 50)
    assert await ready(store) == []
    assert await sums(store) == (0, 0, 0.0, 0)
    await store.commit(index_changes.ready_document(document, attributes=b'{"a":2}'))
    assert await store.ready_documents(number) == [
        ReadyDocument(document, "file-1", "file-1.txt", '{"a":2}', 2)
    ]
    assert await sums(store) == (5, 15, 2.5, 50)


async def test_parts_come_in_order_only(store: Store) -> None:
    await store.commit(vector_store())
    number = (await row(store)).number
    document = await begun(store, "file-1")
    with pytest.raises(Conflict, match="grow_document"):
        await store.commit(part(number, document, 1))
    await store.commit(part(number, document, 0))
    with pytest.raises(Conflict, match="grow_document"):
        await store.commit(part(number, document, 0, terms=("other",)))
    found = await store.document(PROJECT, "vs_1", "file-1")
    assert found is not None
    assert (found.parts, found.chunks) == (1, 2)
    assert await store.postings([number], ["other"]) == []


@pytest.mark.parametrize("state", ["ready", "gone"])
async def test_only_a_building_document_grows_or_becomes_ready(store: Store, state: str) -> None:
    await store.commit(vector_store())
    number = (await row(store)).number
    document = await begun(store, "file-1")
    await store.commit(part(number, document, 0))
    if state == "ready":
        await store.commit(index_changes.ready_document(document, attributes=b"{}"))
    else:
        drop = index_changes.drop_document("vs_1", "file-1", project=PROJECT, now=NOW)
        await store.commit(drop)
    before = await sums(store)
    with pytest.raises(Conflict, match="grow_document"):
        await store.commit(part(number, document, 1))
    with pytest.raises(Conflict, match="ready_document"):
        await store.commit(index_changes.ready_document(document, attributes=b"{}"))
    assert await sums(store) == before


async def test_a_file_has_one_document_in_a_store(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    first = await begun(store, "file-1")
    with pytest.raises(Conflict, match="exists"):
        await begun(store, "file-1")
    assert await begun(store, "file-1", "vs_2") != first
    await store.commit(index_changes.ready_document(first, attributes=b"{}"))
    with pytest.raises(Conflict, match="exists"):
        await begun(store, "file-1")
    drop = index_changes.drop_document("vs_1", "file-1", project=PROJECT, now=NOW)
    await store.commit(drop)
    assert await begun(store, "file-1") != first


async def test_tries_of_a_document_are_counted_until_it_grows(store: Store) -> None:
    await store.commit(vector_store())
    number = (await row(store)).number
    document = await begun(store, "file-1")
    for tries in (1, 2):
        await store.commit(index_changes.try_document(document))
        found = await store.document(PROJECT, "vs_1", "file-1")
        assert found is not None
        assert found.attempts == tries
    await store.commit(part(number, document, 0))
    found = await store.document(PROJECT, "vs_1", "file-1")
    assert found is not None
    assert found.attempts == 0


async def test_the_version_grows_when_what_may_be_found_changes(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"), place("vs_1", "file-1"))
    number = (await row(store)).number
    drop = index_changes.drop_document("vs_1", "file-1", project=PROJECT, now=NOW)

    async def grows(*statements: Statement | tuple[Statement, ...]) -> bool:
        before = await version(store)
        await store.commit(*statements)
        grown = await version(store) - before
        assert grown in (0, 1)
        return bool(grown)

    document = await begun(store, "file-1")
    assert await version(store) == 0
    assert not await grows(part(number, document, 0))
    assert not await grows(index_changes.try_document(document))
    assert not await grows(index_changes.claim_embedder(number, model="m", dimensions=3))
    assert not await grows(drop)
    document = await begun(store, "file-1")
    assert await grows(index_changes.ready_document(document, attributes=b"{}"))
    assert await grows(index_changes.set_attributes("vs_1", "file-1", attributes=b'{"b":1}'))
    assert not await grows(index_changes.touch_store("vs_1", now=NOW + 5))
    assert await grows(drop)
    assert not await grows(drop)
    await cleaned(store)
    assert await version(store) == 3
    assert await version(store, "vs_2") == 0


async def test_attributes_are_those_of_one_store(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    for id in ("vs_1", "vs_2"):
        await indexed(store, "file-1", id)
    await store.commit(index_changes.set_attributes("vs_1", "file-1", attributes=b'{"b":1}'))
    for id, expected in (("vs_1", '{"b":1}'), ("vs_2", "{}")):
        [found] = await store.ready_documents((await row(store, id)).number)
        assert found.attributes == expected


async def test_names_of_files_with_their_number(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    for n in range(3):
        await indexed(store, f"file-{n}")
    await indexed(store, "file-9", "vs_2")
    await begun(store, "file-8")
    names = await store.file_names(PROJECT, ["vs_1", "vs_2"], limit=2)
    assert names == (["file-0.txt", "file-1.txt"], 4)
    assert await store.file_names(PROJECT, ["vs_3"], limit=2) == ([], 0)


# The embedder.


async def test_the_first_embedder_of_a_store_stays(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    number = (await row(store)).number
    for _ in range(2):
        await store.commit(index_changes.claim_embedder(number, model="m", dimensions=3))
    for model, dimensions in (("other", 3), ("m", 4), ("", 0)):
        claim = index_changes.claim_embedder(number, model=model, dimensions=dimensions)
        with pytest.raises(Conflict, match="claim_embedder"):
            await store.commit(claim)
    found = await row(store)
    assert (found.embedding_model, found.dimensions) == ("m", 3)
    assert (await row(store, "vs_2")).embedding_model is None


async def test_a_store_of_keywords_stays_one(store: Store) -> None:
    await store.commit(vector_store())
    number = (await row(store)).number
    await store.commit(index_changes.claim_embedder(number, model="", dimensions=0))
    with pytest.raises(Conflict, match="claim_embedder"):
        await store.commit(index_changes.claim_embedder(number, model="m", dimensions=3))
    await store.commit(index_changes.claim_embedder(number, model="", dimensions=0))
    assert (await row(store)).embedding_model == ""


async def test_two_embedders_that_race_leave_one(store: Store) -> None:
    await store.commit(vector_store())
    number = (await row(store)).number
    claims = [
        store.commit(index_changes.claim_embedder(number, model=f"m{n}", dimensions=3))
        for n in range(9)
    ]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(not isinstance(outcome, Conflict) for outcome in outcomes) == 1


# What searches read.


async def test_postings_vectors_and_texts_come_back(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_2"))
    one = await indexed(store, "file-1", parts=2, terms=("apple", "pear"), vectors=b"12345678")
    two = await indexed(store, "file-2", "vs_2", terms=("pear", "plum"))
    numbers = [(await row(store, id)).number for id in ("vs_1", "vs_2")]
    found = await store.postings(numbers, ["apple", "plum", "fig"])
    assert sorted(found) == [("apple", one, b"apple")] * 2 + [("plum", two, b"plum")]
    assert await store.postings(numbers[:1], ["plum"]) == []
    assert await store.count_postings(numbers, ["apple", "pear", "fig"]) == {
        "apple": 10,
        "pear": 12,
    }
    assert await store.vectors([one, two]) == [(one, bytes(8), b"12345678")] * 2
    assert await store.vectors([]) == []
    rows = await store.chunk_texts([(one, 1, 64), (two, 0, 0), (two, 7, 9)])
    assert rows == [
        ChunkRow(one, 1, 5, 15, "c0001"),
        ChunkRow(one, 64, 320, 330, "c0064"),
        ChunkRow(two, 0, 0, 10, "c0000"),
    ]
    assert await store.text(one, start=1, limit=2) == [(1, "c0001"), (64, "c0064")]


# Projects.


async def test_projects_do_not_see_each_other(store: Store) -> None:
    await store.commit(vector_store(), vector_store("vs_far", project=OTHER), thread())
    await indexed(store, "file-1")
    mine = await row(store)
    assert await store.indexes(OTHER, ["vs_1"]) == []
    assert await store.document(OTHER, "vs_1", "file-1") is None
    assert await store.file_names(OTHER, ["vs_1"], limit=5) == ([], 0)
    assert not await store.store_is_referenced(OTHER, "vs_1", besides="")
    with pytest.raises(Conflict):
        await store.commit(index_changes.require_store_file("vs_1/file-1", project=OTHER))
    with pytest.raises(Conflict):
        await store.commit(index_changes.forget_store("vs_1", project=OTHER, now=NOW))
    with pytest.raises(Conflict):
        await store.commit(
            index_changes.forget_store_file("vs_1", "file-1", project=OTHER, now=NOW)
        )
    await store.commit(index_changes.forget_file("file-1", project=OTHER, now=NOW))
    await store.commit(index_changes.drop_document("vs_1", "file-1", project=OTHER, now=NOW))
    assert await row(store) == mine
    assert await ready(store) == ["file-1"]
