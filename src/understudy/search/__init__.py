"""The search seam: what the engine asks of an embedder, and how one fails."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # The seam is no reason to load numpy: a server that never searches does without.
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"
Numbers: TypeAlias = "NDArray[np.int64]"


class EmbedderError(Exception):
    """An embedder failed; the message may be shown to a client."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts: each of length 1, and a long text has several."""

    vectors: Vectors  # [windows, dimensions]
    owners: Numbers  # Of each vector the index of its text; never decreasing.
    trust: Vectors  # Of each text, 0..1: how far the embedder understands its script or language.


class Embedder(Protocol):
    """Turns texts into vectors whose product says how alike they are."""

    @property
    def name(self) -> str:
        """The model, so that vectors of two are never compared."""
        ...

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """The vectors of the texts, in their order, a query has one each; raises EmbedderError."""
        ...

    async def close(self) -> None:
        """Let go of what was opened."""
        ...
