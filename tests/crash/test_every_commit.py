"""A stop at every single commit of a run, just before it and just after it.

The process "dies" at the n-th commit: from then on its record answers nothing, and its loop is
thrown away. A new App on the same file goes on. For every n the end must be the one of a play
that nobody stopped, but for the parts that were cut short and made again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.crash.checks import check_order, check_places
from tests.crash.client import Event, events_in
from tests.engine.stage import (
    FUNCTION,
    Clock,
    Json,
    Stage,
    eventually,
    opened_stage,
    opened_store,
)
from understudy import limits
from understudy.engine.files import blobs_of
from understudy.sandbox.local import Local
from understudy.store import Database, Ring, Row, Statement, Told
from understudy.store.store import Store

_MOST_COMMITS = 80
_FREE = "Is the thread free?"
_CALL = {"call": {"name": "look_up", "arguments": {"number": 1}}}
_WORDS = {"text": "one two three four five", "every_ms": 2}


class Stopping:
    """A database whose process dies at the n-th commit, before or after it is applied."""

    def __init__(self, inner: Database, at: int | None, *, is_applied: bool) -> None:
        self._inner = inner
        self._left = at
        self._is_applied = is_applied
        self.has_died = asyncio.Event()

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """As long as the process lives."""
        await self._live()
        rows = await self._inner.fetch(query, args)
        await self._live()
        return rows

    async def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> list[list[Row]]:
        """One commit nearer to the end."""
        await self._live()
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                if self._is_applied:
                    await self._inner.commit(statements, told, ring)
                self.has_died.set()
        await self._live()
        rows = await self._inner.commit(statements, told, ring)
        await self._live()
        return rows

    async def close(self) -> None:
        """The inner one is closed by who opened it."""

    async def _live(self) -> None:
        if self.has_died.is_set():
            await asyncio.Event().wait()


Scene = Callable[[Stage], Awaitable[Json]]


async def _begin(stage: Stage, script: Json, **more: Any) -> Json:
    """A run of this script; each request has its key, so that a new process can play it again."""
    model = {"model": "m", "tools": [FUNCTION, {"type": "code_interpreter"}]}
    assistant = await stage.post("/assistants", model, key="assistant")
    thread = await stage.post("/threads", {}, key="thread")
    text = f"Please rehearse:{httpx2.Response(200, json=script).text}"
    message = {"role": "user", "content": text}
    await stage.post(f"/threads/{thread['id']}/messages", message, key="message")
    body = {"assistant_id": assistant["id"], **more}
    return await stage.post(f"/threads/{thread['id']}/runs", body, key="run")


async def text(stage: Stage) -> Json:
    """A message in several deltas, after messages that came with the run."""
    more = [{"role": "user", "content": "and rehearse:" + '{"steps":[{"text":"a b c"}]}'}]
    return await stage.until(await _begin(stage, {"steps": []}, additional_messages=more))


async def functions(stage: Stage) -> Json:
    """Text and two calls, the client's answer, more text."""
    run = await _begin(stage, {"turns": [[_WORDS, _CALL, _CALL], [{"text": "six"}]]})
    waiting = await stage.until(run, "requires_action", "completed")
    if waiting["status"] == "requires_action":
        await stage.answer(waiting)
    return await stage.until(run)


async def rounds(stage: Stage) -> Json:
    """Two rounds of calls."""
    run = await _begin(stage, {"turns": [[_CALL], [_CALL], [_WORDS]]})
    while True:
        found = await stage.until(run, "requires_action", "completed")
        if found["status"] == "completed":
            return found
        await stage.answer(found)
        await stage.until(run, "queued", "in_progress", "requires_action", "completed")


async def cancelled(stage: Stage) -> Json:
    """A cancel while the model is silent after some words."""
    run = await _begin(stage, {"steps": [_WORDS, {"silence": True}]})
    async with asyncio.timeout(10):
        while (await stage.run(run))["status"] != "cancelled":
            if await _has_saved(stage, run, "five"):
                await stage.http.post(f"{stage.path(run)}/cancel", json={})
    return await stage.run(run)


