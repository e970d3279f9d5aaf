"""Waits that a cancel does not cut."""

import asyncio

import pytest

from understudy.engine.lease import Uncut, whole


async def _cancelled(task: "asyncio.Task[None]", *, times: int = 1) -> None:
    for _ in range(times):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)


async def test_a_cancel_waits_until_what_follows_the_work_is_done() -> None:
    work: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    seen: list[int] = []

    async def commit() -> None:
        uncut = Uncut()
        try:
            seen.append(await uncut.wait(work))
        finally:
            uncut.go_on()
        seen.append(0)

    task = asyncio.create_task(commit())
    await _cancelled(task, times=3)
    assert not task.done()
    work.set_result(42)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [42]


async def test_without_a_cancel_nothing_is_raised() -> None:
    uncut = Uncut()
    assert await uncut.wait(asyncio.sleep(0, 7)) == 7
    uncut.go_on()


async def test_a_cancel_outranks_the_failure_of_the_work() -> None:
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(whole(work))
    await _cancelled(task)
    work.set_exception(ValueError("refused"))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_and_a_cancelled_work_are_raised() -> None:
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work.set_exception(ValueError("refused"))
    with pytest.raises(ValueError, match="refused"):
        await Uncut().wait(work)
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(other.cancel)
    with pytest.raises(asyncio.CancelledError):
        await Uncut().wait(other)


async def test_a_timeout_ends_after_the_work() -> None:
    async def work() -> str:
        await asyncio.sleep(0.05)
        return "done"

    found: list[str] = []
    uncut = Uncut()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            try:
                found.append(await uncut.wait(work()))
            finally:
                uncut.go_on()
    assert found == ["done"]
