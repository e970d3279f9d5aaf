"""Models and embeddings (SPEC 7.9)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, Wire


class Model(Wire, frozen=True, kw_only=True):
    """A model that the upstream offers."""

    id: Annotated[str, Meta(description="The model's name, as the provider spells it.")]
    object: Annotated[Literal["model"], Meta(description="Always `model`.")] = "model"
    created: Annotated[int, Meta(description="When the model was made, in unix seconds.")]
    owned_by: Annotated[str, Meta(description="Who offers the model.")]


class ModelList(Wire, frozen=True, kw_only=True):
    """All models, in one page."""

    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    data: Annotated[list[Model], Meta(description="Every model that can be asked for.")]


class CreateEmbedding(Body, frozen=True, kw_only=True):
    """The body of POST /embeddings. `model` may be absent under /openai/deployments/{d}."""

    input: Annotated[
        Annotated[str, Meta(min_length=1)]
        | Annotated[
            list[str | int | list[int]], Meta(min_length=1, max_length=limits.EMBEDDING_INPUTS)
        ],
        Meta(
            description="A text, up to 2,048 texts, the tokens of a text, or up to 2,048 arrays "
            "of tokens."
        ),
    ]
    model: Annotated[str | UnsetType, Meta(description="The embedding model.")] = UNSET
    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        Meta(description="Vectors as numbers, or as base64 of little-endian float32."),
    ] = "float"
    dimensions: Annotated[
        Annotated[int, Meta(ge=1, le=limits.INTEGER_MAX)] | None | UnsetType,
        Meta(description="The length of the vectors, where the model lets one choose."),
    ] = UNSET
    user: Annotated[
        str | None | UnsetType, Meta(description="The client's own name for its user; not used.")
    ] = UNSET


class Embedding(Wire, frozen=True, kw_only=True):
    """One vector."""

    object: Annotated[Literal["embedding"], Meta(description="Always `embedding`.")] = "embedding"
    index: Annotated[int, Meta(description="The place of its input, from 0.")]
    embedding: Annotated[
        list[float] | str,
        Meta(description="The vector: numbers, or base64 of little-endian float32."),
    ]


class EmbeddingUsage(Wire, frozen=True, kw_only=True):
    """Tokens used by an embedding call."""

    prompt_tokens: Annotated[int, Meta(description="Tokens of the inputs.")]
    total_tokens: Annotated[int, Meta(description="The same number.")]


class EmbeddingList(Wire, frozen=True, kw_only=True):
    """The answer to POST /embeddings."""

    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    data: Annotated[list[Embedding], Meta(description="One vector for each input, in order.")]
    model: Annotated[str, Meta(description="The model that made the vectors.")]
    usage: Annotated[EmbeddingUsage, Meta(description="What the call cost.")]
