"""What the suite puts into the search index: stores, files in them, and documents of some parts."""

from collections.abc import Sequence

import msgspec

from tests.conformance.shapes import PROJECT
from understudy import limits
from understudy.store import Statement, changes, index_changes
from understudy.store.records import IndexRow
from understudy.store.store import Store

Statements = tuple[Statement, ...]
NOW = 100.0
TERMS = ("apple", "pear")


def vector_store(id: str = "vs_1", *, project: str = PROJECT, now: float = NOW) -> Statements:
    """An empty vector store."""
    insert = changes.insert_object(
        "vector_store", id=id, project=project, parent=None, created_at=now, body=b"{}"
    )
    return insert, index_changes.insert_store(id, project=project, now=now)


def place(
    store_id: str,
    file_id: str,
    *,
    status: str = "in_progress",
    project: str = PROJECT,
    at: float = NOW,
) -> Statement:
    """A file's place in a store."""
    return changes.insert_object(
        "vector_store_file",
        id=index_changes.record_id(store_id, file_id),
        project=project,
        parent=store_id,
        created_at=at,
        body=place_body(file_id, status),
    )


def place_body(file_id: str, status: str) -> bytes:
    """What is stored of a place."""
    return msgspec.json.encode({"id": file_id, "status": status})


def moved(store_id: str, file_id: str, status: str, *, project: str = PROJECT) -> Statement:
    """A file's place with another status."""
    return changes.update_object(
        index_changes.record_id(store_id, file_id),
        project=project,
        body=place_body(file_id, status),
        private=None,
    )


async def row(store: Store, store_id: str = "vs_1", *, project: str = PROJECT) -> IndexRow:
    """The hot numbers of a store that exists."""
    [found] = await store.indexes(project, [store_id])
    return found


async def sums(store: Store, store_id: str = "vs_1") -> tuple[int, int, float, int]:
    """Chunks, words, trust and bytes of a store."""
    found = await row(store, store_id)
    return found.chunks, found.words, found.trust, found.size_bytes


async def ready(store: Store, store_id: str = "vs_1") -> list[str]:
    """The files that searches of a store find."""
    found = await store.ready_documents((await row(store, store_id)).number)
    return [one.file_id for one in found]


async def version(store: Store, store_id: str = "vs_1") -> int:
    """The version of a store."""
    return (await row(store, store_id)).version


async def begun(
    store: Store,
    file_id: str,
    store_id: str = "vs_1",
    *,
    project: str = PROJECT,
    attributes: bytes = b"{}",
) -> int:
    """The number of a document that begins to be built."""
    number = (await row(store, store_id, project=project)).number
    insert = index_changes.insert_document(
        number, file_id, project=project, attributes=attributes, filename=f"{file_id}.txt"
    )
    [[(document,)]] = await store.commit(insert)
    return int(document)


def part(
    store: int,
    document: int,
    number: int = 0,
    *,
    chunks: int = 2,
    terms: Sequence[str] = TERMS,
    vectors: bytes | None = None,
) -> Statements:
    """A part of some chunks: each has ten characters, of which five are its neighbour's too."""
    first = number * limits.PART_CHUNKS
    return index_changes.insert_part(
        store,
        document,
        number,
        chunks=[
            (ordinal, 5 * ordinal, 5 * ordinal + 10, f"c{ordinal:04}")
            for ordinal in range(first, first + chunks)
        ],
        words=3 * chunks,
        trust=0.5 * chunks,
        terms=terms,
        terms_json=msgspec.json.encode(list(terms)),
        postings=[term.encode() for term in terms],
        owners=None if vectors is None else bytes(4 * chunks),
        vectors=vectors,
        size_bytes=10 * chunks,
    )


async def indexed(
    store: Store,
    file_id: str,
    store_id: str = "vs_1",
    *,
    project: str = PROJECT,
    parts: int = 1,
    terms: Sequence[str] = TERMS,
    vectors: bytes | None = None,
    attributes: bytes = b"{}",
) -> int:
    """The number of a document that searches find, in a place that is made for it."""
    number = (await row(store, store_id, project=project)).number
    await store.commit(place(store_id, file_id, project=project))
    document = await begun(store, file_id, store_id, project=project, attributes=attributes)
    for n in range(parts):
        await store.commit(part(number, document, n, terms=terms, vectors=vectors))
    await store.commit(
        moved(store_id, file_id, "completed", project=project),
        index_changes.ready_document(document, attributes=attributes),
    )
    return document


async def cleaned(store: Store, *, chunks: int = 1_000) -> int:
    """Remove all that is gone; how many commits it took."""
    for commits in range(1, 10_000):
        gone = await store.gone_part()
        if gone is not None:
            document, owner, number = gone
            await store.commit(index_changes.purge_part(owner, document, number))
            continue
        [removed] = await store.commit(index_changes.purge_chunks(limit=chunks))
        assert len(removed) <= chunks
        if not removed:
            await store.commit(index_changes.purge_documents(limit=10_000))
            await store.commit(index_changes.all_removed())
            return commits
    raise AssertionError("the clean-up does not end")
