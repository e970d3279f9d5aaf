"""A false Jupyter server: it does what a session needs to begin, and then what a test tells it."""

import base64
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from understudy import limits
from understudy.sandbox import Sandbox, Session
from understudy.sandbox.jupyter import Jupyter

TOKEN = "token-that-nobody-may-see"
PNG = b"\x89PNG\r\n\x1a\n"
_OPERATION = re.compile(r"\.call\('([A-Za-z0-9+/=]*)'")

Json = dict[str, Any]
Answer = Callable[["Channel", Json], Awaitable[None]]


@dataclass
class Channel:
    """The kernel's side of a connection, and a request that came through it."""

    socket: web.WebSocketResponse
    parent: Json = field(default_factory=dict)

    async def say(self, channel: str, kind: str, content: Any, parent: Any = None) -> None:
        """Send a message about the request, or about another one."""
        header = {"msg_type": kind, "msg_id": "its-own"}
        parent = self.parent if parent is None else parent
        said = {"channel": channel, "header": header, "parent_header": parent, "content": content}
        await self.socket.send_str(json.dumps(said))

    async def end(self, **more: Any) -> None:
        """Say that the request is done."""
        await self.say("iopub", "status", {"execution_state": "idle"})
        await self.say("shell", "execute_reply", {"status": "ok", **more})

    async def answer(self, said: Json, blob: bytes = b"") -> None:
        """Answer a question of the session's."""
        head = base64.b64encode(json.dumps(said).encode()).decode()
        text = f"{head}.{base64.b64encode(blob).decode()}"
        shown = {"status": "ok", "data": {"text/plain": text}}
        await self.end(user_expressions={"answer": shown})


async def two(channel: Channel, content: Json) -> None:
    """What the self-test wants to hear."""
    await channel.say("iopub", "execute_result", {"data": {"text/plain": "2"}})
    await channel.end()


@dataclass
class Server:
    """A false Jupyter server. `code` answers code, `helped` answers questions by their name."""

    code: Answer = two
    helped: dict[str, Answer] = field(default_factory=dict)
    port: int = 0
    specs: Any = field(
        default_factory=lambda: {"kernelspecs": {"own": {"spec": {"language": "python"}}}}
    )
    kernel: Any = field(default_factory=lambda: {"id": "kernel-1"})
    status: int = 200
    is_alive: bool = True
    asked: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/base?token={TOKEN}"

    async def http(self, request: web.Request) -> web.StreamResponse:
        """All of its doors."""
        self.tokens.add(request.headers.get("Authorization"))
        door = f"{request.method} {request.path.removeprefix('/base/api/')}"
        self.asked.append(door)
        if door.endswith("/channels"):
            return await self._channels(request)
        if self.status != 200:
            raise web.HTTPFound("/login") if self.status == 302 else _status(self.status)
        return web.json_response(
            {"GET kernelspecs": self.specs, "POST kernels": self.kernel}.get(door)
        )

    async def _channels(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for message in socket:
                asked = json.loads(message.data)
                channel = Channel(socket, asked["header"])
                if self.is_alive:
                    await channel.say("iopub", "status", {"execution_state": "busy"})
                    await self._obey(channel, asked["content"])
        return socket

    async def _obey(self, channel: Channel, content: Json) -> None:
        expression = content["user_expressions"].get("answer")
        if expression is None:
            await self.code(channel, content)
        elif found := _OPERATION.search(expression):
            asked = json.loads(base64.b64decode(found[1]))
            await self.helped.get(asked["op"], NOTHING)(channel, asked)
        else:
            begun = {"is_fresh": True, "folder": "/tmp/own", "python": "3.11.1"}
            await self.helped.get("begin", says(begun))(channel, {})


def _status(status: int) -> web.HTTPException:
    class Failure(web.HTTPException):
        status_code = status

    return Failure()


def says(said: Json, blob: bytes = b"") -> Answer:
    async def answer(channel: Channel, _: Json) -> None:
        await channel.answer(said, blob)

    return answer


NOTHING = says({})


async def silence(channel: Channel, _: Json) -> None:
    """Neither an answer nor an end."""


@contextlib.asynccontextmanager
async def served(server: Server, port: int = 0) -> AsyncGenerator[Sandbox]:
    """The sandbox on a false server."""
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{door:.*}", server.http)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    server.port = runner.addresses[0][1]
    sandbox = Jupyter(server.url)
    try:
        yield sandbox
    finally:
        await sandbox.close()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def session_of(server: Server) -> AsyncGenerator[Session]:
    """A session that has begun well."""
    async with served(server) as sandbox:
        yield await sandbox.session("thread_a")


async def no_answer(channel: Channel, _: Json) -> None:
    """An end without an answer."""
    await channel.end()


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all that is waited for take less time."""
    for name, short in {
        "CODE_GRACE_S": 0.2,
        "CODE_WATCH_S": 0.4,
        "CODE_ANSWER_S": 1.0,
        "CODE_START_S": 2.0,
        "CODE_CLOSE_S": 0.2,
        "JUPYTER_ANSWER_S": 1.0,
        "JUPYTER_IDLE_S": 0.2,
    }.items():
        monkeypatch.setattr(limits, name, short)
