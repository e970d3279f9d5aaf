"""A small provider of embeddings in this process, with the limits and the moods of real ones."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from understudy.machine import tokens
from understudy.search.embed_hash import HashEmbedder
from understudy.wire.models import CreateEmbedding, Embedding, EmbeddingList, EmbeddingUsage


class Failed(Exception):
    """A failure as a model adapter reports it."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s


def failure(error: Exception) -> Failed | None:
    """What an adapter gives to the embedder: None for what is no failure of the provider."""
    return error if isinstance(error, Failed) else None


@dataclass
class Provider:
    """Answers `ask`; `failures` are raised first, one a call."""

    most: int = 10_000
    longest: int = 100_000
    refusal: Failed = field(default_factory=lambda: Failed("too long", status=400))
    failures: list[Exception] = field(default_factory=list)
    change: Callable[[list[list[float]]], list[list[float]]] = lambda vectors: vectors
    as_base64: bool = False
    calls: list[list[str]] = field(default_factory=list)

    async def ask(self, body: CreateEmbedding, model: str) -> EmbeddingList:
        """Vectors of hashed words."""
        texts = [text for text in body.input if isinstance(text, str)]
        assert len(texts) == len(body.input)
        self.calls.append(texts)
        if self.failures:
            raise self.failures.pop(0)
        if len(texts) > self.most or any(tokens.count(text) > self.longest for text in texts):
            raise self.refusal
        size = body.dimensions if isinstance(body.dimensions, int) else 64
        found = await HashEmbedder(size).embed(texts, is_query=False)
        vectors = self.change((found.vectors * 3).tolist())
        return EmbeddingList(
            data=[
                Embedding(index=at, embedding=self._spelt(vector))
                for at, vector in enumerate(vectors)
            ],
            model=model,
            usage=EmbeddingUsage(prompt_tokens=0, total_tokens=0),
        )

    def _spelt(self, vector: list[float]) -> list[float] | str:
        if not self.as_base64:
            return vector
        return base64.b64encode(np.array(vector, "<f4").tobytes()).decode()
