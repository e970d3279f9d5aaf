"""What sessions leave behind: no process, no mount, no descriptor, no temporary file.

A few dozen in an ordinary run; SOAK=1 takes the 500 that are promised.
"""

import asyncio
import contextlib
import dataclasses
import gc
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conformance.sandboxes import SANDBOXES, environment, eventually, opened, put, running
from understudy.sandbox import SandboxLost
from understudy.sandbox.bubblewrap import Bubblewrap, Way
from understudy.sandbox.channel import pair
from understudy.sandbox.check import found_bwrap
from understudy.sandbox.jail import Jail
from understudy.sandbox.life import ended
from understudy.sandbox.local import Local
from understudy.sandbox.pool import Sizes

IS_SOAK = bool(os.environ.get("SOAK"))
SEQUENTIAL = 500 if IS_SOAK else 20
PARALLEL = 50 if IS_SOAK else 12
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Belongings:
    """What this process has of the system."""

    processes: frozenset[int]
    descriptors: frozenset[str]
    mounts: int
    files: frozenset[str]


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Temporary files of this test alone, where a jail can see them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def beside() -> list[psutil.Process]:
    """What other tests of this process have running, an S3 server say."""
    found: list[psutil.Process] = psutil.Process().children()
    return found


def jails(beside: list[psutil.Process]) -> list[psutil.Process]:
    """Our children but for those."""
    return [child for child in psutil.Process().children() if child not in beside]


def belongings() -> Belongings:
    """What there is now."""
    gc.collect()
    children = psutil.Process().children(recursive=True)
    descriptors = {
        f"{path.name} {path.readlink()}"
        for path in Path("/proc/self/fd").iterdir()
        if path.is_symlink()
    }
    return Belongings(
        processes=frozenset(child.pid for child in children),
        descriptors=frozenset(name for name in descriptors if "/proc/" not in name),
        mounts=len(Path("/proc/self/mounts").read_text().splitlines()),
        files=frozenset(
            path.name
            for path in Path(tempfile.gettempdir()).glob("understudy-*")
            if not path.name.startswith("understudy-spool")
        ),
    )


async def settled(expected: Belongings, *, allowed: int = 0) -> None:
    """Wait until there is no more than before, but for so many processes."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        now = belongings()
        if len(now.processes) <= len(expected.processes) + allowed and (
            now.descriptors <= expected.descriptors
        ):
            break
        await asyncio.sleep(0.1)
    now = belongings()
    assert len(now.processes) <= len(expected.processes) + allowed
    assert sorted(now.descriptors - expected.descriptors) == []
    assert now.mounts == expected.mounts
    assert sorted(now.files - expected.files) == []


@contextlib.asynccontextmanager
async def nested(**options: int) -> AsyncIterator[Bubblewrap]:
    """Without spare sessions, so that numbers can be compared."""
    sandbox = Bubblewrap(environment(), way="nested", sizes=Sizes(spare=0), **options)
    async with opened(sandbox):
        await sandbox.started()
        yield sandbox


async def _use(sandbox: Bubblewrap, key: str) -> None:
    session = await sandbox.session(key)
    await put(session, "a", b"x" * 1000)
    said = await running(session, "import subprocess; subprocess.Popen(['sleep', '100']); 6 * 7")
    assert said.logs == "42\n"
    assert len(await session.files()) == 1


@pytest.mark.timeout(1200)
async def test_sessions_one_after_the_other_leave_nothing() -> None:
    """Though each had left a process of its own."""
    async with nested() as sandbox:
        await _use(sandbox, "warm")
        await sandbox.forget("warm")
        before = belongings()
        for n in range(SEQUENTIAL):
            await _use(sandbox, f"s{n}")
            await sandbox.forget(f"s{n}")
        await settled(before)


@pytest.mark.timeout(300)
async def test_sessions_beside_each_other_leave_nothing() -> None:
    """All at once."""
    async with nested() as sandbox:
        await _use(sandbox, "warm")
        await sandbox.forget("warm")
        before = belongings()
        await asyncio.gather(*(_use(sandbox, f"p{n}") for n in range(PARALLEL)))
        assert len(belongings().processes) > len(before.processes) + PARALLEL
        await asyncio.gather(*(sandbox.forget(f"p{n}") for n in range(PARALLEL)))
        await settled(before)


@pytest.mark.parametrize("name", ["cold", "local", "nested"])
async def test_a_closed_sandbox_leaves_nothing(name: str) -> None:
    """With sessions in use, spare ones, and code that runs."""
    before = belongings()
    async with SANDBOXES[name]() as sandbox:
        sessions = [await sandbox.session(f"c{n}") for n in range(3)]
        await running(sessions[0], "import subprocess; subprocess.Popen(['sleep', '100'])")
        hanging = asyncio.create_task(running(sessions[1], "while True: pass", timeout_s=60))
        await asyncio.sleep(0.5)
    with pytest.raises(SandboxLost):
        await hanging
    await settled(before)


async def test_a_start_that_is_broken_off_leaves_nothing() -> None:
    """At whatever moment: not even half a bubblewrap, whose parent is nobody."""
    before = belongings()
    with tempfile.TemporaryDirectory() as site:
        Path(site).chmod(0o755)
        path, _ = found_bwrap(environment())
        jail = Jail(path, dataclasses.replace(environment(), site=Path(site)))
        for n in range(60):
            mine, its = pair()
            with mine, its:
                jailed = jail.start("session", its)
            await asyncio.sleep(n * 0.0004)
            jailed.kill()
            await ended(jailed)
        await settled(before)
        await eventually(lambda: not _with(site))


@pytest.mark.parametrize("way", ["cold", "nested"])
async def test_a_sandbox_that_is_closed_while_it_starts_leaves_nothing(way: Way) -> None:
    """Its self-test is in the middle of something."""
    before = belongings()
    with tempfile.TemporaryDirectory() as site:
        Path(site).chmod(0o755)
        bare = dataclasses.replace(environment(), site=Path(site))
        for delay_s in (0.0, 0.02, 0.04, 0.06, 0.1):
            sandbox = Bubblewrap(bare, way=way)
            sandbox.start()
            await asyncio.sleep(delay_s)
            await sandbox.close()
        await settled(before)
        await eventually(lambda: not _with(site))


def _with(word: str) -> list[psutil.Process]:
    """The processes, whoever's, that have a word on their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if word in process.cmdline():
                found.append(process)
    return found


