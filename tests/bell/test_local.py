"""The bell inside one process."""

import asyncio

from understudy.bell import Bell
from understudy.bell.local import LocalBell


async def test_a_ring_between_two_waits_is_not_lost() -> None:
    bell: Bell = LocalBell()
    with bell.subscribe("a", "b") as listener:
        bell.ring("a")
        bell.ring("b")
        bell.ring("c")
        assert await listener.wait(1.0) == {"a", "b"}
        assert await listener.wait(0.0) == set()
        bell.ring("b")
        assert await listener.wait(1.0) == {"b"}


async def test_a_ring_wakes_everyone_who_waits() -> None:
    bell = LocalBell()
    waits = [asyncio.create_task(bell.wait(["a"], 5.0)) for _ in range(3)]
    await asyncio.sleep(0)
    bell.ring("a")
    assert await asyncio.gather(*waits) == [{"a"}] * 3


async def test_waiting_ends_with_the_time() -> None:
    assert await LocalBell().wait(["a"], 0.001) == set()


async def test_a_closed_subscription_leaves_nothing_behind() -> None:
    bell = LocalBell()
    listener = bell.subscribe("a")
    other = bell.subscribe("a")
    listener.close()
    listener.close()
    bell.ring("a")
    assert await listener.wait(0.0) == set()
    assert await other.wait(0.0) == {"a"}
    other.close()
    assert not bell._listeners
    await bell.close()


async def test_a_cancelled_wait_is_cancelled() -> None:
    bell = LocalBell()
    task = asyncio.create_task(bell.wait(["a"], None))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert not bell._listeners
