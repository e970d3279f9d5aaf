"""What a Jupyter server, or code that took over a kernel of it, may send: whatever it likes.

The server here is a false one. It does what it has to for a session to begin; then it misbehaves.
Whatever it does, a call ends in time with a result or with SandboxLost, and nothing grows.
"""

import asyncio
import base64
import contextlib
import json
import re
import time
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conformance.sandboxes import contents, put, running
from understudy import limits
from understudy.sandbox import FileRefused, Sandbox, SandboxLost, SandboxUnavailable, Session
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


async def _two(channel: Channel, content: Json) -> None:
    """What the self-test wants to hear."""
    await channel.say("iopub", "execute_result", {"data": {"text/plain": "2"}})
    await channel.end()


@dataclass
class Server:
    """A false Jupyter server. `code` answers code, `helped` answers questions by their name."""

    code: Answer = _two
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
            await self.helped.get(asked["op"], _nothing)(channel, asked)
        else:
            begun = {"is_fresh": True, "folder": "/tmp/own", "python": "3.11.1"}
            await self.helped.get("begin", _said(begun))(channel, {})


def _status(status: int) -> web.HTTPException:
    class Failure(web.HTTPException):
        status_code = status

    return Failure()


def _said(said: Json, blob: bytes = b"") -> Answer:
    async def answer(channel: Channel, _: Json) -> None:
        await channel.answer(said, blob)

    return answer


_nothing = _said({})


async def _silence(channel: Channel, _: Json) -> None:
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


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_false_server_can_serve_well() -> None:
    """Or the other tests would prove nothing."""
    server = Server()
    async with served(server) as sandbox:
        session = await sandbox.session("thread_a")
        assert sandbox.detail == f"jupyter at 127.0.0.1:{server.port}/base, Python 3.11.1"
        said = await running(session, "1 + 1")
        assert (said.logs, said.result.reason) == ("2\n", None)
    assert server.tokens == {f"token {TOKEN}"}
    assert server.asked.count("POST kernels") == server.asked.count("DELETE kernels/kernel-1") == 2


NO_SENSE: list[str] = [
    "", "x", "null", "[]", "{}", "1e999", '"', "\x00", "{" * 100_000, "[" * 3_000_000,
    '{"header":' * 200_000,
    '{"header": {"msg_type": 1}}',
    '{"header": {"msg_type": "status"}, "channel": "iopub", "content": []}',
    '{"header": {"msg_type": "status"}, "channel": "iopub", "content": {"execution_state": {}}}',
    '{"header": {"msg_type": "stream"}, "channel": "iopub", "parent_header": "PARENT"}',
]  # fmt: skip
OURS: list[tuple[str, str, Any]] = [
    ("iopub", "stream", {}),
    ("iopub", "stream", {"text": ["x"]}),
    ("iopub", "stream", None),
    ("iopub", "display_data", {"data": {"image/png": 7}}),
    ("iopub", "display_data", {"data": None}),
    ("iopub", "execute_result", {"data": {"text/plain": {"a": "b"}}}),
    ("iopub", "error", {"traceback": "no list"}),
    ("iopub", "error", {"traceback": [1, None]}),
    ("iopub", "status", {"execution_state": ["idle"]}),
    ("iopub", "comm_open", {"data": {}}),
    ("shell", "execute_reply", {"user_expressions": []}),
    ("shell", "execute_reply", {"user_expressions": {"answer": {"data": []}}}),
    ("stdin", "input_request", {"prompt": "password?"}),
    ("no channel", "execute_reply", {"status": "ok"}),
]


