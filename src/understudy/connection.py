"""Connection: HTTP/1.1 as uvicorn speaks it, with a bounded head and few writes."""

import asyncio
import re
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from understudy import limits
from understudy.api.transport import ANSWER, BODY_IS_WHOLE, PUSH

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # As uvicorn has it, for values of headers.


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, declining every offer to upgrade.

    Java's own client offers HTTP/2 with the first request of each connection. httptools takes an
    offer for the end of HTTP and drops the body, so the head is parsed once more without it.
    """

    _head_bytes: int | None = 0  # Of the head that is being read; None: it is complete.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there. uvicorn asks for a Transport, and uvloop's derive from none."""
        gathering = cast("asyncio.Transport", Gathering(cast("asyncio.Transport", transport)))
        super().connection_made(gathering)

    def data_received(self, data: bytes) -> None:
        """What came from the client."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse("Invalid HTTP request received.")
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > limits.HEAD_BYTES:
                self._refuse("The request's head is too long.")

    def on_headers_complete(self) -> None:
        """The request can be answered now, unless its head has to be read again."""
        self._head_bytes = None
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        self._head_bytes = 0
        if not self.parser.should_upgrade():
            answer = weakref.ref(self.cycle)  # It holds the scope; both would be garbage in a ring.
            extensions: dict[str, Any] = {
                BODY_IS_WHOLE: {},
                PUSH: partial(_pushed, answer),
                ANSWER: partial(_answered, answer),
            }
            self.scope["extensions"] = extensions
            super().on_message_complete()

    def _decline(self, rest: bytes) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":  # A tunnel is no offer, and would be declined for ever.
            self._refuse("Invalid HTTP request received.")
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _refuse(self, reason: str) -> None:
        self.logger.warning(reason)
        self.send_400_response(reason)


def _pushed(of: "weakref.ref[RequestResponseCycle]", piece: bytes) -> bool:
    """Send a piece of an answer that has begun, as its `send` would, if that would not wait."""
    answer = of()
    if (
        answer is None
        or answer.flow.write_paused
        or answer.disconnected
        or not answer.chunked_encoding
    ):
        return False
    if answer.response_complete or answer.transport.is_closing():
        return False
    answer.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    return True


def _answered(
    of: "weakref.ref[RequestResponseCycle]", status: int, headers: Mapping[str, str], body: bytes
) -> bool:
    """Send a whole answer as its `send` would in two steps, each header looked at by itself: a
    tenth of what a small request costs. What is not as usual is left to `send`."""
    answer = of()
    if answer is None:
        return False
    transport = answer.transport
    if answer.flow.write_paused or answer.disconnected or transport.is_closing():
        return False
    if answer.response_started or not answer.keep_alive:
        return False
    if _CONTROL.search("".join(headers.values())):
        return False
    own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    lines = [b"%b: %b\r\n" % header for header in answer.default_headers]
    head = b"%b%b%b\r\n" % (STATUS_LINE[status], b"".join(lines), own.encode("latin-1", "replace"))
    answer.response_started = answer.response_complete = True
    answer.waiting_for_100_continue = False
    cast("Gathering", transport).send(head + body)
    answer.message_event.set()
    answer.on_response()
    return True


class Gathering:
    """A transport that sends the head of an answer together with the body.

    uvicorn writes them one after the other, uvloop makes a system call of each, and the client is
    woken by each. A head that nothing follows goes two turns of the loop later.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""

    def write(self, data: bytes) -> None:
        """Send this; a head may wait for a moment."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(b"HTTP/"):
            self._head = data
            self._loop.call_soon(self._loop.call_soon, self._flush)
        else:
            self._transport.write(data)

    def send(self, answer: bytes) -> None:
        """Send a head with its body."""
        self._flush()
        self._transport.write(answer)

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():  # The client may be gone by now.
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:  # Any: whatever the transport has.
        return getattr(self._transport, name)
