"""The baselines' process: what no server on this stack can do without.

*relay*: an aiohttp client to the same upstream, its bytes passed through as they come.
*handler*: the same body types decoded, an id minted, the answer encoded, the same headers; no
store, no keys, no checks between fields.
"""

import asyncio
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from understudy.wire.assistants import Assistant, CreateAssistant
from understudy.wire.base import ListOf
from understudy.wire.messages import CreateMessage
from understudy.wire.threads import CreateThread, Thread
from understudy.wire.tools import ToolResources

_NOW = 1_700_000_000
_create_assistant = msgspec.json.Decoder(CreateAssistant)
_create_thread = msgspec.json.Decoder(CreateThread)
_create_message = msgspec.json.Decoder(CreateMessage)
_encoder = msgspec.json.Encoder()

STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def _id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


def _headers() -> dict[str, str]:
    return {
        "x-request-id": "req_" + secrets.token_hex(16),
        "openai-version": "2020-10-01",
        "openai-organization": "default",
        "openai-project": "default",
        "openai-processing-ms": "1",
    }


def _answer(found: Any) -> Response:  # Any: whatever msgspec encodes.
    return Response(_encoder.encode(found), headers=_headers(), media_type="application/json")


def _assistant(body: CreateAssistant) -> Assistant:
    return Assistant(
        id=_id("asst_"),
        created_at=_NOW,
        model=str(body.model),
        name=body.name or None,
        description=None,
        instructions=body.instructions or None,
        tools=list(body.tools or ()),
        tool_resources=ToolResources(),
        metadata={},
        temperature=1.0,
        top_p=1.0,
        response_format="auto",
        reasoning_effort=None,
    )


async def _post_assistant(request: Request) -> Response:
    return _answer(_assistant(_create_assistant.decode(await request.body())))


async def _get_assistant(request: Request) -> Response:
    return _answer(request.app.state.assistant)


async def _list_assistants(request: Request) -> Response:
    data = [request.app.state.assistant] * 20
    return _answer(ListOf(data=data, first_id=data[0].id, last_id=data[-1].id, has_more=True))


async def _post_thread(request: Request) -> Response:
    _create_thread.decode(await request.body())
    return _answer(
        Thread(id=_id("thread_"), created_at=_NOW, tool_resources=ToolResources(), metadata={})
    )


async def _post_message(request: Request) -> Response:
    body = _create_message.decode(await request.body())
    return _answer(
        {
            **request.app.state.message,
            "id": _id("msg_"),
            "thread_id": request.path_params["id"],
            "content": body.content,
        }
    )


async def _relay(request: Request) -> Response:
    response = await request.app.state.session.post(
        f"{request.app.state.upstream}/v1/chat/completions",
        data=await request.body(),
        headers={"content-type": "application/json"},
    )
    return StreamingResponse(
        _bytes(response), headers={**_headers(), **STREAM_HEADERS}, media_type="text/event-stream"
    )


async def _bytes(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with response:
        async for piece in response.content.iter_any():
            yield piece


def _app(upstream: str, example: bytes) -> Starlette:
    app = Starlette(
        routes=[
            Route("/v1/assistants", _post_assistant, methods=["POST"]),
            Route("/v1/assistants", _list_assistants, methods=["GET"]),
            Route("/v1/assistants/{id}", _get_assistant, methods=["GET"]),
            Route("/v1/threads", _post_thread, methods=["POST"]),
            Route("/v1/threads/{id}/messages", _post_message, methods=["POST"]),
            Route("/relay", _relay, methods=["POST"]),
        ]
    )
    app.state.upstream = upstream
    app.state.assistant = _assistant(_create_assistant.decode(example))
    app.state.message = {
        "object": "thread.message",
        "created_at": _NOW,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": _NOW,
        "incomplete_at": None,
        "role": "user",
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }
    return app


async def _serve(upstream: str, example: bytes) -> None:
    app = _app(upstream, example)
    app.state.session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1_000), cookie_jar=aiohttp.DummyCookieJar()
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await uvicorn.Server(config).serve(sockets=[listener])
    await app.state.session.close()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1], sys.argv[2].encode()))
