"""The bell inside one process: what it keeps. What it does is in the conformance suite."""

import asyncio

from understudy.bell.local import LocalBell


async def test_a_closed_subscription_leaves_nothing_behind() -> None:
    bell = LocalBell()
    with bell.subscribe("a", "b"), bell.subscribe("a") as other:
        other.close()
        assert sorted(bell._listeners) == ["a", "b"]
    assert not bell._listeners


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    bell = LocalBell()
    task = asyncio.create_task(bell.wait(["a"], None))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert not bell._listeners


async def test_all_that_is_listened_to_can_be_rung() -> None:
    bell = LocalBell()
    with bell.subscribe("a", "b") as one, bell.subscribe("c") as other:
        bell.ring_all()
        assert await one.wait(0.0) == {"a", "b"}
        assert await other.wait(0.0) == {"c"}
