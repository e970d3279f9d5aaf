"""What every sandbox does, as the protocols in understudy.sandbox say it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conformance.sandboxes import SANDBOXES, Run, contents, pieces, put, running
from understudy.sandbox import FileRefused, Note, Sandbox, SandboxLost, Session

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=sorted(SANDBOXES), scope="module", loop_scope="module")
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A sandbox that is up."""
    async with SANDBOXES[request.param]() as sandbox:
        await sandbox.started()
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def session(sandbox: Sandbox) -> AsyncIterator[Session]:
    """A new session."""
    yield await sandbox.session("thread_a")
    await sandbox.forget("thread_a")
    await sandbox.forget("thread_b")


async def test_it_is_up_and_says_what_it_is(sandbox: Sandbox) -> None:
    """After the self-test."""
    assert sandbox.state == "up"
    assert sandbox.detail


async def test_a_key_has_one_session_and_another_key_another(
    sandbox: Sandbox, session: Session
) -> None:
    """Variables, files and notes are a session's own."""
    one = session
    other = await sandbox.session("thread_b")
    one.notes["x"] = Note("stamp", "file-1")
    await running(one, "x = 41; open('/mnt/data/mine', 'w').write('x')")
    assert await sandbox.session("thread_a") is one
    assert (await running(one, "x + 1")).logs == "42\n"
    assert "NameError" in (await running(other, "x")).logs
    assert await other.files() == []
    assert other.notes == {}


async def test_a_forgotten_key_begins_anew(sandbox: Sandbox, session: Session) -> None:
    """Nothing of the old session is there."""
    old = session
    old.notes["x"] = Note("stamp", "file-1")
    await running(old, "x = 1; open('/mnt/data/mine', 'w').write('x')")
    await sandbox.forget("thread_a")
    await sandbox.forget("thread_never_seen")
    with pytest.raises(SandboxLost):
        await running(old, "1")
    new = await sandbox.session("thread_a")
    assert new.notes == {}
    assert await new.files() == []
    assert "NameError" in (await running(new, "x")).logs


async def test_output_comes_in_order_while_the_code_runs(session: Session) -> None:
    """Not only at the end."""
    came: list[tuple[float, str]] = []
    code = "import time\nprint('one', flush=True)\ntime.sleep(0.6)\nprint('two')"
    await session.run(
        code, timeout_s=10, on_logs=lambda text: came.append((time.monotonic(), text))
    )
    assert "".join(text for _, text in came) == "one\ntwo\n"
    assert came[-1][0] - came[0][0] > 0.3


async def test_standard_error_and_the_last_expression_are_output(session: Session) -> None:
    """None is not shown."""
    said = await running(session, "import sys\nprint('a')\nsys.stderr.write('b\\n')\n'c'")
    assert (said.logs, said.result.reason) == ("a\nb\n'c'\n", None)
    assert (await running(session, "None")).logs == ""


async def test_an_exception_is_a_traceback_and_the_session_goes_on(session: Session) -> None:
    """With the line that raised it, and nothing of our own."""
    said = await running(session, "x = 3\n1 / 0")
    assert "ZeroDivisionError: division by zero" in said.logs
    assert "1 / 0" in said.logs
    assert "understudy" not in said.logs
    assert said.result.reason is None
    assert (await running(session, "x")).logs == "3\n"


async def test_code_that_is_no_python_is_a_syntax_error(session: Session) -> None:
    """And nothing of it has run."""
    said = await running(session, "print('x')\nif:")
    assert "SyntaxError" in said.logs
    assert "x\n" not in said.logs.splitlines(keepends=True)


async def test_text_arrives_as_it_was_printed(session: Session) -> None:
    """Letters of several bytes too, wherever they are cut."""
    said = await running(session, "for i in range(3000): print('aé漢😀'[i % 4] * 7, end='')")
    assert said.logs == "".join("aé漢😀"[i % 4] * 7 for i in range(3000))


async def test_endless_output_is_cut_and_counted(session: Session) -> None:
    """The first part is kept."""
    said = await running(session, "for i in range(40_000): print(i)")
    assert said.logs.startswith("0\n1\n2\n")
    assert len(said.logs) <= 64 * 1024
    expected = sum(len(f"{i}\n") for i in range(40_000))
    assert len(said.logs) + said.result.dropped_bytes == expected


