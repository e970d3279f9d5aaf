"""A fleet in the place of the one server of the API's tests: two API nodes and two workers on one
record and one S3 server, behind a balancer that gives each request to the next node.

Beside them is an App of the test's own on the same record, for what tests put there and look at.
What is inside of a server's process the tests of a fleet cannot reach: those that change it are
skipped, and are run on one server.
"""

import asyncio
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.fleet.balance import Balance
from tests.fleet.fleet import Shared, fleet
from tests.s3_server import S3Server
from understudy.assembly import opened_app
from understudy.engine.app import App
from understudy.settings import PREFIX, Settings


@cache
def _s3() -> S3Server:
    """One for all fleets of this process, whose end it does not outlive."""
    server = S3Server()
    server.start()
    os.environ.update(server.environment)  # For the App beside the fleet.
    return server


@cache
def _bytes_of(data: Path) -> str:
    """The place for the bytes of one data folder, the same when its server starts again."""
    return _s3().place()


def keys_at(place: str) -> set[str]:
    """The keys of the blobs at a place."""
    return {key.rpartition("/")[2] for key in _s3().keys(place)}


@contextmanager
def serving_fleet(data: Path, values: Mapping[str, Any]) -> Iterator[tuple[str, "Beside"]]:
    """The URL of the balancer, and the App beside the nodes; `values` are settings."""
    given = {name: value for name, value in values.items() if name not in ("port", "host")}
    given |= {"database_url": postgres.url_of(data), "blobs_url": _bytes_of(data)}
    given |= {"database_connections": 4}
    settings = {f"{PREFIX}{name.upper()}": _shown(name, value) for name, value in given.items()}
    beside = Beside(Settings(data=str(data), **{**given, "sandbox": "off"}))
    with nodes_for(data, given["upstream_url"], settings) as url:
        beside.start()
        try:
            yield url, beside
        finally:
            beside.stop()


@contextmanager
def nodes_for(data: Path, provider_url: str, settings: Mapping[str, str]) -> Iterator[str]:
    """The balancer's URL of nodes whose record and blobs stand for a data folder; `settings` are
    variables."""
    usual = {
        "UNDERSTUDY_DATABASE_URL": postgres.url_of(data),
        "UNDERSTUDY_BLOBS_URL": _bytes_of(data),
        "UNDERSTUDY_DATABASE_CONNECTIONS": "4",
    }
    shared = Shared(provider_url, settings={**usual, **settings, **_s3().environment})
    with (
        tempfile.TemporaryDirectory() as folder,
        fleet(Path(folder), shared, api=2, worker=2) as nodes,
        Balance(nodes.urls) as balance,
    ):
        yield balance.url


def _shown(name: str, value: object) -> str:
    """A setting as a variable has it."""
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(map(str, value))
        case dict():
            pytest.skip(f"{name} is set in a file only, and nodes of a fleet have none")
    return str(value)


class Beside:
    """An App in a loop and thread of its own, which serves nobody."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_up = threading.Event()
        self._is_over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.app: App
        self.loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Open it."""
        self._thread.start()
        assert self._is_up.wait(30), "the App beside the fleet did not open"

    def stop(self) -> None:
        """Close it."""
        self.loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join(20)

    def _run(self) -> None:
        asyncio.run(self._open())

    async def _open(self) -> None:
        async with opened_app(self._settings, role="api") as app:
            self.app, self.loop = app, asyncio.get_running_loop()
            self._is_up.set()
            await self._is_over.wait()
