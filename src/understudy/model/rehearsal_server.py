"""The rehearsal model as a provider of its own: an HTTP server for demos, tests and load runs.

`POST /v1/chat/completions`, `GET /v1/models` and `POST /v1/embeddings` speak the wire of real
providers; `/rehearsal/*` sets scripts and lists the calls that came (docs/rehearsal.md).
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from understudy import limits
from understudy.model.embeddings import as_asked
from understudy.model.rehearsal import (
    DIMENSIONS,
    are_dimensions,
    count,
    embed_inputs,
    listed,
    messages_of,
    own_answer,
    vector,
)
from understudy.model.rehearsal_calls import Call, Calls
from understudy.model.rehearsal_play import (
    Emission,
    Pause,
    Performance,
    Plays,
    Refusal,
    completion,
    frame,
    refusal,
)
from understudy.model.rehearsal_script import (
    BadScript,
    Script,
    Step,
    read_script,
    scripted,
    turn_number,
)
from understudy.world import World

_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_BREATH = 64  # Emissions between two chances for other connections.


class Stage:
    """The server's state: scripts by model, counted steps, calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plays = Plays()
        self.calls = Calls()
        self.scripts: dict[str | None, Script] = {}  # None: for every other model.

    def steps(self, body: dict[str, Any]) -> list[Step]:
        """The prompt's script, else the model's, else the default one, else the own answer."""
        messages = messages_of(body)
        model = body.get("model")
        script = scripted(messages) or self.scripts.get(model) or self.scripts.get(None)
        steps = script.turn(turn_number(messages)) if script else None
        return own_answer(body) if steps is None else steps

    def reset(self) -> None:
        """Forget everything."""
        self.plays.counts.clear()
        self.calls.clear()
        self.scripts.clear()


