"""What all tests share: an S3 server, and the marker that ties a test to an assertion of the
specification.
"""

import sys
from collections.abc import Iterator

import pytest

from tests.s3_server import S3Server, running_s3


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for all tests."""
    with running_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    """The S3 server; a test asks it for a place of its own, and may break it."""
    yield s3_server
    s3_server.mend()


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
