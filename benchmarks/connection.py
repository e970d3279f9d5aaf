"""A raw HTTP/1.1 client connection that costs next to nothing, so that it measures the server."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1.1 (\d+)")
_LAST_CHUNK = b"0\r\n\r\n"
_OVERLAP = 64  # A mark may be cut by the end of a read.


class BadAnswer(Exception):
    """The server answered with something that would make the figure meaningless."""


@dataclass(slots=True)
class Heard:
    """An answer as it came in; times are of the monotonic clock."""

    mark: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # When each piece came.
    marked_at: float | None = None
    ended_at: float = 0.0

    @property
    def body(self) -> bytes:
        """Everything after the head; a stream still has its chunk sizes in it."""
        return b"".join(self.pieces).partition(b"\r\n\r\n")[2]


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._heard = Heard()
        self._end: asyncio.Future[Heard] | None = None
        self._marked = asyncio.Event()
        self._left: int | None = None  # Bytes to come; None until the head is read.
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's call when the connection stands."""
        # uvloop's transports do not derive from asyncio's.
        self.transport = cast("asyncio.WriteTransport", transport)

    def request(self, method: str, path: str, body: str = "") -> bytes:
        """The bytes of a request; a run whose stream is left ends, as a relay's does."""
        data = body.encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\n"
            "OpenAI-Beta: assistants=v2\r\nAccept: application/json\r\n"
            "Content-Type: application/json\r\nx-cancel-on-disconnect: true\r\n"
        )
        length = f"Content-Length: {len(data)}\r\n" if data else ""
        return f"{head}{length}\r\n".encode() + data

    def send(self, request: bytes, mark: str = "") -> "asyncio.Future[Heard]":
        """Send a request; the future is the whole answer."""
        assert self._end is None or self._end.done(), "one request at a time"
        self._heard = Heard(mark.encode())
        self._end = self._loop.create_future()
        self._marked.clear()
        self._left = None
        self._tail = b""
        if self.transport.is_closing():
            self._fail("the connection was lost before")
        else:
            self.transport.write(request)
        return self._end

    async def marked(self) -> None:
        """Wait until the mark of the request was seen, or can never be."""
        await self._marked.wait()

    def data_received(self, data: bytes) -> None:
        """asyncio's call with what came."""
        heard = self._heard
        heard.pieces.append(data)
        heard.times.append(time.monotonic())
        seen = self._tail + data
        if heard.mark and heard.marked_at is None and heard.mark in seen:
            heard.marked_at = heard.times[-1]
            self._marked.set()
        if self._left is None:
            self._read_head(b"".join(heard.pieces))
        elif self._left >= 0:
            self._left -= len(data)
        if self._left == 0 or (self._left == -1 and seen.endswith(_LAST_CHUNK)):
            self._finish()
        self._tail = seen[-_OVERLAP:]

    def _read_head(self, data: bytes) -> None:
        """How much is to come: a number of bytes, or -1 for chunks."""
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            return
        status = _STATUS.match(head)
        if status is None or status[1] != b"200":
            self._fail(f"not a 200: {data[:600].decode(errors='replace')}")
            return
        length = _LENGTH.search(head)
        if length is not None:
            self._left = int(length[1]) - len(body)
        elif _CHUNKED.search(head):
            self._left = -1

    def _finish(self) -> None:
        self._heard.ended_at = time.monotonic()
        if self._end is not None and not self._end.done():
            self._end.set_result(self._heard)

    def _fail(self, why: str) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_exception(BadAnswer(why))
        self._marked.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """asyncio's call when the connection is over."""
        self._fail("the connection was lost")


async def connect(port: int, key: str) -> Connection:
    """A connection to a server on this machine."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(key), "127.0.0.1", port)
    return connection
