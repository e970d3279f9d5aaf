"""The upstream process: a raw chat completions provider, quick enough not to be the bottleneck.

The model's name says what it plays: `deltas-200` writes 200 content chunks one at a time with a
loop turn between, `deltas-200-20` waits 20 ms before each, and `silent` sends a head and nothing
more. `stamps-100-50` writes 100 chunks, one every 50 ms by the clock, each with its number and the
machine's monotonic time: how late it is heard is how long it was under way. `waits-100` says
nothing for 100 ms, and then a few words at once. `calls-300-10` calls a function, and says 300
words as above once it has the output. GET /closed tells when a client last closed the connection of
an unfinished answer, GET /arrivals when each call came, by its name and in unix seconds.
"""

import asyncio
import json
import re
import sys
import time
from typing import cast

import uvloop

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_CALL = re.compile(rb"\r\nx-understudy-call: *(\S+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": *"(?:(deltas|stamps|waits|calls)-(\d+)(?:-(\d+))?|silent)"')
_OUTPUT = re.compile(rb'"role": *"tool"')
_SHAPE = (
    '{{"id":"chatcmpl-123456789","object":"chat.completion.chunk","created":1700000000,'
    '"model":"m","system_fingerprint":"fp_44709d6fcb","choices":[{choices}],"usage":{usage}}}'
)
_CHOICE = '{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'

streams = 0  # Of stamps, so far.
arrivals: dict[str, float] = {}
closed_at = 0.0  # When a client last left before the end, on the machine's monotonic clock.


def _http_chunk(data: str) -> bytes:
    text = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(text), text)


def _chunk(delta: str, finish: str = "null") -> bytes:
    choice = _CHOICE.format(delta=delta, finish=finish)
    return _http_chunk(_SHAPE.format(choices=choice, usage="null"))


_ROLE = _chunk('{"role":"assistant"}')
_WORD = _chunk('{"content":" word"}')
# The same length for every number and time.
_STAMPED = _chunk('{"content":"000000@0000000000.000000 "}').replace(
    b"000000@0000000000.000000", b"%06d@%017.6f"
)
_GOLDEN = 0.618034  # Multiples of it, without their whole part, are spread evenly.
_USAGE = '{"prompt_tokens":10,"completion_tokens":200,"total_tokens":210}'
_LAST = [
    _http_chunk(_SHAPE.format(choices="", usage=_USAGE)),
    _http_chunk("[DONE]") + b"0\r\n\r\n",
]
_END = [_chunk("{}", '"stop"'), *_LAST]
_CALLS_FUNCTION = [
    _chunk(
        '{"tool_calls":[{"index":0,"id":"call_123456789012345678901234","type":"function",'
        '"function":{"name":"get_weather","arguments":""}}]}'
    ),
    _chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\": "}}]}'),
    _chunk('{"tool_calls":[{"index":0,"function":{"arguments":"\\"Oslo\\"}"}}]}'),
    _chunk("{}", '"tool_calls"'),
    *_LAST,
]


class _Provider(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._came_at = 0.0  # When the first byte of a request came.
        self._answer: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._buffer:
            self._came_at = time.time()
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        self._buffer = b""
        if head.startswith(b"GET /closed"):
            self._json({"closed_at": closed_at})
        elif head.startswith(b"GET /arrivals"):
            self._json(arrivals)
        elif head.startswith(b"GET"):
            self._json({"object": "list", "data": []})
        else:
            call = _CALL.search(head)
            if call is not None:
                arrivals[call[1].decode()] = self._came_at
            self._answer = asyncio.create_task(self._play(body))

    def _json(self, found: object) -> None:
        body = json.dumps(found).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)

    async def _play(self, body: bytes) -> None:
        model = _MODEL.search(body)
        assert model is not None, f"an unknown model in {body!r}"
        if model[1] == b"waits":
            await asyncio.sleep(int(model[2]) / 1000)
            self._transport.write(b"".join([_HEAD, _ROLE, *[_WORD] * 5, *_END]))
            return
        self._transport.write(_HEAD)
        if model[1] is None:
            await asyncio.Event().wait()
        count, pause_s = int(model[2]), int(model[3] or 0) / 1000
        self._transport.write(_ROLE)
        end = _END
        if model[1] == b"stamps":
            await self._stamp(count, pause_s)
        elif model[1] == b"calls" and _OUTPUT.search(body) is None:
            end = _CALLS_FUNCTION
        else:
            await self._speak(count, pause_s)
        for chunk in end:
            await asyncio.sleep(0)
            self._transport.write(chunk)

    async def _speak(self, count: int, pause_s: float) -> None:
        for _ in range(count):
            await asyncio.sleep(pause_s)
            self._transport.write(_WORD)

    async def _stamp(self, count: int, pause_s: float) -> None:
        """Timers cost a third of what sleeping does, and do not drift."""
        global streams
        streams += 1
        loop = asyncio.get_running_loop()
        at = loop.time() + pause_s * (streams * _GOLDEN % 1)
        end = loop.create_future()

        def write(number: int) -> None:
            if end.done():
                return  # The client is gone.
            self._transport.write(_STAMPED % (number, time.monotonic()))
            if number + 1 == count:
                end.set_result(None)
            else:
                loop.call_at(at + (number + 1) * pause_s, write, number + 1)

        loop.call_at(at, write, 0)
        await end

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            global closed_at
            closed_at = time.monotonic()
            self._answer.cancel()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Provider, "127.0.0.1", 0, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
