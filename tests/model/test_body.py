"""A body that is read at one go is the one that was sent, however it comes."""

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from understudy.model.body import Response, _Reader

BODY = random.Random(5).randbytes(3_000_000)  # More than any buffer holds.


def chunked(body: bytes) -> list[bytes]:
    """In HTTP chunks of all sizes, many of them small."""
    rng = random.Random(7)
    pieces = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
    place = 0
    while place < len(body):
        part = body[place : place + rng.choice([1, 7, 200, 200, 5_000, 200_000])]
        pieces.append(b"%x\r\n%b\r\n" % (len(part), part))
        place += len(part)
    return [*pieces, b"0\r\n\r\n"]


def with_length(body: bytes) -> list[bytes]:
    return [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body]


def compressed(body: bytes) -> list[bytes]:
    """Though nobody asked for it."""
    small = gzip.compress(body[:1000] * (len(body) // 1000))
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    return [head % len(small), small]


@asynccontextmanager
async def serving(pieces: list[bytes]) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("pause_s", [0.0, 0.002])
@pytest.mark.parametrize("way", [chunked, with_length, compressed])
async def test_what_was_sent_is_read(way: Callable[[bytes], list[bytes]], pause_s: float) -> None:
    found = bytearray()
    async with (
        serving(way(BODY)) as url,
        aiohttp.ClientSession(response_class=Response) as session,
        session.get(url) as response,
    ):
        assert type(response.content) is _Reader, "aiohttp has changed: see body.py"
        while piece := await response.content.readany():
            found += piece
            await asyncio.sleep(pause_s)
    expected = BODY[:1000] * (len(BODY) // 1000) if way is compressed else BODY
    assert found == expected


async def test_a_body_that_is_cut_short_is_an_error() -> None:
    async with (
        serving([*chunked(BODY[:1000])[:-1]]) as url,
        aiohttp.ClientSession(response_class=Response) as session,
        session.get(url) as response,
    ):
        with pytest.raises(aiohttp.ClientPayloadError):
            while await response.content.readany():
                pass
