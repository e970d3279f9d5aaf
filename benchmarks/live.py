"""Live: memory, and the time to a new run's first event, as live streams grow to a thousand."""

from collections.abc import Iterator

from benchmarks.curve import Curve, Point
from benchmarks.delays import starts_s
from benchmarks.figures import Figure
from benchmarks.jobs import Samples, Streams, Target
from benchmarks.memory import growth
from benchmarks.plan import Plan
from benchmarks.sampling import linear, point
from benchmarks.stage import Stage, fresh_server
from benchmarks.streams import begun

# A project may have 500 live runs and a server 1,000; the runs that are sampled come on top.
_ROOMY = (
    "from understudy import limits; limits.RUNS_AT_ONCE = limits.RUNS_PER_PROJECT = 1_050; "
    "from understudy.cli import main; main()"
)
_PAUSE_MS = 250  # Four deltas a second: a thousand streams must not be too much of them.
_DELTAS = 40
_SAMPLING_S = 30  # At the most: the streams are left when the samples are taken.
_FEW = 50  # Below it memory is the process's own.
_LEAST_MB = 0.1  # Ten streams may find room in what the process has.


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """A fresh server for each number of streams."""
    memory, events = [], []
    for streams in plan.live_streams:
        with fresh_server(stage, main=_ROOMY) as fresh:
            grown = growth(fresh, streams, _DELTAS, _PAUSE_MS)
            memory.append(Point(streams, max(_LEAST_MB, grown.each_kb * streams / 1000), 0))
            fresh.settle()
            events.append(point(streams, _first_events(fresh, plan, streams)))
    yield linear(Curve("memory", "live streams", "MB", memory), since=_FEW)
    yield linear(Curve("first event of one more run", "live streams", "ms", events), since=_FEW)


def _first_events(stage: Stage, plan: Plan, streams: int) -> list[float]:
    """Milliseconds from create-run to its first event, beside so many streams."""
    spread_s = starts_s(streams)
    deltas = int((spread_s + _SAMPLING_S) * 1000 / _PAUSE_MS)
    lasting = begun(stage, f"deltas-{deltas}-{_PAUSE_MS}")
    job = Samples(
        [Target(stage.server.port, [begun(stage, "deltas-5")] * plan.live_samples, "event: ")],
        Streams(stage.server.port, lasting, "event: ", streams, 1, spread_s),
    )
    return [1000 * taken for taken in stage.run(job, stage.server).done.samples[0]]
