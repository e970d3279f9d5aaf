"""A wire between a client and a server that tests can cut, hold, slow down, and cut at one word.

    with Wire("postgresql://...") as wire:
        trap = wire.cut_when(executes("insert into jobs"), "after")
        ...                      # A client of wire.url sees a reset; the row is there all the same.
        assert trap.has_sprung

Any TCP server can be behind it (an object store, NATS); `cut_when` reads PostgreSQL's protocol
(frames.py). A client that asks for encryption is told that there is none, as by a server without
it, so a URL with `sslmode=require` cannot be used.

What differs from a true network: connections are accepted here before the server behind is asked.
When that refuses, the client sees a reset; to be refused it takes `refuse()`.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.fleet.frames import (
    EXECUTE,
    GSSAPI,
    NOTIFICATION,
    QUERY,
    READY,
    START,
    TLS,
    Client,
    Message,
    Server,
)
from tests.fleet.loops import LoopThread, cancel, listen
from tests.ports import free_port

Predicate = Callable[[Message], bool]
Moment = Literal["before", "after"]

_PIECE_BYTES = 64 * 1024
_DEFAULT_PORTS = {"postgresql": 5432, "postgres": 5432, "nats": 4222, "http": 80}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time.


def executes(text: str) -> Predicate:
    """Messages that make the server perform a statement with this text, whatever its case, also
    when it was prepared long before."""
    wanted = text.casefold()
    return lambda message: message.kind in (QUERY, EXECUTE) and wanted in message.sql.casefold()


def contains(data: bytes) -> Predicate:
    """Messages with these bytes in them: a name, a value, a piece of a statement."""
    return lambda message: data in message.body


def is_kind(kind: str) -> Predicate:
    """Messages of this kind, one of those that frames.py names."""
    return lambda message: message.kind == kind


class Trap:
    """A cut that waits for its message, and happens once."""

    def __init__(self, matches: Predicate, moment: Moment) -> None:
        self.matches = matches
        self.moment = moment
        self.message: Message | None = None
        self._sprung = threading.Event()

    @property
    def has_sprung(self) -> bool:
        """Whether the connection was cut."""
        return self._sprung.is_set()

    def wait(self, timeout_s: float = 10.0) -> None:
        """Until the connection was cut."""
        assert self._sprung.wait(timeout_s), "no message matched, or its answer never came"

    def spring(self) -> None:
        """Note that it was cut."""
        self._sprung.set()


class Wire:
    """A proxy in front of one server, in a thread of its own. All methods return when what they
    say is so; they may be called from any thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        self.server = (parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])
        self.speaks_postgresql = parts.scheme in ("postgresql", "postgres")
        self.port = free_port()
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        self.url = parts._replace(netloc=f"{login}127.0.0.1:{self.port}").geturl()
        self.delay_s = 0.0
        self.is_silent = False
        self.lost = 0  # Notifications, so far.
        self.traps: list[Trap] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._loop = LoopThread(f"wire to {self.server}")
        self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many clients are connected through it now."""
        return len(self._connections)

    def cut(self) -> None:
        """Reset all connections, on both sides; new ones are accepted."""
        self._loop.call(self._cut())

    def hold(self) -> None:
        """Forward nothing in either direction, not even an end; nothing is closed. What is sent
        meanwhile waits in the wire, as far as it fits."""
        self._loop.call(self._set_open(False))

    def release(self) -> None:
        """Forward again, and first what waits."""
        self._loop.call(self._set_open(True))

    def refuse(self) -> None:
        """Refuse new connections; those that there are live on."""
        self._loop.call(self._refuse())

    def accept(self) -> None:
        """Accept new connections again."""
        self._loop.call(self._accept())

    def delay(self, seconds: float) -> None:
        """Let each answer come later by so much; 0 ends it. What the server sends is delayed piece
        by piece: a longer way, and with long answers a narrower one, too."""
        self.delay_s = seconds

    def lose_notifications(self) -> None:
        """From now on no client hears what others notify it of."""
        assert self.speaks_postgresql, "only PostgreSQL's messages can be read"
        self.is_silent = True

    def cut_when(self, matches: Predicate, moment: Moment = "before") -> Trap:
        """Cut the connection whose client sends a message that matches; only the first one.

        `before`: the server never gets the message. It may have got those before it, of the same
        question, and performs nothing that lasts: it sees its client gone.
        `after`: the server has answered the question of which the message was a part, and nothing
        of the answer reaches the client, for whom the outcome is unknown. What it asks meanwhile
        is forwarded.
        """
        assert self.speaks_postgresql, "only PostgreSQL's messages can be read"
        trap = Trap(matches, moment)
        self.traps.append(trap)
        return trap

    def close(self) -> None:
        """Cut everything and refuse what comes."""
        self.refuse()
        self.cut()
        self._loop.close()

    async def _cut(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _set_open(self, is_open: bool) -> None:
        (self.is_open.set if is_open else self.is_open.clear)()

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()  # Not waited for: that would be until all clients are gone.
            self._listener = None

    async def _accept(self) -> None:
        if self._listener is None:
            self._listener = await listen(self._serve, self.port, _PIECE_BYTES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class _Connection:
    """One client and its connection to the server."""

    def __init__(
        self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._wire = wire
        self._from_client = reader
        self._to_client = writer
        self._to_server: asyncio.StreamWriter | None = None
        self._asked = 0  # Questions that the server was sent the end of.
        self._answered = 0
        self._trap: Trap | None = None  # One that springs with the answer to this question:
        self._trapped = 0
        self._is_reset = asyncio.Event()

    async def run(self) -> None:
        """Until one side ends, or both are reset; the other side ends in the same way."""
        forwarding = asyncio.create_task(self._forward())
        ending = asyncio.create_task(self._is_reset.wait())
        try:
            await asyncio.wait((forwarding, ending), return_when=asyncio.FIRST_COMPLETED)
            if forwarding.done() and forwarding.exception() is not None:
                self.reset()
        finally:
            await cancel(forwarding, ending)
            await self._close()

    async def _forward(self) -> None:
        await self._wire.is_open.wait()
        reader, self._to_server = await asyncio.open_connection(
            *self._wire.server, limit=_PIECE_BYTES
        )
        questions = asyncio.create_task(self._pump_questions(self._to_server))
        answers = asyncio.create_task(self._pump_answers(reader))
        try:
            done, _ = await asyncio.wait((questions, answers), return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
        finally:
            await cancel(questions, answers)

    async def _pump_questions(self, server: asyncio.StreamWriter) -> None:
        messages = Client()
        while data := await self._from_client.read(_PIECE_BYTES):
            await self._wire.is_open.wait()
            if not self._wire.speaks_postgresql:
                server.write(data)
            elif not all(self._ask(message, server) for message in messages.feed(data)):
                return
            await server.drain()
        await self._wire.is_open.wait()

    def _ask(self, message: Message, server: asyncio.StreamWriter) -> bool:
        """Forward one message; False when the connection was cut instead."""
        if message.kind == START and message.code in (TLS, GSSAPI):
            self._to_client.write(b"N")
            return True
        trap = self._sprung_by(message)
        if trap is not None and trap.moment == "before":
            self.reset()
            trap.spring()
            return False
        server.write(message.raw)
        if trap is not None:
            self._trap, self._trapped = trap, self._asked + 1
        self._asked += message.ends_question
        return True

    def _sprung_by(self, message: Message) -> Trap | None:
        """The first trap that waits for this; it is used up."""
        for trap in self._wire.traps:
            if trap.matches(message):
                trap.message = message
                self._wire.traps.remove(trap)
                return trap
        return None

    async def _pump_answers(self, server: asyncio.StreamReader) -> None:
        messages = Server()
        while data := await server.read(_PIECE_BYTES):
            await asyncio.sleep(self._wire.delay_s)
            await self._wire.is_open.wait()
            if not self._wire.speaks_postgresql:
                self._to_client.write(data)
            elif not all(self._answer(message) for message in messages.feed(data)):
                return
            await self._to_client.drain()
        await self._wire.is_open.wait()

    def _answer(self, message: Message) -> bool:
        """Pass one message back, or keep it when it belongs to the answer that must not be seen;
        False when the connection was cut."""
        if message.kind == NOTIFICATION and self._wire.is_silent:
            self._wire.lost += 1
            return True
        is_kept = self._trap is not None and self._answered >= self._trapped - 1
        self._answered += message.kind == READY
        if not is_kept:
            self._to_client.write(message.raw)
        elif self._trap is not None and message.kind == READY:
            self.reset()
            self._trap.spring()
            return False
        return True

    def reset(self) -> None:
        """Close both sides at once, so that both see a reset."""
        for writer in (self._to_client, self._to_server):
            if writer is not None:
                link: socket.socket = writer.get_extra_info("socket")
                with suppress(OSError):  # It may be closed already.
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()
        self._is_reset.set()

    async def _close(self) -> None:
        """Let both sides have what was sent, and end."""
        for writer in (self._to_client, self._to_server):
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
