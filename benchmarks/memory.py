"""Memory: what a live stream costs a fresh server at its most, beginnings and ends included.

The server has served one stream before, so that what it loads once is no part of the growth.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.delays import starts_s
from benchmarks.figures import Figure, judged
from benchmarks.jobs import Stamped
from benchmarks.meter import Memory, Meter, memory
from benchmarks.plan import Plan
from benchmarks.stage import Stage, fresh_server
from benchmarks.streams import begun

_REST_S = 1.0
_PAUSE_MS = 50


@dataclass(frozen=True)
class Growth:
    """Memory before, and the most while so many streams were live."""

    streams: int
    before: Memory
    most: Memory

    @property
    def each_kb(self) -> float:
        """Resident memory of one stream."""
        return (self.most.resident_kb - self.before.resident_kb) / self.streams

    @property
    def each_proportional_kb(self) -> float:
        """The same of its proportional memory."""
        return (self.most.proportional_kb - self.before.proportional_kb) / self.streams


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """Of 250 streams with 20 deltas a second."""
    with fresh_server(stage) as fresh:
        found = growth(fresh, plan.memory_streams, plan.memory_deltas, _PAUSE_MS)
    before_mb, most_mb = found.before.resident_kb / 1000, found.most.resident_kb / 1000
    figure = Figure(
        name=f"memory of a live stream, {plan.memory_streams} of {plan.memory_deltas} deltas",
        ours=f"{found.each_kb:.0f} KB",
        baseline="",
        result=f"{found.each_kb:.0f} KB",
        note=f"resident {before_mb:.0f} -> {most_mb:.0f} MB; "
        f"proportional {found.each_proportional_kb:.0f} KB a stream",
    )
    yield judged(figure, found.each_kb, at_most=150, unit=" KB")


def growth(fresh: Stage, streams: int, deltas: int, pause_ms: int) -> Growth:
    """What so many streams at once cost a server that did nothing before."""
    first = Stamped(fresh.server.port, begun(fresh, "stamps-20-10"), 1, 0.0, 20, is_ours=True)
    fresh.run(first, fresh.server)
    time.sleep(_REST_S)
    before = memory(fresh.server.process.pid)
    ask = begun(fresh, f"stamps-{deltas}-{pause_ms}")
    job = Stamped(fresh.server.port, ask, streams, starts_s(streams), deltas, is_ours=True)
    with Meter(fresh.server) as meter:
        fresh.run(job, fresh.server)
    return Growth(streams, before, meter.most)