async def test_messages_that_are_none_are_nothing() -> None:
    """Wrong types, wrong nesting, another call's output: the call's own is what is heard."""

    async def code(channel: Channel, _: Json) -> None:
        await channel.say("iopub", "stream", {"text": "one\n"})
        for frame in NO_SENSE:
            await channel.socket.send_str(frame.replace("PARENT", str(channel.parent["msg_id"])))
        await channel.socket.send_bytes(b"\x00\x00\x00\x01" * 100)
        for kind in OURS:
            await channel.say(*kind)
        parents: list[Any] = [{}, {"msg_id": "req_other"}, {"msg_id": ""}, [], "x"]
        for parent in parents:
            await channel.say("iopub", "stream", {"text": "of another call"}, parent)
            await channel.say("iopub", "status", {"execution_state": "idle"}, parent)
            await channel.say("shell", "execute_reply", {"status": "ok"}, parent)
        await channel.say("iopub", "stream", {"text": "two\n"})
        await channel.end()

    server = Server()
    async with session_of(server) as session:
        server.code = code
        said = await running(session, "x")
        assert (said.logs, said.result.reason, said.result.is_state_lost) == (
            "one\ntwo\n",
            None,
            False,
        )


async def test_colours_are_taken_off_tracebacks() -> None:
    """And one without lines has its name and words."""

    async def code(channel: Channel, _: Json) -> None:
        lines = ["\x1b[0;31mValueError\x1b[0m: \x1b[38;5;1mx\x1b[K", "end"]
        await channel.say("iopub", "error", {"traceback": lines})
        await channel.say("iopub", "error", {"ename": "KeyError", "evalue": "'a'"})
        await channel.end()

    server = Server()
    async with session_of(server) as session:
        server.code = code
        assert (await running(session, "x")).logs == "ValueError: x\nend\nKeyError: 'a'\n"


async def test_images_are_png_files_within_the_limits() -> None:
    """Others are counted."""
    shown = [
        base64.b64encode(image).decode()
        for image in (PNG + b"1", b"GIF89a", PNG + bytes(limits.CODE_IMAGE_BYTES), PNG + b"2")
    ]

    async def code(channel: Channel, content: Json) -> None:
        for image in (*shown, "no base64!", *[shown[0]] * 30):
            await channel.say("iopub", "display_data", {"data": {"image/png": image}})
        await channel.end()

    server = Server()
    async with session_of(server) as session:
        server.code = code
        result = (await running(session, "x")).result
        assert result.images[:3] == [PNG + b"1", PNG + b"2", PNG + b"1"]
        assert (len(result.images), result.dropped_images) == (20, 15)


async def test_images_that_never_end_are_not_collected_for_ever() -> None:
    """Nor larger ones than are allowed."""
    server = Server(helped={"image": _said({"has_more": True}, bytes(2**20))})
    async with session_of(server) as session:
        server.helped["ended"] = _said({"has_more": True, "is_last": False}, PNG)
        result = (await running(session, "x")).result
        assert (result.images, result.is_state_lost) == ([], True)
        server.helped["image"] = _said({"has_more": True, "is_last": True}, PNG)
        result = (await running(session, "x")).result
        assert len(result.images) <= limits.CODE_IMAGES


@pytest.mark.parametrize("count", [-5, 1.5, "many", None, True, [], {}, 10**40])
async def test_counts_of_what_was_dropped_are_numbers(count: Any) -> None:
    """Whatever the kernel says."""
    server = Server()
    async with session_of(server) as session:
        server.helped["ended"] = _said({"dropped_bytes": count, "dropped_images": count})
        result = (await running(session, "x")).result
        assert result.dropped_bytes in (0, 1, 2**53)
        assert isinstance(result.dropped_images, int)


async def test_a_flood_does_not_fill_the_memory() -> None:
    """Of the call's own messages or of others; the call is over when its share is used up."""

    async def code(channel: Channel, content: Json) -> None:
        for _ in range(40):
            await channel.say("iopub", "stream", {"text": "x" * 1_000_000})
            await channel.say("iopub", "stream", {"text": "y" * 1_000_000}, {"msg_id": "other"})
        await channel.end()

    server = Server()
    async with session_of(server) as session:
        server.code = code
        tracemalloc.start()
        said = await running(session, "x")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert said.logs == "x" * limits.CODE_LOGS_BYTES
        assert said.result.dropped_bytes == 40_000_000 - limits.CODE_LOGS_BYTES
        assert most < 20_000_000


