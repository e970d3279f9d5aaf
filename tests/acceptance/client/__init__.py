"""The scenarios that the official SDK for Python must play, whatever its version."""

from tests.acceptance.client import (
    objects,
    pages,
    runs,
    streams,
    tools,
)
from tests.acceptance.client.scene import ASSERTIONS, SCENARIOS

__all__ = ["ASSERTIONS", "SCENARIOS", "objects", "pages", "runs", "streams", "tools"]
