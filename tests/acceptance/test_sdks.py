"""The official SDKs, unmodified, against a real server: each scenario of each SDK is a test."""

from typing import Any

import pytest

from tests.acceptance.client import ASSERTIONS, SCENARIOS

PYTHON = ("python-3", "python-1")


@pytest.mark.parametrize(
    ("sdk", "scenario"),
    [
        pytest.param(sdk, name, id=f"{sdk}-{name}", marks=pytest.mark.assertion(*ASSERTIONS[name]))
        for sdk in PYTHON
        for name in SCENARIOS
    ],
)
def test_python(reports: Any, sdk: str, scenario: str) -> None:
    """The scenarios of tests/acceptance/client."""
    expect_success(reports(sdk), scenario)


def expect_success(report: Any, scenario: str) -> None:
    """The client program played the scenario, and to a good end."""
    result = report.results.get(scenario)
    assert result is not None, f"{scenario} was never played: {report.ending}"
    assert result["failure"] is None, result["failure"]
