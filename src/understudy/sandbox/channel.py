"""The server's end of a session's socket. What comes from there may be anything.

Frames are taken off the socket at once, whoever waits for them: a call that is cancelled cannot
leave half a frame behind. Answers carry the number of the question; those to a question that
nobody waits for any more are dropped.
"""

import asyncio
import socket
import struct
import sys
from collections import deque
from typing import cast

from understudy import limits
from understudy.sandbox import SandboxLost
from understudy.sandbox.inside.bounds import HEAD_BYTES
from understudy.sandbox.inside.frames import BadFrame, Head, Parser, packed

_CREDENTIALS = struct.Struct("3i")
_HELLO_BYTES = 4096


class NotStarted(Exception):
    """A session did not start; the text is what it, or the system, said."""


def pair() -> tuple[socket.socket, socket.socket]:
    """The server's end and the supervisor's. The kernel says on ours who has written."""
    mine, its = socket.socketpair()
    if sys.platform == "linux":
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return mine, its


async def connected(
    mine: socket.socket, timeout_s: float = limits.CODE_START_S
) -> tuple["Channel", int]:
    """A channel to a supervisor that starts just now, and its pid as this process sees it (0 when
    unknown). The socket is the channel's. Raises NotStarted."""
    try:
        pid = await _hello(mine, timeout_s)
        _, channel = await asyncio.get_running_loop().create_unix_connection(Channel, sock=mine)
    except BaseException:
        mine.close()
        raise
    return channel, pid


async def _hello(mine: socket.socket, timeout_s: float) -> int:
    """Wait for the supervisor's first word; its pid as this process sees it, 0 when unknown."""
    mine.setblocking(False)
    await readable(mine, timeout_s)
    try:
        said, ancillary, _, _ = mine.recvmsg(
            _HELLO_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT
        )
    except OSError as error:
        raise NotStarted(str(error)) from error
    if said != b"!":
        raise NotStarted(said.decode(errors="replace").removeprefix("?") or "It ended at once.")
    for _, _, data in ancillary:
        return int(_CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0])
    return 0


async def readable(mine: socket.socket, timeout_s: float) -> None:
    """Wait for a first word. Raises NotStarted."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()
    loop.add_reader(mine, _wake, waiting)
    try:
        async with asyncio.timeout(timeout_s):
            await waiting
    except TimeoutError:
        raise NotStarted(f"It did not answer within {timeout_s:.0f} seconds.") from None
    finally:
        loop.remove_reader(mine)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Channel(asyncio.Protocol):
    """Questions go out, answers come in."""

    def __init__(self) -> None:
        self._parser = Parser(head_bytes=HEAD_BYTES, blob_bytes=limits.CODE_IMAGE_BYTES)
        self._frames: deque[tuple[Head, bytes]] = deque()
        self._transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_reading_paused = False
        self._asked = 0
        self._closed = asyncio.Event()
        self.is_lost = False

    async def ask(self, head: Head, blob: bytes | memoryview = b"") -> None:
        """Send a question. Raises SandboxLost."""
        self._asked += 1
        self.forget()
        self.tell({**head, "id": self._asked}, blob)
        while self._writer:
            await asyncio.shield(self._writer)
        self._check()

    def tell(self, head: Head, blob: bytes | memoryview = b"") -> None:
        """Send what has no answer."""
        if self._transport and not self.is_lost:
            self._transport.write(packed({"id": self._asked, **head}, blob))

    async def answer(self) -> tuple[Head, bytes]:
        """The next answer to the last question. Raises SandboxLost."""
        while not self._frames:
            self._check()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        frame = self._frames.popleft()
        if self._is_reading_paused and self._transport:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return frame

    def forget(self) -> None:
        """Whatever comes for the last question is of no interest any more."""
        self._frames.clear()
        if self._is_reading_paused and self._transport and not self.is_lost:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Nobody waits for the answer to the last question."""
        self._asked += 1
        self.forget()

    def close(self) -> None:
        """Hang up."""
        self._lose()
        if self._transport:
            self._transport.abort()

    async def closed(self) -> None:
        """Wait until the loop has let go of the socket."""
        await self._closed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has taken the socket."""
        # uvloop's transports are such by what they do, not by their class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone."""
        self._lose()
        self._closed.set()

    def data_received(self, data: bytes) -> None:
        """Take frames apart; one that is malformed ends the session."""
        try:
            self._parser.feed(data)
            while frame := self._parser.next():
                if frame[0].get("id") == self._asked:
                    self._frames.append(frame)
        except BadFrame:
            self.close()
        if len(self._frames) >= limits.CODE_FRAMES_WAITING and not self._is_reading_paused:
            assert self._transport
            self._is_reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._writer = self._writer or asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """There is room again."""
        if self._writer and not self._writer.done():
            self._writer.set_result(None)
        self._writer = None

    def _lose(self) -> None:
        self.is_lost = True
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    def _check(self) -> None:
        if self.is_lost and not self._frames:
            raise SandboxLost
