"""Body: an answer whose body is read as it came, all at once.

aiohttp remembers where each HTTP chunk of a body ends, takes the chunks one by one, looks after
each how many are left, and tells the connection to read on. Of a provider that is quick, a read
finds a hundred of them: that was half of all that reading cost. No hook of aiohttp leads there, so
this reaches into its reader, in this file only; a reader that is not as known here is left as it
is.
"""

from aiohttp import ClientResponse, StreamReader
from aiohttp.connector import Connection

_KNOWN = (
    "_buffer",
    "_buffer_offset",
    "_cursor",
    "_http_chunk_splits",
    "_protocol",
    "_size",
    "_timer",
)


class Response(ClientResponse):
    """A response whose body is read at one go."""

    async def start(self, connection: Connection) -> "Response":
        """Read the head, as it always does."""
        await super().start(connection)
        body = self.content
        if type(body) is StreamReader and all(hasattr(body, name) for name in _KNOWN):
            body.__class__ = _Reader
        return self


class _Reader(StreamReader):
    """aiohttp's, but for what it does to read everything, and without the ends of HTTP chunks."""

    __slots__ = ()

    def end_http_chunk_receiving(self) -> None:
        """Nobody asks where it ended. The bound in bytes pauses the connection."""

    def _read_nowait(self, n: int) -> bytes:
        if n != -1 or self._buffer_offset or not self._buffer:
            return super()._read_nowait(n)
        self._timer.assert_timeout()
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self._size = 0
        self._cursor += len(data)
        if self._http_chunk_splits:
            self._http_chunk_splits.clear()
        if self._protocol._reading_paused:  # aiohttp does not ask, and parses nothing once more.
            self._protocol.resume_reading()
        return data
