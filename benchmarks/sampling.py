"""Sampling: the points of a cost curve, and what a curve must be like.

The points are sampled in turn, so that a busy moment of the machine strikes all of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.curve import Curve, Point
from benchmarks.figures import Figure, judged, median, p99
from benchmarks.jobs import Ask, Samples, Target
from benchmarks.stage import Stage, understudy

LINEAR = 1.15  # An exponent; a tenth of noise between 300 and 1,000 is 0.09 of it.
FLAT = 2.0  # Times, from the first point to the last.
_WARM_UP = 10  # Of so many samples one more is taken before, and forgotten.


def asked(samples: int) -> int:
    """How many requests make so many samples."""
    return samples + samples // _WARM_UP


def sampled(
    stage: Stage, asks: Mapping[int, list[Ask]], ports: Mapping[int, int], mark: str = ""
) -> list[Point]:
    """A point for each amount of work: its requests, one after the other, at its server."""
    targets = [Target(ports[amount], some, mark) for amount, some in asks.items()]
    done = stage.run(Samples(targets), stage.server).done
    return [
        point(amount, [1000 * one for one in taken[len(taken) // (_WARM_UP + 1) :]])
        for amount, taken in zip(asks, done.samples, strict=True)
    ]


def point(amount: float, values: list[float]) -> Point:
    """The middle and the end of some values."""
    return Point(amount, median(values), p99(values))


def flat(curve: Curve, *, since: int = 0) -> Figure:
    """A curve that must not grow from an amount on."""
    growth = curve.since(since).growth
    result = f"{growth:.2f} times"
    return judged(replace(_figure(curve), result=result), growth, at_most=FLAT, unit=" times")


def linear(curve: Curve, *, since: int = 0) -> Figure:
    """A curve that may grow as the work does from an amount on."""
    steepest = curve.since(since).steepest
    result = f"exponent {steepest:.2f}"
    return judged(replace(_figure(curve), result=result), steepest, at_most=LINEAR)


def _figure(curve: Curve) -> Figure:
    shown = [f"{one.p50:.3g}" for one in curve.points]
    return Figure(
        name=f"{curve.name}, by {curve.of}",
        ours=f"{' / '.join(shown)} {curve.unit}",
        baseline="",
        result="",
        note="at " + " / ".join(f"{one.amount:,.0f}" for one in curve.points),
        curve=curve,
    )


@contextmanager
def data_folder(stage: Stage) -> Iterator[Path]:
    """A data folder with an empty database, whose server has left."""
    with TemporaryDirectory(prefix="understudy-bench-") as name:
        with understudy(Path(name), f"http://127.0.0.1:{stage.upstream.port}"):
            pass
        yield Path(name)
