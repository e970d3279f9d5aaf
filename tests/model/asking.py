"""What the tests of the client share: to ask, to fail, and to look at chunks."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from tests.model.conftest import Rehearsal
from understudy.model import ModelError
from understudy.model.chat import ChatModel
from understudy.wire.chat import (
    ChatChunk,
    ChatFunction,
    ChatMessage,
    ChatRequest,
    ChatTool,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    ChunkToolCall,
)

SORRY = "Sorry, something went wrong. "


def ask(text: str = "Hello", **fields: Any) -> ChatRequest:
    """A request with one user message."""
    return ChatRequest(
        model=fields.pop("model", "m"), messages=[ChatMessage(role="user", content=text)], **fields
    )


async def stream(model: ChatModel, request: ChatRequest | None = None) -> list[ChatChunk]:
    """Every chunk of an answer."""
    lists = [chunks async for chunks in model.stream(request or ask(), call_id="call_1")]
    return whole(chunk for chunks in lists for chunk in chunks)


def whole(chunks: Iterable[Chunk]) -> list[ChatChunk]:
    """The same, with the chunks that texts stand for."""
    return [
        one
        for chunk in chunks
        for one in (map(_chunk, chunk) if isinstance(chunk, list) else [chunk])
    ]


def _chunk(text: str) -> ChatChunk:
    return ChatChunk(choices=[ChunkChoice(delta=ChunkDelta(content=text))])


async def fail(model: ChatModel, request: ChatRequest | None = None) -> ModelError:
    """The error that an answer ends with."""
    with pytest.raises(ModelError) as caught:
        await stream(model, request)
    return caught.value


def text(chunks: list[ChatChunk]) -> str:
    """The content of an answer."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices or ()]
    return "".join(delta.content or "" for delta in deltas if delta)


def calls(chunks: list[ChatChunk]) -> list[ChunkToolCall]:
    """The pieces of tool calls."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices or ()]
    return [call for delta in deltas if delta for call in delta.tool_calls or ()]


def finish(chunks: list[ChatChunk]) -> list[str]:
    """The finish reasons."""
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices or ()]
    return [reason for reason in reasons if reason]


def refusal(
    status: int, message: str = "", headers: dict[str, str] | None = None, **error: object
) -> dict[str, Any]:
    """A step that answers with an error."""
    body = {"error": {"message": message, **error}}
    return {"status": status, "headers": headers or {}, "body": body}


TOOL = ChatTool(function=ChatFunction(name="get_weather", parameters={}, strict=True))


async def until_left(rehearsal: Rehearsal) -> None:
    """Wait until the server noticed that we left, a second at most."""
    for _ in range(100):
        if rehearsal.calls()[0]["left_early"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the socket is still open")
