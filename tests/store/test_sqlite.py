"""What only a SQLite file promises: durability, one process, migrations, a full disk."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from tests.conformance.shapes import PROJECT, thread
from understudy.store import AlreadyRunning, Unavailable, changes, open_database
from understudy.store.lane import Threads
from understudy.store.store import Store

WRITER = """
import asyncio, sys
from tests.conformance.shapes import thread
from understudy.store import open_database
from understudy.store.store import Store

async def write(store, lane):
    for n in range(1_000_000):
        await store.commit(thread(f"thread_{lane}_{n}"))
        sys.stdout.write(f"thread_{lane}_{n}\\n")
        sys.stdout.flush()

async def main(url, apart):
    store = Store(await open_database(url, apart=apart))
    await asyncio.gather(*[write(store, lane) for lane in range(8)])

asyncio.run(main(sys.argv[1], sys.argv[2] == "apart"))
"""

STARVED = """
import asyncio, resource, signal, sys
import psutil
from tests.conformance.shapes import PROJECT, thread
from understudy.store import Unavailable, open_database
from understudy.store.store import Store

async def main(url, apart):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Store(await open_database(url, apart=apart))
    await store.commit(thread("thread_0"))
    writer = psutil.Process().children()[0].pid if apart else 0  # 0: this process.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(writer, resource.RLIMIT_FSIZE, (4096, hard))
    for _ in range(3):
        try:
            await store.commit(thread("thread_1"))
            raise SystemExit("a commit was acknowledged without room for it")
        except Unavailable:
            pass
    assert await store.get("thread", PROJECT, "thread_0") is not None
    assert await store.get("thread", PROJECT, "thread_1") is None
    resource.prlimit(writer, resource.RLIMIT_FSIZE, (hard, hard))
    await store.commit(thread("thread_1"))
    assert await store.get("thread", PROJECT, "thread_1") is not None
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2] == "apart"))
"""


@pytest.fixture(params=["here", "apart"])
def where(request: pytest.FixtureRequest) -> str:
    """Where the writer is: a thread of the process, or a process of its own."""
    return str(request.param)


def python(script: str, url: str, where: str = "here") -> "subprocess.Popen[str]":
    """A child process that runs this script on this database."""
    command = [sys.executable, "-c", textwrap.dedent(script), url, where]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def open_store(folder: Path, where: str = "here") -> Store:
    """A store on the file of this folder."""
    url = f"sqlite:///{folder}/understudy.db"
    return Store(await open_database(url, apart=where == "apart"))


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    tmp_path: Path, where: str
) -> None:
    acknowledged: set[str] = set()
    for round in range(3):
        folder = tmp_path / str(round)
        with python(WRITER, f"sqlite:///{folder}/understudy.db", where) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(500 * (round + 1))]
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.read().splitlines(keepends=True)
        acknowledged = {line.strip() for line in lines if line.endswith("\n")}
        store = await open_store(folder, where)
        found = await store.get_many("thread", PROJECT, sorted(acknowledged))
        assert {record.id for record in found} == acknowledged
        await store.close()
        check = apsw.Connection(str(folder / "understudy.db")).execute("pragma integrity_check")
        assert check.fetchall() == [("ok",)]


async def test_a_second_process_is_refused_and_told_why(tmp_path: Path, where: str) -> None:
    url = f"sqlite:///{tmp_path}/understudy.db"
    with python(WRITER, url, where) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(AlreadyRunning, match=rf"pid {child.pid}\)\. Stop that one first"):
            await open_database(url)
        child.kill()
        child.stdout.read()
    store = await open_store(tmp_path)
    with pytest.raises(AlreadyRunning):
        await open_database(url)
    await store.close()


async def test_a_file_opens_again_with_all_it_held(tmp_path: Path, where: str) -> None:
    for n in range(3):
        store = await open_store(tmp_path, where)
        await store.commit(thread(f"thread_{n}"))
        await store.close()
    assert not (tmp_path / "understudy.db-wal").exists()
    connection = apsw.Connection(str(tmp_path / "understudy.db"))
    migrations = connection.execute("select name from migrations").fetchall()
    assert migrations == [("0001_start",), ("0002_files",), ("0003_nodes",), ("0004_begun",)]
    assert connection.execute("select count(*) from objects").fetchall() == [(3,)]
    connection.close()


def test_without_room_writes_are_refused_and_reads_go_on(tmp_path: Path, where: str) -> None:
    with python(STARVED, f"sqlite:///{tmp_path}/understudy.db", where) as child:
        _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_dies_is_fatal_and_leaves_nobody_waiting() -> None:
    def die(payloads: Sequence[int]) -> list[int]:
        raise SystemError("no such luck")

    reasons: list[str] = []
    lane = Threads[int]("writer", [die], batch=10, bound=10, on_fatal=reasons.append)
    outcomes = await asyncio.gather(*[lane.ask(n) for n in range(5)], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 5
    with pytest.raises(Unavailable):
        await lane.ask(6)
    await lane.close()
    assert reasons == ["The store's writer died."]


async def test_too_many_waiting_callers_are_refused_at_once() -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(payloads: Sequence[int]) -> list[int]:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return list(payloads)

    lane = Threads[int]("writer", [wait], batch=10, bound=3, on_fatal=print)
    waiting = [asyncio.create_task(lane.ask(n)) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await lane.ask(4)
    assert refused.value.retry_after_s > 0
    gate.set()
    assert await asyncio.gather(*waiting) == [0, 1, 2]
    assert await lane.ask(5) == 5
    await lane.close()


async def test_work_may_leave_calls_for_its_next_time() -> None:
    gate = threading.Event()

    def first_of(payloads: Sequence[int]) -> list[int]:
        if payloads[0] == 1:
            gate.wait()
        return [payloads[0]]

    lane = Threads[int]("pages", [first_of], batch=10, bound=10, on_fatal=print)
    first, *others = [lane.asked(n) for n in range(5)]
    assert await first == 0  # Though the next one waits.
    gate.set()
    await lane.close()
    assert [other.result() for other in others] == [1, 2, 3, 4]


async def test_nobody_waits_for_a_long_read_behind_his_own(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/understudy.db")
    body = b'{"text":"%s"}' % (b"x" * 500_000)
    for number in range(100):
        id = f"thread_{number}"
        large = changes.insert_object(
            "thread", id=id, project=PROJECT, parent=None, created_at=100.0, body=body
        )
        await database.commit([large])
    scope = {"parent": "", "kind": "thread", "project": PROJECT, "limit": 100}
    bounds = {"low_at": 0.0, "low_seq": 0, "high_at": 200.0, "high_seq": 0}
    reads = [asyncio.create_task(database.fetch("list_asc", scope | bounds)) for _ in range(2)]
    await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [read.done() for read in reads] == [True, False]
    assert [len(await read) for read in reads] == [100, 100]
    await database.close()


async def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match="known: sqlite"):
        await open_database("mysql://localhost/x")


async def test_a_memory_database_is_one_of_its_own() -> None:
    first, second = [Store(await open_database("sqlite://")) for _ in range(2)]
    await first.commit(thread("thread_1"))
    assert await second.get("thread", PROJECT, "thread_1") is None
    await first.close()
    await second.close()