async def test_a_flood_without_an_end_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of its bytes, before its time is over. The session can go on."""
    monkeypatch.setattr(limits, "JUPYTER_CALL_CHARS", 3_000_000)

    async def code(channel: Channel, _: Json) -> None:
        while True:
            await channel.say("iopub", "stream", {"text": "x" * 100_000})

    server = Server()
    async with session_of(server) as session:
        server.code = code
        start = time.monotonic()
        said = await running(session, "x", timeout_s=20)
        assert time.monotonic() - start < 10
        assert (said.result.reason, said.result.is_state_lost) == ("protocol", False)
        server.code = _two
        assert (await running(session, "1 + 1")).logs == "2\n"


async def test_a_giant_message_ends_the_call_and_not_the_session() -> None:
    """It is refused by its announced length; nothing of it is read."""

    async def code(channel: Channel, _: Json) -> None:
        await channel.say("iopub", "stream", {"text": "x" * limits.JUPYTER_MESSAGE_BYTES})

    server = Server()
    async with session_of(server) as session:
        server.code = code
        said = await running(session, "x", timeout_s=20)
        assert (said.logs, said.result.reason) == ("", "protocol")
        assert "POST kernels/kernel-1/interrupt" in server.asked
        server.code = _two
        assert (await running(session, "1 + 1")).logs == "2\n"


async def test_a_message_in_endless_pieces_is_bounded() -> None:
    """Though no piece is large."""

    async def code(channel: Channel, content: Json) -> None:
        writer = channel.socket._writer  # There is no other way to send pieces.
        assert writer is not None
        piece = b"x" * 60_000
        head = bytes([0x00, 126]) + len(piece).to_bytes(2, "big")
        writer.transport.write(bytes([0x01, 0]))
        for _ in range(1_000):
            writer.transport.write(head + piece)
            await asyncio.sleep(0)

    server = Server()
    async with session_of(server) as session:
        server.code = code
        said = await running(session, "x", timeout_s=20)
        assert said.result.reason == "protocol"


async def test_an_end_that_is_a_lie_is_found_out() -> None:
    """The kernel is still at work: it gets a new process, and the variables are gone."""

    async def code(channel: Channel, _: Json) -> None:
        await channel.say("iopub", "stream", {"text": "before\n"})
        await channel.end()

    server = Server()
    async with session_of(server) as session:
        server.code = code
        server.helped["ended"] = _silence
        said = await running(session, "x")
        assert said.logs == "before\n"
        assert (said.result.reason, said.result.is_state_lost) == ("protocol", True)
        assert "POST kernels/kernel-1/restart" in server.asked


@pytest.mark.parametrize("state", ["restarting", "dead"])
async def test_a_death_that_is_a_lie_costs_the_variables(state: str) -> None:
    """Whoever said it: afterwards there is a new process, and a known state."""
    fresh = iter([False])

    async def begin(channel: Channel, _: Json) -> None:
        said = {"is_fresh": next(fresh, True), "folder": "/tmp/own", "python": "3"}
        await channel.answer(said)

    async def code(channel: Channel, _: Json) -> None:
        await channel.say("iopub", "status", {"execution_state": state}, {})

    server = Server()
    async with session_of(server) as session:
        server.code = code
        server.helped["begin"] = begin
        said = await running(session, "x", timeout_s=20)
        assert (said.result.reason, said.result.is_state_lost) == ("died", True)
        assert "POST kernels/kernel-1/restart" in server.asked


async def test_code_that_never_ends_is_killed_in_time() -> None:
    """Also where interrupts do nothing."""
    server = Server()
    async with session_of(server) as session:
        server.code = _silence
        start = time.monotonic()
        said = await running(session, "x", timeout_s=0.3)
        assert time.monotonic() - start < 3
        assert (said.result.reason, said.result.is_state_lost) == ("timeout", True)


async def test_a_kernel_that_cannot_be_mended_is_lost() -> None:
    """And deleted; its key gets another session."""
    server = Server()
    async with served(server) as sandbox:
        session = await sandbox.session("thread_a")
        server.code = _silence
        server.helped["begin"] = _silence
        with pytest.raises(SandboxLost):
            async with asyncio.timeout(10):
                await running(session, "x", timeout_s=0.2)
                await session.files()
        server.code = _two
        del server.helped["begin"]
        assert await sandbox.session("thread_a") is not session


async def test_a_kernel_that_does_not_begin_is_lost_early() -> None:
    """The server has ended it, and says nothing: the code did not run, and can elsewhere."""
    server = Server()
    async with served(server) as sandbox:
        one, other = await sandbox.session("thread_a"), await sandbox.session("thread_b")
        server.is_alive = False
        start = time.monotonic()
        with pytest.raises(SandboxLost):
            await running(one, "x")
        with pytest.raises(SandboxLost):
            await other.files()
        assert time.monotonic() - start < 2
        server.is_alive = True


async def test_a_connection_that_ends_loses_the_session() -> None:
    """What the code does there is unknown."""

    async def code(channel: Channel, _: Json) -> None:
        await channel.socket.close()

    server = Server()
    async with session_of(server) as session:
        server.code = code
        with pytest.raises(SandboxLost):
            await running(session, "x")


async def test_a_connection_that_ended_between_calls_is_opened_again() -> None:
    """Proxies do that."""

    async def code(channel: Channel, content: Json) -> None:
        await _two(channel, content)

    async def ended(channel: Channel, _: Json) -> None:
        await channel.answer({})
        await channel.socket.close()

    server = Server(code=code)
    async with session_of(server) as session:
        server.helped["ended"] = ended
        assert (await running(session, "x")).logs == "2\n"
        await asyncio.sleep(0.1)
        assert (await running(session, "x")).logs == "2\n"


async def test_who_listens_may_fail() -> None:
    """Its error is the caller's, and the code is stopped."""

    def broken(_: str) -> None:
        raise LookupError

    server = Server()
    async with session_of(server) as session:
        with pytest.raises(LookupError):
            await session.run("x", timeout_s=5, on_logs=broken)
        assert (await running(session, "1 + 1")).logs == "2\n"


