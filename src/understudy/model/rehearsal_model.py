"""The rehearsal model inside the server's own process: the default when no provider is named."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from understudy.model import When
from understudy.model.embeddings import as_asked
from understudy.model.failures import failed, from_answer
from understudy.model.reading import Reading
from understudy.model.rehearsal import (
    DIMENSIONS,
    are_dimensions,
    count,
    embed_inputs,
    listed,
    part,
    vector,
)
from understudy.model.rehearsal_play import Emission, Pause, Performance, Plays, Refusal, frame
from understudy.model.rehearsal_script import BadScript
from understudy.wire.base import given
from understudy.wire.chat import ChatRequest, Chunk
from understudy.wire.models import CreateEmbedding, Embedding, EmbeddingList, EmbeddingUsage, Model
from understudy.world import World


class RehearsalModel:
    """Plays the same steps as the rehearsal server, without a socket."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._plays = Plays()

    async def stream(
        self, request: ChatRequest, *, call_id: str, when: When | None = None
    ) -> AsyncGenerator[list[Chunk], None]:
        """The answer, one list per step of the performance."""
        if when is not None:
            await when()
        body: dict[str, Any] = msgspec.to_builtins(request)
        body.setdefault("stream_options", {"include_usage": True})
        try:
            steps = part(body)
        except BadScript as error:
            raise failed(str(error), status=400) from None
        reading = Reading()
        for emission in Performance(body, self._world, self._plays).emissions(steps):
            if chunks := reading.take(await self._bytes(emission, reading)):
                yield chunks
            await asyncio.sleep(0)  # A long text must not hold up the loop.
        if chunks := reading.end():
            yield chunks

    async def _bytes(self, emission: Emission, reading: Reading) -> bytes:
        """What a provider would have sent by now; raises where it fails."""
        match emission:
            case dict():
                return frame(emission)
            case bytes():
                return emission
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return b""
            case Refusal(status, headers, body):
                if status < 300:
                    return body
                error = from_answer(status, headers, body, secrets=(), now=self._world.now())
                error.retryable = error.retryable and not reading.has_yielded
                raise error
            case "silence":
                await asyncio.Event().wait()
                return b""
            case "drop":
                raise reading.cut()

    async def models(self) -> list[Model]:
        """Its own two names."""
        return listed()

    async def resolve(self, name: str) -> str:
        """It answers to any name."""
        return name

    async def embed(self, body: CreateEmbedding, model: str) -> EmbeddingList:
        """Hash embeddings."""
        inputs = embed_inputs(body.input)
        dimensions = given(body.dimensions, DIMENSIONS)
        if not are_dimensions(dimensions):
            raise failed(f"The rehearsal model cannot make {dimensions} dimensions.", status=400)
        tokens = sum(count(text) if isinstance(text, str) else len(text) for text in inputs)
        return EmbeddingList(
            data=[
                Embedding(
                    index=index, embedding=as_asked(vector(text, dimensions), body.encoding_format)
                )
                for index, text in enumerate(inputs)
            ],
            model=model,
            usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
        )

    async def close(self) -> None:
        """Nothing is open."""
