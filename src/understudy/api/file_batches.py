"""Batches of files that are put into a vector store together (SPEC 7.8)."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from understudy import limits
from understudy.api import objects, polls, stores, vector_store_files
from understudy.api.operation import Call, operation
from understudy.machine import vector_store as machine
from understudy.machine.private import BatchPrivate
from understudy.machine.vector_store import BatchBody
from understudy.store import Statement, changes, index_changes
from understudy.wire.base import ListOf, given
from understudy.wire.query import ListQuery
from understudy.wire.vector_stores import (
    CreateFileBatch,
    FileBatch,
    FileCounts,
    VectorStoreFile,
)

TAG = "Vector store file batches"
KIND = "file_batch"


@operation("POST", "/vector_stores/{vector_store_id}/file_batches", tag=TAG, beta=True)
async def create_vector_store_file_batch(
    call: Call, vector_store_id: str, body: CreateFileBatch
) -> FileBatch:
    """Put up to 2,000 files into a vector store.

    They are processed in the background, and a file that cannot be read fails alone. With `files`
    each file has its own attributes and chunking, and those of the batch are not used.
    """
    _, facts = await stores.load_usable(call, vector_store_id)
    attached = await stores.attach(call, vector_store_id, _wanted(body), facts=facts)
    now = call.app.world.now()
    batch = BatchBody(
        id=call.app.world.new_id(KIND), created_at=int(now), vector_store_id=vector_store_id
    )
    private = BatchPrivate(file_ids=[file.id for file in attached.files])
    insert = objects.insert(call, KIND, batch, at=now, parent=vector_store_id, private=private)
    answer = machine.shown_batch(batch, private, attached.counts)
    await call.commit(*attached.statements, insert, answer=answer)
    stores.ring(call)
    return answer


def _wanted(body: CreateFileBatch) -> list[stores.Wanted]:
    """What a body asks for."""
    if given(body.files, []):
        return [vector_store_files.wanted(file) for file in given(body.files, [])]
    attributes = stores.wanted_attributes(body.attributes)
    chunking = given(body.chunking_strategy, None)
    return [stores.Wanted(id, attributes, chunking) for id in given(body.file_ids, [])]


@operation("GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}", tag=TAG, beta=True)
async def get_vector_store_file_batch(call: Call, vector_store_id: str, batch_id: str) -> FileBatch:
    """Retrieve a batch.

    The poll helpers of the SDKs are answered when its files have been processed; until then
    `openai-poll-after-ms` tells when to look again.
    """

    async def look() -> FileBatch:
        loaded, private = await _load(call, vector_store_id, batch_id)
        counts = await _counts(call, vector_store_id, private)
        return machine.shown_batch(loaded.object, private, counts)

    return await polls.settled(
        call, f"store:{vector_store_id}", look, lambda batch: batch.file_counts.in_progress > 0
    )


async def _load(
    call: Call, store_id: str, batch_id: str
) -> tuple[objects.Loaded[BatchBody], BatchPrivate]:
    """A batch of an existing store, or the 404."""
    await objects.require(call, stores.KIND, store_id)
    loaded = await objects.load(call, KIND, batch_id, BatchBody, parent=store_id)
    assert loaded.record.private is not None, "a batch is stored with its files"
    return loaded, msgspec.json.decode(loaded.record.private, type=BatchPrivate)


async def _counts(call: Call, store_id: str, private: BatchPrivate) -> FileCounts:
    return await call.app.store.batch_counts(_places(store_id, private))


def _places(store_id: str, private: BatchPrivate) -> list[str]:
    return [index_changes.record_id(store_id, id) for id in private.file_ids]


@operation(
    "POST", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel", tag=TAG, beta=True
)
async def cancel_vector_store_file_batch(
    call: Call, vector_store_id: str, batch_id: str
) -> FileBatch:
    """Cancel a batch.

    Its files that are still being processed become `cancelled`; those that are done stay.
    """
    loaded, private = await _load(call, vector_store_id, batch_id)
    for _ in range(limits.CONFLICT_RETRIES):
        cancelled = await _cancelled(call, _places(vector_store_id, private))
        if not cancelled:
            break
        private = replace(private, is_cancelled=True)
        # One commit; a file that is done in the same moment just stays so, and is seen next time.
        await call.commit(_marked(call, loaded, private), *cancelled)
    counts = await _counts(call, vector_store_id, private)
    return machine.shown_batch(loaded.object, private, counts)


def _marked(call: Call, loaded: objects.Loaded[BatchBody], private: BatchPrivate) -> Statement:
    return changes.update_object(
        loaded.record.id,
        project=call.project,
        body=loaded.record.body,
        private=msgspec.json.encode(private),
    )


async def _cancelled(call: Call, places: Sequence[str]) -> list[Statement]:
    """The statements that cancel what is in progress, each only if nobody was faster."""
    records = await call.app.store.get_many(stores.FILE_KIND, call.project, places)
    statements = []
    for record in records:
        file = objects.decode_record(record, VectorStoreFile)
        if file.status == "in_progress":
            update = stores.stored(call, record, machine.cancelled(file))
            statements.append(replace(update, rows=None))
    return statements


@operation(
    "GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", tag=TAG, beta=True
)
async def list_files_in_vector_store_batch(
    call: Call, vector_store_id: str, batch_id: str, page: ListQuery, filter: str | None = None
) -> ListOf[VectorStoreFile]:
    """List the files of a batch, newest first; with `filter` only those in that state."""
    _, private = await _load(call, vector_store_id, batch_id)
    places = _places(vector_store_id, private)
    return await vector_store_files.page_of(
        call, vector_store_id, page, filter=filter, record_ids=places
    )
