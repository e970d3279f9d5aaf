"""The base of every wire type, and the rule that tells absent from null.

A *body* is what a client sends: unknown keys are refused, `UNSET` means the key was
absent, `None` means it was null (the two differ on every modify call, SPEC section 6).
An *object* is what the API returns: every key is always there.

Each field is described where it is declared: the OpenAPI page and the docs are made from it.
"""

from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from understudy import limits

T = TypeVar("T")


class Wire(msgspec.Struct, frozen=True, gc=False):
    """Anything that crosses the wire. Frozen JSON has no cycles, so the collector need not look;
    an event is five of these, and its looking was a tenth of all time."""


class Body(Wire, frozen=True, forbid_unknown_fields=True):
    """Anything that a client sends."""


class FormBody(Body, frozen=True):
    """Anything that a client sends as multipart/form-data, because it has a file.

    `FILE` is the field of the file, which has at most `MAX_BYTES`. Its value is the file's name:
    the bytes are stored before anybody looks at the fields, since they may come in any order.
    """

    FILE: ClassVar[str]
    MAX_BYTES: ClassVar[int]


# Fields that many objects share.
Id = Annotated[str, Meta(description="The id of the object.")]
CreatedAt = Annotated[int, Meta(description="When the object was made, in unix seconds.")]
ObjectMetadata = Annotated[
    dict[str, str],
    Meta(description="The client's own pairs of strings; `{}` when there are none."),
]
Index = Annotated[
    int | UnsetType,
    Meta(description="The place in its array, from 0; only in deltas."),
]

MetadataKey = Annotated[str, Meta(max_length=limits.METADATA_KEY_CHARS)]
MetadataValue = Annotated[str, Meta(max_length=limits.METADATA_VALUE_CHARS)]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Meta(max_length=limits.METADATA_PAIRS),
]
GivenMetadata = Annotated[
    Metadata | None | UnsetType,
    Meta(
        description="Up to 16 pairs of strings to keep with the object: keys of at most 64 "
        "characters, values of at most 512. On a modify call they replace the old ones; null "
        "clears them."
    ),
]


FormFile = Annotated[
    str, Meta(max_length=limits.FILENAME_CHARS, extra_json_schema={"format": "binary"})
]


def given(value: T | None | UnsetType, default: T) -> T:
    """The value a client gave, or the default where it was absent or null."""
    return default if value is UNSET or value is None else value


class ModifyMetadata(Body, frozen=True, kw_only=True):
    """The body of the calls that can change nothing but metadata."""

    metadata: GivenMetadata = UNSET


class ListOf(Wire, Generic[T], frozen=True, kw_only=True):
    """One page of a list (SPEC section 5)."""

    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    data: Annotated[list[T], Meta(description="The objects of this page, in the order asked for.")]
    first_id: Annotated[
        str | None, Meta(description="The id of the first object; null when the page is empty.")
    ]
    last_id: Annotated[
        str | None,
        Meta(description="The id of the last object: the `after` of the next page."),
    ]
    has_more: Annotated[bool, Meta(description="Whether another page follows.")]


class Deleted(Wire, frozen=True, kw_only=True):
    """The answer to a delete call."""

    id: Annotated[str, Meta(description="The id of what was deleted.")]
    object: Annotated[
        str, Meta(description="The kind of what was deleted, such as `assistant.deleted`.")
    ]
    deleted: Annotated[bool, Meta(description="Always true.")] = True
