"""A kernel of a Jupyter server: requests go out on its channel, what comes back is sorted.

Everything that comes is read at once, and forgotten at once when it does not belong to the request
under way: nothing is queued, so that no flood fills this server's memory or, for want of a reader,
the other one's. How a request ends is a value, never an exception.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from understudy import limits
from understudy.sandbox.jupyter import messages
from understudy.sandbox.jupyter.http import Server
from understudy.sandbox.jupyter.messages import Busy, Dying, Idle, Message, Output, Reply

_QUICK: int = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)  # Linux forgets it each time.


@dataclass(frozen=True)
class Cut:
    """The connection has ended. What the request does there is unknown."""


@dataclass(frozen=True)
class Foul:
    """The messages were too many or too large. The request may be going on."""


@dataclass(frozen=True)
class Unheard:
    """The one who listens has failed."""

    error: Exception


Ending = Reply | Dying | Cut | Foul | Unheard


class Request:
    """A request under way. `hear` gets its output; without it there is none."""

    def __init__(self, msg_id: str, hear: Callable[[Output], None] | None) -> None:
        self.msg_id = msg_id
        self.is_heard = False  # Whether anything came on the way that outputs take.
        self._hear = hear
        self._room = limits.JUPYTER_CALL_CHARS
        self._reply: Reply | None = None
        self._is_idle = hear is None
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = self._loop.create_future()
        self._begun: asyncio.Future[None] = self._loop.create_future()

    async def begun(self, timeout_s: float) -> bool:
        """Whether the kernel takes it up within a time. One that the server has ended does not,
        and nobody says so."""
        await asyncio.wait([self._begun], timeout=timeout_s)
        return self._begun.done()

    async def ended(self, timeout_s: float) -> Ending | None:
        """How it ended; None if it does not within a time."""
        await asyncio.wait([self._ending], timeout=timeout_s)
        return self._ending.result() if self._ending.done() else None

    def end(self, ending: Ending) -> None:
        """It is over. The first ending counts."""
        if not self._ending.done():
            self._ending.set_result(ending)
        self._begin()

    def _begin(self) -> None:
        if not self._begun.done():
            self._begun.set_result(None)

    def take(self, frame: str) -> None:
        """One more frame of the kernel's channel."""
        if self._ending.done():
            return
        self._room -= len(frame)
        if self._room < 0:
            self.end(Foul())
        elif message := messages.understood(frame, self.msg_id):
            self._take(message)

    def _take(self, message: Message) -> None:
        match message:
            case Dying():
                self.end(message)
            case Busy():
                self.is_heard = True
                self._begin()
            case Idle():
                self.is_heard = self._is_idle = True
                if self._reply is not None:
                    self.end(self._reply)
            case Reply() if self._is_idle:
                self.end(message)
            case Reply():
                self._reply = message
                self._loop.call_later(limits.JUPYTER_IDLE_S, self.end, message)
            case _ if self._hear is not None:
                try:
                    self._hear(message)
                except Exception as error:  # noqa: BLE001 - the caller gets it, as it is.
                    self.end(Unheard(error))


class Kernel:
    """One kernel, for one request at a time."""

    def __init__(self, server: Server, kernel_id: str, new_id: Callable[[str], str]) -> None:
        self.id = kernel_id
        self.request: Request | None = None  # The last one.
        self._server = server
        self._new_id = new_id
        self._channels: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(
        self,
        code: str = "",
        *,
        expression: str | None = None,
        hear: Callable[[Output], None] | None = None,
    ) -> Request:
        """Have code run, or an expression evaluated. Raises SandboxUnavailable and KernelGone."""
        channels = await self._connected()
        request = self.request = Request(self._new_id("request"), hear)
        text = messages.request(request.msg_id, self._new_id("boot"), code, expression)
        try:
            async with asyncio.timeout(limits.CODE_ANSWER_S):
                await channels.send_str(text)
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError):
            request.end(Cut())
        return request

    async def interrupt(self) -> None:
        """Interrupt the request under way. Raises SandboxUnavailable and KernelGone."""
        await self._server.interrupt(self.id)

    async def restart(self) -> None:
        """A new process: variables are gone. Raises SandboxUnavailable and KernelGone."""
        self.hang_up()
        await self._server.restart(self.id)

    async def delete(self) -> None:
        """End it. Raises SandboxUnavailable and KernelGone."""
        self.hang_up()
        if self._closing:
            await asyncio.wait(self._closing)
        await self._server.delete(self.id)

    def hang_up(self) -> None:
        """End the connection, and with it the request under way. The next one opens another."""
        if self._reader is not None:
            self._closing.add(self._reader)
            self._reader.add_done_callback(self._closing.discard)
            self._reader.cancel()
        self._reader = self._channels = None
        if self.request is not None:
            self.request.end(Cut())

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        if self._channels is not None and not self._channels.closed:
            return self._channels
        self.hang_up()
        # A session id that the server has not seen: it shall not send what it kept for another.
        channels = await self._server.channels(self.id, self._new_id("boot"))
        self._channels = channels
        self._reader = asyncio.create_task(self._read(channels))
        return channels

    async def _read(self, channels: aiohttp.ClientWebSocketResponse) -> None:
        ending: Ending = Cut()
        try:
            async for message in channels:
                if message.type is aiohttp.WSMsgType.ERROR:
                    if isinstance(message.data, aiohttp.WebSocketError):
                        ending = Foul()
                    break
                _acknowledge(channels)
                if message.type is aiohttp.WSMsgType.TEXT and self.request is not None:
                    self.request.take(message.data)
        finally:
            if self._channels is channels and self.request is not None:
                self.request.end(ending)
            await channels.close()


def _acknowledge(channels: aiohttp.ClientWebSocketResponse) -> None:
    """Tell the other end at once that a message has come. Jupyter sends an answer as several small
    messages, of which the second waits for the first to be acknowledged: 40 ms of nothing."""
    if connection := channels.get_extra_info("socket"):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)
