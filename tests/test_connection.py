"""The transport of a connection: a head goes with what follows it, and nothing is lost."""

import asyncio

from understudy.connection import Gathering

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Writes(asyncio.Transport):
    """A transport that keeps what is written to it, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it; a closed one takes nothing."""
        assert not self.is_closed, "written after the close"
        self.written.append(bytes(data))

    def close(self) -> None:
        """Take no more."""
        self.is_closed = True

    def is_closing(self) -> bool:
        """Whether it takes no more."""
        return self.is_closed


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_head_goes_with_its_body() -> None:
    inner = Writes()
    transport = Gathering(inner)
    transport.write(HEAD)
    transport.write(b"body")
    transport.write(b"more")
    assert inner.written == [HEAD + b"body", b"more"]
    await _turns()
    assert inner.written == [HEAD + b"body", b"more"]


async def test_a_head_that_nothing_follows_goes_soon() -> None:
    inner = Writes()
    Gathering(inner).write(HEAD)
    assert inner.written == []
    await _turns()
    assert inner.written == [HEAD]


async def test_a_close_sends_what_was_written_and_a_lost_client_nothing() -> None:
    closed, lost = Writes(), Writes()
    transport = Gathering(closed)
    transport.write(HEAD)
    transport.close()
    assert (closed.written, closed.is_closed) == ([HEAD], True)
    Gathering(lost).write(HEAD)
    lost.close()
    await _turns()
    assert lost.written == []
    assert Gathering(lost).is_closing()
