"""Embeddings on their way to a provider and back: asked as floats, answered as asked."""

import base64
import binascii
import struct

import msgspec
from msgspec import UNSET

from understudy.model.failures import failed
from understudy.wire.base import Wire
from understudy.wire.models import CreateEmbedding, Embedding, EmbeddingList, EmbeddingUsage


class _Vector(Wire, frozen=True, kw_only=True):
    """A vector as a provider sends it."""

    embedding: list[float] | str
    index: int | None = None


class _Usage(Wire, frozen=True, kw_only=True):
    """Counts as a provider sends them."""

    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(Wire, frozen=True, kw_only=True):
    """A provider's answer; what we do not need may be missing."""

    data: list[_Vector]
    model: str | None = None
    usage: _Usage | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def upstream_body(body: CreateEmbedding, model: str) -> bytes:
    """The request for the provider; what is null is left to it."""
    asked = msgspec.structs.replace(
        body,
        model=model,
        encoding_format="float",
        dimensions=UNSET if body.dimensions is None else body.dimensions,
        user=UNSET if body.user is None else body.user,
    )
    return msgspec.json.encode(asked)


def from_upstream(answer: bytes, body: CreateEmbedding, model: str) -> EmbeddingList:
    """The provider's answer in the client's format, in the order of the inputs."""
    try:
        found = _ANSWER.decode(answer)
        data = [
            Embedding(
                index=place if vector.index is None else vector.index,
                embedding=as_asked(floats(vector.embedding), body.encoding_format),
            )
            for place, vector in enumerate(found.data)
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, struct.error, OverflowError):
        raise failed("The model provider's embeddings cannot be read.") from None
    usage = found.usage or _Usage()
    tokens = usage.prompt_tokens or usage.total_tokens or 0
    return EmbeddingList(
        data=sorted(data, key=lambda vector: vector.index),
        model=found.model or model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=usage.total_tokens or tokens),
    )


def as_asked(vector: list[float], encoding_format: str | None) -> list[float] | str:
    """Floats, or base64 of little-endian float32."""
    if encoding_format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def floats(vector: list[float] | str) -> list[float]:
    """The numbers of a vector; some providers send base64 whatever was asked."""
    if not isinstance(vector, str):
        return vector
    packed = base64.b64decode(vector, validate=True)
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))
