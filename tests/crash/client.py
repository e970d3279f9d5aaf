"""A client that lives through the deaths of its server: it repeats what was not answered.

Every POST carries an idempotency key, so that a repeated one must not happen twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from tests.crash.processes import KEY
from understudy.engine.frames import DONE

_PATIENCE_S = 30.0


class Refused(Exception):
    """The server answered, and not with 200."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


class Cut(Exception):
    """The connection broke."""


@dataclass(frozen=True)
class Event:
    """One server-sent event with its id, (fence, sequence)."""

    place: tuple[int, int]
    name: str
    data: bytes

    @property
    def is_delta(self) -> bool:
        """Whether it is text or arguments on the way."""
        return self.name.endswith(".delta")

    @property
    def object(self) -> dict[str, Any]:
        """Its data."""
        found: dict[str, Any] = msgspec.json.decode(self.data)
        return found


class Client:
    """Talks to whichever server is up."""

    def __init__(
        self, *, patience_s: float = _PATIENCE_S, away: frozenset[int] = frozenset()
    ) -> None:
        self.repeats = 0
        self._patience_s = patience_s
        self._away = away  # Statuses that say: ask again, somebody else may be there.
        self._up = asyncio.Event()
        self._http: httpx2.AsyncClient | None = None
        self._keys = 0

    async def use(self, url: str) -> None:
        """A server is up at this URL."""
        await self.lose()
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"},
            timeout=20,
            limits=httpx2.Limits(max_connections=200),
        )
        self._up.set()

    async def lose(self) -> None:
        """The server is gone, or about to go."""
        self._up.clear()
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def expect_loss(self) -> None:
        """The server is about to be killed: nothing new is asked."""
        self._up.clear()

    def new_key(self) -> str:
        """An idempotency key."""
        self._keys += 1
        return f"key-{self._keys}"

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """A POST that happens once, however often it has to be sent."""
        return await self._ask("POST", path, body, {"Idempotency-Key": self.new_key()})

    async def get(self, path: str) -> Any:
        """A GET."""
        return await self._ask("GET", path, None, {})

    async def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> Any:
        give_up_at = time.monotonic() + self._patience_s
        while time.monotonic() < give_up_at:
            http = await self._server()
            try:
                answer = await http.request(method, path, json=body, headers=headers)
            except (httpx2.TransportError, RuntimeError):  # Or the client was closed meanwhile.
                self.repeats += 1
                await asyncio.sleep(0.01)
                continue
            if answer.status_code in self._away:
                self.repeats += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code != 200:
                raise Refused(answer.status_code, answer.text)
            return answer.json()
        raise AssertionError(f"{method} {path} was not answered in {self._patience_s} s")

    async def stream(
        self, method: str, path: str, body: dict[str, Any] | None, key: str | None
    ) -> AsyncIterator[Event]:
        """The events of an answer up to `done`; Cut when the connection breaks before it."""
        headers = {"x-understudy-event-ids": "1"}
        if key is not None:
            headers["Idempotency-Key"] = key
        http = await self._server()
        try:
            async with http.stream(method, path, json=body, headers=headers) as answer:
                if answer.status_code in self._away:
                    raise Cut
                if answer.status_code != 200:
                    raise Refused(answer.status_code, (await answer.aread()).decode())
                async for event in _events(answer):
                    if event.name == "error" and self._away:
                        raise Cut  # The node ends, or has lost the record.
                    assert event.name != "error", event.data
                    yield event
        except (httpx2.TransportError, httpx2.StreamError, RuntimeError) as error:
            raise Cut from error

    async def _server(self) -> httpx2.AsyncClient:
        async with asyncio.timeout(self._patience_s):
            while self._http is None or not self._up.is_set():
                await self._up.wait()
        return self._http


async def _events(answer: httpx2.Response) -> AsyncIterator[Event]:
    rest = b""
    async for piece in answer.aiter_raw():
        *frames, rest = (rest + piece).split(b"\n\n")
        for frame in frames:
            event = parse(frame)
            if event is None:
                continue
            if event.name == "done":
                return
            yield event
    raise AssertionError("the stream ended without `done`")


def events_in(frames: bytes) -> list[Event]:
    """The events of a whole stream, but for the `done` at its end."""
    parsed = [parse(frame) for frame in frames.removesuffix(DONE).split(b"\n\n") if frame]
    return [event for event in parsed if event is not None]


def parse(frame: bytes) -> Event | None:
    """One event; None for a comment."""
    fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
    if not fields:
        return None
    fence, _, seq = fields.get(b"id", b"0.0").partition(b".")
    return Event((int(fence), int(seq)), fields[b"event"].decode(), fields[b"data"])
