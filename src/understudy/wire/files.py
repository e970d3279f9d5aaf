"""Files (SPEC 7.6)."""

from typing import Annotated, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, CreatedAt, FormBody, FormFile, Id, Wire

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
ObjectPurpose = Literal[
    "assistants",
    "batch",
    "fine-tune",
    "vision",
    "user_data",
    "evals",
    "assistants_output",
    "batch_output",
    "fine-tune-results",
]


class FileExpiresAfter(Body, frozen=True, kw_only=True):
    """When a file goes by itself."""

    anchor: Annotated[
        Literal["created_at"], Meta(description="What the seconds count from: `created_at`.")
    ]
    seconds: Annotated[
        int,
        Meta(
            ge=limits.FILE_EXPIRY_LEAST_S,
            le=limits.FILE_EXPIRY_MOST_S,
            description="Seconds until the file expires, 3600 (an hour) to 2592000 (30 days).",
        ),
    ]


GivenExpiresAfter = Annotated[
    FileExpiresAfter | None | UnsetType,
    Meta(description="When the file goes by itself; without it, it stays until it is deleted."),
]


class File(Wire, frozen=True, kw_only=True):
    """A file."""

    id: Id
    object: Annotated[Literal["file"], Meta(description="Always `file`.")] = "file"
    bytes: Annotated[int, Meta(description="The size of the file.")]
    created_at: CreatedAt
    expires_at: Annotated[
        int | None | UnsetType,
        Meta(description="When the file expires, in unix seconds; absent when it does not."),
    ] = UNSET
    filename: Annotated[str, Meta(description="The name of the file.")]
    purpose: Annotated[ObjectPurpose, Meta(description="What the file is for.")]
    status: Annotated[
        Literal["uploaded", "processed", "error"],
        Meta(description="Always `processed`: what a file is used for is checked when it is used."),
    ] = "processed"
    status_details: Annotated[
        str | None | UnsetType, Meta(description="Always absent; kept for old clients.")
    ] = UNSET


class CreateFile(FormBody, frozen=True, kw_only=True):
    """Upload a file, as multipart/form-data with its fields in any order."""

    FILE: ClassVar[str] = "file"
    MAX_BYTES: ClassVar[int] = limits.FILE_BYTES

    file: Annotated[FormFile, Meta(description="The file, at most 512 MB.")]
    purpose: Annotated[
        Purpose,
        Meta(
            description="What the file is for. Files of `assistants` and `user_data` cannot be "
            "downloaded unless the operator allows it."
        ),
    ]
    expires_after: GivenExpiresAfter = UNSET
