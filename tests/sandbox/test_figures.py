"""What matplotlib does with the function that shows figures."""

import sys
from types import ModuleType

import pytest

from understudy.sandbox.inside import figures


class _Worker:
    def __init__(self) -> None:
        self.shown: list[object] = []

    def show(self, *arguments: object, **named: object) -> None:
        """What a worker does with figures."""
        self.shown.append((arguments, named))


def test_pyplot_may_set_attributes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyplot gives `show` the signature of its backend's; a method would refuse that."""
    pyplot = ModuleType("matplotlib.pyplot")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    worker = _Worker()
    figures.on_show(worker.show)
    pyplot.show.__signature__ = None
    pyplot.show(block=False)
    assert worker.shown == [((), {"block": False})]
