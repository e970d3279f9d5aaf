"""A load balancer that gives each request to the next node, also those of one connection.

    with Balance([node.url for node in nodes]) as balance:
        client = OpenAI(base_url=balance.url, ...)

Clients keep their connections, so a balancer that deals out connections would show a client one
node only. This one deals out requests: whatever a client does next, another node does it. Bodies
pass in both directions as they come, streams of events included.

A request that could not reach its node goes to the one after it. One that may have reached it is
never repeated: without a whole head of an answer, the client is told 502. When a node dies in the
middle of an answer, the client's connection ends in the middle of that answer. A node that hangs
(SIGSTOP) makes its clients wait; to stop asking it, take it off `nodes`.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from tests.fleet.http_frames import HEAD_BYTES, Head, Source
from tests.fleet.loops import LoopThread, cancel, listen

_CONNECT_S = 5.0
_LINGER_S = 2.0  # For a client that still sends what nobody wants, so that it reads the answer.
_SEEN = 10_000

_BAD_GATEWAY = b'{"error": {"message": "%s", "type": "bad_gateway", "param": null, "code": null}}'


@dataclass(frozen=True)
class Seen:
    """One request: which node answered it, or was asked last, and what the client was told."""

    method: str
    path: str
    node: str
    status: int


class Balance:
    """The balancer, in a thread of its own. `nodes` are the URLs of servers; the list may be
    replaced at any time."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.nodes = list(nodes)
        self.seen: deque[Seen] = deque(maxlen=_SEEN)
        self._turn = 0
        self._loop = LoopThread("balance")
        self._listener = self._loop.call(listen(self._serve, 0, HEAD_BYTES))
        self.port: int = self._listener.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        self._loop.call(self._close())
        self._loop.close()

    async def _close(self) -> None:
        self._listener.close()

    def in_turn(self) -> list[str]:
        """All nodes, beginning with the one whose turn it is."""
        nodes = self.nodes
        start = self._turn % len(nodes) if nodes else 0
        self._turn += 1
        return nodes[start:] + nodes[:start]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's requests, one after the other."""
        try:
            source = Source(reader)
            while (head := await source.head()) is not None:
                if not await _Exchange(self, head, source, writer).run():
                    break
        except (OSError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            await _end(writer)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, balance: Balance, head: Head, client: Source, to_client: asyncio.StreamWriter
    ) -> None:
        self._balance = balance
        self._head = head
        self._client = client
        self._to_client = to_client
        self._node = ""
        self._is_asked = False  # Whether the node has the whole request.
        self._has_begun = False  # Whether the client has the head of an answer.

    async def run(self) -> bool:
        """Whether the client's connection can be used for another one."""
        try:
            reader, to_node = await self._connect()
        except OSError:
            return await self._refuse(b"no node can be reached")
        try:
            return await self._exchange(Source(reader), to_node)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            if self._has_begun:
                return False
            return await self._refuse(b"the node closed the connection without an answer")
        finally:
            to_node.transport.abort()
            await _end(to_node)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first node in turn that lets us in. Nothing was sent to the others."""
        reason: OSError = ConnectionRefusedError()
        for node in self._balance.in_turn():
            self._node, parts = node, urlsplit(node)
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(
                        parts.hostname, parts.port, limit=HEAD_BYTES
                    )
            except OSError as error:
                reason = error
        raise reason

    async def _exchange(self, node: Source, to_node: asyncio.StreamWriter) -> bool:
        """Ask while the answer is awaited: a node may answer before it has read everything."""
        to_node.write(self._head.bytes_with(connection=b"close"))
        asking = asyncio.create_task(self._ask(to_node))
        answering = asyncio.create_task(self._answer(node))
        try:
            done, _ = await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            if answering not in done and asking.result():
                return False  # The client has gone, and in a moment so have we.
            can_go_on = await answering
        finally:
            await cancel(asking, answering)
        if not self._is_asked:
            await self._linger()
        return can_go_on

    async def _ask(self, to_node: asyncio.StreamWriter) -> bool:
        """Pass the request's body on; whether the client has gone before its answer ended."""
        try:
            async with aclosing(self._client.body(self._head, is_answer=False)) as pieces:
                async for piece in pieces:
                    if not await _sent(piece, to_node):
                        return False  # It reads no more, and has an answer or is dead.
            self._is_asked = True
            return await self._client.until_gone()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            return True

    async def _answer(self, node: Source) -> bool:
        """Pass the answer back; whether the client's connection can be used again."""
        head = await node.head()
        while head is not None and head.status < 200:  # `100 Continue`.
            self._to_client.write(head.bytes_with(connection=b"keep-alive"))
            head = await node.head()
        if head is None:
            raise EOFError
        can_go_on = self._is_asked and _keeps_alive(self._head) and self._is_framed(head)
        self._has_begun = True
        self._note(head.status)
        self._to_client.write(head.bytes_with(b"keep-alive" if can_go_on else b"close"))
        if self._has_body(head):
            async with aclosing(node.body(head, is_answer=True)) as pieces:
                async for piece in pieces:
                    self._to_client.write(piece)
                    await self._to_client.drain()
        await self._to_client.drain()
        return can_go_on

    def _has_body(self, answer: Head) -> bool:
        return self._head.words[0] != b"HEAD" and answer.status not in (204, 304)

    def _is_framed(self, answer: Head) -> bool:
        """Whether the end of the answer can be told without the end of its connection."""
        names = (b"transfer-encoding", b"content-length")
        return not self._has_body(answer) or any(answer.value(name) for name in names)

    async def _refuse(self, reason: bytes) -> bool:
        """502, in words of our own."""
        self._note(502)
        body = _BAD_GATEWAY % reason
        head = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: application/json\r\n"
        head += b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self._to_client.write(head + body)
        await self._linger()
        return False

    async def _linger(self) -> None:
        """What the client still sends must not be refused, or it would not read its answer."""
        with suppress(OSError):
            self._to_client.write_eof()
            async with asyncio.timeout(_LINGER_S):
                await self._client.drop()

    def _note(self, status: int) -> None:
        method, path, _ = (word.decode("latin-1") for word in self._head.words)
        self._balance.seen.append(Seen(method, path, self._node, status))


def _keeps_alive(request: Head) -> bool:
    return request.words[2] == b"HTTP/1.1" and request.value(b"connection") != b"close"


async def _sent(piece: bytes, writer: asyncio.StreamWriter) -> bool:
    """Whether the other side takes it."""
    try:
        writer.write(piece)
        await writer.drain()
    except OSError:
        return False
    return True


async def _end(writer: asyncio.StreamWriter) -> None:
    """Close, after what was written has gone out."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
