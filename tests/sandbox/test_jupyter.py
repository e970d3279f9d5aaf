"""A real Jupyter Kernel Gateway: what the conformance suite does not ask of every sandbox."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.conformance.sandboxes import contents, opened, pieces, put, running
from tests.sandbox.jupyter_server import TOKEN, Gateway, gateway
from understudy import limits
from understudy.sandbox import Sandbox, SandboxLost, SandboxUnavailable, Session
from understudy.sandbox.jupyter import Jupyter
from understudy.sandbox.pool import Sizes

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway for all tests of this file."""
    async with gateway(tmp_path_factory.mktemp("gateway")) as running_one:
        yield running_one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(server: Gateway) -> AsyncIterator[Sandbox]:
    """A sandbox on it."""
    async with opened(Jupyter(server.url, folder=str(server.folder))) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def session(sandbox: Sandbox) -> AsyncIterator[Session]:
    """A new session."""
    yield await sandbox.session("thread_a")
    await sandbox.forget("thread_a")


async def test_figures_are_drawn_when_shown_and_at_the_end(session: Session) -> None:
    """In a backend without a screen, also after `%matplotlib inline` or `use`."""
    said = await running(
        session,
        "%matplotlib inline\nimport matplotlib.pyplot as plt\n"
        "plt.plot([1, 2])\nplt.show()\nfigure = plt.figure()\nplt.plot([2])\nfigure",
    )
    assert (said.logs, said.result.reason) == ("", None)
    assert len(said.result.images) == 2
    said = await running(session, "import matplotlib; matplotlib.use('Agg'); plt.plot([1]); 1 / 0")
    assert "ZeroDivisionError" in said.logs
    assert said.result.images == []
    assert (await running(session, "plt.get_fignums()")).logs == "[]\n"


async def test_a_figure_of_any_size_is_drawn_small(session: Session) -> None:
    """Or it would take all of the other machine's memory."""
    code = "import matplotlib.pyplot as plt\nplt.figure(figsize=(4000, 4000))\n1"
    said = await running(session, code)
    assert "is too large" in said.logs
    assert [len(image) < limits.CODE_IMAGE_BYTES for image in said.result.images] == [True]


async def test_large_images_arrive(session: Session) -> None:
    """A gateway drops what goes faster through its throttled channel; one too large is counted."""
    said = await running(
        session,
        "import os\n"
        "class Image:\n"
        "    def __init__(self, size): self.size = size\n"
        "    def _repr_png_(self): return b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom(self.size)\n"
        "for _ in range(4): display(Image(5_000_000))\n"
        "Image(11_000_000)",
    )
    assert [len(image) for image in said.result.images] == [5_000_008] * 4
    assert (said.logs, said.result.dropped_images) == ("", 1)


@pytest.mark.parametrize(
    "code",
    [
        "while True: print('x' * 1000)",
        "import os\nwhile True: os.write(1, b'x' * 1000)",
        "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    ],
)
async def test_endless_printing_costs_nothing_but_its_time(session: Session, code: str) -> None:
    """It stays where it is; the variables, too."""
    await running(session, "x = 5")
    start = time.monotonic()
    said = await running(session, code, timeout_s=1)
    assert time.monotonic() - start < 1 + limits.CODE_GRACE_S + limits.CODE_WATCH_S
    assert said.logs.startswith("x" * 1000)
    assert len(said.logs) <= limits.CODE_LOGS_BYTES
    assert said.result.dropped_bytes > 100_000
    assert (said.result.reason, said.result.is_state_lost) == ("timeout", False)
    assert (await running(session, "x")).logs == "5\n"


async def test_a_giant_result_is_cut_where_it_is(session: Session) -> None:
    """The rest is counted, not sent."""
    said = await running(session, "'x' * 50_000_000")
    assert said.logs.startswith("'xxx")
    assert len(said.logs) <= limits.CODE_LOGS_BYTES
    assert len(said.logs) + said.result.dropped_bytes == 50_000_003


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('x' * 20_000_000)",
        "display({'text/plain': 'x' * 20_000_000}, raw=True)",
    ],
)
async def test_a_giant_message_costs_the_call_and_not_the_variables(
    session: Session, code: str
) -> None:
    """It is not even read."""
    await running(session, "x = 5")
    said = await running(session, code)
    assert said.result.is_state_lost is False
    assert said.result.reason == "protocol"
    assert (await running(session, "x")).logs == "5\n"