async def cancelled_while_waiting(stage: Stage) -> Json:
    """A cancel of a run that waits for its client."""
    run = await _begin(stage, {"steps": [_CALL]})
    await stage.until(run, "requires_action", "cancelled")
    await stage.http.post(f"{stage.path(run)}/cancel", json={})
    return await stage.until(run)


async def expired(stage: Stage) -> Json:
    """A client that never answers."""
    run = await _begin(stage, {"steps": [_WORDS, _CALL]})
    await stage.until(run, "requires_action", "expired")
    stage.clock.at = max(stage.clock.at, run["created_at"] + limits.RUN_TTL_S + 1.0)
    stage.app.bell.ring("jobs")
    return await stage.until(run, "expired")


async def code(stage: Stage) -> Json:
    """Two calls of code, which leave files, and a message that links one."""
    one = "open('/mnt/data/x', 'w').write('1'); open('/mnt/data/y', 'w').write('2'); print('one')"
    two = "print(open('/mnt/data/x').read()); open('/mnt/data/x', 'a').write('3');"
    turns = [[_code(one)], [_code(two)], [{"text": "[x](sandbox:/mnt/data/x)"}]]
    return await stage.until(await _begin(stage, {"turns": turns}))


def _code(code: str) -> Json:
    return {"call": {"name": "code_interpreter", "arguments": {"code": code}}}


async def _has_saved(stage: Stage, run: Json, word: str) -> bool:
    """Whether this process showed the word and its log has it."""
    lease = stage.held.get(run["id"])
    rows = await stage.app.store.events(run["id"], (lease.fence, 0)) if lease else []
    return any(row.kind == "delta" and word.encode() in row.frames for row in rows)


SCENES: list[Scene] = [text, functions, rounds, cancelled, cancelled_while_waiting, expired, code]


