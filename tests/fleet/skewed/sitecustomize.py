"""Loaded by a Python whose clock is skewed, at its start: a sleep that works there (clocks.py)."""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    """As `time.sleep`, by a call of the system that takes a duration."""
    duration = float(seconds)
    if duration < 0:
        raise ValueError("sleep length must be non-negative")
    select.select((), (), (), duration)


time.sleep = _sleep
