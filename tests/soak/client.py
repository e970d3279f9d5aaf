"""A client that holds the server to every answer, and counts what it was answered."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai

from tests.crash.checks import check_order, check_places
from tests.crash.client import Event, parse
from tests.crash.lives import TERMINAL
from tests.crash.processes import KEY

Json = dict[str, Any]
POLL_S = 0.08


@dataclass
class Client:
    """One of the clients; connections are shared by all of them."""

    http: aiohttp.ClientSession
    sdk: openai.AsyncOpenAI
    url: str
    rng: random.Random
    silence_s: float  # How long a silent run is watched.
    counts: Counter[str] = field(default_factory=Counter)

    async def ask(
        self, method: str, path: str, body: object = None, *, status: int = 200
    ) -> Any:  # JSON.
        """One request that is answered as expected."""
        async with self.http.request(method, self.url + path, json=body) as answer:
            text = await answer.text()
            self.counts[str(answer.status)] += 1
            assert answer.status == status, f"{method} {path}: {answer.status} {text[:600]}"
            return await answer.json() if text else None

    async def get(self, path: str) -> Any:
        """A GET."""
        return await self.ask("GET", path)

    async def post(self, path: str, body: object) -> Any:
        """A POST."""
        return await self.ask("POST", path, body)

    async def delete(self, path: str) -> None:
        """A DELETE."""
        assert (await self.ask("DELETE", path))["deleted"] is True

    async def upload(self, name: str, content: bytes, purpose: str = "assistants") -> str:
        """A new file; its id."""
        form = aiohttp.FormData()
        form.add_field("purpose", purpose)
        form.add_field("file", content, filename=name)
        async with self.http.post(f"{self.url}/files", data=form) as answer:
            found = await answer.json()
            self.counts[str(answer.status)] += 1
            assert (answer.status, found["bytes"]) == (200, len(content)), found
            id: str = found["id"]
            return id

    async def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        async with self.http.get(f"{self.url}/files/{file_id}/content") as answer:
            self.counts[str(answer.status)] += 1
            assert answer.status == 200, await answer.text()
            return await answer.read()

    @asynccontextmanager
    async def stream(
        self, path: str, body: Json | None, *, fails: bool = False, cancels: bool = False
    ) -> AsyncIterator[AsyncGenerator[Event]]:
        """The events of an answer; leaving early is a disconnect, which `cancels` the run or not.
        `fails` lets it end in an error."""
        given = {"x-understudy-event-ids": "1"}
        given |= {"x-cancel-on-disconnect": "true"} if cancels else {}
        method = "GET" if body is None else "POST"
        async with self.http.request(method, self.url + path, json=body, headers=given) as answer:
            self.counts[f"{answer.status} stream"] += 1
            assert answer.status == 200, await answer.text()
            events = _events(answer, fails)
            try:
                yield events
            finally:
                await events.aclose()
                answer.close()

    async def events(self, path: str, body: Json | None) -> list[Event]:
        """A stream that is read to its end."""
        async with self.stream(path, body) as events:
            return [event async for event in events]

    async def until(self, path: str, *statuses: str) -> Json:
        """Poll until an object has one of these statuses; no other may be its last."""
        while True:
            found: Json = await self.get(path)
            if found["status"] in statuses:
                return found
            assert found["status"] not in TERMINAL, found
            await asyncio.sleep(POLL_S)


async def _events(answer: aiohttp.ClientResponse, fails: bool) -> AsyncGenerator[Event]:
    rest, is_over = b"", False
    async for piece in answer.content.iter_any():
        *frames, rest = (rest + piece).split(b"\n\n")
        for frame in frames:
            event = parse(frame)
            if event is None:
                continue
            assert not is_over, f"{event} after the end"
            is_over = event.name == "done" or (fails and event.name == "error")
            if event.name != "done":
                assert is_over or event.name != "error", event.data
                yield event
    assert is_over, "the stream ended without `done`"


def check_stream(events: list[Event]) -> None:
    """A run's whole stream: nothing missing, nothing twice, all in order."""
    check_places([event.place for event in events])
    check_order(events)


def text_of(events: list[Event]) -> str:
    """The text that the deltas make."""
    deltas = [event.object["delta"] for event in events if event.name == "thread.message.delta"]
    return "".join(part["text"]["value"] for delta in deltas for part in delta["content"])


@asynccontextmanager
async def opened_client(url: str, rng: random.Random, silence_s: float) -> AsyncIterator[Client]:
    """A client, with connections of its own."""
    headers = {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"}
    async with (
        aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=90),
            connector=aiohttp.TCPConnector(limit=200),
        ) as http,
        openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=90) as sdk,
    ):
        yield Client(http, sdk, url, rng, silence_s)