@pytest.mark.parametrize("is_applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", SCENES)
def test_the_end_is_the_same_wherever_it_stops(
    scene: Scene, is_applied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELTA_TICK_S", 0.002)
    expected = Play(tmp_path / "whole", scene).whole()
    for at in range(1, _MOST_COMMITS):
        play = Play(tmp_path / str(at), scene)
        if play.session(at, is_applied=is_applied):
            assert at > 5, "hardly anything was committed"
            return
        found = play.whole()
        assert found == expected, f"after a stop at commit {at}"
    raise AssertionError(f"the scene commits more than {_MOST_COMMITS} times")


class Play:
    """A scene played on one record by one process after the other."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        folder.mkdir()
        self._record = folder / "record.db"
        self._blobs = folder / "blobs"
        self._scene = scene
        self._clock = Clock()
        self._calls: list[str] = []
        self._end: Json = {}

    def whole(self) -> Json:
        """Play to the end; what is there then."""
        assert self.session(None, is_applied=False)
        return self._end

    def session(self, at: int | None, *, is_applied: bool) -> bool:
        """One process, in a loop of its own; whether it came to the scene's end."""
        with asyncio.Runner() as runner:
            return runner.run(self._session(at, is_applied))

    async def _session(self, at: int | None, is_applied: bool) -> bool:
        made: list[Stopping] = []

        def wrap(inner: Database) -> Database:
            made.append(Stopping(inner, at, is_applied=is_applied))
            return made[0]

        async with opened_store(self._record, wrap) as store:
            sandbox = Local()
            playing = asyncio.create_task(self._play(store, sandbox))
            dying = asyncio.create_task(made[0].has_died.wait())
            await asyncio.wait({playing, dying}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                playing.result()
                dying.cancel()
            await sandbox.close()  # It dies with its server.
            return playing.done()

    async def _play(self, store: Store, sandbox: Local) -> None:
        url = self._blobs.as_uri()
        async with opened_stage(store, self._clock, sandbox=sandbox, blobs_url=url) as stage:
            stage.model.calls = self._calls
            run = await self._scene(stage)
            await eventually(lambda: not stage.held)
            self._end = await _snapshot(stage, run)
            self._end["files"] = await self._files(stage)
            lines = await store.journal(run["id"])
            journalled = {f"{line.run_id}:{line.key}:{line.attempt}" for line in lines}
            assert set(self._calls) <= journalled
            assert len(set(self._calls)) == len(self._calls), "a call was repeated under its line"

    async def _files(self, stage: Stage) -> list[tuple[str, bytes]]:
        """The files of code, with their bytes. Any other bytes are promised to be deleted."""
        files = (await stage.get("/files?purpose=assistants_output&order=asc"))["data"]
        records = await stage.app.store.get_many("file", "default", [one["id"] for one in files])
        owned = {blob.key for record in records for blob in blobs_of(record)}
        found = {path.name.partition("#")[0] for path in self._blobs.glob("*")}
        assert owned <= found
        for key in found - owned:
            job = await stage.app.store.job(key)
            is_gone = not list(self._blobs.glob(f"{key}*"))
            assert job is not None or is_gone, "bytes without an owner"
        return [
            (file["filename"], (await stage.http.get(f"/files/{file['id']}/content")).content)
            for file in files
        ]


async def _snapshot(stage: Stage, run: Json) -> Json:
    """The end without ids and times, and without what was cut short and made again."""
    events = events_in(await stage.frames(run))
    check_places([event.place for event in events])
    check_order(events)
    steps = (await stage.get(f"{stage.path(run)}/steps?order=asc&limit=100"))["data"]
    messages = await stage.messages(run)
    redone = {step["id"] for step in steps if step["status"] == "failed"}
    redone |= {one["id"] for one in messages if _reason(one) == "run_failed"}
    redone |= _said_again(messages, steps)
    body = {"role": "user", "content": _FREE}
    await stage.post(f"/threads/{run['thread_id']}/messages", body, key="free")
    return {
        "run": (run["status"], run["last_error"], run["required_action"]),
        "messages": [
            (one["role"], one["status"], _reason(one), _text(one), len(one["attachments"]))
            for one in messages
            if one["id"] not in redone and _text(one) != _FREE
        ],
        "steps": [
            (step["type"], step["status"], _calls(step))
            for step in steps
            if step["id"] not in redone
        ],
        "events": list(_told(events, redone)),
        "jobs": await stage.app.store.active_run(run["thread_id"]),
    }


def _said_again(messages: Sequence[Json], steps: Sequence[Json]) -> set[str]:
    """A text that was complete when its turn was lost amid the calls after it stays, and the
    turn made again says it again: the ids of the second one and of its step."""
    step_of = {
        step["step_details"]["message_creation"]["message_id"]: step["id"]
        for step in steps
        if step["type"] == "message_creation"
    }
    own = [one for one in messages if one["id"] in step_of and one["status"] == "completed"]
    again = [
        one["id"]
        for number, one in enumerate(own)
        if _text(one) in [_text(earlier) for earlier in own[:number]]
    ]
    return {*again, *(step_of[id] for id in again)}


def _told(events: Sequence[Event], redone: set[str]) -> Iterator[str]:
    """The names of events; several deltas of one message are one."""
    before = ""
    for event in events:
        if event.object["id"] not in redone:
            if event.name != before or not event.is_delta:
                yield event.name
            before = event.name


def _reason(message: Json) -> str | None:
    details = message["incomplete_details"]
    return details["reason"] if details else None


def _text(message: Json) -> str:
    return "".join(part["text"]["value"] for part in message["content"])


def _calls(step: Json) -> list[tuple[str, str, str]]:
    calls = step["step_details"].get("tool_calls", [])
    return [_function(call) if call["type"] == "function" else _ran(call) for call in calls]


def _function(call: Json) -> tuple[str, str, str]:
    one = call["function"]
    return one["name"], one["arguments"], one["output"]


def _ran(call: Json) -> tuple[str, str, str]:
    """Code and its logs, but for the line of a session that is new because its server is."""
    logs = "".join(one["logs"] for one in call["code_interpreter"]["outputs"])
    said = [line for line in logs.splitlines() if not line.startswith("[The session was restarted")]
    return "code", call["code_interpreter"]["input"], "\n".join(said)
