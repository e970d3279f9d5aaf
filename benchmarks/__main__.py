"""`python -m benchmarks`: measure everything, print the table, write RESULTS.md and the plots."""

import argparse
import sys
import time
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
    search,
    searching_runs,
    start,
    streams,
)
from benchmarks.plan import QUICK, Plan
from benchmarks.stage import opened_stage

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
    started = time.monotonic()
    before = report.conditions()
    figures = []
    for name, measure in _MEASURES.items():
        if arguments.only and name not in arguments.only:
            continue
        with opened_stage() as stage:  # Fresh, so that no figure depends on what ran before.
            for figure in measure(stage, plan):
                print(f"{figure.name}: {figure.result or figure.ours}", file=sys.stderr)
                figures.append(figure)
    after = report.conditions()
    print(f"{report.summary(figures, before, after)}\n{time.monotonic() - started:.0f} s.")
    if not arguments.quick and not arguments.only:
        report.write(figures, before, after)
        plots.write(figures)
    if arguments.plots is not None:
        plots.write(figures, arguments.plots)


if __name__ == "__main__":
    main()
