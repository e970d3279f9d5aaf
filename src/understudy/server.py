"""Server: a listening socket, and uvicorn around whatever answers on it."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import uvicorn

from understudy import limits
from understudy.api.transport import Receive, Scope, Send
from understudy.connection import Connection

ALL_ADDRESSES = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 (recognised, not chosen)


class CannotStart(Exception):
    """The server cannot start; the text tells the operator why."""


def listen(host: str, port: int) -> socket.socket:
    """The listening socket, or why there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotStart(
            f"Cannot listen on {host}:{port}: {reason}. "
            "Choose another port with --port or UNDERSTUDY_PORT."
        ) from error
    # Connections inherit it. asyncio sets it only where a socket names its protocol, which
    # create_server's does not; without it each answer waits 40 ms for the client's ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def base_url(host: str, port: int) -> str:
    """What clients are pointed at; an address that means `all` is reached as localhost."""
    shown = "127.0.0.1" if host in ALL_ADDRESSES else host
    return f"http://[{shown}]:{port}/v1" if ":" in shown else f"http://{shown}:{port}/v1"


class Door(Protocol):
    """An ASGI application that can be drained."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def drain(self) -> None:
        """Finish or hand over what is at work. Once, whoever calls."""
        ...


class Server(uvicorn.Server):
    """uvicorn around a door; the drain begins with the shutdown, not after it."""

    def __init__(self, door: Door) -> None:
        super().__init__(
            uvicorn.Config(
                door,
                http=Connection,
                access_log=False,
                log_config=None,
                lifespan="on",
                ws="none",
                server_header=False,
                proxy_headers=False,  # Nobody asks for the client's address.
                timeout_graceful_shutdown=int(limits.SHUTDOWN_S),
                timeout_keep_alive=limits.KEEP_ALIVE_IDLE_S,
            )
        )
        self._door = door
        self._on_ready: Callable[[], None] | None = None

    async def run_on(
        self, *listeners: socket.socket, on_ready: Callable[[], None] | None = None
    ) -> None:
        """Serve on these sockets until told to stop; on none, only the life span is served."""
        self._on_ready = on_ready
        await self.serve(sockets=list(listeners))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while connections close: streams end because their runs do, or are handed over."""
        drain = asyncio.create_task(self._door.drain())
        await super().shutdown(sockets)
        await drain

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised again: we have to close yet."""
        with contextlib.ExitStack() as stack:
            for name in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(ValueError):  # Not the main thread: tests.
                    old = signal.signal(name, self.handle_exit)
                    stack.callback(signal.signal, name, old)
            yield
