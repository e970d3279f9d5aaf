"""The report: a table for the terminal and for RESULTS.md, with the machine in general terms."""

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.curve import Curve
from benchmarks.figures import Figure, median

RESULTS = Path(__file__).with_name("RESULTS.md")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_BEGIN, _END = "<!-- Written by make bench. -->\n", "<!-- The end of what it writes. -->\n"
_POINTS = ("cost", "of what", "p50 (p99) at each amount")
_COLUMNS = ("measure", "ours", "baseline", "result", "target", "")

_HEAD = """# Benchmark results

Written by `make bench`; what is measured, and against what, is said in the modules of this
folder. Figures are medians of alternating pairs of runs. Baselines on the same server stack:
*handler* (decodes the same body, mints an id, encodes; no store, no keys) for requests, *relay*
(passes the provider's bytes through) for streams. Searches stand beside numpy's exact product and
a bare FTS5 query over the same chunks, ingestion beside one process that cuts, tokenises and
inserts the same text, the quality of searches beside what others reach on the same public sets.
Ratios carry over to other machines, absolute figures do not. Other work on the machine, or on
the host of a virtual one, hurts the figures that wait for the disk, which the baselines never do,
and every p99. A figure is void when the client or the upstream was over 80 % busy. What the plots
show, and what the figures do not say, is in docs/performance.md.
"""


def machine() -> str:
    """The machine in general terms."""
    return (
        f"{os.cpu_count()} cores ({_model()}), {psutil.virtual_memory().total / 2**30:.0f} GB, "
        f"{platform.system()}, Python {platform.python_version()}."
    )


def conditions() -> str:
    """How quiet the machine is now."""
    load, sync_ms = os.getloadavg()[0], _sync_ms()
    return f"load average {load:.1f}, a sync to disk takes {sync_ms:.2f} ms"


def table(figures: Sequence[Figure]) -> str:
    """All figures."""
    return markdown([_COLUMNS, *(_row(figure) for figure in figures)])


def curves(figures: Sequence[Figure]) -> str:
    """The points of all cost curves."""
    found = [figure.curve for figure in figures if figure.curve is not None]
    return markdown([_POINTS, *(_points(curve) for curve in found)]) if found else ""


def _points(curve: Curve) -> tuple[str, ...]:
    shown = [
        f"{point.amount:,.0f}: {point.p50:.3g}" + (f" ({point.p99:.3g})" if point.p99 else "")
        for point in curve.points
    ]
    return f"{curve.name}, {curve.unit}", curve.of, "; ".join(shown)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table that is also readable as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def summary(figures: Sequence[Figure], before: str, after: str) -> str:
    """The machine, its state before and after, and the tables."""
    parts = [_where(before, after), table(figures)]
    if points := curves(figures):
        parts += ["## Cost curves", points]
    return "\n\n".join(parts) + "\n"


def write(figures: Sequence[Figure], before: str, after: str) -> None:
    """RESULTS.md, and the figures with a target on the page for people."""
    RESULTS.write_text(f"{_HEAD}\n{summary(figures, before, after)}", encoding="utf-8")
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    main = markdown([row[:-1] for row in [_COLUMNS, *map(_row, figures)] if row[4]])
    found = f"{_BEGIN}\n{_where(before, after)}\n\n{main}\n\n{_END}"
    PAGE.write_text(head + found + tail, encoding="utf-8")


def _where(before: str, after: str) -> str:
    return f"{machine()}\nBefore: {before}. After: {after}."


def _row(figure: Figure) -> tuple[str, ...]:
    verdict = {None: "", True: " (met)", False: " (missed)"}[figure.met]
    return (
        figure.name,
        figure.ours,
        figure.baseline,
        figure.result,
        figure.target + verdict,
        figure.note,
    )


def _model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _sync_ms() -> float:
    """What one durable write of a page costs on the disk that the servers used."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(50):
            started = time.monotonic()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            taken.append(time.monotonic() - started)
    return 1000 * median(taken)
