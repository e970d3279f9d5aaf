"""Day: runs that come as they do over a day, minute by minute, to a fixed number of nodes.

The curve is a floor of half the mean and one peak of five times the mean in the afternoon, some two
hours wide. Runs come by chance around it, always the same chance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.capacity import Asked, Mix, Nodes, asked, runs_s_at_most
from benchmarks.costs import Costs
from understudy import limits

MINUTES = 24 * 60
PEAK = 5.0  # Times the mean.
_FLOOR = 0.5
_PEAK_AT = 15 * 60
_SEED = 2026
_SLACK = 1.2  # Of tables: autovacuum begins when a fifth of a table is dead.
_PRUNED_S = limits.PRUNE_ROUNDS * limits.PRUNE_BATCH / limits.JANITOR_S  # By one worker.


def curve() -> list[float]:
    """Each minute's share of a mean minute."""
    high = PEAK - _FLOOR
    width = (1 - _FLOOR) / high * MINUTES / math.sqrt(2 * math.pi)
    shares = [
        _FLOOR + high * math.exp(-0.5 * ((minute - _PEAK_AT) / width) ** 2)
        for minute in range(MINUTES)
    ]
    return [share * MINUTES / sum(shares) for share in shares]


def arrivals(runs_a_day: float) -> list[int]:
    """Runs that come in each minute."""
    chance = np.random.RandomState(_SEED)  # Its numbers are the same in all versions of numpy.
    means = [share * runs_a_day / MINUTES for share in curve()]
    return [int(count) for count in chance.poisson(means)]


@dataclass(frozen=True)
class Minute:
    """What is asked in it, what waits at its end, and what is stored by then."""

    came: int
    begun: float
    queued: float
    asked: Asked
    delta_rows: float  # That are there.
    kept_bytes: float


@dataclass(frozen=True)
class Day:
    """The minutes, and the most of anything."""

    minutes: Sequence[Minute]

    @property
    def peak(self) -> Minute:
        """The one that asks most of PostgreSQL."""
        return max(self.minutes, key=lambda one: one.asked.postgres_cpu)

    @property
    def wal_bytes(self) -> float:
        """Of all of it."""
        return 60 * sum(one.asked.wal_bytes for one in self.minutes)


def replay(costs: Costs, mix: Mix, nodes: Nodes, came: Sequence[int]) -> Day:
    """A day of these arrivals. What the workers cannot begin in a minute waits for the next."""
    most = 60 * runs_s_at_most(costs, mix, nodes)
    of_function = costs.kept.function_run - costs.kept.run
    run_bytes = _SLACK * (costs.kept.run + mix.rounds * max(0.0, of_function))
    delay = int(limits.DELTAS_KEPT_S / 60)
    queued = kept = there = old = 0.0
    fresh: list[float] = []  # Delta rows of each minute.
    minutes = []
    for number, count in enumerate(came):
        begun = min(queued + count, most)
        queued += count - begun
        old += fresh[number - delay] if number >= delay else 0.0
        pruned = min(old, 60 * nodes.worker * _PRUNED_S)
        old -= pruned
        now = asked(costs, mix, nodes, begun / 60, pruned / 60)
        fresh.append(60 * now.delta_rows)
        there += fresh[-1] - pruned
        kept += begun * run_bytes
        minutes.append(Minute(count, begun, queued, now, there, kept))
    return Day(minutes)