BAD_ANSWERS: list[Answer] = [
    _said({"files": "none"}),
    _said({"refused": "no"}),
    _said({}),
    _silence,
]


async def _no_answer(channel: Channel, _: Json) -> None:
    await channel.end()


async def _nonsense(channel: Channel, _: Json) -> None:
    await channel.end(user_expressions={"answer": {"data": {"text/plain": "[" * 2_000_000}}})


@pytest.mark.parametrize("answer", [*BAD_ANSWERS, _no_answer, _nonsense])
async def test_a_listing_that_is_none_loses_the_session(answer: Answer) -> None:
    """It is no longer our kernel."""
    server = Server(helped={"list": answer})
    async with session_of(server) as session:
        with pytest.raises(SandboxLost):
            await session.files()


async def test_files_that_cannot_be_are_not_listed() -> None:
    """Nor more than the limit says."""
    no_files: list[Any] = [
        ["../a", 1, "s"], ["/etc/passwd", 1, "s"], ["a//b", 1, "s"], ["a\0", 1, "s"], ["", 1, "s"],
        ["a", -1, "s"], ["a", "1", "s"], ["a", 1], [1, 1, 1], {}, None, "abc",
    ]  # fmt: skip
    files = [*no_files, *([f"f{number}", number, "s" * 400] for number in range(1_200))]
    server = Server(helped={"list": _said({"files": files})})
    async with session_of(server) as session:
        listed = await session.files()
        assert listed[0].path == "f0"
        assert len(listed) == limits.CODE_FILES_SEEN - len(no_files)
        assert len(listed[0].stamp) < 400