def rehearsal_app(world: World | None = None) -> Starlette:
    """The server as an ASGI app; each app has a state of its own."""
    stage = Stage(world or World())

    def on(handler: Callable[[Stage, Request], Awaitable[Any]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Any:
            return await handler(stage, request)

        return endpoint

    return Starlette(
        routes=[
            Route("/v1/chat/completions", on(_chat), methods=["POST"]),
            Route("/v1/embeddings", on(_embed), methods=["POST"]),
            Route("/v1/models", on(_models), methods=["GET"]),
            Route("/rehearsal/script", on(_set_script), methods=["POST"]),
            Route("/rehearsal/calls", on(_list_calls), methods=["GET"]),
            Route("/rehearsal/reset", on(_reset), methods=["POST"]),
        ]
    )


def _json(found: Any, status: int = 200) -> Response:
    """Any JSON answer."""
    return Response(msgspec.json.encode(found), status, media_type="application/json")


def _refused(found: Refusal) -> Response:
    """An answer that is no stream."""
    return Response(found.body, found.status, found.headers, found.content_type)


async def _received(stage: Stage, request: Request) -> tuple[Call, dict[str, Any] | None]:
    """The noted call and its JSON object."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size <= limits.JSON_BODY_BYTES:
            pieces.append(piece)
    try:
        body = msgspec.json.decode(b"".join(pieces)) if size <= limits.JSON_BODY_BYTES else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = None
    call = stage.calls.add(request.url.path, request.headers, body, size, stage.world.now())
    return call, body if isinstance(body, dict) else None


async def _chat(stage: Stage, request: Request) -> ASGIApp:
    """POST /v1/chat/completions."""
    call, body = await _received(stage, request)
    if body is None:
        call.status = 400
        return _refused(refusal(400, "The body is not a JSON object."))
    try:
        steps = stage.steps(body)
    except BadScript as error:
        call.status = 400
        return _refused(refusal(400, str(error)))
    performance = Performance(body, stage.world, stage.plays)

    async def perform(scope: Scope, receive: Receive, send: Send) -> None:
        left = asyncio.Event()
        watch = asyncio.create_task(_watch(receive, left), name="client leaves")
        try:
            show = _stream if body.get("stream") is True else _whole
            await show(performance, steps, call, send, left)
        finally:
            watch.cancel()
            call.ended_at = stage.world.now()
            if left.is_set():
                call.left_early, call.left_at = True, call.ended_at

    return perform


async def _watch(receive: Receive, left: asyncio.Event) -> None:
    """Notice that the client closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    left.set()


async def _wait(left: asyncio.Event, seconds: float | None) -> None:
    """Do nothing, but end early when the client leaves."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await left.wait()


async def _start(send: Send, call: Call, headers: list[tuple[bytes, bytes]]) -> None:
    """The head of an answer."""
    call.status = 200
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _refuse(found: Refusal, call: Call, send: Send) -> None:
    """A whole answer that is no completion."""
    call.status = found.status
    length = (b"content-length", str(len(found.body)).encode())
    headers = [(b"content-type", found.content_type.encode()), length]
    headers += [(name.lower().encode(), value.encode()) for name, value in found.headers.items()]
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": found.body})


async def _stream(
    performance: Performance, steps: list[Step], call: Call, send: Send, left: asyncio.Event
) -> None:
    """Server-sent events; the head goes out with the first thing to say.

    Returning without an end of the body is the abrupt close: the server below then closes the
    connection.
    """
    has_begun = False
    for number, emission in enumerate(performance.emissions(steps)):
        if number % _BREATH == 0:
            await asyncio.sleep(0)  # Sending seldom waits; others want their turn.
        if left.is_set():
            return
        if isinstance(emission, Pause):
            await _wait(left, emission.seconds)
            continue
        if isinstance(emission, Refusal) and not has_begun:
            await _refuse(emission, call, send)
            return
        if emission == "silence":
            await _wait(left, None)
            return
        if not has_begun:
            has_begun = True
            await _start(send, call, _STREAM)
        if emission == "drop":
            return
        await send({"type": "http.response.body", "body": _encoded(emission), "more_body": True})
    if not has_begun:
        await _start(send, call, _STREAM)
    await send({"type": "http.response.body", "body": b""})


def _encoded(emission: Emission) -> bytes:
    """What a chunk, or a late refusal, looks like inside a stream."""
    match emission:
        case dict():
            return frame(emission)
        case bytes():
            return emission
        case Refusal():
            return b"data: " + emission.body + b"\n\n"
        case _:
            return b""


async def _whole(
    performance: Performance, steps: list[Step], call: Call, send: Send, left: asyncio.Event
) -> None:
    """One JSON body for those who do not stream."""
    chunks: list[dict[str, Any]] = []
    for emission in performance.emissions(steps):
        match emission:
            case dict() if emission.get("choices"):
                chunks.append(emission)
            case Pause(seconds):
                await _wait(left, seconds)
            case Refusal():
                await _refuse(emission, call, send)
                return
            case "silence":
                await _wait(left, None)
                return
            case "drop":
                await _start(send, call, [(b"content-length", b"1000")])
                return
            case _:
                pass
    body = msgspec.json.encode(completion(chunks, performance.usage()))
    await _refuse(Refusal(200, {}, body), call, send)


async def _models(stage: Stage, request: Request) -> Response:
    """GET /v1/models."""
    call = stage.calls.add(request.url.path, request.headers, None, 0, stage.world.now())
    call.status = 200
    return _json({"object": "list", "data": listed()})


async def _embed(stage: Stage, request: Request) -> Response:
    """POST /v1/embeddings."""
    call, body = await _received(stage, request)
    inputs = embed_inputs(body.get("input")) if body else []
    dimensions = body.get("dimensions", DIMENSIONS) if body else 0
    call.status = 200 if body and inputs and are_dimensions(dimensions) else 400
    if body is None or call.status == 400:
        return _refused(refusal(400, "The input or the dimensions of this request are not valid."))
    tokens = sum(count(text) if isinstance(text, str) else len(text) for text in inputs)
    return _json(
        {
            "object": "list",
            "model": body.get("model") or "rehearsal-embedding",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": as_asked(
                        vector(text, dimensions), body.get("encoding_format", "float")
                    ),
                }
                for index, text in enumerate(inputs)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


async def _set_script(stage: Stage, request: Request) -> Response:
    """POST /rehearsal/script: {"model": name or null, "script": {...} or null to remove it}."""
    try:
        found = msgspec.json.decode(await request.body(), type=dict[str, Any])
        model, script = found.get("model"), found.get("script")
        if script is None:
            stage.scripts.pop(model, None)
        else:
            stage.scripts[model] = read_script(script)
    except (msgspec.DecodeError, UnicodeDecodeError, BadScript) as error:
        return _refused(refusal(400, str(error)))
    return _json({"model": model})


async def _list_calls(stage: Stage, _request: Request) -> Response:
    """GET /rehearsal/calls."""
    return _json({"total": stage.calls.total, "data": list(stage.calls.ring)})


async def _reset(stage: Stage, _request: Request) -> Response:
    """POST /rehearsal/reset."""
    stage.reset()
    return _json({})


def _server(world: World | None, log_level: str | None = None) -> uvicorn.Server:
    """The HTTP server around a new app. A log level would hold for the whole process."""
    return uvicorn.Server(
        uvicorn.Config(
            rehearsal_app(world),
            log_config=None,
            log_level=log_level,
            access_log=False,
            lifespan="off",
            ws="none",
            backlog=4_096,
            timeout_graceful_shutdown=1,
        )
    )


def _listener(host: str, port: int) -> socket.socket:
    """A listening socket: clients may connect from now on, even before the server runs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=4_096)
    # Connections inherit it; asyncio sets it only where a socket names its protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve_rehearsal(
    host: str, port: int, *, world: World | None = None, ready: Callable[[int], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told the port once clients can connect."""
    with _listener(host, port) as listener:
        if ready is not None:
            ready(listener.getsockname()[1])
        # uvicorn would report each abrupt close that a script asks for.
        await _server(world, log_level="critical").serve(sockets=[listener])


@contextmanager
def running_rehearsal(host: str = "127.0.0.1", *, world: World | None = None) -> Iterator[str]:
    """A rehearsal server in a thread of its own, at a free port; yields its URL without /v1."""
    listener = _listener(host, 0)
    server = _server(world)

    def run() -> None:
        asyncio.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run, name="rehearsal", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()
