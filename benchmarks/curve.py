"""Curve: what something costs as the work grows, and how fast that grows."""

import math
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Point:
    """The cost at one amount of work: the middle of the samples, and what 99 of 100 stay under."""

    amount: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Curve:
    """Points from the least work to the most; `name` is what costs, `of` what grows."""

    name: str
    of: str
    unit: str
    points: list[Point]

    def since(self, amount: float) -> "Curve":
        """Only the points from this amount on."""
        points = [point for point in self.points if point.amount >= amount]
        return Curve(self.name, self.of, self.unit, points)

    @property
    def steepest(self) -> float:
        """The largest exponent between neighbours: 0 is flat, 1 linear, 2 square. A curve's end
        says more than a fit through its beginning, where fixed costs hide all else."""
        return max(
            math.log(later.p50 / one.p50) / math.log(later.amount / one.amount)
            for one, later in pairwise(self.points)
        )

    @property
    def growth(self) -> float:
        """How many times the last point's p50 is the first one's."""
        return self.points[-1].p50 / self.points[0].p50

    @property
    def growth_p99(self) -> float:
        """The same of p99."""
        return self.points[-1].p99 / self.points[0].p99