FORGED = (
    "import time\n"
    "kernel, parent = get_ipython().kernel, get_ipython().parent_header\n"
    "def say(kind, content):\n"
    "    kernel.session.send(kernel.iopub_socket, kind, content, parent=parent)\n"
)


async def test_a_forged_end_does_not_let_code_go_on(session: Session) -> None:
    """It is found at work and stopped."""
    code = (
        FORGED + "say('status', {'execution_state': 'idle'})\n"
        "kernel.session.send(kernel.shell_stream or kernel.shell_socket, 'execute_reply', "
        "{'status': 'ok', 'user_expressions': {}}, parent=parent, "
        "ident=getattr(kernel, '_parent_ident', {}).get('shell'))\n"
        "while True:\n"
        "    try: time.sleep(100)\n"
        "    except BaseException: pass\n"
    )
    start = time.monotonic()
    said = await running(session, code, timeout_s=3)
    assert time.monotonic() - start < 20
    assert said.result.is_state_lost
    assert (await running(session, "1 + 1")).logs == "2\n"


async def test_a_forged_death_costs_the_variables(session: Session) -> None:
    """A new process is a known state."""
    await put(session, "kept", b"x")
    said = await running(session, FORGED + "say('status', {'execution_state': 'dead'})")
    assert (said.result.reason, said.result.is_state_lost) == ("died", True)
    assert "NameError" in (await running(session, "kernel")).logs
    assert [file.path for file in await session.files()] == ["kept"]


async def test_code_that_breaks_its_own_helper_gets_a_new_process(session: Session) -> None:
    """Its files stay."""
    await put(session, "kept", b"x")
    said = await running(session, "import sys\ndel sys.modules['understudy_session']")
    assert said.result.is_state_lost
    assert [file.path for file in await session.files()] == ["kept"]
    assert (await running(session, "1 + 1")).logs == "2\n"


async def test_code_that_ignores_interrupts_is_killed_in_time(session: Session) -> None:
    """Variables are lost, files are kept, and what it printed is there."""
    await put(session, "kept", b"x")
    code = (
        "import time\nx = 1\nprint('on', flush=True)\n"
        "while True:\n    try: time.sleep(100)\n    except BaseException: pass"
    )
    start = time.monotonic()
    said = await running(session, code, timeout_s=0.5)
    assert time.monotonic() - start < 0.5 + 2 * limits.CODE_GRACE_S + limits.CODE_WATCH_S
    assert said.logs == "on\n"
    assert (said.result.reason, said.result.is_state_lost) == ("timeout", True)
    assert "NameError" in (await running(session, "x")).logs
    assert await contents(session, "kept") == b"x"


async def test_cancelled_code_that_does_not_stop_is_killed(session: Session) -> None:
    """Who asks next waits for the new process."""
    code = "import time\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass"
    task = asyncio.create_task(running(session, code))
    await asyncio.sleep(0.5)
    start = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - start < 0.5
    assert (await running(session, "1 + 1")).logs == "2\n"


async def test_the_names_of_folders_are_changed_in_both_directions(sandbox: Sandbox) -> None:
    """Code and what it prints say /mnt/data, whatever it is there."""
    for key in ("thread_a", "thread_b"):  # The first has the wanted folder, the second another.
        session = await sandbox.session(key)
        said = await running(
            session, "import os\nopen('/mnt/data/a', 'w').close()\nprint(os.getcwd())\nopen('b')"
        )
        assert said.logs.startswith("/mnt/data\n")
        assert "No such file" in said.logs
        assert (await running(session, "os.path.abspath('a')")).logs == "'/mnt/data/a'\n"
        assert [file.path for file in await session.files()] == ["a"]
    for key in ("thread_a", "thread_b"):
        await sandbox.forget(key)


