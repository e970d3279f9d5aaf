"""A driver that begins while its run's first commit is on its way: nothing before it is durable."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.engine.stage import Clock, Hooked, Json, Stage, eventually, opened_stage, opened_store
from understudy import limits
from understudy.engine import history
from understudy.model import ModelError, When
from understudy.store import Database, Ring, Row, Statement, Told, Unavailable
from understudy.store.store import Store
from understudy.wire.chat import Chunk

WORDS = '{"steps": [{"text": "one two"}]}'


class Slow(Hooked):
    """A database whose commits of new runs tell their rows at once, and happen, or fail, when they
    may; like a writer whose disk is slow."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner)
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.trouble: Exception | None = None
        self.waiting = 0
        self.read: list[str] = []  # Meanwhile.

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """A read."""
        if self.waiting:
            self.read.append(query)
        return await super().fetch(query, args)

    async def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> list[list[Row]]:
        """A commit."""
        if any(statement.query == "insert_job" for statement in statements):
            if told is not None:
                told([await self._read(statement) for statement in statements])
            self.waiting += 1
            await self.may_end.wait()
            self.waiting -= 1
            if self.trouble is not None:
                raise self.trouble
        return await self._inner.commit(statements, None, ring)

    async def _read(self, statement: Statement) -> list[Row]:
        is_reading = statement.query == "newest"
        return await self._inner.fetch(statement.query, statement.args) if is_reading else []


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Store, Slow]]:
    """A record whose disk is slow."""
    made: list[Slow] = []

    def wrap(inner: Database) -> Database:
        made.append(Slow(inner))
        return made[0]

    async with opened_store(tmp_path / "record.db", wrap) as store:
        yield store, made[0]


@pytest.fixture
async def stage(slow: tuple[Store, Slow], clock: Clock) -> AsyncIterator[Stage]:
    """An App on that record."""
    async with opened_stage(slow[0], clock) as stage:
        yield stage


@pytest.fixture
def disk(slow: tuple[Store, Slow]) -> Slow:
    """What it does."""
    return slow[1]


async def begun(
    stage: Stage, disk: Slow, path: str, *, before: Sequence[str] = (), **fields: Any
) -> "asyncio.Task[Json]":
    """A run that is asked for, whose commit waits for the disk."""
    assistant = await stage.post("/assistants", {"model": "m"})
    texts = [*before, f"Please rehearse:{WORDS}"]
    said = {"messages": [{"role": "user", "content": text} for text in texts]}
    body: Json = {"assistant_id": assistant["id"], **fields}
    if path == "/threads/runs":
        body["thread"] = said
    else:
        thread = await stage.post("/threads", said)
        path = f"/threads/{thread['id']}/runs"
    disk.may_end.clear()
    asked = asyncio.create_task(stage.post(path, body))
    await eventually(lambda: disk.waiting == 1)
    await eventually(lambda: bool(stage.held))
    await asyncio.sleep(0.05)
    return asked


both = pytest.mark.parametrize("path", ["/threads/{id}/runs", "/threads/runs"])


@both
async def test_nothing_is_asked_or_shown_before_the_commit_is_durable(
    stage: Stage, disk: Slow, path: str
) -> None:
    asked = await begun(stage, disk, path)
    [id] = stage.held
    assert stage.model.calls == []
    assert stage.app.log._live[id].since(0) == []
    disk.may_end.set()
    run = await asked
    assert run["status"] == "queued"
    assert (await stage.rested(run))["status"] == "completed"
    assert [one["content"][0]["text"]["value"] for one in await stage.messages(run)][1:] == [
        "one two"
    ]
    assert len(stage.model.calls) == 1


async def test_the_request_is_made_meanwhile_of_what_the_commit_has_read(
    stage: Stage, disk: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    inner = history.next_question

    async def noted(*arguments: object, **more: object) -> history.Question:
        made.append(await inner(*arguments, **more))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(history, "next_question", noted)
    asked = await begun(stage, disk, "/threads/{id}/runs")
    [question] = made
    assert "one two" in str(question.request.messages[-1].content)
    disk.may_end.set()
    await stage.rested(await asked)
    assert len(made) == 1


@both
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_prompt_tokens": 256},
        {"tools": [{"type": "file_search"}]},
        {"tools": [{"type": "code_interpreter"}]},
    ],
)
async def test_nothing_is_read_that_may_come_with_the_run(
    stage: Stage, disk: Slow, path: str, fields: Json
) -> None:
    before = [f"{number} " + "word " * 50 for number in range(2 * limits.MESSAGES_READ_ALONG)]
    asked = await begun(stage, disk, path, before=before, **fields)
    assert {"get", "get_many", "cursor", "list_asc", "list_desc"}.isdisjoint(disk.read)
    disk.may_end.set()
    assert (await stage.rested(await asked))["status"] in ("completed", "incomplete")