async def test_a_file_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is larger than any file may be."""
    monkeypatch.setattr(limits, "CODE_FILE_BYTES", 5 * 2**20)
    server = Server(helped={"read": _said({}, bytes(2**20))})
    async with session_of(server) as session:
        with pytest.raises(FileRefused, match="more than"):
            await contents(session, "a")


async def test_a_piece_that_is_too_large_loses_the_session() -> None:
    """We never ask for so much."""
    server = Server(helped={"read": _said({}, bytes(2**20 + 1))})
    async with session_of(server) as session:
        with pytest.raises(SandboxLost):
            await contents(session, "a")


async def test_a_file_that_was_not_kept_loses_the_session() -> None:
    """The answer has to be a file."""
    server = Server(helped={"write": _said({"file": ["../a", 1, "s"]})})
    async with session_of(server) as session:
        with pytest.raises(SandboxLost):
            await put(session, "a", b"x")


@dataclass(frozen=True)
class Trouble:
    """A server that is none, and what is said of it."""

    change: Callable[[Server], object]
    said: str


def _set(**values: Any) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        for name, value in values.items():
            setattr(server, name, value)

    return change


TROUBLES = {
    "no python": Trouble(
        _set(specs={"kernelspecs": {"r": {"spec": {"language": "R"}}}}), "no Python kernel"
    ),
    "not json": Trouble(_set(specs="<html>"), "no Jupyter server"),
    "deep": Trouble(_set(specs=json.loads("[" * 900 + "]" * 900)), "no Jupyter server"),
    "huge": Trouble(_set(specs=["x" * 2_000_000]), "cannot be reached"),
    "bad id": Trouble(_set(kernel={"id": "../../etc"}), "no Jupyter server"),
    "endless id": Trouble(_set(kernel={"id": "x" * 10_000}), "no Jupyter server"),
    "redirect": Trouble(_set(status=302), "no Jupyter server"),
    "missing": Trouble(_set(status=404), "no Jupyter server"),
    "forbidden": Trouble(_set(status=403), "refused the token"),
    "broken": Trouble(_set(status=500), "has failed"),
    "no ipython": Trouble(lambda it: it.helped.update(begin=_no_answer), "cannot be used"),
    "not fresh": Trouble(
        lambda it: it.helped.update(begin=_said({"is_fresh": False})), "cannot be used"
    ),
    "odd folder": Trouble(
        lambda it: it.helped.update(
            begin=_said({"is_fresh": True, "folder": "../x", "python": "3"})
        ),
        "cannot be used",
    ),
    "silent": Trouble(lambda it: it.helped.update(begin=_silence), "does not answer"),
    "wrong sum": Trouble(_set(code=_no_answer), "does not run"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_what_is_wrong_is_said_with_what_helps(
    trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, and without the token."""
    server = Server()
    TROUBLES[trouble].change(server)
    async with served(server) as sandbox:
        assert sandbox.state == "starting"
        with pytest.raises(SandboxUnavailable) as failure:
            await sandbox.started()
        assert f"{sandbox.state}" == "off"
        assert TROUBLES[trouble].said in failure.value.cause
        assert failure.value.remedy
        said = f"{failure.value} {sandbox.detail} {capsys.readouterr()}"
        assert str(server.port) in said or trouble in (
            "no ipython",
            "not fresh",
            "odd folder",
            "silent",
        )
    assert TOKEN not in f"{said} {capsys.readouterr()}"


async def test_a_failed_test_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And when it is, a server that is back serves."""
    server = Server(status=500)
    async with served(server) as sandbox:
        with pytest.raises(SandboxUnavailable):
            await sandbox.started()
        server.status = 200
        with pytest.raises(SandboxUnavailable):
            await sandbox.session("thread_a")
        assert server.asked == ["GET kernelspecs"]
        monkeypatch.setattr(limits, "JUPYTER_RETRY_S", 0.0)
        assert (await running(await sandbox.session("thread_a"), "1 + 1")).logs == "2\n"
        assert sandbox.state == "up"


async def test_a_server_that_stops_is_off_and_its_kernels_are_ended_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next session asks for a test of the server."""
    monkeypatch.setattr(limits, "JUPYTER_RETRY_S", 0.0)
    server = Server()
    async with served(server) as sandbox:
        await sandbox.session("thread_a")
        server.status = 500
        await sandbox.forget("thread_a")
        with pytest.raises(SandboxUnavailable):
            await sandbox.session("thread_a")
        with pytest.raises(SandboxUnavailable):
            await sandbox.started()
        assert sandbox.state == "off"
        server.status = 200
        server.asked.clear()
        await sandbox.session("thread_a")
        assert server.asked.count("DELETE kernels/kernel-1") == 2  # The test's, and the old one.


