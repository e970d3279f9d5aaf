"""What a Jupyter server, or code that took over a kernel of it, may send: whatever it likes.

Whatever it does, a call ends in time with a result or with SandboxLost, and nothing grows.
"""

import asyncio
import base64
import time
import tracemalloc
from typing import Any

import pytest

from tests.conformance.sandboxes import contents, put, running
from tests.sandbox.jupyter_false import (
    PNG,
    TOKEN,
    Answer,
    Channel,
    Json,
    Server,
    no_answer,
    says,
    served,
    session_of,
    shorten,
    silence,
    two,
)
from understudy import limits
from understudy.sandbox import FileRefused, SandboxLost


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


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
    server = Server(helped={"image": says({"has_more": True}, bytes(2**20))})
    async with session_of(server) as session:
        server.helped["ended"] = says({"has_more": True, "is_last": False}, PNG)
        result = (await running(session, "x")).result
        assert (result.images, result.is_state_lost) == ([], True)
        server.helped["image"] = says({"has_more": True, "is_last": True}, PNG)
        result = (await running(session, "x")).result
        assert len(result.images) <= limits.CODE_IMAGES


@pytest.mark.parametrize("count", [-5, 1.5, "many", None, True, [], {}, 10**40])
async def test_counts_of_what_was_dropped_are_numbers(count: Any) -> None:
    """Whatever the kernel says."""
    server = Server()
    async with session_of(server) as session:
        server.helped["ended"] = says({"dropped_bytes": count, "dropped_images": count})
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
        server.code = two
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
        server.code = two
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
        server.helped["ended"] = silence
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
        server.code = silence
        start = time.monotonic()
        said = await running(session, "x", timeout_s=0.3)
        assert time.monotonic() - start < 3
        assert (said.result.reason, said.result.is_state_lost) == ("timeout", True)


async def test_a_kernel_that_cannot_be_mended_is_lost() -> None:
    """And deleted; its key gets another session."""
    server = Server()
    async with served(server) as sandbox:
        session = await sandbox.session("thread_a")
        server.code = silence
        server.helped["begin"] = silence
        with pytest.raises(SandboxLost):
            async with asyncio.timeout(10):
                await running(session, "x", timeout_s=0.2)
                await session.files()
        server.code = two
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
        await two(channel, content)

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
    says({"files": "none"}),
    says({"refused": "no"}),
    says({}),
    silence,
]


async def _nonsense(channel: Channel, _: Json) -> None:
    await channel.end(user_expressions={"answer": {"data": {"text/plain": "[" * 2_000_000}}})


@pytest.mark.parametrize("answer", [*BAD_ANSWERS, no_answer, _nonsense])
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
    server = Server(helped={"list": says({"files": files})})
    async with session_of(server) as session:
        listed = await session.files()
        assert listed[0].path == "f0"
        assert len(listed) == limits.CODE_FILES_SEEN - len(no_files)
        assert len(listed[0].stamp) < 400


async def test_a_file_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is larger than any file may be."""
    monkeypatch.setattr(limits, "CODE_FILE_BYTES", 5 * 2**20)
    server = Server(helped={"read": says({}, bytes(2**20))})
    async with session_of(server) as session:
        with pytest.raises(FileRefused, match="more than"):
            await contents(session, "a")


async def test_a_piece_that_is_too_large_loses_the_session() -> None:
    """We never ask for so much."""
    server = Server(helped={"read": says({}, bytes(2**20 + 1))})
    async with session_of(server) as session:
        with pytest.raises(SandboxLost):
            await contents(session, "a")


async def test_a_file_that_was_not_kept_loses_the_session() -> None:
    """The answer has to be a file."""
    server = Server(helped={"write": says({"file": ["../a", 1, "s"]})})
    async with session_of(server) as session:
        with pytest.raises(SandboxLost):
            await put(session, "a", b"x")
