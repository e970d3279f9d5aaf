"""Children that read files: what they survive, what they do not, and that the next file is read."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from tests.search.hostile import HOSTILE, SAID, Hostile
from understudy import limits
from understudy.search.child import Readers, Unreadable
from understudy.search.part import Part


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie."""
    return tmp_path_factory.mktemp("spool")


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    """One child at most, with little time for a file."""
    readers = Readers(1, cpu_s=3)
    yield readers
    await readers.close()


def text_file(spool: Path, text: str = SAID) -> Path:
    """A file of this text."""
    path = spool / "text"
    path.write_text(text)
    return path


async def read(
    readers: Readers, path: Path, name: str = "a.txt", *, skip: int = 0, more: bool = False
) -> list[Part]:
    """All parts of a file."""
    sizes = {"size_tokens": 100, "overlap_tokens": 50}
    parts = readers.read(path, name, skip_parts=skip, more_types=more, **sizes)
    return [part async for part in parts]


def text_of(parts: list[Part]) -> str:
    """The text that was cut into parts."""
    return "".join(stride for part in parts for stride in part.strides)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def children() -> list[psutil.Process]:
    """The living children of this process that read files."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "understudy.search.reading" in child.cmdline()
    ]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: repr(hostile.name))
async def test_a_hostile_file_ends_as_it_should(spool: Path, hostile: Hostile) -> None:
    """Each in words that say what is wrong with it; none lets the child grow without bound."""
    path = spool / "hostile"
    hostile.make(path)
    readers = Readers(1, cpu_s=3 if hostile.is_slow else 20)
    try:
        if hostile.status == "completed":
            said = text_of(await read(readers, path, hostile.name))
        else:
            with pytest.raises(Unreadable) as caught:
                await read(readers, path, hostile.name)
            assert caught.value.code == hostile.code
            said = caught.value.message
        assert [words for words in hostile.words if words not in said] == []
        peak_kib = max((child.memory_info().rss for child in children()), default=0) // 1024
        assert peak_kib * 1024 < limits.READER_ADDRESS_BYTES
        assert text_of(await read(readers, text_file(spool))) == SAID
    finally:
        await readers.close()
        path.unlink()


async def test_one_warm_child_reads_many_files(readers: Readers, spool: Path) -> None:
    """A child costs half a second; a small file must not."""
    path = text_file(spool)
    await read(readers, path)
    first = children()
    started = asyncio.get_running_loop().time()
    for _ in range(100):
        await read(readers, path)
    assert children() == first
    assert len(first) == 1
    assert asyncio.get_running_loop().time() - started < 10


async def test_parts_may_be_skipped(readers: Readers, spool: Path) -> None:
    """A reading that was interrupted goes on where it was."""
    path = text_file(spool, "".join(f"Sentence number {n} of many. " for n in range(3000)))
    parts = await read(readers, path)
    assert len(parts) > 3
    assert await read(readers, path, skip=2) == parts[2:]
    assert await read(readers, path, skip=len(parts)) == []


async def test_a_reading_that_is_left_does_not_confuse_the_next(
    readers: Readers, spool: Path
) -> None:
    """What the child still had to say of the old file is lost with it."""
    long = spool / "long"
    long.write_text("".join(f"Sentence number {n} of many. " for n in range(30_000)))
    parts = readers.read(long, "long.txt", size_tokens=100, overlap_tokens=50)
    first = await anext(parts)
    assert first.number == 0
    await parts.aclose()
    assert text_of(await read(readers, text_file(spool))) == SAID


async def test_a_cancelled_reading_does_not_confuse_the_next(readers: Readers, spool: Path) -> None:
    """At whatever moment it was cancelled."""
    path = text_file(spool)
    await read(readers, path)
    for patience_s in (0, 0.0005, 0.001, 0.002, 0.004):
        task = asyncio.create_task(read(readers, path))
        await asyncio.sleep(patience_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert text_of(await read(readers, path)) == SAID


async def test_a_child_waits_for_a_slow_reader(readers: Readers, spool: Path) -> None:
    """So a large text never lies in the server's memory."""
    long = spool / "long"
    long.write_text("".join(f"Sentence number {n} of many. " for n in range(300_000)))
    parts = readers.read(long, "long.txt", size_tokens=800, overlap_tokens=400)
    await anext(parts)
    await asyncio.sleep(0.5)
    (child,) = children()
    before = sum(child.cpu_times()[:2])
    await asyncio.sleep(0.5)
    assert sum(child.cpu_times()[:2]) - before < 0.1
    await parts.aclose()