@both
async def test_a_run_that_was_refused_leaves_nothing(
    stage: Stage, disk: Slow, path: str, clock: Clock
) -> None:
    asked = await begun(stage, disk, path)
    disk.trouble = Unavailable("The disk is full.")
    disk.may_end.set()
    with pytest.raises(AssertionError, match="overloaded or not ready"):
        await asked
    await eventually(lambda: not stage.held and not stage.app.log._live)
    assert stage.app.worker._used.total() == 0
    assert stage.model.calls == []


async def test_a_refused_run_does_not_try_its_request_again(
    stage: Stage, disk: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MODEL_BACKOFF_S", 60)

    async def stream(_: object, *, call_id: str, when: When) -> AsyncIterator[list[Chunk]]:
        try:
            await when()
        except Exception:  # noqa: BLE001 (as an HTTP client does with what ends a body)
            raise ModelError("server_error", call_id, retryable=True) from None
        yield []

    monkeypatch.setattr(stage.model, "stream", stream)
    asked = await begun(stage, disk, "/threads/runs")
    disk.trouble = Unavailable("The disk is full.")
    disk.may_end.set()
    await asyncio.wait([asked])
    async with asyncio.timeout(limits.HEARTBEAT_S / 2):  # That would end it, too.
        await eventually(lambda: not stage.held)


class Connecting:
    """A model whose connection is not there yet: it asks for nothing before `may_go`."""

    def __init__(self) -> None:
        self.may_go = asyncio.Event()
        self.has_begun = asyncio.Event()

    async def stream(self, _: object, *, call_id: str, when: When) -> AsyncIterator[list[Chunk]]:
        """An empty answer."""
        self.has_begun.set()
        await self.may_go.wait()
        await when()
        yield []


@pytest.fixture
def connecting(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Connecting:
    """The stage's model is one of these."""
    model = Connecting()
    monkeypatch.setattr(stage.model, "stream", model.stream)
    return model


async def test_the_first_events_do_not_wait_for_the_provider(
    stage: Stage, disk: Slow, connecting: Connecting
) -> None:
    asked = await begun(stage, disk, "/threads/runs")
    await connecting.has_begun.wait()
    disk.may_end.set()
    run = await asked
    shown = stage.app.log._live[run["id"]].since(0)
    assert [frame.split(b"\n")[0] for frame in shown] == [
        b"event: thread.created",
        b"event: thread.run.created",
        b"event: thread.run.queued",
        b"event: thread.run.in_progress",
    ]
    connecting.may_go.set()
    assert (await stage.rested(run))["status"] == "completed"


async def test_a_refused_run_does_not_wait_for_the_provider(
    stage: Stage, disk: Slow, connecting: Connecting
) -> None:
    asked = await begun(stage, disk, "/threads/runs")
    await connecting.has_begun.wait()
    disk.trouble = Unavailable("The disk is full.")
    disk.may_end.set()
    await asyncio.wait([asked])
    async with asyncio.timeout(limits.HEARTBEAT_S / 2):
        await eventually(lambda: not stage.held)
    assert stage.app.worker._used.total() == 0


async def test_what_is_refused_at_once_begins_nothing(
    stage: Stage, disk: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.app.worker, "adopt", None)
    assistant = await stage.post("/assistants", {"model": "m"})

    def refuse(*_args: object) -> "asyncio.Future[list[list[Row]]]":
        future = asyncio.get_running_loop().create_future()
        future.set_exception(Unavailable("Too many wait."))
        return future

    disk.commit = refuse  # type: ignore[method-assign, assignment]
    answer = await stage.http.post("/threads/runs", json={"assistant_id": assistant["id"]})
    assert answer.status_code == 503
    await eventually(lambda: stage.app.worker._used.total() == 0)
    assert not stage.held


async def test_a_run_whose_client_left_meanwhile_goes_on(stage: Stage, disk: Slow) -> None:
    asked = await begun(stage, disk, "/threads/{id}/runs")
    [(id, lease)] = stage.held.items()
    asked.cancel()
    await asyncio.wait([asked])
    disk.may_end.set()
    await eventually(lambda: not stage.held)
    run = {"id": id, "thread_id": lease.job.thread_id}
    assert (await stage.run(run))["status"] == "completed"


async def test_a_lease_that_is_not_taken_yet_is_not_renewed(
    slow: tuple[Store, Slow], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, disk = slow
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.01)
    async with opened_stage(store, clock) as stage:
        asked = await begun(stage, disk, "/threads/{id}/runs")
        [lease] = stage.held.values()
        assert lease.reason is None, "a heartbeat would have found it lost"
        disk.may_end.set()
        assert (await stage.rested(await asked))["status"] == "completed"


async def test_a_server_that_stops_meanwhile_hands_the_run_over(
    stage: Stage, disk: Slow, clock: Clock
) -> None:
    asked = await begun(stage, disk, "/threads/{id}/runs")
    draining = asyncio.create_task(stage.app.worker.drain(0.01))
    await asyncio.sleep(0.05)
    disk.may_end.set()
    run = await asked
    await draining
    assert stage.model.calls == []
    job = await stage.app.store.job(run["id"])
    assert job is not None
    assert job.reclaims == -1, "it was handed over, which does not count as a death"
    async with opened_stage(stage.app.store, clock) as next:
        assert (await next.rested(run))["status"] == "completed"
