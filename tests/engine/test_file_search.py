"""Searches of runs whose drivers wait, are interrupted or die."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.crash.checks import check_order
from tests.crash.client import events_in as events
from tests.engine.stage import Clock, Json, Stage, eventually, opened_stage
from tests.engine.test_stops import saved
from understudy import limits
from understudy.machine import vector_store
from understudy.search import Embedded, EmbedderError
from understudy.search.embed_hash import HashEmbedder
from understudy.store import changes, index_changes
from understudy.store.store import Store
from understudy.wire.vector_stores import VectorStoreFile

PROJECT = "default"
FILE = "file-endless"
SEARCH: Json = {"type": "file_search"}
LOOK = [{"call": {"name": "file_search", "arguments": {"queries": ["red bicycle"]}}}]
BIKES = b"The red bicycle of Ola weighs eleven kilograms."


class Moody(HashEmbedder):
    """An embedder that refuses some queries before it answers."""

    def __init__(self, error: EmbedderError, times: int) -> None:
        super().__init__()
        self._error = error
        self.left = times

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """The vectors, in the end."""
        if is_query and self.left:
            self.left -= 1
            raise self._error
        return await super().embed(texts, is_query=is_query)


async def put(stage: Stage, store_id: str) -> VectorStoreFile:
    """A file in a store that nobody processes."""
    now = int(stage.app.world.now())
    body = vector_store.new_file(file_id=FILE, store_id=store_id, now=now)
    insert = changes.insert_object(
        "vector_store_file",
        id=index_changes.record_id(store_id, FILE),
        project=PROJECT,
        parent=store_id,
        created_at=now,
        body=msgspec.json.encode(body),
    )
    await stage.app.store.commit(insert)
    return body


async def fail(stage: Stage, body: VectorStoreFile) -> None:
    """It could not be processed."""
    failed = vector_store.failed(body, code="server_error", message="No.")
    update = changes.update_object(
        index_changes.record_id(body.vector_store_id, FILE),
        project=PROJECT,
        body=msgspec.json.encode(failed),
        private=None,
    )
    await stage.app.store.commit(update)


async def ask(stage: Stage, store_id: str, script: Json) -> Json:
    """A run on a thread that has this store."""
    message = {"role": "user", "content": f"rehearse:{msgspec.json.encode(script).decode()}"}
    resources = {"file_search": {"vector_store_ids": [store_id]}}
    thread = await stage.post("/threads", {"messages": [message], "tool_resources": resources})
    assistant = await stage.post("/assistants", {"model": "m", "tools": [SEARCH]})
    return await stage.post(f"/threads/{thread['id']}/runs", {"assistant_id": assistant["id"]})


@asynccontextmanager
async def waiting(stage: Stage) -> AsyncIterator[tuple[Json, VectorStoreFile]]:
    """A run that waits for a file of its thread."""
    made = await stage.post("/vector_stores", {})
    body = await put(stage, made["id"])
    run = await ask(stage, made["id"], {"steps": [{"text": "done"}]})
    await stage.until(run, "in_progress")
    await asyncio.sleep(0.05)
    assert stage.model.calls == []
    yield run, body


async def test_a_run_waits_for_files_only_so_long(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_POLL_S", 0.01)
    monkeypatch.setattr(limits, "THREAD_STORE_WAIT_S", limits.LEASE_S / 2)
    async with waiting(stage) as (run, _):
        clock.at += limits.LEASE_S / 2
        assert (await stage.rested(run))["status"] == "completed"


async def test_the_end_of_the_wait_is_heard(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_POLL_S", 30.0)
    async with waiting(stage) as (run, body):
        await fail(stage, body)
        stage.app.bell.ring(f"store:{body.vector_store_id}")
        assert (await stage.rested(run))["status"] == "completed"


async def test_a_run_that_waits_can_expire(store: Store) -> None:
    async with opened_stage(store, run_ttl_s=1) as stage, waiting(stage) as (run, _):
        assert (await stage.rested(run))["status"] == "expired"
        assert stage.model.calls == []


async def test_the_next_driver_waits_on(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_POLL_S", 0.01)
    async with opened_stage(store, clock) as stage, waiting(stage) as (run, body):
        await stage.app.worker.drain(0.05)
    async with opened_stage(store, clock) as stage:
        await eventually(lambda: run["id"] in stage.held)
        assert stage.model.calls == []
        await fail(stage, body)
        assert (await stage.rested(run))["status"] == "completed"


async def searchable(stage: Stage) -> str:
    """A vector store with a file that is ready; its id."""
    upload = {"file": ("bikes.txt", BIKES)}
    answer = await stage.http.post("/files", data={"purpose": "assistants"}, files=upload)
    made: Json = await stage.post("/vector_stores", {"file_ids": [answer.json()["id"]]})
    id: str = made["id"]
    async with asyncio.timeout(20):
        with stage.app.bell.subscribe(f"store:{id}") as ringing:
            while (await stage.get(f"/vector_stores/{id}"))["status"] != "completed":
                await ringing.wait(0.1)
    return id


async def written(stage: Stage, run: Json) -> list[Json]:
    """The messages that the run wrote."""
    return [one for one in await stage.messages(run) if one["run_id"]]


async def test_citations_outlive_their_driver(store: Store, clock: Clock) -> None:
    """The text that a dead driver leaves behind keeps its annotations, and the next one's markers
    mean the same results."""
    cites = {"text": "11 kg 【4:0†source】 or so【4:1†source】 "}
    script: Json = {"turns": [LOOK, [cites, {"silence": True}]]}
    async with opened_stage(store, clock) as stage:
        run = await ask(stage, await searchable(stage), script)
        await saved(stage, run, b'"so"')  # The word, not a part of another.
        await stage.app.worker.drain(0.05)
    async with opened_stage(store, clock) as stage:
        async with asyncio.timeout(20):
            while len(await written(stage, run)) < 2:  # noqa: ASYNC110 (no event says it)
                await asyncio.sleep(0.01)
        await stage.post(f"{stage.path(run)}/cancel", {})
        assert (await stage.rested(run))["status"] == "cancelled"
        check_order(events(await stage.frames(run)))
        left, again = await written(stage, run)
    assert (left["status"], left["incomplete_details"]["reason"]) == ("incomplete", "run_failed")
    (part,) = left["content"]
    assert part["text"]["value"].startswith("11 kg 【4:0†source】 or so")
    (note,) = part["text"]["annotations"]
    assert part["text"]["value"][note["start_index"] : note["end_index"]] == "【4:0†source】"
    assert list(note) == ["type", "text", "start_index", "end_index", "file_citation"]
    for one in again["content"]:
        assert one["text"]["annotations"] in ([], [note])


async def asked_of(stage: Stage, embedder: Moody) -> Json:
    """A run that searches where the embedder is moody, when it is over."""
    stage.app.embedders._chosen = embedder
    store_id = await searchable(stage)
    return await stage.rested(await ask(stage, store_id, {"turns": [LOOK, [{"text": "done"}]]}))


async def test_an_embedder_that_is_busy_is_asked_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MODEL_BACKOFF_S", 0.001)
    embedder = Moody(EmbedderError("Too many requests.", retryable=True), limits.MODEL_ATTEMPTS - 1)
    assert (await asked_of(stage, embedder))["status"] == "completed"
    assert embedder.left == 0


@pytest.mark.parametrize("retryable", [True, False])
async def test_an_embedder_that_does_not_answer_fails_the_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, retryable: bool
) -> None:
    monkeypatch.setattr(limits, "MODEL_BACKOFF_S", 0.001)
    run = await asked_of(stage, Moody(EmbedderError("No such model.", retryable=retryable), 99))
    assert run["last_error"] == {"code": "server_error", "message": "No such model."}
    (step,) = (await stage.get(f"{stage.path(run)}/steps"))["data"]
    assert step["status"] == "failed"