@pytest.mark.parametrize(
    "url",
    [
        "http://", "http://host:port", f"ftp://host?token={TOKEN}", f"http://[::?token={TOKEN}",
        f"http://host:99999999/?token={TOKEN}", f"http://host?token={TOKEN}%0d%0aX: y",
    ],
)  # fmt: skip
async def test_an_address_that_is_none_is_said_so(url: str) -> None:
    """Without a word of it: it may hold the token."""
    sandbox = Jupyter(url)
    assert sandbox.state == "off"
    with pytest.raises(SandboxUnavailable) as failure:
        await sandbox.session("thread_a")
    assert TOKEN not in f"{failure.value} {sandbox.detail}"
    await sandbox.close()


@pytest.mark.parametrize("user", [f"{TOKEN}@", f":{TOKEN}@", f"user:{TOKEN}@"])
async def test_a_token_may_stand_before_an_at(user: str) -> None:
    """It goes out as a header all the same."""
    server = Server()
    async with served(server):
        sandbox = Jupyter(f"http://{user}127.0.0.1:{server.port}/base/")
        await sandbox.started()
        assert TOKEN not in sandbox.detail
        await sandbox.close()
    assert server.tokens == {f"token {TOKEN}"}


async def test_a_server_that_is_not_there_is_said_so() -> None:
    """With the system's words."""
    sandbox = Jupyter(f"http://127.0.0.1:1/?token={TOKEN}")
    with pytest.raises(SandboxUnavailable, match=r"127\.0\.0\.1:1 cannot be reached\. .*refused"):
        await sandbox.started()
    await sandbox.close()
    with pytest.raises(SandboxUnavailable, match="stopping"):
        await sandbox.started()


async def test_a_server_that_comes_back_serves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old sessions are lost, new ones work."""
    monkeypatch.setattr(limits, "JUPYTER_RETRY_S", 0.0)
    server = Server()
    async with served(server):
        sandbox = Jupyter(server.url)
        old = await sandbox.session("thread_a")
    with pytest.raises(SandboxLost):
        await running(old, "1")
    with pytest.raises(SandboxUnavailable, match="cannot be reached"):
        await sandbox.session("thread_a")
    async with served(server, server.port):
        new = await sandbox.session("thread_a")
        assert (await running(new, "1 + 1")).logs == "2\n"
        await sandbox.close()


async def test_a_proxy_that_lets_no_websocket_pass_is_named() -> None:
    """It is the commonest mistake."""

    async def http(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/channels"):
            raise web.HTTPBadRequest
        said: Any = {"id": "k"} if request.method == "POST" else Server().specs
        return web.json_response(said)

    server = Server()
    server.http = http  # type: ignore[method-assign]
    async with served(server) as sandbox:
        with pytest.raises(SandboxUnavailable, match="proxy"):
            await sandbox.started()


async def test_nothing_is_left_of_a_closed_sandbox() -> None:
    """Neither tasks nor connections."""
    before = asyncio.all_tasks()
    server = Server()
    async with served(server) as sandbox:
        for key in "abc":
            await running(await sandbox.session(key), "1 + 1")
        await sandbox.close()
        async with aiohttp.ClientSession():
            assert server.asked.count("DELETE kernels/kernel-1") == 4
    await asyncio.sleep(0.1)
    assert {task.get_name() for task in asyncio.all_tasks() - before} == set()
