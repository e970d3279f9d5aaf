"""Real parts that bells hang on: a schema of PostgreSQL, a NATS server, and a line that fails."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from tests.fleet.clusters import server
from tests.ports import free_port

_START_S = 10.0


@asynccontextmanager
async def schema(name: str | None = None) -> AsyncIterator[str]:
    """The URL of an empty schema, which is dropped in the end."""
    name = name or f"bell_{secrets.token_hex(8)}"
    connection = await asyncpg.connect(server(), timeout=_START_S)
    try:
        await connection.execute(f'CREATE SCHEMA "{name}"')
        try:
            yield with_schema(server(), name)
        finally:
            await connection.execute(f'DROP SCHEMA "{name}"')
    finally:
        await connection.close()


def with_schema(url: str, name: str) -> str:
    """This URL, for one schema."""
    return f"{url}{'&' if '?' in url else '?'}search_path={name}"


class NatsServer:
    """A NATS server of a test's own, which may be killed, and started again where it was."""

    def __init__(self, *options: str) -> None:
        self._program = _nats_server()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            [self._program, "-a", "127.0.0.1", "-p", str(self.port), *self._options],
            stderr=subprocess.DEVNULL,
        )
        ends_at = time.monotonic() + _START_S
        while not _answers(self.port):
            assert self._process.poll() is None and time.monotonic() < ends_at, "no NATS server"
            time.sleep(0.005)

    def signal(self, number: signal.Signals) -> None:
        """Stop it, or let it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it, however it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Line:
    """A TCP line to a server, which can be cut, and go dead without a word."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._joined: set[asyncio.Task[None]] = set()
        self._flows = _set_event()
        self._joins = 0
        self._news = asyncio.Condition()
        self.slams = False  # Whether it breaks each new connection at once.
        self.port = free_port()

    async def open(self) -> None:
        """Take connections, and forward them."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Break all connections, and take no more."""
        if self._server is not None:
            self._server.close()
            for task in self._joined:
                task.cancel()
            await asyncio.gather(*self._joined, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def go_dead(self) -> None:
        """Forward nothing any more on the connections there are, but keep them."""
        self._flows.clear()
        self._flows = _set_event()

    async def joined(self, times: int) -> None:
        """Wait until so many connections have come."""
        async with self._news:
            await self._news.wait_for(lambda: self._joins >= times)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._joined.add(task)
        task.add_done_callback(self._joined.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._news:
            self._joins += 1
            self._news.notify_all()
        flows = self._flows
        try:
            if not self.slams:
                there, back = await asyncio.open_connection(*self._target)
                try:
                    await asyncio.gather(_pump(reader, back, flows), _pump(there, writer, flows))
                finally:
                    back.transport.abort()
        except OSError:
            pass
        finally:
            writer.transport.abort()


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event
) -> None:
    while data := await reader.read(64 * 1024):
        await flows.wait()
        writer.write(data)
        await writer.drain()
    writer.close()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _nats_server() -> str:
    program = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        missing = "no nats-server: apt-get install nats-server"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return program
