"""The framing of HTTP/1.1, as much as a proxy needs that passes bodies on as they come (RFC 9112).

A message is a head (a line, then headers, then an empty line) and a body, which is as long as the
head says: a number of bytes, or chunks that each say their length, of which the last is empty, or,
of an answer only, whatever comes until the connection closes. Bodies go through as they are, with
their chunks' frames; nothing is decoded, so nothing can be lost by coding it again.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

_END = b"\r\n\r\n"
_PIECE_BYTES = 64 * 1024
HEAD_BYTES = 256 * 1024  # Of a head, and of a line between chunks; also what is read ahead.
_HOP_HEADERS = (b"connection", b"keep-alive", b"proxy-connection")  # Of one connection only.


@dataclass(frozen=True)
class Head:
    """The first line in its three words, and the headers in their order, names in lower case."""

    words: tuple[bytes, bytes, bytes]
    headers: tuple[tuple[bytes, bytes], ...]

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.words[1])

    def value(self, name: bytes) -> bytes:
        """The last header of this name, in lower case; empty when there is none."""
        return next((value for key, value in reversed(self.headers) if key == name), b"").lower()

    def bytes_with(self, connection: bytes) -> bytes:
        """The head for another connection, whose own headers replace those of this one."""
        lines = [b" ".join(self.words).rstrip()]
        kept = [pair for pair in self.headers if pair[0] not in _HOP_HEADERS]
        lines += [b": ".join(pair) for pair in (*kept, (b"connection", connection))]
        return b"\r\n".join(lines) + _END


def parsed(raw: bytes) -> Head:
    """A head from its bytes, its end included."""
    first, *lines = raw.removesuffix(_END).split(b"\r\n")
    words = [*first.split(b" ", 2), b"", b""]
    pairs = (line.partition(b":") for line in lines)
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
    return Head((words[0], words[1], words[2]), headers)


class Source:
    """What one side sends; it can be watched for its end without losing what it sends instead."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._ahead = b""

    async def head(self) -> Head | None:
        """The next head; None when the other side has closed instead."""
        try:
            raw = self._ahead + await self._reader.readuntil(_END)
        except asyncio.IncompleteReadError:
            return None
        self._ahead = b""
        return parsed(raw)

    async def until_gone(self) -> bool:
        """Wait for the other side's end; False when it sends a next message instead."""
        self._ahead += await self._reader.read(1)
        return not self._ahead

    async def body(self, head: Head, *, is_answer: bool) -> AsyncGenerator[bytes, None]:
        """The pieces of the body, each as soon as it is there; raises when it ends too early."""
        if head.value(b"transfer-encoding").endswith(b"chunked"):
            async for piece in self._chunks():
                yield piece
        elif length := head.value(b"content-length"):
            async for piece in self._exactly(int(length)):
                yield piece
        elif is_answer:
            while piece := await self._reader.read(_PIECE_BYTES):
                yield piece

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        """Each with its frame; trailers come after the empty one, up to an empty line."""
        size = 1
        while size:
            line = await self._reader.readuntil(b"\r\n")
            yield line
            size = int(line.split(b";")[0], 16)
            if size:
                async for piece in self._exactly(size + 2):
                    yield piece
        while line != b"\r\n":
            line = await self._reader.readuntil(b"\r\n")
            yield line

    async def _exactly(self, size: int) -> AsyncGenerator[bytes, None]:
        while size:
            piece = await self._reader.read(min(size, _PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            yield piece

    async def drop(self) -> None:
        """Read what still comes, and forget it."""
        while await self._reader.read(_PIECE_BYTES):
            pass