async def test_a_file_passes_through_without_growing_anything(session: Session) -> None:
    """Whatever the pieces of its source."""
    size = 24 * 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    info = await session.put("big", pieces(bytes(size), 3 * 2**20))
    assert info.size_bytes == size
    read = 0
    async for piece in session.get("big"):
        assert len(piece) <= limits.CODE_FRAME_BYTES
        read += len(piece)
    assert read == size
    # The test's own bytes, and some room: the file itself would be twice as much more.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (size + 16 * 2**20) // 1024


async def test_nothing_is_left_behind(server: Gateway) -> None:
    """No kernel and no file, of sessions that were busy, lost or idle."""
    before = set(await server.kernels())
    temporary = server.folder.parent / "tmp"
    had = set(temporary.glob("understudy-*"))
    async with opened(Jupyter(server.url, folder=str(server.folder))) as sandbox:
        sessions = [await sandbox.session(key) for key in ("thread_a", "thread_b")]
        for session in sessions:
            await put(session, "sub/a", b"x")
        assert len(await server.kernels()) == len(before) + 2
        busy = asyncio.create_task(running(sessions[0], "while True: pass", timeout_s=60))
        await asyncio.sleep(0.5)
    with pytest.raises(SandboxLost):
        await busy
    assert set(await server.kernels()) == before
    assert set(temporary.glob("understudy-*")) == had
    assert not server.folder.exists()


async def test_a_folder_that_has_files_is_not_taken(server: Gateway) -> None:
    """They are somebody else's."""
    server.folder.mkdir()
    (server.folder / "theirs").write_text("secret")
    async with opened(Jupyter(server.url, folder=str(server.folder))) as sandbox:
        session = await sandbox.session("thread_a")
        assert await session.files() == []
        assert (await running(session, "import os\nos.listdir('/mnt/data')")).logs == "[]\n"
    assert (server.folder / "theirs").read_text() == "secret"
    (server.folder / "theirs").unlink()
    server.folder.rmdir()


async def test_there_are_as_many_kernels_as_sessions_are_allowed(server: Gateway) -> None:
    """The longest unused goes."""
    async with opened(Jupyter(server.url, sizes=Sizes(sessions=1, spare=0))) as sandbox:
        before = len(await server.kernels())
        first = await sandbox.session("thread_a")
        await sandbox.session("thread_b")
        with pytest.raises(SandboxLost):
            await first.files()
        await first.close()
        assert len(await server.kernels()) == before + 1


async def test_a_kernel_that_the_server_ended_is_a_lost_session(
    server: Gateway, sandbox: Sandbox
) -> None:
    """It ends unused ones by itself, if it is set up so."""
    before = set(await server.kernels())
    session = await sandbox.session("thread_c")
    (kernel,) = set(await server.kernels()) - before
    async with aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as http:
        await http.delete(f"http://127.0.0.1:{server.port}/api/kernels/{kernel}")
    with pytest.raises(SandboxLost):
        await running(session, "1")
    assert (await running(await sandbox.session("thread_c"), "1 + 1")).logs == "2\n"
    await sandbox.forget("thread_c")


async def test_a_wrong_token_is_said_so(
    server: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is in no text."""
    for url, said in (
        (f"http://127.0.0.1:{server.port}?token=wrong-and-secret", "has refused the token"),
        (f"http://127.0.0.1:{server.port}", "asks for a token"),
    ):
        sandbox = Jupyter(url)
        with pytest.raises(SandboxUnavailable, match=said) as failure:
            await sandbox.started()
        assert "wrong-and-secret" not in f"{failure.value}{sandbox.detail}{capsys.readouterr()}"
        await sandbox.close()
