"""Vector stores (SPEC 7.8)."""

from msgspec import UNSET
from msgspec.structs import replace

from understudy import limits
from understudy.api import objects, stores
from understudy.api.operation import Call, operation
from understudy.errors import ApiError
from understudy.machine.vector_store import StoreBody
from understudy.store import Conflict, Statement, index_changes
from understudy.wire.base import Deleted, ListOf, given
from understudy.wire.query import ListQuery
from understudy.wire.vector_stores import CreateVectorStore, ModifyVectorStore, VectorStore

TAG = "Vector stores"


@operation("POST", "/vector_stores", tag=TAG, beta=True)
async def create_vector_store(call: Call, body: CreateVectorStore | None = None) -> VectorStore:
    """Create a vector store, with its first files if there are any.

    The files are processed in the background: the store is `in_progress` until all are done.
    """
    body = body or CreateVectorStore()
    chunking = given(body.chunking_strategy, None)
    made = await stores.make(
        call,
        [stores.Wanted(id, chunking=chunking) for id in given(body.file_ids, [])],
        name=given(body.name, None),
        description=given(body.description, None),
        expires_after=given(body.expires_after, None),
        metadata=given(body.metadata, {}),
    )
    await call.commit(*made.statements, answer=made.store)
    stores.ring(call)
    return made.store


@operation("GET", "/vector_stores", tag=TAG, beta=True)
async def list_vector_stores(call: Call, page: ListQuery) -> ListOf[VectorStore]:
    """List vector stores, newest first."""
    found = await objects.page(call, stores.KIND, StoreBody, page)
    return ListOf(
        data=await stores.shown(call, found.data),
        first_id=found.first_id,
        last_id=found.last_id,
        has_more=found.has_more,
    )


@operation("GET", "/vector_stores/{vector_store_id}", tag=TAG, beta=True)
async def get_vector_store(call: Call, vector_store_id: str) -> VectorStore:
    """Retrieve a vector store.

    While files are being processed, `openai-poll-after-ms` tells when to look again.
    """
    loaded, facts = await stores.load(call, vector_store_id)
    store = stores.show(call, loaded.object, facts)
    if store.file_counts.in_progress:
        call.response_headers["openai-poll-after-ms"] = str(limits.POLL_AFTER_MS)
    return store


@operation("POST", "/vector_stores/{vector_store_id}", tag=TAG, beta=True)
async def modify_vector_store(
    call: Call, vector_store_id: str, body: ModifyVectorStore
) -> VectorStore:
    """Modify a vector store.

    A new `expires_after` counts from now, and so revives a store that has expired.
    """
    loaded, facts = await stores.load(call, vector_store_id)
    old = loaded.object
    now = call.app.world.now()
    changed = replace(
        old,
        name=old.name if body.name is UNSET else body.name,
        expires_after=old.expires_after if body.expires_after is UNSET else body.expires_after,
        metadata=objects.new_metadata(old.metadata, body.metadata),
    )
    statements: list[Statement] = [objects.replace(call, loaded, changed)]
    if body.expires_after is not UNSET:
        statements.append(index_changes.touch_store(vector_store_id, now=now))
        facts = stores.touched(facts, now)
    store = stores.show(call, changed, facts)
    await call.commit(*statements, answer=store)
    return store


@operation("DELETE", "/vector_stores/{vector_store_id}", tag=TAG, beta=True)
async def delete_vector_store(call: Call, vector_store_id: str) -> Deleted:
    """Delete a vector store.

    Its files stay. Assistants and threads that name it go on without it.
    """
    answer = Deleted(id=vector_store_id, object="vector_store.deleted")
    now = call.app.world.now()
    gone = index_changes.forget_store(vector_store_id, project=call.project, now=now)
    try:
        await call.commit(gone)
    except Conflict as conflict:
        if conflict.what == "delete_object":
            raise ApiError.not_found(stores.KIND, vector_store_id) from None
        raise
    call.app.bell.ring("jobs")
    return answer
