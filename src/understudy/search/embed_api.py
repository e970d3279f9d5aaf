"""Embeddings of a provider: texts in batches, with patience, and nothing taken on trust.

What the provider can take at once is found out by asking: a batch that it refuses is halved, and
so is a text that it refuses alone. What then worked is remembered, so that the next texts are cut
before they are sent.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from msgspec import UNSET

from understudy import limits
from understudy.machine import tokens
from understudy.search import Embedded, EmbedderError, Vectors
from understudy.search.chunk import chunks, mended
from understudy.search.vectors import embedded, normalised
from understudy.wire.models import CreateEmbedding, EmbeddingList

Ask = Callable[[CreateEmbedding, str], Awaitable[EmbeddingList]]
# How providers say that a text is too long for them, in a refusal or in a 500.
_TOO_LONG = re.compile(
    r"context (length|size|window)|too (long|large|many tokens)|maximum.{0,40}(token|length|input)"
    r"|less than \d+ tokens|input length|batch size|exceed",
    re.IGNORECASE,
)
_REFUSALS = frozenset({400, 413, 422})


class Failure(Protocol):
    """How a provider failed, whatever the class of the exception that carries it."""

    @property
    def message(self) -> str:
        """May be shown to a client."""
        ...

    @property
    def retryable(self) -> bool:
        """Whether the same call may work later."""
        ...

    @property
    def retry_after_s(self) -> float | None:
        """How long the provider asks to wait."""
        ...

    @property
    def status(self) -> int | None:
        """Its HTTP status, where there was an answer."""
        ...


class _Refused(Exception):
    """The provider does not take this much."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text, or a window of one."""

    text: str
    owner: int
    size_tokens: int


class ApiEmbedder:
    """Embeds through `ask`, which raises what `failure` understands; other exceptions pass."""

    def __init__(
        self,
        ask: Ask,
        model: str,
        *,
        failure: Callable[[Exception], Failure | None],
        dimensions: int | None = None,
    ) -> None:
        self._ask = ask
        self._model = model
        self._failure = failure
        self._dimensions = dimensions
        self._found_dimensions = dimensions
        self._longest = limits.EMBEDDED_TEXT_TOKENS
        self._most = limits.EMBEDDED_TEXTS
        self.name = model if dimensions is None else f"{model}-{dimensions}"

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """The vectors of the texts; a query has exactly one."""
        pieces = self._pieces(
            _Piece(text, at, tokens.count(text)) for at, text in enumerate(map(mended, texts))
        )
        rows: list[Vectors] = []
        owners: list[int] = []
        at = 0
        while at < len(pieces):
            batch = pieces[at : at + self._fitting(pieces, at)]
            for piece, vector in await self._whole(batch):
                owners.append(piece.owner)
                rows.append(vector)
            at += len(batch)
        return embedded(rows, owners, np.ones(len(texts), np.float32), is_query=is_query)

    async def close(self) -> None:
        """The connections belong to whoever gave `ask`."""

    def _pieces(self, pieces: Iterable[_Piece]) -> list[_Piece]:
        """The pieces, those that are too long in windows."""
        return [window for piece in pieces for window in _cut(piece, self._longest)]

    def _fitting(self, pieces: list[_Piece], at: int) -> int:
        """How many pieces from here on make a batch: at least one."""
        total = 0
        for count, piece in enumerate(pieces[at : at + self._most]):
            total += piece.size_tokens
            if count and total > limits.EMBEDDED_BATCH_TOKENS:
                return count
        return min(self._most, len(pieces) - at)

    async def _whole(self, batch: list[_Piece]) -> list[tuple[_Piece, Vectors]]:
        """The pieces, or windows of them, with their vectors; a refused batch comes in halves.

        Each level halves the texts, then the tokens of one: the depth is bounded.
        """
        batch = self._pieces(batch)  # What was learnt since they were cut counts.
        try:
            return list(zip(batch, await self._patiently(batch), strict=True))
        except _Refused as refusal:
            halves = _halves(batch)
            if len(halves) < 2:
                raise EmbedderError(str(refusal)) from None
        found = [pair for half in halves for pair in await self._whole(half)]
        if len(batch) == 1:
            self._longest = min(self._longest, max(piece.size_tokens for piece, _ in found))
        elif len(found) == len(batch):  # No text was too long: there were too many.
            self._most = min(self._most, len(halves[0]))
        return found

    async def _patiently(self, batch: list[_Piece]) -> Vectors:
        """The vectors of a batch; a provider that is busy or away is asked again."""
        body = CreateEmbedding(
            input=[piece.text for piece in batch],
            dimensions=UNSET if self._dimensions is None else self._dimensions,
        )
        for attempt in range(limits.EMBEDDING_ATTEMPTS):
            try:
                answer = await self._ask(body, self._model)
            except Exception as error:
                if (failure := self._failure(error)) is None:
                    raise
                wait_s = _wait_s(failure, attempt)
            else:
                return self._checked(answer, len(batch))
            await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt raises")

    def _checked(self, answer: EmbeddingList, count: int) -> Vectors:
        """The vectors of an answer, when they are what was asked for."""
        if [vector.index for vector in answer.data] != list(range(count)):
            raise EmbedderError(
                f"The embedding model gave {len(answer.data)} vectors for {count} texts, "
                "or gave them twice."
            )
        rows = [_floats(vector.embedding) for vector in answer.data]
        sizes = {len(row) for row in rows}
        expected = self._found_dimensions or len(rows[0])
        if sizes != {expected} or not expected:
            raise EmbedderError(
                f"The embedding model gave vectors of {sorted(sizes)} numbers where it should "
                f"give {expected}."
            )
        vectors = normalised(np.array(rows, np.float32))
        self._found_dimensions = expected
        return vectors


