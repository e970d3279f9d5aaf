"""Fixtures of the API's tests: a server, a project of one's own, and clients for it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import httpx2
import openai
import pytest

from tests import postgres
from tests.api.conversation import Talk
from tests.api.serving import Running, running
from tests.api.shelf import Shelf
from tests.api.truth import check_answer

_projects = count(1)
BETA = {"OpenAI-Beta": "assistants=v2"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a test changes inside its server's process, it cannot change in a fleet's."""
    skip = pytest.mark.skip(reason="this changes its server's process, and a fleet has several")
    for item in items:
        if postgres.IS_FLEET and "monkeypatch" in getattr(item, "fixturenames", ()):
            item.add_marker(skip)


class Start(Protocol):
    """Starts a server with settings of its own."""

    def __call__(self, **settings: Any) -> AbstractContextManager[Running]: ...


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that need nothing special."""
    with running(tmp_path_factory.mktemp("data")) as server:
        yield server


@pytest.fixture
def server(shared_server: Running) -> Running:
    """The server, with a rehearsal model that has no script."""
    shared_server.reset_rehearsal()
    return shared_server


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start another server, on the test's own data folder."""

    def begin(**settings: Any) -> AbstractContextManager[Running]:
        return running(tmp_path / "data", **settings)

    return begin


@pytest.fixture
def project() -> str:
    """A project that no other test has."""
    return f"project-{next(_projects)}"


@pytest.fixture
def key(server: Running, project: str) -> str:
    """A key of the project."""
    return server.new_key(project)


@pytest.fixture
def http(server: Running, key: str) -> Iterator[httpx2.Client]:
    """A raw client; every answer it gets is checked against the original's description."""
    with client_for(server.url, key) as client:
        yield client


@pytest.fixture
def sdk(server: Running, key: str) -> Iterator[openai.OpenAI]:
    """The official client, which never retries here: a test sees what happened."""
    hooks = {"response": [check_answer]}
    with (
        httpx2.Client(event_hooks=hooks, timeout=30, verify=False) as transport,
        openai.OpenAI(
            base_url=server.url, api_key=key, max_retries=0, http_client=transport
        ) as client,
    ):
        yield client


@pytest.fixture
def talk(server: Running, http: httpx2.Client) -> Iterator[Talk]:
    """Conversations in the project, with a model that plays this test's script."""
    talk = Talk(server, http)
    yield talk
    talk.close()


@pytest.fixture
def shelf(server: Running, http: httpx2.Client, project: str) -> Shelf:
    """Files and vector stores of the project."""
    return Shelf(server, http, project)


def client_for(url: str, key: str) -> httpx2.Client:
    """A raw client with this key and the beta header."""
    return httpx2.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {key}", **BETA},
        event_hooks={"response": [check_answer]},
        timeout=30,
        verify=False,  # There is no TLS here, and reading certificates takes a while.
    )
