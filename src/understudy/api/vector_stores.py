"""Vector stores (SPEC 7.8)."""

from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from understudy import limits
from understudy.api import objects, stores
from understudy.api.operation import Call, operation
from understudy.engine.rewrite import rewritten
from understudy.errors import ApiError
from understudy.machine.vector_store import StoreBody
from understudy.search import EmbedderError
from understudy.store import Conflict, Statement, index_changes
from understudy.store.records import StoreFacts
from understudy.wire.base import Deleted, ListOf, given
from understudy.wire.query import ListQuery
from understudy.wire.vector_stores import (
    CreateVectorStore,
    ModifyVectorStore,
    SearchRankingOptions,
    SearchResultsPage,
    SearchVectorStore,
    StoreSearchResult,
    TextPiece,
    VectorStore,
)

if TYPE_CHECKING:
    from understudy.engine.search import Found

TAG = "Vector stores"
SEARCHED_BY = "x-understudy-search"


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
    listed = await objects.page(call, stores.KIND, StoreBody, page)
    return ListOf(
        data=await stores.shown(call, listed.data),
        first_id=listed.first_id,
        last_id=listed.last_id,
        has_more=listed.has_more,
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
    call.response_headers[SEARCHED_BY] = _searched_by(facts)
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


@operation("POST", "/vector_stores/{vector_store_id}/search", tag=TAG, beta=True)
async def search_vector_store(
    call: Call, vector_store_id: str, body: SearchVectorStore
) -> SearchResultsPage:
    """Search a vector store.

    One result is one passage, so a file may be found several times. A search counts as a use of
    the store, as `expires_after` has it.
    """
    from understudy.engine.search import found  # Loaded late: it brings numpy.

    _, facts = await stores.load_usable(call, vector_store_id)
    queries = [body.query] if isinstance(body.query, str) else body.query
    if given(body.rewrite_query, False):
        queries = await rewritten(call.app, queries)
    ranking = given(body.ranking_options, SearchRankingOptions())
    call.response_headers[SEARCHED_BY] = _searched_by(facts)
    await _touch(call, vector_store_id, facts.last_active_at)
    try:
        results = await found(
            call.app,
            call.project,
            [vector_store_id],
            queries,
            limit=given(body.max_num_results, limits.VECTOR_STORE_RESULTS),
            score_threshold=given(ranking.score_threshold, 0.0),
            filters=given(body.filters, None),
        )
    except EmbedderError as error:
        raise ApiError.upstream(503 if error.retryable else 502, error.message) from None
    return SearchResultsPage(search_query=queries, data=[_result(one) for one in results])


def _searched_by(facts: StoreFacts) -> str:
    """What searches of a store stand on; objects of the original API have no place for it."""
    model = facts.embedding_model
    if model is None:
        return "undecided"
    return f"keywords and vectors of {model}" if model else "keywords"


async def _touch(call: Call, store_id: str, last_active_at: float) -> None:
    """The store is used. Clients see whole seconds: one write in each is enough."""
    now = call.app.world.now()
    if int(now) > int(last_active_at):
        await call.app.store.commit(index_changes.touch_store(store_id, now=now))


def _result(one: "Found") -> StoreSearchResult:
    return StoreSearchResult(
        file_id=one.file_id,
        filename=one.file_name,
        score=one.score,
        attributes=dict(one.attributes),
        content=[TextPiece(text=one.text)],
    )
