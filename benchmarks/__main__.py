"""`python -m benchmarks`: measure everything, print the table, write RESULTS.md and the plots."""

import argparse
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from benchmarks import (
    crud,
    curves,
    cycle,
    delays,
    ingestion,
    memory,
    plots,
    polling,
    report,
    retrieval,
    sandbox,
    scaled,
    search,
    searching_runs,
    start,
    streams,
)
from benchmarks.figures import Figure
from benchmarks.host import Watch
from benchmarks.plan import QUICK, Plan
from benchmarks.stage import opened_stage

FAILED = "failed"
_MEASURES = {
    "streams": streams.measure,
    "delays": delays.measure,
    "memory": memory.measure,
    "polling": polling.measure,
    "crud": crud.measure,
    "cycle": cycle.measure,
    "start": start.measure,
    "search": search.measure,
    "ingestion": ingestion.measure,
    "searching_runs": searching_runs.measure,
    "sandbox": sandbox.measure,
    "retrieval": retrieval.measure,
    "curves": curves.measure,
    "scaled": scaled.measure,
}


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, for development")
    parser.add_argument("--plots", type=Path, help="write plots into this folder, too")
    parser.add_argument("only", nargs="*", help=f"some of: {', '.join(_MEASURES)}")
    arguments = parser.parse_args()
    unknown = set(arguments.only) - set(_MEASURES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    plan = QUICK if arguments.quick else Plan()
    watch = Watch()
    before = report.conditions()
    names = [name for name in _MEASURES if not arguments.only or name in arguments.only]
    figures = [figure for name in names for figure in _measured(name, plan)]
    after = f"{report.conditions()}. Meanwhile {watch}"
    print(f"{report.summary(figures, before, after)}\n{watch.seconds:.0f} s.")
    if not arguments.quick and not arguments.only:
        report.write(figures, before, after)
        plots.write(figures)
    if arguments.plots is not None:
        plots.write(figures, arguments.plots)
    sys.exit(any(figure.result == FAILED for figure in figures))


def _measured(name: str, plan: Plan) -> Iterator[Figure]:
    """The figures of one measure, on a fresh stage: none depends on what ran before."""
    watch = Watch()
    try:
        with opened_stage() as stage:
            for figure in _MEASURES[name](stage, plan):
                print(f"{figure.name}: {figure.result or figure.ours}", file=sys.stderr)
                yield figure
    except Exception as error:  # noqa: BLE001 - half an hour of other figures must not be lost.
        traceback.print_exc()
        yield Figure(name, "", "", FAILED, note=f"{type(error).__name__}: {error}"[:200])
    print(f"{name}: {watch}", file=sys.stderr)


if __name__ == "__main__":
    main()
