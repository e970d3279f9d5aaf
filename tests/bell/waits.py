"""Waits for what bells do: rings, and lines in the log."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from understudy.bell import Subscription

SOON_S = 15.0  # For what takes milliseconds, or a pause before a try, on a busy machine.
_LOOK_S = 0.005


async def rung(listener: Subscription, *topics: str) -> None:
    """Wait until all of these have rung."""
    missing = set(topics)
    async with asyncio.timeout(SOON_S):
        while missing:
            missing -= await listener.wait(None)


async def logged(logs: list[MutableMapping[str, Any]], *events: str) -> None:
    """Wait until so much has been logged, and nothing else."""
    for _ in range(int(SOON_S / _LOOK_S)):
        if len(logs) >= len(events):
            break
        await asyncio.sleep(_LOOK_S)
    assert [log["event"] for log in logs] == list(events)
