"""What all tests share: the marker that ties a test to an assertion of the specification."""

import sys

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register our markers; unknown ones are errors."""
    config.addinivalue_line(
        "markers", "assertion(number, ...): the assertions of SPEC section 15 that a test proves"
    )


def pytest_sessionfinish() -> None:
    """What the tests made on PostgreSQL goes; a test process that never asked for it made none."""
    module = sys.modules.get("tests.postgres")
    if module is not None:
        module.drop()
