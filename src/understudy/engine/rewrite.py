"""Rewrite: a model words search queries anew (`rewrite_query`)."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import structlog

from understudy import limits
from understudy.engine.app import App
from understudy.model import ModelError
from understudy.wire.chat import ChatMessage, ChatRequest, Chunk

_log = structlog.get_logger()

_INSTRUCTIONS = (
    "You prepare searches of a document collection. Rewrite what the user looks for as one to "
    "three short search queries: the words that the wanted passage would contain, in the "
    "language of the question, each query on a line of its own. Answer with these lines only."
)


async def rewritten(app: App, queries: Sequence[str]) -> list[str]:
    """The queries as a model words them, or as they are when no model can: a search must not
    fail because of its wording."""
    name = await _model(app)
    if name is None:
        return list(queries)
    request = ChatRequest(
        model=name,
        messages=[
            ChatMessage(role="system", content=_INSTRUCTIONS),
            ChatMessage(role="user", content="\n".join(queries)),
        ],
        stream_options={"include_usage": True},
    )
    try:
        async with asyncio.timeout(limits.REWRITE_S):
            text = await _answer(app, request)
    except (ModelError, TimeoutError) as error:
        _log.warning("query_not_rewritten", reason=str(error) or "no answer")
        return list(queries)
    lines = [line.strip(" \t-*•\"'") for line in text.splitlines()]
    found = [line[: limits.SEARCH_QUERY_CHARS] for line in lines if line]
    return list(dict.fromkeys(found))[: limits.REWRITTEN_QUERIES] or list(queries)


async def _model(app: App) -> str | None:
    """The operator's own model, else the provider's first that is no embedding model."""
    if app.settings.model is not None:
        return app.settings.model
    if app.settings.upstream_url is None:
        return None  # The built-in rehearsal model does not think.
    try:
        listed = await app.model.models()
    except ModelError:
        return None
    return next((one.id for one in listed if "embed" not in one.id.lower()), None)


async def _answer(app: App, request: ChatRequest) -> str:
    text = ""
    call_id = app.world.new_id("call")
    async with aclosing(app.model.stream(request, call_id=call_id)) as chunks:
        async for batch in chunks:
            text += "".join(_text(chunk) for chunk in batch)
            if len(text) > limits.REWRITTEN_CHARS:
                break
    return text


def _text(chunk: Chunk) -> str:
    if isinstance(chunk, list):
        return "".join(chunk)
    deltas = [choice.delta for choice in chunk.choices or ()]
    return "".join(delta.content or "" for delta in deltas if delta is not None)
