"""The limits of a session: each is met, worded and survived, and the server does not notice."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.sandboxes import contents, environment, opened, pieces, put, running
from understudy.sandbox import FileRefused, Sandbox, Session
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.pool import Sizes

pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """The fast way."""
    async with opened(Bubblewrap(environment(), way="nested")) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def session(sandbox: Sandbox) -> AsyncIterator[Session]:
    """A new session."""
    yield await sandbox.session("a")
    await sandbox.forget("a")


async def test_code_that_will_not_stop_is_killed(session: Session) -> None:
    """Soon after its time; what it printed is kept."""
    code = "import signal\nprint('on')\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    began = time.monotonic()
    said = await running(session, code + "while True: pass", timeout_s=0.5)
    assert 1.4 < time.monotonic() - began < 4
    assert said.logs == "on\n"
    assert (said.result.reason, said.result.is_state_lost) == ("timeout", True)


async def test_a_stopped_call_takes_its_programs_with_it(session: Session) -> None:
    """Nothing of it prints into the next call."""
    await running(session, "import subprocess\nx = 1\np = subprocess.Popen(['sleep', '100'])")
    said = await running(
        session,
        "import os, time\nif os.fork() == 0:\n    import signal\n"
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "    while True: print('child', flush=True); time.sleep(0.01)\n"
        "time.sleep(100)",
        timeout_s=0.3,
    )
    assert said.result.reason == "timeout"
    assert (await running(session, "x")).logs == "1\n"
    stats = "open(path).read() for path in glob.glob('/proc/[0-9]*/stat')"
    living = f"import glob\nlen([stat for stat in ({stats}) if ') Z' not in stat])"
    assert (await running(session, living)).logs == "2\n"


async def test_background_work_rests_between_calls(session: Session) -> None:
    """It has no processor when nobody waits for it, and goes on when somebody does."""
    await running(
        session,
        "import threading, time\nn = 0\ndef count():\n    global n\n"
        "    while True: n += 1; time.sleep(0.001)\n"
        "threading.Thread(target=count, daemon=True).start()\ntime.sleep(0.1)",
    )
    first = int((await running(session, "n")).logs)
    await asyncio.sleep(0.5)
    second = int((await running(session, "n")).logs)
    assert 0 < first <= second < first + 50
    await running(session, "time.sleep(0.3)")
    assert int((await running(session, "n")).logs) > second


async def test_too_much_memory_is_an_exception(session: Session) -> None:
    """Of one process: the variables stay."""
    await running(session, "x = 1")
    said = await running(session, "y = bytearray(700 * 1024 * 1024)")
    assert "MemoryError" in said.logs
    assert (said.result.reason, said.result.is_state_lost) == (None, False)
    assert (await running(session, "x")).logs == "1\n"


async def test_a_heap_that_stays_full_costs_the_state(session: Session) -> None:
    """Or every later call would fail for want of memory."""
    code = "held = []\nwhile True: held.append(bytearray(1024 * 1024))"
    said = await running(session, code, timeout_s=20)
    assert "MemoryError" in said.logs
    assert (said.result.reason, said.result.is_state_lost) == ("memory", True)
    assert (await running(session, "sum(bytearray(50 * 1024 * 1024))")).logs == "0\n"


async def test_too_much_memory_of_many_processes_ends_them(session: Session) -> None:
    """The sum counts."""
    code = (
        "import os, time\n"
        "for _ in range(6):\n"
        "    if os.fork() == 0:\n"
        "        held = b'x' * (300 * 1024 * 1024)\n"
        "        time.sleep(30)\n"
        "        os._exit(0)\n"
        "time.sleep(30)"
    )
    said = await running(session, code, timeout_s=20)
    assert (said.result.reason, said.result.is_state_lost) == ("memory", True)
    assert (await running(session, "1")).logs == "1\n"


async def test_what_forked_processes_share_is_counted_once(session: Session) -> None:
    """An honest pool of processes is small."""
    code = (
        "import multiprocessing, time\n"
        "data = b'x' * (300 * 1024 * 1024)\n"
        "def f(i):\n    time.sleep(0.2)\n    return data[i]\n"
        "with multiprocessing.get_context('fork').Pool(6) as pool:\n"
        "    print(sum(pool.map(f, range(6), 1)))"
    )
    said = await running(session, code)
    assert (said.logs, said.result.reason) == (f"{6 * ord('x')}\n", None)


async def test_a_full_folder_refuses_files_and_takes_them_when_emptied(session: Session) -> None:
    """From the code and from the server."""
    said = await running(
        session,
        "f = open('/mnt/data/big', 'wb')\n"
        "try:\n    for _ in range(600): f.write(bytes(1024 * 1024))\n"
        "except OSError as error: print(error.strerror)",
    )
    assert said.logs == "No space left on device\n"
    with pytest.raises(FileRefused, match="No space left"):
        await put(session, "more", bytes(MIB))
    assert [file.path for file in await session.files()] == ["big"]
    await running(session, "f.close()\nimport os; os.unlink('/mnt/data/big')")
    assert (await put(session, "more", bytes(MIB))).size_bytes == MIB


async def test_listings_are_bounded_and_skip_what_has_no_name(session: Session) -> None:
    """Deep, wide, and in no encoding."""
    await running(
        session,
        "import os\nos.chdir('/mnt/data')\n"
        "open(b'\\xff\\xfe', 'w').close(); open('ok', 'w').close()\n"
        "os.makedirs('/'.join('d' * 12)); open('/'.join('d' * 7) + '/seen', 'w').close()\n"
        "open('/'.join('d' * 8) + '/unseen', 'w').close()\n"
        "os.mkdir('w')\nfor i in range(3000): open(f'w/{i:04}', 'w').close()",
    )
    paths = [file.path for file in await session.files()]
    assert paths[0] == "ok"
    assert len(paths) == 1000
    assert paths[1:] == [f"w/{i:04}" for i in range(999)]
    await running(session, "import shutil; shutil.rmtree('w')")
    assert [file.path for file in await session.files()] == ["ok", "d/d/d/d/d/d/d/seen"]


async def test_an_open_file_may_shrink_while_it_is_read(session: Session) -> None:
    """And a name may become something else."""
    await put(session, "a", bytes(3 * MIB))
    async with contextlib.aclosing(session.get("a")) as data:
        assert len(await anext(data)) == MIB
    await running(session, "import os; os.unlink('/mnt/data/a'); os.mkdir('/mnt/data/a')")
    with pytest.raises(FileRefused):
        await contents(session, "a")


async def test_a_figure_too_large_is_drawn_smaller(session: Session) -> None:
    """And it says so; too many are counted."""
    said = await running(
        session,
        "import matplotlib.pyplot as plt\nplt.figure(figsize=(4000, 3000)); plt.plot([1, 2])\n"
        "plt.title('x'); plt.show()",
    )
    assert "too large: drawn as 4619 x 3464" in said.logs
    assert len(said.result.images) == 1
    said = await running(session, "for _ in range(23): plt.figure(figsize=(1, 1))")
    assert (len(said.result.images), said.result.dropped_images) == (20, 3)
    assert (await running(session, "plt.get_fignums()")).logs == "[]\n"


async def test_figures_of_a_failed_call_are_not_in_the_next(session: Session) -> None:
    """They were never shown."""
    code = "import matplotlib.pyplot as plt\nplt.plot([1])\n1 / 0"
    assert (await running(session, code)).result.images == []
    assert (await running(session, "1")).result.images == []


async def test_figures_come_where_they_are_shown(session: Session) -> None:
    """A figure as the last line is drawn once; a frame is printed."""
    said = await running(
        session,
        "import matplotlib.pyplot as plt, pandas as pd\nfig, ax = plt.subplots()\n"
        "ax.plot([1, 2])\nprint(pd.DataFrame({'a': [1]}))\nfig",
    )
    assert said.logs == "   a\n0  1\n"
    assert len(said.result.images) == 1


async def test_sessions_are_random_in_their_own_way(sandbox: Sandbox) -> None:
    """Though all are forked from one process."""
    code = "import random, numpy as np\nrandom.random(), np.random.rand(), len(np.random.rand(3))"
    logs = set()
    for key in "abc":
        logs.add((await running(await sandbox.session(key), code)).logs)
        await sandbox.forget(key)
    assert len(logs) == 3


async def test_the_servers_memory_is_flat_for_large_files(session: Session) -> None:
    """300 MB in, 300 MB out."""
    one = bytes(MIB)

    async def data() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield one

    before = _resident_bytes()
    assert (await session.put("big", data())).size_bytes == 300 * MIB
    size = highest = 0
    async with contextlib.aclosing(session.get("big")) as out:
        async for piece in out:
            size += len(piece)
            highest = max(highest, _resident_bytes())
    assert size == 300 * MIB
    assert highest - before < 40 * MIB


async def test_small_prints_cost_few_frames(session: Session) -> None:
    """They are gathered."""
    heard: list[str] = []
    await session.run("for i in range(5000): print(i)", timeout_s=10, on_logs=heard.append)
    assert "".join(heard) == "".join(f"{i}\n" for i in range(5000))
    assert len(heard) < 60


async def test_calls_queue_for_the_processors(sandbox: Sandbox) -> None:
    """No more run at once than may."""
    count = Sizes().calls + 2
    sessions = [await sandbox.session(f"q{n}") for n in range(count)]
    code = "import time\na = time.monotonic(); time.sleep(0.3); b = time.monotonic()\na, b"
    said = await asyncio.gather(*(running(session, code) for session in sessions))
    spans = [tuple(map(float, call.logs.strip(" ()\n").split(","))) for call in said]
    most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
    assert 1 < most <= Sizes().calls
    for n in range(count):
        await sandbox.forget(f"q{n}")


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_put_that_is_cancelled_leaves_the_session_usable(session: Session) -> None:
    """Whatever had arrived is gone."""

    async def slow() -> AsyncIterator[bytes]:
        async for piece in pieces(bytes(MIB)):
            yield piece
        await asyncio.sleep(100)

    putting = asyncio.create_task(session.put("slow", slow()))
    await asyncio.sleep(0.3)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await session.files() == []
    assert (await running(session, "1")).logs == "1\n"
