"""Runs that run code, in the test's own loop: scripts, sessions with trouble, and what is seen."""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import replace

from tests.crash.checks import check_order
from tests.crash.client import events_in as events
from tests.engine.stage import Json, Stage
from understudy.sandbox import Result, SandboxLost
from understudy.sandbox.local import Local
from understudy.sandbox.session import ChannelSession

CODE: Json = {"type": "code_interpreter"}
PNG = b"\x89PNG\r\n\x1a\n and a dot"


ENDLESS = (
    "x = 5\n"
    "open('/mnt/data/half', 'w').write('1')\n"
    "print('go' + 'ing', flush=True)\n"
    "while True: pass"
)


class Troubled(Local):
    """Local sessions, with what only a jail or luck would bring: images, and sessions lost."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[bytes] = []  # Shown by the next call.
        self.losses = 0  # Calls after whose code the session is gone.

    async def _make(self, slots: asyncio.Semaphore) -> ChannelSession:
        session = await super()._make(slots)
        run = session.run

        async def troubled(
            code: str, *, timeout_s: float, on_logs: Callable[[str], None]
        ) -> Result:
            result = await run(code, timeout_s=timeout_s, on_logs=on_logs)
            if self.losses:
                self.losses -= 1
                await session.close()
                raise SandboxLost("It is gone.")
            images, self.images = self.images, []
            return replace(result, images=images)

        session.run = troubled  # type: ignore[method-assign]
        return session


def runs(code: str, *, pieces: int = 4) -> Json:
    """A step of a script that calls the tool."""
    arguments = {"code": code}
    return {"call": {"name": "code_interpreter", "arguments": arguments, "pieces": pieces}}


def says(text: str) -> Json:
    """A step of a script that writes."""
    return {"text": text}


async def upload(stage: Stage, name: str, content: bytes) -> str:
    """A file of a client; its id."""
    files = {"file": (name, io.BytesIO(content))}
    answer = await stage.http.post("/files", data={"purpose": "assistants"}, files=files)
    id: str = answer.json()["id"]
    return id


async def download(stage: Stage, file_id: str) -> bytes:
    """A file's bytes."""
    answer = await stage.http.get(f"/files/{file_id}/content")
    assert answer.status_code == 200, answer.text
    return answer.content


async def begin(
    stage: Stage,
    *turns: list[Json],
    thread: str | None = None,
    files: list[str] | None = None,
    tools: list[Json] | None = None,
    **more: object,
) -> Json:
    """A run whose model plays these turns, in a new thread or in this one."""
    resources = {"code_interpreter": {"file_ids": files or []}}
    body = {"model": "m", "tools": tools or [CODE], "tool_resources": resources}
    assistant = await stage.post("/assistants", body)
    if thread is None:
        thread = await stage.thread()
    script = json.dumps({"turns": [list(turn) for turn in turns]})
    message = {"role": "user", "content": f"rehearse:{script}"}
    await stage.post(f"/threads/{thread}/messages", message)
    return await stage.post(f"/threads/{thread}/runs", {"assistant_id": assistant["id"], **more})


async def done(stage: Stage, *turns: list[Json], **more: object) -> Json:
    """Such a run when it is over."""
    run = await begin(stage, *turns, **more)  # type: ignore[arg-type]
    found = await stage.rested(run)
    assert found["status"] == "completed", found["last_error"]
    check_order(events(await stage.frames(run)))
    return found


async def calls(stage: Stage, run: Json) -> list[Json]:
    """The code calls of a run, oldest first."""
    steps = (await stage.get(f"{stage.path(run)}/steps?order=asc&limit=100"))["data"]
    return [
        call["code_interpreter"]
        for step in steps
        if step["status"] == "completed"
        for call in step["step_details"].get("tool_calls", ())
        if call["type"] == "code_interpreter"
    ]


async def logs(stage: Stage, run: Json) -> list[str]:
    """What each call printed."""
    return [
        "".join(one["logs"] for one in call["outputs"] if one["type"] == "logs")
        for call in await calls(stage, run)
    ]


async def ran(stage: Stage, code: str, **more: object) -> str:
    """What this code prints in a run of its own."""
    run = await done(stage, [runs(code)], [says("Done.")], **more)
    (printed,) = await logs(stage, run)
    return printed


async def answers(stage: Stage, run: Json) -> list[Json]:
    """The messages that the run wrote."""
    return [one for one in await stage.messages(run) if one["run_id"] == run["id"]]


async def outputs(stage: Stage) -> list[Json]:
    """The files that code left, oldest first."""
    found: list[Json] = (await stage.get("/files?purpose=assistants_output&order=asc"))["data"]
    return found
