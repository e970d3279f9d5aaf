"""Every change of vector stores and their search index, as changes.py has those of all else.

A document is one file in one store, as the index has it: building while its parts are added,
ready when searches may find it, gone when it waits to be removed in the background. Whatever a
search may find changes together with the store's sums and its version, in one commit.
"""

from collections.abc import Sequence

from understudy.store import Statement
from understudy.store.changes import delete_job, delete_object, update_object

CLEAN_UP = "clean-up"  # The one job that removes what is gone.

# Vector stores.


def insert_store(id: str, *, project: str, now: float) -> Statement:
    """The hot numbers of a new vector store; its object is inserted beside it."""
    return Statement("insert_store", {"id": id, "project": project, "now": now})


def touch_store(id: str, *, now: float) -> Statement:
    """The store was used. Never refused."""
    return Statement("touch_store", {"id": id, "now": now})


def forget_store(id: str, *, project: str, now: float) -> tuple[Statement, ...]:
    """A store goes with all that is in it; refused when there is none (`delete_object`).

    Its files' places and its batches are children of its object, so they go in the background.
    """
    args = {"store_id": id, "project": project}
    return (
        # In the place of its ingestion, whose holder may write nothing any more; and first, as in
        # what that one commits, or each could wait for the other.
        Statement("replace_job", {"id": id, "kind": "purge", "project": project, "due_at": now}),
        *delete_object(id, kind="vector_store", project=project),
        Statement("drop_documents", args),
        Statement("delete_store", args),
        wake_clean_up(now=now),
    )


def forget_store_file(
    store_id: str, file_id: str, *, project: str, now: float
) -> tuple[Statement, ...]:
    """A file leaves a store; refused when it is not in it (`delete_object`)."""
    return (
        *delete_object(record_id(store_id, file_id), kind="vector_store_file", project=project),
        *_drop(store_id, file_id, project, now),
    )


def forget_file(file_id: str, *, project: str, now: float) -> tuple[Statement, ...]:
    """A file leaves every store. Never refused."""
    args = {"file_id": file_id, "project": project}
    return (
        Statement("bury_store_files", args),
        Statement("delete_store_files", args),
        *_drop(None, file_id, project, now),
    )


def drop_document(
    store_id: str, file_id: str, *, project: str, now: float
) -> tuple[Statement, ...]:
    """The index forgets a file that stays in the store: it failed, or is to be read anew."""
    return _drop(store_id, file_id, project, now)


def _drop(store_id: str | None, file_id: str, project: str, now: float) -> tuple[Statement, ...]:
    args = {"store_id": store_id, "file_id": file_id, "project": project}
    return (
        Statement("uncount_document", args),
        Statement("drop_document", args),
        wake_clean_up(now=now),
    )


def set_attributes(store_id: str, file_id: str, *, attributes: bytes) -> tuple[Statement, ...]:
    """The attributes of a file, as filters see them (JSON). Never refused."""
    args = {"store_id": store_id, "file_id": file_id, "attributes": attributes.decode()}
    return (
        Statement("set_attributes", args),
        Statement("touch_version", {"store_id": store_id}),
    )


def record_id(store_id: str, file_id: str) -> str:
    """The id of a file's place in a store: the file's own id may be in many stores."""
    return f"{store_id}/{file_id}"


# Jobs.


def wake_ingest(store_id: str, *, project: str, now: float) -> Statement:
    """The store has files to index; its job is made, or brought forward."""
    return _wake(store_id, kind="ingest", project=project, now=now)


def wake_clean_up(*, now: float) -> Statement:
    """Something is gone; the job that removes it is made, or brought forward."""
    return _wake(CLEAN_UP, kind="clean_up", project="", now=now)


def wake_clean_up_if_gone(*, now: float) -> Statement:
    """The same, but only if anything is gone. Never refused."""
    return Statement("wake_clean_up_if_gone", {"id": CLEAN_UP, "due_at": now})


def _wake(id: str, *, kind: str, project: str, now: float) -> Statement:
    return Statement("wake_job", {"id": id, "kind": kind, "project": project, "due_at": now})


def all_ingested(store_id: str) -> Statement:
    """Changes nothing; refused while a file of the store waits to be indexed."""
    return Statement("any_in_progress", {"store_id": store_id}, rows=0)


def all_removed() -> Statement:
    """Changes nothing; refused while anything that is gone waits to be removed."""
    return Statement("any_gone", {}, rows=0)


