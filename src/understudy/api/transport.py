"""ASGI in and out: read a bounded body, send an answer, send a stream until somebody is gone."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    MutableMapping,
)
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from understudy import limits
from understudy.engine.frames import DONE
from understudy.errors import ApiError

# The ASGI types; the values of a scope or message are whatever the server puts there.
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

AtOnce: TypeAlias = Callable[[int, Mapping[str, str], bytes], bool]

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


# Among the ASGI extensions of a request whose body has arrived: reading it needs no limit of time.
# A server that does not say so is right, too.
BODY_IS_WHOLE = "understudy.body_is_whole"
# Among them, too: a function that sends a piece of a begun body at once, outside of `send`. Not
# while the client is slow or gone: then it returns False. No server has to have it. (An empty piece
# would be the body's end.)
PUSH = "understudy.push"
# A function that sends a whole answer at once, with little ado: status, headers, body. False when
# it cannot, and sent nothing.
ANSWER = "understudy.answer"


class Disconnected(Exception):
    """The client went away before its request was complete: nobody to answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A response whose bytes are read while they are sent."""

    pieces: AsyncGenerator[bytes]
    size_bytes: int
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def error_answer(error: ApiError) -> Answer:
    """The envelope, indented as the original's."""
    body = msgspec.json.format(msgspec.json.encode(error.envelope()), indent=2)
    return Answer(error.status, body, headers=error.headers)


async def read_body(scope: Scope, receive: Receive, headers: Mapping[str, str]) -> bytes:
    """The whole body; refused as soon as it is known to be too large, or when it stalls."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.JSON_BODY_BYTES:
        raise closing(ApiError.too_large(limits.JSON_BODY_BYTES, int(declared)))
    is_whole = BODY_IS_WHOLE in (scope.get("extensions") or ())
    first = await (_asked(receive) if is_whole else _receive(receive))
    body = first.get("body", b"")
    _check_size(body)
    if not first.get("more_body", False):
        return bytes(body)
    chunks = bytearray(body)
    more = True
    while more:  # Bounded by the size limit and the stall limit.
        message = await _receive(receive)
        chunks += message.get("body", b"")
        more = message.get("more_body", False)
        _check_size(chunks)
    return bytes(chunks)


def _check_size(body: bytes | bytearray) -> None:
    if len(body) > limits.JSON_BODY_BYTES:
        raise closing(ApiError.too_large(limits.JSON_BODY_BYTES, len(body)))


async def _receive(receive: Receive) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(limits.BODY_STALL_S):
            return await _asked(receive)
    except TimeoutError:
        raise closing(ApiError.body_stalled(limits.BODY_STALL_S)) from None


async def _asked(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message


async def body_pieces(receive: Receive) -> AsyncGenerator[bytes]:
    """A body of any size, as it arrives; refused when it stalls. Who reads has the other bounds."""
    more = True
    while more:
        message = await _receive(receive)
        more = message.get("more_body", False)
        piece = message.get("body", b"")
        if piece:
            yield bytes(piece)


def closing(error: ApiError) -> ApiError:
    """The rest of the body is not read, so the connection cannot be used again."""
    error.headers["connection"] = "close"
    return error


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    ]


async def send_answer(
    send: Send,
    receive: Receive,
    answer: Answer,
    headers: Mapping[str, str],
    *,
    without_body: bool = False,
    at_once: AtOnce | None = None,
) -> None:
    """Send a whole response; through `at_once`, which is ANSWER, if that can."""
    all_headers = {**headers, **answer.headers}
    if answer.status != 204:
        all_headers["content-type"] = answer.content_type
        all_headers["content-length"] = str(len(answer.body))
    body = b"" if without_body else answer.body
    closes = "connection" in all_headers
    if at_once is not None and not closes and at_once(answer.status, all_headers, body):
        return
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": _raw(all_headers)}
    )
    if all_headers.get("connection") == "close":
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await _linger(receive)
        body = b""
    await send({"type": "http.response.body", "body": body})


async def _linger(receive: Receive) -> None:
    """Read on for a moment before the connection is closed.

    A client that is still sending would be told of a reset, and might never read the answer.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(limits.LINGER_S):
            while True:  # Until the client is gone or silent.
                async with asyncio.timeout(limits.LINGER_IDLE_S):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    return


async def send_content(
    send: Send,
    receive: Receive,
    content: Content,
    headers: Mapping[str, str],
    *,
    without_body: bool = False,
) -> None:
    """Send bytes until they end or the client is gone. Their failure breaks the connection:
    that is the only way to say it after the length was."""
    all_headers = {
        **headers,
        **content.headers,
        "content-type": content.content_type,
        "content-length": str(content.size_bytes),
    }
    async with aclosing(content.pieces):
        await send(
            {"type": "http.response.start", "status": content.status, "headers": _raw(all_headers)}
        )
        if without_body:
            await send({"type": "http.response.body", "body": b""})
            return
        pump = asyncio.create_task(_pump(send, content.pieces))
        gone = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            gone.cancel()
            await asyncio.wait({pump, gone})
        if not pump.cancelled():
            pump.result()


class Streams:
    """The open streams of a server, so that a drain can end them."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()  # Each cuts its stream when it is told to.

    async def send(
        self,
        send: Send,
        receive: Receive,
        frames: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        told: Callable[[Exception], bytes],
    ) -> None:
        """Send frames until they end, the client is gone, or the server drains. What they fail with
        is `told` in a last frame: the status line is sent."""
        start = {"type": "http.response.start", "status": 200, "headers": _raw(headers)}
        await send(start)
        gone = asyncio.create_task(_until_disconnect(receive))
        try:
            async with asyncio.timeout(None) as cut:
                self._open.add(cut)
                gone.add_done_callback(lambda _: self._cut(cut))
                try:
                    await _pump_frames(send, frames, told)
                finally:
                    self._open.discard(cut)
        except TimeoutError:
            if not gone.done():  # The drain ended it.
                await frames.aclose()
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await frames.aclose()

    def end(self) -> None:
        """End every open stream now."""
        for cut in tuple(self._open):
            self._cut(cut)

    def _cut(self, cut: asyncio.Timeout) -> None:
        """End a stream that is still open, wherever it waits."""
        if cut in self._open and not cut.expired():
            cut.reschedule(asyncio.get_running_loop().time())


async def _pump(send: Send, pieces: AsyncIterator[bytes], *, last: bytes | None = None) -> None:
    """Send all pieces. The end of the body goes with the piece that ends with `last`."""
    async for piece in pieces:
        is_last = last is not None and piece.endswith(last)
        await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        if is_last:
            return
    await send({"type": "http.response.body", "body": b""})


async def _pump_frames(
    send: Send, frames: AsyncIterator[bytes], told: Callable[[Exception], bytes]
) -> None:
    try:
        await _pump(send, frames, last=DONE)
    except Exception as error:  # noqa: BLE001 (whatever it is, the client is told)
        await send({"type": "http.response.body", "body": told(error)})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
