"""Figures of matplotlib as PNG images, within bounds. Runs in the worker."""

import importlib.abc
import importlib.machinery
import importlib.util
import io
import math
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_PYPLOT = "matplotlib.pyplot"
_SIDE_PIXELS = 16_384  # Of the longer side; matplotlib draws up to 65,535.
_DPI = 100.0  # What matplotlib takes when nobody says.


def on_show(show: Callable[..., None]) -> None:
    """Have `plt.show` do this, whether pyplot is imported already or will be."""

    def shown(*arguments: Any, **named: Any) -> None:
        """A function of its own: pyplot sets attributes of it, which a method refuses."""
        show(*arguments, **named)

    if pyplot := sys.modules.get(_PYPLOT):
        pyplot.show = shown  # type: ignore[attr-defined]
    else:
        sys.meta_path.insert(0, _Watch(shown))


def take(most: int, pixels: int, drawn: Callable[[bytes], None]) -> int:
    """Draw the open figures, `most` of them, and close all; how many were left out."""
    pyplot: Any = sys.modules.get(_PYPLOT)
    if pyplot is None:
        return 0
    numbers = pyplot.get_fignums()
    try:
        for number in numbers[: max(0, most)]:
            image = draw(pyplot.figure(number), pixels)
            if image:
                drawn(image)
    finally:
        pyplot.close("all")
    return max(0, len(numbers) - max(0, most))


def discard() -> None:
    """Close what is open: it would appear in the next call."""
    if pyplot := sys.modules.get(_PYPLOT):
        pyplot.close("all")


def is_open(value: Any) -> bool:
    """Whether a value is a figure that is going to be drawn anyway."""
    pyplot: Any = sys.modules.get(_PYPLOT)
    if pyplot is None or not isinstance(value, pyplot.Figure):
        return False
    return bool(pyplot.fignum_exists(value.number)) if hasattr(value, "number") else False


def draw(figure: Any, pixels: int) -> bytes | None:  # Any: the sandbox has types of its own.
    """A figure as PNG, smaller than it says when it would be too large."""
    width, height = figure.get_size_inches()
    wanted = float(figure.dpi or _DPI)
    if not (0 < width < math.inf and 0 < height < math.inf):
        sys.stderr.write("A figure without a size is not drawn.\n")
        return None
    # First a lower resolution; then less paper, because text cannot be drawn as small as one likes.
    dpi = max(_fitting(width, height, wanted, pixels), min(_DPI, wanted))
    scale = min(1.0, _fitting(width, height, dpi, pixels) / dpi)
    if dpi < wanted or scale < 1:
        figure.set_dpi(dpi)
        figure.set_size_inches(width * scale, height * scale)
        sys.stderr.write(
            f"A figure of {width * wanted:.0f} x {height * wanted:.0f} pixels is too large: "
            f"drawn as {width * scale * dpi:.0f} x {height * scale * dpi:.0f}.\n"
        )
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi, bbox_inches=_bbox(figure, dpi, pixels))
    return image.getvalue()


def _fitting(width: float, height: float, dpi: float, pixels: int) -> float:
    """The resolution, or the highest that the bounds allow."""
    if width <= 0 or height <= 0:
        return dpi
    return min(dpi, math.sqrt(pixels / (width * height)), _SIDE_PIXELS / max(width, height))


def _bbox(figure: Any, dpi: float, pixels: int) -> str | None:
    """Without empty margins; but not when something was drawn far away from the rest."""
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    is_fitting = _fitting(box.width, box.height, dpi, pixels * 2) >= dpi
    return "tight" if is_fitting else None


class _Watch(importlib.abc.MetaPathFinder):
    """Waits for pyplot to be imported."""

    def __init__(self, show: Callable[..., None]) -> None:
        self._show = show

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The true one, with our own loader around it."""
        if name != _PYPLOT:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader, self._show)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads pyplot and puts our `show` in it."""

    def __init__(self, true: importlib.abc.Loader, show: Callable[..., None]) -> None:
        self._true = true
        self._show = show

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the true loader does."""
        return self._true.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the true loader does, and then ours."""
        self._true.exec_module(module)
        module.show = self._show  # type: ignore[attr-defined]
