"""The base of every wire type, and the rule that tells absent from null.

A *body* is what a client sends: unknown keys are refused, `UNSET` means the key was
absent, `None` means it was null (the two differ on every modify call, SPEC section 6).
An *object* is what the API returns: every key is always there.
"""

from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from understudy import limits

T = TypeVar("T")


class Wire(msgspec.Struct, frozen=True):
    """Anything that crosses the wire."""


class Body(Wire, frozen=True, forbid_unknown_fields=True):
    """Anything that a client sends."""


MetadataKey = Annotated[str, Meta(max_length=limits.METADATA_KEY_CHARS)]
MetadataValue = Annotated[str, Meta(max_length=limits.METADATA_VALUE_CHARS)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Meta(
        max_length=limits.METADATA_PAIRS,
        description="Up to 16 pairs of strings that the client keeps with the object.",
    ),
]


def given(value: T | None | UnsetType, default: T) -> T:
    """The value a client gave, or the default where it was absent or null."""
    return default if value is UNSET or value is None else value


class ModifyMetadata(Body, frozen=True, kw_only=True):
    """The body of the calls that can change nothing but metadata."""

    metadata: Metadata | None | UnsetType = UNSET


class ListOf(Wire, Generic[T], frozen=True, kw_only=True):
    """One page of a list (SPEC section 5)."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(Wire, frozen=True, kw_only=True):
    """The answer to a delete call."""

    id: str
    object: str
    deleted: bool = True
