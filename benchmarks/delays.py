"""Delays: how long deltas are under way when many streams are open, and how many may be open.

The upstream stamps each delta with the time at which it wrote it; the client compares that with the
time at which it heard it, and looks at every event of every stream (stamps.py).
"""

import math
from collections.abc import Callable, Iterator

from benchmarks.figures import BUSY_LIMIT, Figure, alternate, busy, judged, median, p99
from benchmarks.jobs import Stamped
from benchmarks.plan import Plan
from benchmarks.stage import Run, Stage
from benchmarks.streams import begun, relayed

_STARTS_PER_S = 125  # Streams do not all begin in one moment.
_PAUSE_MS, _QUICK_MS = 50, 20  # Between the deltas of a stream.
_CALM_MS = 50.0  # The p99 that a number of streams must stay under.
_FIRST_TRY = 32
_PRECISION = 10  # The search ends when it knows the number to a tenth.


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """The delay under a fixed number of streams, and the largest number under a fixed delay."""
    for warm_up in (_ours, _relay):  # The first text of a server's life loads the tokenizer.
        warm_up(stage, 8, 20, _QUICK_MS)
    yield from _fixed_number(stage, plan)
    yield _largest_number(stage, plan)


def _fixed_number(stage: Stage, plan: Plan) -> list[Figure]:
    """20 deltas a second and stream."""
    streams, deltas = plan.delay_streams, plan.delay_deltas
    pairs = alternate(
        plan.delay_pairs,
        lambda: _ours(stage, streams, deltas, _PAUSE_MS),
        lambda: _relay(stage, streams, deltas, _PAUSE_MS),
    )
    name = f"delay of {streams} streams with 20 deltas a second"
    return [
        _compared(f"{name}, p50", pairs, 0, median),
        _compared(f"{name}, p99", pairs, 0, p99, at_most=50),
        _compared(f"{name}, p99 while all run", pairs, 1, p99),
    ]


def _compared(
    name: str,
    pairs: list[tuple[Run, Run]],
    which: int,
    of: Callable[[list[float]], float],
    *,
    at_most: float | None = None,
) -> Figure:
    def value(run: Run) -> float:
        return 1000 * of(run.done.samples[which])

    mine, theirs = [value(pair[0]) for pair in pairs], [value(pair[1]) for pair in pairs]
    our_note, our_void = busy([pair[0] for pair in pairs])
    their_note, their_void = busy([pair[1] for pair in pairs])
    added = median([value(ours) - value(relay) for ours, relay in pairs])
    figure = Figure(
        name=name,
        ours=f"{median(mine):.1f} ms",
        baseline=f"{median(theirs):.1f} ms",
        result=f"{added:.1f} ms added",
        note=f"every event in order; {our_note}; baseline: {their_note}",
        spreads={"ours": _all(pairs, 0), "relay": _all(pairs, 1)} if of is median else None,
    )
    is_void = our_void or their_void
    return judged(figure, added, at_most=at_most, unit=" ms", is_void=is_void)


def _all(pairs: list[tuple[Run, Run]], which: int) -> list[float]:
    """All delays of one side, in milliseconds."""
    return [1000 * delay for pair in pairs for delay in pair[which].done.samples[0]]


def _largest_number(stage: Stage, plan: Plan) -> Figure:
    """50 deltas a second and stream, as fast models speak."""
    found: dict[str, list[int]] = {"ours": [], "relay": []}
    busiest = 0.0

    def search(name: str, run: Callable[[Stage, int, int, int], Run]) -> int:
        def is_calm(streams: int) -> bool:
            delay_ms = probe(streams)
            # What barely fails is tried again: the machine may have had something else to do.
            if _CALM_MS < delay_ms <= 2 * _CALM_MS:
                delay_ms = probe(streams)
            return delay_ms <= _CALM_MS

        def probe(streams: int) -> float:
            nonlocal busiest
            deltas = int((plan.probe_s + starts_s(streams)) * 1000 / _QUICK_MS)
            one = run(stage, streams, deltas, _QUICK_MS)
            busiest = max(busiest, one.client_busy, one.upstream_busy)
            amid = one.done.samples[1]
            # No delta is amid all streams when the first ended before the last began.
            return 1000 * p99(amid) if amid else math.inf

        guess = found[name][-1] if found[name] else 0
        found[name].append(largest(is_calm, guess=guess, bound=plan.most_streams))
        return found[name][-1]

    pairs = alternate(
        plan.delay_pairs, lambda: search("ours", _ours), lambda: search("relay", _relay)
    )
    mine, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratio = median([one / max(other, 1) for one, other in pairs])
    figure = Figure(
        name=f"streams with 50 deltas a second, p99 under {_CALM_MS:.0f} ms",
        ours=f"{median(mine):.0f} streams",
        baseline=f"{median(theirs):.0f} streams",
        result=f"{ratio:.2f} of it",
        note=f"{mine} and {theirs}; client and upstream at most {busiest:.0%}",
    )
    return judged(figure, ratio, at_least=0.5, is_void=busiest > BUSY_LIMIT)


def largest(is_fine: Callable[[int], bool], *, guess: int, bound: int) -> int:
    """The largest number that is fine: doubling from a start, then bisecting. With a guess, which
    the search before found, it starts a little below."""
    good, bad = 0, bound + 1
    number = max(1, guess * 4 // 5) if guess else min(_FIRST_TRY, bound)
    while good < bound:
        if is_fine(number):
            good = number
        else:
            bad = number
        if bad - good <= max(1, good // _PRECISION):
            break
        step = good // 2 + 1 if guess else good
        number = min(good + step, bound) if bad > bound else (good + bad) // 2
    return good


def starts_s(streams: int) -> float:
    """The time over which so many streams begin."""
    return streams / _STARTS_PER_S


def _ours(stage: Stage, streams: int, deltas: int, pause_ms: int) -> Run:
    ask = begun(stage, f"stamps-{deltas}-{pause_ms}")
    job = Stamped(stage.server.port, ask, streams, starts_s(streams), deltas, is_ours=True)
    run = stage.run(job, stage.server)
    stage.settle()
    return run


def _relay(stage: Stage, streams: int, deltas: int, pause_ms: int) -> Run:
    ask = relayed(f"stamps-{deltas}-{pause_ms}")
    job = Stamped(stage.baselines.port, ask, streams, starts_s(streams), deltas, is_ours=False)
    return stage.run(job, stage.baselines)
