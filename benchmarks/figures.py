"""Figures: the median of paired runs, and whether it may be believed."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from benchmarks.curve import Curve
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
    times_better: float | None = None  # Than the target asks; for the plot.
    curve: Curve | None = None
    spreads: Mapping[str, Sequence[float]] | None = None  # All samples in ms: ours, the baseline's.


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
    return _percentile(values, 0.95)


def p99(values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    return _percentile(values, 0.99)


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def busy(runs: Sequence[Run]) -> tuple[str, bool]:
    """How busy client and upstream were, and whether that voids the figure."""
    client = median([run.client_busy for run in runs])
    upstream = median([run.upstream_busy for run in runs])
    note = f"client {client:.0%}, upstream {upstream:.0%}"
    return note, max(client, upstream) > BUSY_LIMIT


def judged(
    figure: Figure,
    value: float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
    is_void: bool = False,
) -> Figure:
    """The figure with its target, where there is one, and what came of it."""
    if at_least is not None:
        target, met, times_better = f">= {at_least:g}{unit}", value >= at_least, value / at_least
    elif at_most is not None:
        # A hundred times is enough of a bar, and nothing is no value of its axis.
        times_better = at_most / max(value, at_most / 100)
        target, met = f"<= {at_most:g}{unit}", value <= at_most
    else:
        return replace(figure, result="void") if is_void else figure
    if is_void:
        return replace(figure, result="void", target=target)
    return replace(figure, target=target, met=met, times_better=times_better)


def rates(
    name: str,
    unit: str,
    pairs: Sequence[tuple[Run, Run]],
    *,
    at_least: float | None = None,
    cpu_at_most: float | None = None,
) -> list[Figure]:
    """Throughput as a ratio to the baseline's, and the server's CPU for each request or event."""
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    our_note, our_void = busy(ours)
    their_note, their_void = busy(theirs)
    ratio = median([one.per_second / other.per_second for one, other in pairs])
    rate = Figure(
        name=name,
        ours=f"{median([run.per_second for run in ours]):,.0f} {unit}/s",
        baseline=f"{median([run.per_second for run in theirs]):,.0f} {unit}/s",
        result=f"{ratio:.2f} of it",
        note=f"{our_note}; baseline: {their_note}",
    )
    cpu_ratio = median([one.cpu_us / other.cpu_us for one, other in pairs])
    cpu = Figure(
        name=f"{name}: CPU",
        ours=f"{median([run.cpu_us for run in ours]):,.0f} µs",
        baseline=f"{median([run.cpu_us for run in theirs]):,.0f} µs",
        result=f"{cpu_ratio:.1f} times",
    )
    return [
        judged(rate, ratio, at_least=at_least, is_void=our_void or their_void),
        judged(cpu, cpu_ratio, at_most=cpu_at_most),
    ]