def end_clean_up(*, fence: int) -> tuple[Statement, ...]:
    """The job that removes what is gone goes. Refused when it is not at this fence, and while
    anything that is gone waits to be removed.

    The job goes first: who drops a document at the same time holds it, or waits for it, so that
    either the document is seen here or the job is made anew. The other way round it could be
    dropped between the look and the lock.
    """
    return delete_job(CLEAN_UP, fence=fence), all_removed()


def abandon_documents(store: int) -> Statement:
    """What was begun of files that were cancelled goes; a row per document."""
    return Statement("abandon_documents", {"store": store})


# Indexing a file.


def require_store_file(id: str, *, project: str) -> Statement:
    """Changes nothing; refused when the file is not in the store any more, or not in_progress."""
    return Statement("require_in_progress", {"id": id, "project": project}, rows=1)


def update_store_file(id: str, *, project: str, body: bytes, version: int) -> Statement:
    """A file's new body in its store. Refused when somebody else changed it (`update_object`)."""
    return update_object(id, project=project, body=body, private=None, version=version)


def claim_embedder(store: int, *, model: str, dimensions: int) -> Statement:
    """The store's vectors are of this model ('' for none). Refused when they are of another."""
    args = {"store": store, "model": model, "dimensions": dimensions}
    return Statement("claim_embedder", args, rows=1)


def insert_document(
    store: int, file_id: str, *, project: str, attributes: bytes, filename: str
) -> Statement:
    """A document that begins to be built; its number is returned. Conflict("exists") when the
    store has one of this file."""
    args = {
        "store": store,
        "file_id": file_id,
        "project": project,
        "attributes": attributes.decode(),
        "filename": filename,
    }
    return Statement("insert_document", args)


def try_document(number: int) -> Statement:
    """A document that an earlier worker left unfinished is taken up again; its attempts count
    from the last part that was added."""
    return Statement("try_document", {"number": number})


def insert_part(
    store: int,
    document: int,
    part: int,
    *,
    chunks: Sequence[tuple[int, int, int, str]],
    words: int,
    trust: float,
    terms: Sequence[str],
    terms_json: bytes,
    postings: Sequence[bytes],
    owners: bytes | None,
    vectors: bytes | None,
    size_bytes: int,
) -> tuple[Statement, ...]:
    """The next part of a document that is building; refused when it is not (`grow_document`).

    `chunks` are (ordinal, start, stop, text); `postings` belong to `terms`, one to one.
    """
    return (
        Statement(
            "grow_document",
            {
                "number": document,
                "part": part,
                "chunks": len(chunks),
                "words": words,
                "trust": trust,
                "size_bytes": size_bytes,
            },
            rows=1,
        ),
        Statement("insert_chunk", {}, many=[(document, *chunk) for chunk in chunks]),
        Statement(
            "insert_posting",
            {},
            many=[
                (store, term, document, part, data)
                for term, data in zip(terms, postings, strict=True)
            ],
        ),
        Statement(
            "insert_part",
            {
                "document": document,
                "part": part,
                "terms": terms_json.decode(),
                "owners": owners,
                "vectors": vectors,
            },
        ),
    )


def ready_document(number: int, *, attributes: bytes) -> tuple[Statement, ...]:
    """Searches find the document from now on. Refused when it is not building."""
    return (
        Statement("ready_document", {"number": number, "attributes": attributes.decode()}, rows=1),
        Statement("count_document", {"number": number}),
    )


# Vectors that the record compares by itself (Comparing). Each of these is a commit of its own; done
# twice, or by somebody who lost his lease, it does no harm.


def keep_halves(
    document: int, part: int, *, ordinals: Sequence[int], halves: Sequence[bytes]
) -> Statement:
    """The vectors of a part at half precision (little-endian), each with the ordinal of its chunk:
    all or none. Never refused."""
    args = {"document": document, "part": part, "ordinals": ordinals, "halves": halves}
    return Statement("keep_halves", args)


def mark_halved(document: int) -> Statement:
    """All vectors of a document were kept so; changes nothing if they were not. Never refused."""
    return Statement("mark_halved", {"document": document})


# Removing what is gone.


def purge_part(store: int, document: int, part: int) -> tuple[Statement, ...]:
    """A part of a document that is gone, with its postings."""
    args = {"store": store, "document": document, "part": part}
    return Statement("purge_postings", args), Statement("purge_part", args)


def purge_chunks(*, limit: int) -> Statement:
    """Up to `limit` chunks of documents that are gone; a row per chunk."""
    return Statement("purge_chunks", {"limit": limit})


def purge_documents(*, limit: int) -> Statement:
    """Up to `limit` documents that are gone and have nothing left; a row per document."""
    return Statement("purge_documents", {"limit": limit})