async def test_a_timeout_keeps_the_variables(session: Session) -> None:
    """When the code lets itself be interrupted."""
    await running(session, "x = 5")
    start = time.monotonic()
    said = await running(session, "print('on')\nwhile True: pass", timeout_s=0.5)
    assert time.monotonic() - start < 5
    assert said.logs.startswith("on\n")
    assert (said.result.reason, said.result.is_state_lost) == ("timeout", False)
    assert (await running(session, "x")).logs == "5\n"


async def test_a_dead_interpreter_loses_variables_and_keeps_files(session: Session) -> None:
    """And says so."""
    await put(session, "kept.txt", b"kept")
    said = await running(session, "x = 1\nprint('last', flush=True)\nimport os\nos._exit(1)")
    assert said.logs == "last\n"
    assert (said.result.reason, said.result.is_state_lost) == ("died", True)
    assert "NameError" in (await running(session, "x")).logs
    assert (await running(session, "open('/mnt/data/kept.txt').read()")).logs == "'kept'\n"


async def test_sys_exit_ends_the_call_only(session: Session) -> None:
    """It is an exception like others."""
    await running(session, "x = 1")
    said = await running(session, "import sys\nsys.exit(0)")
    assert (said.result.reason, said.result.is_state_lost) == (None, False)
    assert (await running(session, "x")).logs == "1\n"


async def test_cancelling_stops_the_code_and_the_session_is_usable(session: Session) -> None:
    """At once, and with its variables."""
    await running(session, "x = 7")
    code = "import time\nfor i in range(3000):\n    time.sleep(0.01)\n    n = i"
    task = asyncio.create_task(running(session, code))
    await asyncio.sleep(0.5)
    start = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await running(session, "x")).logs == "7\n"
    assert time.monotonic() - start < 3
    stopped_at = (await running(session, "n")).logs
    await asyncio.sleep(0.1)
    assert (await running(session, "n")).logs == stopped_at


async def test_variables_that_a_cancel_costs_are_told_by_the_next_call(session: Session) -> None:
    """Nobody heard how the cancelled call ended."""
    await running(session, "x = 7")
    code = "import time\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass"
    task = asyncio.create_task(running(session, code))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    said = await running(session, "'x' in globals()")
    assert (said.logs, said.result.is_state_lost) == ("False\n", True)
    assert not (await running(session, "1")).result.is_state_lost


async def test_calls_wait_for_each_other(session: Session) -> None:
    """One at a time, in order."""
    code = "import time\na = globals().get('a', 0) + 1\ntime.sleep(0.05)\na"
    said = await asyncio.gather(*(running(session, code) for _ in range(4)))
    assert [call.logs for call in said] == ["1\n", "2\n", "3\n", "4\n"]


async def test_a_file_goes_in_and_out(session: Session) -> None:
    """Its size is what was written, in however many pieces."""
    data = bytes(range(256)) * 10_000
    info = await session.put("in/a b é.bin", pieces(data, 100_000))
    assert (info.path, info.size_bytes) == ("in/a b é.bin", len(data))
    assert await session.files() == [info]
    assert await contents(session, "in/a b é.bin") == data
    said = await running(session, "len(open('/mnt/data/in/a b é.bin', 'rb').read())")
    assert said.logs == f"{len(data)}\n"


async def test_an_empty_file_is_a_file(session: Session) -> None:
    """Without any piece."""
    await put(session, "empty", b"")
    assert [(file.path, file.size_bytes) for file in await session.files()] == [("empty", 0)]
    assert await contents(session, "empty") == b""


async def test_putting_replaces(session: Session) -> None:
    """With another stamp."""
    old = await put(session, "a", b"old")
    new = await put(session, "a", b"new")
    assert old.stamp != new.stamp
    assert await contents(session, "a") == b"new"


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../a", "a/../../b", "a//b", ".", "a/", "a\0b"]
)
async def test_a_path_stays_below_the_folder(session: Session, path: str) -> None:
    """On the way in and on the way out."""
    with pytest.raises(FileRefused):
        await put(session, path, b"x")
    with pytest.raises(FileRefused):
        await contents(session, path)
    await put(session, "target", b"x")
    with pytest.raises(FileRefused):
        await session.link(path, "target")
    with pytest.raises(FileRefused):
        await session.link("name", path)


async def test_what_is_no_file_is_refused(session: Session) -> None:
    """Missing files, folders and links cannot be read; a folder is not replaced."""
    await running(session, "import os\nos.mkdir('/mnt/data/d')\nos.symlink('/etc', '/mnt/data/l')")
    for path in ("missing", "d", "l", "l/hostname"):
        with pytest.raises(FileRefused):
            await contents(session, path)
    with pytest.raises(FileRefused):
        await put(session, "d", b"x")
    with pytest.raises(FileRefused):
        await put(session, "l/x", b"x")
    assert await session.files() == []


