"""The official SDKs, unmodified, against a real server: each scenario of each SDK is a test."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import ASSERTIONS

PYTHON = ("python-3", "python-1")
NODE = ("node-7", "node-4")

# The first test of an SDK waits for all of its scenarios.
pytestmark = pytest.mark.timeout(300)

_SCENARIO = re.compile(r"^ *scenario\(([\"`])(.+?)\1, \[([\d, ]*)\]", re.MULTILINE)


def of_node() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Scenario → assertions, read from the source: collecting tests must not need Node."""
    for path in sorted((Path(__file__).parent / "node").glob("*.mjs")):
        for _, name, numbers in _SCENARIO.findall(path.read_text(encoding="utf-8")):
            assertions = tuple(int(number) for number in numbers.split(","))
            for count in (2, 3) if "${count}" in name else ("",):
                yield name.replace("${count}", str(count)), assertions


def cases(sdks: tuple[str, ...], scenarios: Mapping[str, tuple[int, ...]]) -> list[Any]:
    """Each scenario of each SDK."""
    return [
        pytest.param(sdk, name, id=f"{sdk}-{name}", marks=pytest.mark.assertion(*assertions))
        for sdk in sdks
        for name, assertions in scenarios.items()
    ]


@pytest.mark.parametrize(("sdk", "scenario"), cases(PYTHON, ASSERTIONS))
def test_python(reports: Any, sdk: str, scenario: str) -> None:
    """The scenarios of tests/acceptance/client."""
    expect_success(reports(sdk), scenario)


@pytest.mark.parametrize(("sdk", "scenario"), cases(NODE, dict(of_node())))
def test_node(reports: Any, sdk: str, scenario: str) -> None:
    """The scenarios of tests/acceptance/node."""
    expect_success(reports(sdk), scenario)


@pytest.mark.parametrize("sdk", [*PYTHON, *NODE])
def test_no_scenario_is_forgotten(reports: Any, sdk: str) -> None:
    """What was played is what has a test, and the SDK is the one that is meant."""
    report = reports(sdk)
    known = ASSERTIONS if sdk in PYTHON else dict(of_node())
    assert sorted(report.results) == sorted(known), report.ending
    assert report.version.split(".")[0] == sdk.split("-")[1]


def expect_success(report: Any, scenario: str) -> None:
    """The client program played the scenario, and to a good end."""
    result = report.results.get(scenario)
    assert result is not None, f"{scenario} was never played: {report.ending}"
    assert result["failure"] is None, result["failure"]
