"""Rerank: passages in the order that a cross-encoder gives them, by the `/rerank` wire.

Cohere, Jina, vLLM, llama.cpp and text-embeddings-inference speak it: a query and texts go out,
`results` with an `index` and a `relevance_score` come back. Scores outside 0..1 are logits.
"""

import math
from collections.abc import Sequence

import aiohttp
import msgspec

from understudy import limits
from understudy.search import EmbedderError


class _Result(msgspec.Struct, frozen=True):
    """A text as the reranker sees it."""

    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Answer(msgspec.Struct, frozen=True):
    """What a reranker answers; some have the list alone."""

    results: list[_Result]


class Reranker:
    """A reranker behind a URL; `<url>/rerank` is asked."""

    def __init__(self, url: str, *, model: str | None, key: str | None) -> None:
        self._url = url.rstrip("/") + "/rerank"
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, 0 to 1. Raises EmbedderError."""
        body: dict[str, object] = {"query": query, "documents": list(texts), "top_n": len(texts)}
        if self._model is not None:
            body["model"] = self._model
        try:
            answer = await self._asked(msgspec.json.encode(body))
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise EmbedderError("The reranker could not be reached.", retryable=True) from None
        return _scores(answer, len(texts))

    async def _asked(self, body: bytes) -> bytes:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=limits.RERANK_S)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        headers = {"Content-Type": "application/json", **self._headers}
        async with self._session.post(self._url, data=body, headers=headers) as response:
            if response.status != 200:
                raise EmbedderError(
                    f"The reranker answered with status {response.status}.",
                    retryable=response.status == 429 or response.status >= 500,
                )
            answer = b""
            async for piece in response.content.iter_any():
                answer += piece
                if len(answer) > limits.RERANK_BYTES:
                    raise EmbedderError("The reranker's answer is too long.")
            return answer

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def _scores(answer: bytes, count: int) -> list[float]:
    """The scores in the order of the texts; exactly one for each."""
    try:
        results = msgspec.json.decode(answer, type=_Answer | list[_Result])
    except msgspec.DecodeError:
        raise EmbedderError("The reranker's answer cannot be read.") from None
    found: dict[int, float] = {}
    for result in results.results if isinstance(results, _Answer) else results:
        value = result.relevance_score if result.relevance_score is not None else result.score
        if value is None or not math.isfinite(value):
            raise EmbedderError("The reranker gave a text no score.")
        found[result.index] = value
    if sorted(found) != list(range(count)):
        raise EmbedderError("The reranker did not give each text one score.")
    values = [found[place] for place in range(count)]
    if all(0.0 <= value <= 1.0 for value in values):
        return values
    return [1 / (1 + math.exp(-max(-60.0, min(60.0, value)))) for value in values]
