"""Figures: the median of paired runs, and whether it may be believed."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.stage import Run

T = TypeVar("T")

BUSY_LIMIT = 0.8  # A client or upstream above this share of a core may be the bottleneck.


@dataclass(frozen=True)
class Figure:
    """One line of the table. `met` is None where there is no target."""

    name: str
    ours: str
    baseline: str
    result: str
    target: str = ""
    met: bool | None = None
    note: str = ""


def alternate(pairs: int, ours: Callable[[], T], theirs: Callable[[], T]) -> list[tuple[T, T]]:
    """So many pairs, now one first and now the other, so that a drift favours nobody."""
    found = []
    for number in range(pairs):
        if number % 2:
            second, first = theirs(), ours()
        else:
            first, second = ours(), theirs()
        found.append((first, second))
    return found


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The value that 95 of 100 do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def busy(runs: Sequence[Run]) -> tuple[str, bool]:
    """How busy client and upstream were, and whether that voids the figure."""
    client = median([run.client_busy for run in runs])
    upstream = median([run.upstream_busy for run in runs])
    note = f"client {client:.0%}, upstream {upstream:.0%}"
    return note, max(client, upstream) > BUSY_LIMIT


def rates(
    name: str, unit: str, pairs: Sequence[tuple[Run, Run]], *, at_least: float | None = None
) -> list[Figure]:
    """Throughput as a ratio to the baseline's, and the server's CPU for each request or event."""
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    our_note, our_void = busy(ours)
    their_note, their_void = busy(theirs)
    ratio = median([one.per_second / other.per_second for one, other in pairs])
    cpu_ratio = median([one.cpu_us / other.cpu_us for one, other in pairs])
    is_void = our_void or their_void
    met = None if at_least is None or is_void else ratio >= at_least
    return [
        Figure(
            name=name,
            ours=f"{median([run.per_second for run in ours]):,.0f} {unit}/s",
            baseline=f"{median([run.per_second for run in theirs]):,.0f} {unit}/s",
            result="void" if is_void else f"{ratio:.2f} of it",
            target="" if at_least is None else f">= {at_least:.2f}",
            met=met,
            note=f"{our_note}; baseline: {their_note}",
        ),
        Figure(
            name=f"{name}: CPU",
            ours=f"{median([run.cpu_us for run in ours]):,.0f} µs",
            baseline=f"{median([run.cpu_us for run in theirs]):,.0f} µs",
            result=f"{cpu_ratio:.1f} times",
        ),
    ]
