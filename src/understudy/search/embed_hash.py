"""A fake embedder for tests and trials: hashed words, so that texts that share words are alike."""

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from understudy.search import Embedded, Vectors
from understudy.search.words import words


class HashEmbedder:
    """Deterministic, offline, and ignorant of meaning."""

    def __init__(self, dimensions: int = 256, *, trust: float = 1.0) -> None:
        self._dimensions = dimensions
        self._trust = trust
        self.name = f"hash-{dimensions}"

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """One vector for each text, whatever its length."""
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._vector(text)
        trust = np.full(len(texts), self._trust, np.float32)
        return Embedded(vectors, np.arange(len(texts), dtype=np.int64), trust)

    async def close(self) -> None:
        """Nothing was opened."""

    def _vector(self, text: str) -> Vectors:
        """Each distinct word adds ±1, or a little more, at a place that its hash names."""
        sums = np.zeros(self._dimensions, np.float32)
        for word, count in Counter(words(text)).items():
            seen = zlib.crc32(word.encode())
            sums[(seen >> 1) % self._dimensions] += (1 if seen & 1 else -1) * (1 + np.log(count))
        length = float(np.linalg.norm(sums))
        if length == 0.0:  # No words, or words that cancel out.
            sums[0] = length = 1.0
        return sums / np.float32(length)