def _wait_s(failure: Failure, attempt: int) -> float:
    """How long to wait before the next attempt; raises where there is none."""
    too_long = _TOO_LONG.search(failure.message) and failure.status not in (None, 401, 403, 429)
    if failure.status in _REFUSALS or too_long:
        raise _Refused(failure.message)
    wait_s = failure.retry_after_s or limits.EMBEDDING_BACKOFF_S * 2**attempt
    is_last = attempt + 1 == limits.EMBEDDING_ATTEMPTS
    if not failure.retryable or is_last or wait_s > limits.EMBEDDING_WAIT_S:
        raise EmbedderError(failure.message, retryable=failure.retryable)
    return wait_s


def _cut(piece: _Piece, longest: int) -> Iterator[_Piece]:
    """The piece, or windows of equal length where it is too long; a blank text is a space."""
    if piece.size_tokens <= longest:
        yield piece if piece.text.strip() else replace(piece, text=" ")
        return
    windows = -(-piece.size_tokens // longest)
    for span in chunks(piece.text, -(-piece.size_tokens // windows), 0):
        window = piece.text[span.start : span.stop]
        yield _Piece(window, piece.owner, min(tokens.count(window), longest))


def _halves(batch: list[_Piece]) -> list[list[_Piece]]:
    """A batch in two; of a single text its two windows, while it is worth it."""
    if len(batch) > 1:
        middle = (len(batch) + 1) // 2
        return [batch[:middle], batch[middle:]]
    piece = batch[0]
    if piece.size_tokens < 2 * limits.EMBEDDED_LEAST_TOKENS:
        return [batch]
    return [[window] for window in _cut(piece, -(-piece.size_tokens // 2))]


def _floats(vector: list[float] | str) -> Vectors:
    """The numbers of a vector; raises EmbedderError where there are none."""
    if not isinstance(vector, str):
        return np.array(vector, np.float32)
    try:
        return np.frombuffer(base64.b64decode(vector, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        raise EmbedderError("The embedding model's vectors cannot be read.") from None
