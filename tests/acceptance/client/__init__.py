"""The scenarios that the official SDK for Python must play, whatever its version."""

from tests.acceptance.client import (
    asynchronous,
    code,
    doors,
    errors,
    files,
    objects,
    pages,
    runs,
    stops,
    streams,
    tools,
    vector_stores,
)
from tests.acceptance.client.scene import ASSERTIONS, SCENARIOS

__all__ = [
    "ASSERTIONS",
    "SCENARIOS",
    "asynchronous",
    "code",
    "doors",
    "errors",
    "files",
    "objects",
    "pages",
    "runs",
    "stops",
    "streams",
    "tools",
    "vector_stores",
]
