"""Plots: the figures of a run as SVG, readable on a light page and on a dark one.

Text stays text, the background is transparent, and every colour has a contrast of 3 or more to
white and to black. The same figures give the same bytes: no dates, no random ids.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from benchmarks.curve import Curve
from benchmarks.figures import Figure

FOLDER = Path(__file__).parents[1] / "docs" / "plots"
_TEXT = "#767676"
_OURS, _BASELINE, _MISSED = "#2f81f7", "#c2701c", "#d8434e"
_COLUMNS = 3
_STYLE = Path(__file__).with_name("plots.mplstyle")


def write(figures: Sequence[Figure], folder: Path = FOLDER) -> None:
    """All plots for which there are figures."""
    folder.mkdir(parents=True, exist_ok=True)
    judged = [figure for figure in figures if figure.times_better is not None]
    spread = [figure for figure in figures if figure.spreads]
    curves = [figure.curve for figure in figures if figure.curve is not None]
    with style.context(_STYLE):
        if judged:
            _save(_targets(judged), folder / "targets.svg")
        if spread:
            _save(_panels(spread, _spread), folder / "delays.svg")
        if curves:
            _save(_panels(curves, _curve), folder / "curves.svg")


def _save(canvas: Canvas, path: Path) -> None:
    canvas.savefig(path, format="svg", metadata={"Date": None})
    # matplotlib ends some lines with a space.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def _targets(figures: Sequence[Figure]) -> Canvas:
    """A bar for each target: how many times better than it we are; left of the line is worse."""
    canvas = Canvas(figsize=(10, 0.8 + 0.26 * len(figures)), layout="constrained")
    axes = canvas.add_subplot()
    values = [figure.times_better or 1 for figure in figures]
    places = range(len(figures))
    colours = [_OURS if figure.met else _MISSED for figure in figures]
    axes.barh(places, [value - 1 for value in values], left=1, color=colours, height=0.62)
    axes.axvline(1, color=_TEXT, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(min(0.4, min(values) / 1.3), max(values) * 4)  # Room for the words.
    axes.set_yticks(places, [figure.name for figure in figures])
    axes.set_ylim(len(figures) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("times better than the target; blue: met, red: missed")
    for place, figure, value in zip(places, figures, values, strict=True):
        said = f"{figure.result}  (target {figure.target})"
        axes.annotate(
            said, (max(value, 1), place), (5, 0), textcoords="offset points", va="center", size=8
        )
    return canvas


def _panels(what: Sequence[Any], draw: Callable[[Axes, Any], None]) -> Canvas:
    """Small plots side by side, of whatever `draw` draws."""
    columns = min(_COLUMNS, len(what))
    rows = -(-len(what) // columns)
    canvas = Canvas(figsize=(3.4 * columns, 2.5 * rows), layout="constrained")
    for place, one in enumerate(what):
        draw(canvas.add_subplot(rows, columns, place + 1), one)
    return canvas


def _spread(axes: Axes, figure: Figure) -> None:
    """Which share of the samples is not above a time."""
    for (name, values), colour in zip(
        (figure.spreads or {}).items(), (_OURS, _BASELINE), strict=True
    ):
        ordered = sorted(values)
        shares = [step / 200 for step in range(1, 200)]
        axes.plot(
            [ordered[int(share * len(ordered))] for share in shares],
            [100 * share for share in shares],
            color=colour,
            label=name,
        )
    axes.set_title(figure.name.removesuffix(", p50"))
    axes.set_xscale("log")
    axes.set_xlabel("ms")
    axes.set_ylabel("% of the samples")
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower right")


def _curve(axes: Axes, curve: Curve) -> None:
    """Both axes are logarithmic: a linear cost rises as steeply as the dotted line."""
    amounts = [point.amount for point in curve.points]
    slow = [point.p99 for point in curve.points]
    axes.plot(amounts, [point.p50 for point in curve.points], "o-", color=_OURS, label="p50")
    if any(slow):
        axes.plot(amounts, slow, "s--", color=_BASELINE, label="p99", markersize=4, linewidth=1)
    first = curve.points[0]
    high = axes.get_ylim()[1]
    linear = [first.p50 * amount / first.amount for amount in amounts]
    axes.plot(amounts, linear, ":", color=_TEXT, linewidth=1, label="linear")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(min(point.p50 for point in curve.points) / 8, high * 3)  # Room for the legend.
    axes.set_title(curve.name)
    axes.set_xlabel(curve.of)
    axes.set_ylabel(curve.unit)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_short))
        axis.set_minor_locator(NullLocator())
    axes.legend(fontsize=7, ncols=3, loc="lower right")


def _short(value: float, _place: int | None = None) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
