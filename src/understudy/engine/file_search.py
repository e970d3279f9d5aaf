"""File search within a run: which stores it reaches, the wait for fresh files, and one call."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from understudy import limits
from understudy.engine.app import App
from understudy.engine.record import decoded
from understudy.errors.vector_stores import store_expired
from understudy.machine import file_search, toolbox
from understudy.machine.file_search import Scope
from understudy.machine.private import Call
from understudy.machine.vector_store import StoreBody, is_expired
from understudy.search import EmbedderError
from understudy.settings import context_tokens_of
from understudy.wire.messages import Message, TextContent
from understudy.wire.runs import Run
from understudy.wire.steps import FileSearchCall, ResultText, SearchResult
from understudy.wire.threads import Thread
from understudy.wire.tools import FileSearchTool, ToolResources

if TYPE_CHECKING:
    from understudy.engine.search import Found

_log = structlog.get_logger()

_LATEST = 20  # Messages among which the user's last one is looked for.


class StoreExpired(Exception):
    """A store that the run needs has expired; the text says which."""


@dataclass(frozen=True)
class Reach:
    """The stores that a run may search: the assistant's and the thread's. `unsettled` are those
    of the thread whose files are still being processed."""

    store_ids: Sequence[str]
    unsettled: Sequence[str]


async def reach(app: App, project: str, run: Run) -> Reach | None:
    """What the run may search; None without the tool. Raises StoreExpired.

    A store that is gone is absent, as the original's cleaned references would have it.
    """
    if not any(isinstance(tool, FileSearchTool) for tool in run.tools):
        return None
    ours = await _stores_of_thread(app, project, run.thread_id)
    named = list(dict.fromkeys([*_stores_in(run.tool_resources), *ours]))
    if not named:
        return Reach((), ())
    records = await app.store.get_many("vector_store", project, named)
    bodies = {record.id: decoded(record, StoreBody) for record in records}
    facts = await app.store.store_facts(list(bodies))
    now = app.world.now()
    store_ids = [id for id in named if id in bodies and id in facts]
    for id in named:
        if id not in store_ids:
            _log.warning("vector store is gone", run_id=run.id, vector_store_id=id)
        elif is_expired(bodies[id], facts[id].last_active_at, now):
            raise StoreExpired(store_expired(id).message)
    busy = [id for id in store_ids if facts[id].files.get("in_progress")]
    return Reach(store_ids, [id for id in busy if id in ours])


async def _stores_of_thread(app: App, project: str, thread_id: str) -> list[str]:
    record = await app.store.get("thread", project, thread_id)
    return [] if record is None else _stores_in(decoded(record, Thread).tool_resources)


def _stores_in(resources: ToolResources) -> list[str]:
    return list(resources.file_search.vector_store_ids) if resources.file_search else []


async def wait_for_files(app: App, store_ids: Sequence[str]) -> None:
    """Until the files of these stores are processed, or for as long as a run may wait for them:
    whoever attaches a file and asks about it at once means this file."""
    clock = app.world.monotonic
    give_up_at = clock() + limits.THREAD_STORE_WAIT_S
    with app.bell.subscribe(*(f"store:{id}" for id in store_ids)) as ringing:
        while clock() < give_up_at:
            counts = await app.store.store_counts(store_ids)
            if not any(one.in_progress for one in counts.values()):
                return
            await ringing.wait(limits.STORE_POLL_S)
    _log.warning("files are still being processed", vector_store_ids=list(store_ids))


async def searchable(app: App, project: str, reach: Reach | None) -> toolbox.Searchable | None:
    """What the model is told of the files; None when there is nothing to search."""
    if reach is None or not reach.store_ids:
        return None
    names, total = await app.store.file_names(
        project, reach.store_ids, limit=limits.SEARCH_FILE_NAMES
    )
    return toolbox.Searchable(names, total)


async def search(
    app: App, project: str, run: Run, call: Call, within: Reach | None
) -> FileSearchCall:
    """One call of the tool. Raises EmbedderError."""
    learned = app.worker.context_tokens.get(run.model)
    scope = file_search.scope(run, learned or context_tokens_of(app.settings, run.model))
    queries = toolbox.queries_of(call.arguments)
    if not queries:
        queries = toolbox.queries_of("", await _question(app, project, run))
    results: list[SearchResult] = []
    if within is not None and within.store_ids and queries:
        passages = await _found(app, project, within.store_ids, queries, scope)
        results = [
            SearchResult(
                file_id=one.file_id,
                file_name=one.file_name,
                score=one.score,
                content=[ResultText(text=one.text)],
            )
            for one in passages
        ]
    return file_search.answered(call, scope, results)


async def _found(
    app: App, project: str, store_ids: Sequence[str], queries: Sequence[str], scope: Scope
) -> list["Found"]:
    """The passages; an embedder that is away for a moment is asked again, as a model is."""
    from understudy.engine.search import found  # Loaded late: it brings numpy.

    for attempt in range(limits.MODEL_ATTEMPTS):
        try:
            return await found(
                app,
                project,
                store_ids,
                queries,
                limit=scope.max_results,
                score_threshold=scope.score_threshold,
            )
        except EmbedderError as error:
            if not error.retryable or attempt == limits.MODEL_ATTEMPTS - 1:
                raise
        await asyncio.sleep(limits.MODEL_BACKOFF_S * 2**attempt)
    raise AssertionError("every attempt returns, raises or goes on to the next")


async def _question(app: App, project: str, run: Run) -> str:
    """What the user said last: what a call without any query is about."""
    page, _ = await app.store.list(
        "message", project, run.thread_id, limit=_LATEST, order="desc", after=None, before=None
    )
    for record in page:
        message = decoded(record, Message)
        if message.role == "user":
            texts = [part for part in message.content if isinstance(part, TextContent)]
            return " ".join(part.text.value for part in texts)
    return ""
