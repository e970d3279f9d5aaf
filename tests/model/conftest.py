"""A rehearsal server in a thread, and sockets that send exactly the bytes they are told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest

from understudy.model.chat import ChatModel
from understudy.model.rehearsal_server import running_rehearsal

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Speak], AbstractAsyncContextManager[str]]


class Rehearsal:
    """The rehearsal server under test and its control calls."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx2.Client(base_url=url)

    def script(self, *steps: dict[str, Any], model: str | None = None) -> None:
        """Every call plays these steps."""
        body = {"model": model, "script": {"steps": steps}}
        self._http.post("/rehearsal/script", json=body).raise_for_status()

    def calls(self) -> list[dict[str, Any]]:
        """What was asked so far."""
        found: list[dict[str, Any]] = self._http.get("/rehearsal/calls").json()["data"]
        return found

    def post(self, path: str, body: object) -> httpx2.Response:
        """A call without our client."""
        return self._http.post(path, json=body)

    def reset(self) -> None:
        """Forget scripts and calls."""
        self._http.post("/rehearsal/reset").raise_for_status()

    def close(self) -> None:
        """Close the control connection."""
        self._http.close()


@pytest.fixture(scope="session")
def rehearsal_server() -> Iterator[Rehearsal]:
    """One server for all tests."""
    with running_rehearsal() as url:
        rehearsal = Rehearsal(url)
        yield rehearsal
        rehearsal.close()


@pytest.fixture
def rehearsal(rehearsal_server: Rehearsal) -> Rehearsal:
    """The server without the traces of other tests."""
    rehearsal_server.reset()
    return rehearsal_server


@pytest.fixture
async def model(rehearsal: Rehearsal) -> AsyncIterator[ChatModel]:
    """Our client, pointed at the rehearsal server, with short time-outs."""
    model = ChatModel(
        rehearsal.url,
        key="sk-secret-upstream-key",
        boot_id="boot_1",
        silence_s=5.0,
        connect_s=5.0,
        total_s=20.0,
        tail_s=0.3,
    )
    yield model
    await model.close()


@pytest.fixture
def serve() -> Serve:
    """Start a server that speaks to each connection as the given coroutine does."""

    @asynccontextmanager
    async def start(speak: Speak) -> AsyncIterator[str]:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await speak(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.close()

    return start