async def test_a_zygote_is_replaced_while_its_sessions_live_on(
    beside: list[psutil.Process],
) -> None:
    """And it ends with the last of them."""
    async with nested(zygote_sessions=3) as sandbox:
        one = jails(beside)
        first = await sandbox.session("first")
        await running(first, "x = 'still here'")
        for n in range(4):
            await _use(sandbox, f"n{n}")
        until = time.monotonic() + PATIENCE_S
        while len(jails(beside)) == len(one) and time.monotonic() < until:
            await asyncio.sleep(0.1)
            await _use(sandbox, "more")
            await sandbox.forget("more")
        assert len(jails(beside)) == len(one) + 1
        assert (await running(first, "x")).logs == "'still here'\n"
        for n in range(4):
            await sandbox.forget(f"n{n}")
        assert (await running(first, "x")).logs == "'still here'\n"
        await sandbox.forget("first")
        await eventually(lambda: not one[0].is_running())
        await _use(sandbox, "new")


async def test_a_zygote_that_dies_is_replaced(beside: list[psutil.Process]) -> None:
    """Its sessions are lost; their keys get new ones."""
    before = belongings()
    async with nested() as sandbox:
        session = await sandbox.session("a")
        await running(session, "x = 1")
        for child in jails(beside):
            child.kill()
        await asyncio.sleep(0.5)  # bubblewrap was killed, and the kernel ends what it watched.
        with pytest.raises(SandboxLost):
            await running(session, "x")
        new = await sandbox.session("a")
        assert "NameError" in (await running(new, "x")).logs
    await settled(before)


async def test_a_supervisor_that_dies_costs_its_session_only(
    beside: list[psutil.Process],
) -> None:
    """Neighbours do not notice."""
    async with nested() as sandbox:
        one, other = await sandbox.session("one"), await sandbox.session("other")
        await running(other, "x = 1")
        pids = {child.pid for child in psutil.Process().children(recursive=True)}
        await running(one, "import os, threading; threading.Thread(target=lambda: None).start()")
        zygote = jails(beside)[0].children()[0]
        supervisors = sorted(child.pid for child in zygote.children())
        assert len(supervisors) == 2
        assert set(supervisors) <= pids
        os.kill(supervisors[0], 9)
        with pytest.raises(SandboxLost):
            await running(one, "1")
        assert (await running(other, "x")).logs == "1\n"
        assert (await running(await sandbox.session("one"), "1 + 1")).logs == "2\n"


async def test_a_session_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    """A Python that is none."""
    before = belongings()
    sandbox = Local(python=str(tmp_path / "missing"))
    with pytest.raises(Exception, match="Python does not start"):
        await sandbox.session("a")
    await sandbox.close()
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    sandbox = Local(python=str(broken))
    with pytest.raises(Exception, match="Python does not start"):
        await sandbox.session("a")
    await sandbox.close()
    await settled(before)
