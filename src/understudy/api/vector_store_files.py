"""The files of a vector store (SPEC 7.8)."""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec.structs import replace

from understudy.api import objects, polls, stores
from understudy.api.operation import Call, operation
from understudy.engine.content import text_of
from understudy.errors import ApiError
from understudy.errors.vector_stores import no_store_file
from understudy.store import Conflict, UnknownCursor, index_changes
from understudy.wire.base import Deleted, ListOf, given
from understudy.wire.query import ListQuery
from understudy.wire.rules import check_id
from understudy.wire.vector_stores import (
    FILE_STATUSES,
    AttachFile,
    FileContentPage,
    ModifyAttributes,
    TextPiece,
    VectorStoreFile,
)

TAG = "Vector store files"
_Loaded: TypeAlias = objects.Loaded[VectorStoreFile]


@operation("POST", "/vector_stores/{vector_store_id}/files", tag=TAG, beta=True)
async def create_vector_store_file(
    call: Call, vector_store_id: str, body: AttachFile
) -> VectorStoreFile:
    """Put a file into a vector store.

    It is processed in the background. A file that is in the store already is not processed again,
    unless it had failed or was cancelled; attributes that are given replace its old ones.
    """
    _, facts = await stores.load_usable(call, vector_store_id)
    attached = await stores.attach(call, vector_store_id, [wanted(body)], facts=facts)
    [file] = attached.files
    await call.commit(*attached.statements, answer=file)
    stores.ring(call)
    return file


def wanted(body: AttachFile) -> stores.Wanted:
    """What a body asks for."""
    return stores.Wanted(
        body.file_id,
        attributes=stores.wanted_attributes(body.attributes),
        chunking=given(body.chunking_strategy, None),
    )


@operation("GET", "/vector_stores/{vector_store_id}/files", tag=TAG, beta=True)
async def list_vector_store_files(
    call: Call, vector_store_id: str, page: ListQuery, filter: str | None = None
) -> ListOf[VectorStoreFile]:
    """List the files of a vector store, newest first; with `filter` only those in that state."""
    await objects.require(call, stores.KIND, vector_store_id)
    return await page_of(call, vector_store_id, page, filter=filter)


async def page_of(
    call: Call,
    store_id: str,
    query: ListQuery,
    *,
    filter: str | None,
    record_ids: Sequence[str] | None = None,
) -> ListOf[VectorStoreFile]:
    """A page of a store's files, maybe of a few only. Cursors are ids of files, of which the
    record knows the places in the store."""
    if filter and filter not in FILE_STATUSES:
        raise ApiError.bad_value("filter", filter, FILE_STATUSES)
    try:
        records, has_more = await call.app.store.list(
            stores.FILE_KIND,
            call.project,
            store_id,
            limit=query.limit,
            order=query.order,
            after=_cursor(store_id, "after", query.after),
            before=_cursor(store_id, "before", query.before),
            where={"status": filter} if filter else None,
            ids=record_ids,
        )
    except UnknownCursor as unknown:
        raise no_store_file(unknown.id.partition("/")[2], store_id) from None
    files = [objects.decode_record(record, VectorStoreFile) for record in records]
    return ListOf(
        data=files,
        first_id=files[0].id if files else None,
        last_id=files[-1].id if files else None,
        has_more=has_more,
    )


def _cursor(store_id: str, param: str, file_id: str | None) -> str | None:
    if file_id is None:
        return None
    check_id(param, file_id, "file")
    return index_changes.record_id(store_id, file_id)


@operation("GET", "/vector_stores/{vector_store_id}/files/{file_id}", tag=TAG, beta=True)
async def get_vector_store_file(call: Call, vector_store_id: str, file_id: str) -> VectorStoreFile:
    """Retrieve a file of a vector store.

    The poll helpers of the SDKs are answered when it has been processed; until then
    `openai-poll-after-ms` tells when to look again.
    """

    async def look() -> VectorStoreFile:
        return (await _load(call, vector_store_id, file_id)).object

    return await polls.settled(
        call, f"store:{vector_store_id}", look, lambda file: file.status == "in_progress"
    )


async def _load(call: Call, store_id: str, file_id: str) -> _Loaded:
    """The place of a file in a store, or the 404."""
    await objects.require(call, stores.KIND, store_id)
    id = index_changes.record_id(store_id, file_id)
    record = await call.app.store.get(stores.FILE_KIND, call.project, id, store_id)
    if record is None:
        raise no_store_file(file_id, store_id)
    return objects.Loaded(record, objects.decode_record(record, VectorStoreFile))


@operation("POST", "/vector_stores/{vector_store_id}/files/{file_id}", tag=TAG, beta=True)
async def modify_vector_store_file(
    call: Call, vector_store_id: str, file_id: str, body: ModifyAttributes
) -> VectorStoreFile:
    """Replace the attributes of a file of a vector store."""
    loaded = await _load(call, vector_store_id, file_id)
    file = replace(loaded.object, attributes=body.attributes or {})
    statements = stores.attributes_set(file)
    await call.commit(stores.stored(call, loaded.record, file), statements, answer=file)
    return file


@operation("DELETE", "/vector_stores/{vector_store_id}/files/{file_id}", tag=TAG, beta=True)
async def delete_vector_store_file(call: Call, vector_store_id: str, file_id: str) -> Deleted:
    """Take a file out of a vector store. The file itself stays."""
    await objects.require(call, stores.KIND, vector_store_id)
    answer = Deleted(id=file_id, object="vector_store.file.deleted")
    now = call.app.world.now()
    gone = index_changes.forget_store_file(vector_store_id, file_id, project=call.project, now=now)
    try:
        await call.commit(gone)
    except Conflict as conflict:
        if conflict.what == "delete_object":
            raise no_store_file(file_id, vector_store_id) from None
        raise
    call.app.bell.ring("jobs")
    return answer


@operation("GET", "/vector_stores/{vector_store_id}/files/{file_id}/content", tag=TAG, beta=True)
async def get_vector_store_file_content(
    call: Call, vector_store_id: str, file_id: str
) -> FileContentPage:
    """Retrieve the text that was read from a file of a vector store.

    There is none until the file is `completed`.
    """
    await _load(call, vector_store_id, file_id)
    text = await text_of(call.app, call.project, vector_store_id, file_id)
    return FileContentPage(data=[] if text is None else [TextPiece(text=text)])
