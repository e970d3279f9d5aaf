"""Models and embeddings (SPEC 7.9)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, Wire


class Model(Wire, frozen=True, kw_only=True):
    """A model that the upstream offers."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Wire, frozen=True, kw_only=True):
    """All models, in one page."""

    object: Literal["list"] = "list"
    data: list[Model]


class CreateEmbedding(Body, frozen=True, kw_only=True):
    """The body of POST /embeddings. `model` may be absent under /openai/deployments/{d}."""

    input: (
        Annotated[str, Meta(min_length=1)]
        | Annotated[
            list[str | int | list[int]], Meta(min_length=1, max_length=limits.EMBEDDING_INPUTS)
        ]
    )
    model: str | UnsetType = UNSET
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    user: str | UnsetType = UNSET


class Embedding(Wire, frozen=True, kw_only=True):
    """One vector: floats, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Wire, frozen=True, kw_only=True):
    """Tokens used by an embedding call."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Wire, frozen=True, kw_only=True):
    """The answer to POST /embeddings."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
