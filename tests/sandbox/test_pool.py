"""How many sessions there are and how long they live, with sessions that cost nothing."""

import asyncio
from pathlib import Path

import psutil
import pytest

from tests.conformance.sandboxes import eventually, opened, running
from understudy.sandbox import SandboxLost, SandboxUnavailable
from understudy.sandbox.local import Local
from understudy.sandbox.pool import Pool, Sizes
from understudy.sandbox.session import ChannelSession


async def test_the_longest_unused_session_goes_first() -> None:
    """A session that was asked for again is not unused."""
    async with opened(Local(sizes=Sizes(sessions=2, spare=0))) as sandbox:
        a = await sandbox.session("a")
        b = await sandbox.session("b")
        assert await sandbox.session("a") is a
        await sandbox.session("c")
        with pytest.raises(SandboxLost):
            await running(b, "1")
        assert (await running(a, "1")).logs == "1\n"


async def test_a_session_in_a_call_stays(tmp_path: Path) -> None:
    """While there is another that can go."""
    begun, may_end = tmp_path / "begun", tmp_path / "may_end"
    code = (
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(may_end)!r}).exists(): time.sleep(0.01)\n1"
    )
    async with opened(Local(sizes=Sizes(sessions=2, spare=0))) as sandbox:
        a = await sandbox.session("a")
        b = await sandbox.session("b")
        calling = asyncio.create_task(running(a, code))
        await eventually(begun.exists)
        await sandbox.session("c")
        may_end.touch()
        assert (await calling).logs == "1\n"
        with pytest.raises(SandboxLost):
            await running(b, "1")


async def test_when_all_are_in_a_call_the_oldest_goes() -> None:
    """The limit holds."""
    async with opened(Local(sizes=Sizes(sessions=1, spare=0))) as sandbox:
        a = await sandbox.session("a")
        calling = asyncio.create_task(running(a, "import time; time.sleep(30)"))
        await asyncio.sleep(0.2)
        b = await sandbox.session("b")
        with pytest.raises(SandboxLost):
            await calling
        assert (await running(b, "1")).logs == "1\n"


@pytest.mark.parametrize("sizes", [Sizes(spare=0, idle_s=0.4), Sizes(spare=0, age_s=0.4)])
async def test_a_session_ends_when_its_time_is_over(sizes: Sizes) -> None:
    """By itself, without anybody asking."""
    async with opened(Local(sizes=sizes)) as sandbox:
        session = await sandbox.session("a")
        assert (await running(session, "1")).logs == "1\n"
        await asyncio.sleep(0.9)
        with pytest.raises(SandboxLost):
            await running(session, "1")
        assert await sandbox.session("a") is not session


async def test_a_session_in_use_is_not_idle() -> None:
    """Each call begins its time anew."""
    async with opened(Local(sizes=Sizes(spare=0, idle_s=0.6))) as sandbox:
        session = await sandbox.session("a")
        await running(session, "x = 1")
        for _ in range(3):
            await asyncio.sleep(0.3)
            assert (await running(session, "x")).logs == "1\n"


async def test_a_call_may_outlast_the_age() -> None:
    """Its session ends after it."""
    async with opened(Local(sizes=Sizes(spare=0, age_s=0.3))) as sandbox:
        session = await sandbox.session("a")
        assert (await running(session, "import time; time.sleep(0.8); 1")).logs == "1\n"


async def test_two_who_ask_at_once_get_the_same() -> None:
    """One session for a key."""
    async with opened(Local()) as sandbox:
        sessions = await asyncio.gather(*(sandbox.session("a") for _ in range(2)))
        assert len(set(map(id, sessions))) == 1
        assert (await running(sessions[0], "1")).logs == "1\n"


async def test_spare_sessions_are_made_ahead() -> None:
    """And again when they are taken."""
    made: list[ChannelSession] = []
    local = Local()

    async def make(slots: asyncio.Semaphore) -> ChannelSession:
        made.append(await local._make(slots))
        return made[-1]

    pool = Pool(make, Sizes(spare=2))
    pool.open()
    await eventually(lambda: len(made) == 2)
    assert await pool.session("a") is made[0]
    await eventually(lambda: len(made) == 3)
    await made[1].close()  # One that died while it waited is not handed out.
    assert await pool.session("b") is made[2]
    await pool.close()
    await local.close()


async def test_no_spare_session_is_no_reason_to_give_up() -> None:
    """Whoever asks hears why there is none, and the next who asks may be luckier."""
    failures = 0
    local = Local()

    async def make(slots: asyncio.Semaphore) -> ChannelSession:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise SandboxUnavailable("No.", "Wait.")
        return await local._make(slots)

    pool = Pool(make, Sizes(spare=1))
    pool.open()
    await asyncio.sleep(0.05)
    with pytest.raises(SandboxUnavailable):
        await pool.session("a")
    assert (await running(await pool.session("a"), "1")).logs == "1\n"
    await pool.close()
    await local.close()


async def test_a_closed_pool_makes_no_session() -> None:
    """The server is stopping."""
    local = Local()
    await local.close()
    with pytest.raises(SandboxUnavailable):
        await local.session("a")
    await local.close()


async def test_closing_ends_a_session_that_is_being_made() -> None:
    """Who waits for it is told; no process and no folder is left behind."""
    sandbox = Local()
    before = psutil.Process().children()
    asking = [asyncio.create_task(sandbox.session(key)) for key in "ab"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    children = [child for child in psutil.Process().children() if child not in before]
    await asyncio.wait_for(sandbox.close(), 10)
    for ask in asking:
        with pytest.raises(SandboxUnavailable, match="stopping"):
            await ask
    assert children
    assert not any(child.is_running() for child in children)
    with pytest.raises(SandboxUnavailable, match="stopping"):
        await sandbox.session("c")


async def test_a_session_that_is_ready_as_its_asker_goes_away_is_ended() -> None:
    """Nobody else knows of it; closing the pool waits for its end."""
    made: list[ChannelSession] = []
    local = Local()

    async def make(slots: asyncio.Semaphore) -> ChannelSession:
        made.append(await local._make(slots))
        asyncio.get_running_loop().call_soon(asking.cancel)
        return made[-1]

    before = psutil.Process().children()
    pool = Pool(make, Sizes(spare=0))
    asking = asyncio.create_task(pool.session("a"))
    with pytest.raises(asyncio.CancelledError):
        await asking
    await pool.close()
    assert made[0].is_lost
    assert [child for child in psutil.Process().children() if child not in before] == []
    await local.close()


async def test_an_asker_that_goes_away_while_the_pool_closes_cuts_no_tidying() -> None:
    """The making that was ended is ended once."""
    is_tidy = False

    async def make(_slots: asyncio.Semaphore) -> ChannelSession:
        nonlocal is_tidy
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            is_tidy = True
        raise AssertionError("it is cancelled before")

    pool = Pool(make, Sizes(spare=0))
    asking = asyncio.create_task(pool.session("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0.01)
    asking.cancel()
    await closing
    assert is_tidy
    with pytest.raises(asyncio.CancelledError):
        await asking
