"""Host: what others on the same host take of a virtual machine's time, and what is measured while
they take next to nothing.

A core that sleeps on a busy host comes back late, by up to 60 ms as seen here; whoever hands work
from process to process waits for that again and again, and a p99 says more about the host then than
about either server. Linux counts that time as stolen; elsewhere it is unknown and taken for none.
"""

from collections.abc import Callable
from os import cpu_count
from time import monotonic
from typing import TypeVar

import psutil

T = TypeVar("T")

CALM = 0.01  # Of the machine's time.
_TRIES = 4  # Times as many blocks as are needed.


class Watch:
    """What others have taken since this was made."""

    def __init__(self) -> None:
        self._started = monotonic()
        self._stolen_s = _stolen_s()

    @property
    def seconds(self) -> float:
        """How long ago that was."""
        return monotonic() - self._started

    @property
    def stolen(self) -> float:
        """Their share of the machine's time."""
        return (_stolen_s() - self._stolen_s) / (self.seconds * (cpu_count() or 1))

    def __str__(self) -> str:
        return f"others on its host took {self.stolen:.1%} of its time"


def calm(measure: Callable[[], T], blocks: int) -> tuple[list[T], str]:
    """The results of so many blocks of a measurement during which others took next to nothing; and
    a note. When a busy host leaves too few, those in which they took least, whatever they say."""
    found: list[tuple[float, T]] = []
    while len(found) < _TRIES * blocks and sum(share <= CALM for share, _ in found) < blocks:
        watch = Watch()
        result = measure()
        found.append((watch.stolen, result))
    kept = sorted(found, key=lambda one: one[0])[:blocks]
    note = f"{blocks} of {len(found)} blocks, others on the host took at most {kept[-1][0]:.1%}"
    return [result for _, result in kept], note


def _stolen_s() -> float:
    """Core seconds."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))