async def test_a_link_is_another_name(session: Session) -> None:
    """For the code; a listing has the file once."""
    await put(session, "sub/data.csv", b"a,b")
    await session.link("file-1", "sub/data.csv")
    await session.link("ids/file-1", "sub/data.csv")
    read = "open('/mnt/data/file-1').read() + open('/mnt/data/ids/file-1').read()"
    assert (await running(session, read)).logs == "'a,ba,b'\n"
    assert [file.path for file in await session.files()] == ["sub/data.csv"]


async def test_the_stamp_changes_with_the_file(session: Session) -> None:
    """And only then."""
    await put(session, "same", b"1")
    before = await put(session, "changed", b"1")
    first = {file.path: file.stamp for file in await session.files()}
    assert first["changed"] == before.stamp
    await running(session, "open('/mnt/data/changed', 'w').write('2')")
    second = {file.path: file.stamp for file in await session.files()}
    assert second["same"] == first["same"]
    assert second["changed"] != first["changed"]


async def test_nearest_files_are_listed_first(session: Session) -> None:
    """Whatever the names."""
    await running(
        session,
        "import os\nos.makedirs('/mnt/data/a/b')\n"
        "for p in ('a/b/1', 'a/2', 'z'): open('/mnt/data/' + p, 'w').close()",
    )
    assert [file.path for file in await session.files()] == ["z", "a/2", "a/b/1"]


async def test_a_file_that_is_read_halfway_is_let_go(session: Session) -> None:
    """The session serves the next."""
    await put(session, "big", b"x" * 3_000_000)
    reading = session.get("big")
    assert await anext(reading)
    await reading.aclose()
    assert len(await contents(session, "big")) == 3_000_000
    assert (await running(session, "1 + 1")).logs == "2\n"


async def test_a_source_that_fails_leaves_no_file(session: Session) -> None:
    """And its error is the caller's."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await session.put("half", failing())
    assert await session.files() == []


async def test_a_closed_session_is_lost(sandbox: Sandbox, session: Session) -> None:
    """And its key gets another."""
    await session.close()
    for ask in (session.files(), running(session, "1"), put(session, "a", b"")):
        with pytest.raises(SandboxLost):
            await ask
    assert await sandbox.session("thread_a") is not session


async def test_closing_ends_what_runs(session: Session) -> None:
    """Who waits for it hears that it is lost."""
    task = asyncio.create_task(running(session, "while True: pass", timeout_s=30))
    await asyncio.sleep(0.5)
    await session.close()
    with pytest.raises(SandboxLost):
        await task


_PNG = (
    "import struct, zlib\n"
    "def part(kind, data):\n"
    "    crc = zlib.crc32(kind + data)\n"
    "    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc)\n"
    "class Dot:\n"
    "    def __init__(self, grey): self.grey = grey\n"
    "    def _repr_png_(self):\n"
    "        head = struct.pack('>IIBBBBB', 1, 1, 8, 0, 0, 0, 0)\n"
    "        return (b'\\x89PNG\\r\\n\\x1a\\n' + part(b'IHDR', head)\n"
    "            + part(b'IDAT', zlib.compress(bytes([0, self.grey]))) + part(b'IEND', b''))\n"
)


async def test_images_come_in_order(session: Session) -> None:
    """What code displays, and what its last line is."""
    said = await running(session, f"{_PNG}print('a')\ndisplay(Dot(1))\nprint('b')\nDot(2)")
    assert said.logs == "a\nb\n"
    assert [image[:8] for image in said.result.images] == [b"\x89PNG\r\n\x1a\n"] * 2
    assert said.result.images[0] != said.result.images[1]


async def test_images_over_the_limit_are_counted(session: Session) -> None:
    """The first ones are kept."""
    said = await running(session, f"{_PNG}for i in range(25): display(Dot(i))")
    assert (len(said.result.images), said.result.dropped_images) == (20, 5)
    assert (await running(session, "1")).result.images == []


async def test_code_may_hold_any_text(session: Session) -> None:
    """A lone surrogate is an error of the code, not ours."""
    said: Run = await running(session, "x = '\ud800'")
    assert said.result.reason is None
    assert (await running(session, "'\N{SNOWMAN}'")).logs == "'\N{SNOWMAN}'\n"