async def test_a_killed_child_costs_its_file_only(readers: Readers, spool: Path) -> None:
    """The file fails in words, the next gets another child."""
    long = spool / "long"
    long.write_text("".join(f"Sentence number {n} of many. " for n in range(100_000)))
    parts = readers.read(long, "long.txt", size_tokens=100, overlap_tokens=50)
    await anext(parts)
    (child,) = children()
    child.send_signal(signal.SIGSEGV)
    with pytest.raises(Unreadable, match="crash") as caught:
        async for _ in parts:
            pass
    assert caught.value.code == "invalid_file"
    assert text_of(await read(readers, text_file(spool))) == SAID


async def test_an_idle_child_that_died_is_replaced(readers: Readers, spool: Path) -> None:
    """No file pays for it."""
    await read(readers, text_file(spool))
    for kill in (signal.SIGKILL, signal.SIGTERM):
        (child,) = children()
        child.send_signal(kill)
        assert text_of(await read(readers, text_file(spool))) == SAID


async def test_idle_children_end(
    readers: Readers, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their memory is wanted elsewhere."""
    monkeypatch.setattr(limits, "READER_IDLE_S", 0.05)
    await read(readers, text_file(spool))
    async with asyncio.timeout(5):
        await until(lambda: not children())
    assert text_of(await read(readers, text_file(spool))) == SAID


async def test_children_are_replaced_after_many_files(
    readers: Readers, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the libraries have leaked."""
    monkeypatch.setattr(limits, "READER_FILES", 2)
    seen = set()
    for _ in range(4):
        await read(readers, text_file(spool))
        seen |= {child.pid for child in children()}
    assert len(seen) == 2


async def test_no_more_children_than_allowed(spool: Path) -> None:
    """The others wait."""
    readers = Readers(2)
    path = text_file(spool)
    tasks = [asyncio.create_task(read(readers, path)) for _ in range(8)]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, len(children()))
        await asyncio.sleep(0.01)
    assert [text_of(task.result()) for task in tasks] == [SAID] * 8
    assert most == 2
    await readers.close()
    assert children() == []


async def test_a_child_has_no_secret_no_network_and_limits(
    readers: Readers, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was not given, a hostile file cannot take."""
    monkeypatch.setenv("UNDERSTUDY_PROBE_KEY", "a secret")
    await read(readers, text_file(spool))
    (child,) = children()
    assert "UNDERSTUDY_PROBE_KEY" not in child.environ()
    assert child.cwd() == "/"
    assert child.rlimit(psutil.RLIMIT_AS)[1] == limits.READER_ADDRESS_BYTES
    assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_CPU)[0] > 0
    descriptors = {link.name: link.readlink().name for link in fds(child.pid)}
    assert len(descriptors) <= 6, descriptors
    assert len([name for name in descriptors.values() if name == "null"]) == 3


def fds(pid: int) -> list[Path]:
    """The open files of a process."""
    return list(Path(f"/proc/{pid}/fd").iterdir())


async def test_more_types_are_read_where_they_are_allowed(readers: Readers, spool: Path) -> None:
    """By the operator."""
    path = text_file(spool, "name,count\nheron,3\n")
    with pytest.raises(Unreadable) as caught:
        await read(readers, path, "table.csv")
    assert caught.value.code == "unsupported_file"
    assert text_of(await read(readers, path, "table.csv", more=True)).startswith("name,count")


async def test_a_missing_file_is_our_mistake(readers: Readers, spool: Path) -> None:
    """Not the client's."""
    with pytest.raises(Unreadable) as caught:
        await read(readers, spool / "nowhere")
    assert caught.value.code == "server_error"


async def test_a_child_dies_with_its_parent(spool: Path) -> None:
    """Nobody would end it otherwise, while it works on a file."""
    path = text_file(spool, "word " * 3_000_000)
    program = f"""
import asyncio, os, signal
from pathlib import Path
from understudy.search.child import Readers
async def main():
    parts = Readers(1).read(Path({str(path)!r}), "a.txt", size_tokens=100, overlap_tokens=50)
    await anext(parts)
    print(next(iter(Path("/proc/self/task", str(os.getpid()), "children").read_text().split())))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", program, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await parent.communicate()
    async with asyncio.timeout(5):
        await until(lambda: not psutil.pid_exists(int(said)))
