"""Uploads: a large file in parts (SPEC 7.7)."""

from typing import Annotated, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, CreatedAt, FormBody, FormFile, Id, Wire
from understudy.wire.files import File, GivenExpiresAfter, ObjectPurpose, Purpose

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


class Upload(Wire, frozen=True, kw_only=True):
    """A file that comes in parts."""

    id: Id
    object: Annotated[Literal["upload"], Meta(description="Always `upload`.")] = "upload"
    bytes: Annotated[int, Meta(description="The size that the whole file will have.")]
    created_at: CreatedAt
    filename: Annotated[str, Meta(description="The name that the file will have.")]
    purpose: Annotated[ObjectPurpose, Meta(description="What the file will be for.")]
    status: Annotated[
        UploadStatus, Meta(description="`pending` takes parts; the others are final.")
    ]
    expires_at: Annotated[
        int, Meta(description="Until when parts are taken, in unix seconds: an hour.")
    ]
    file: Annotated[File | None, Meta(description="The file, once the upload is completed.")]


class UploadPart(Wire, frozen=True, kw_only=True):
    """A part of an upload."""

    id: Id
    object: Annotated[Literal["upload.part"], Meta(description="Always `upload.part`.")] = (
        "upload.part"
    )
    created_at: CreatedAt
    upload_id: Annotated[str, Meta(description="The upload that it is a part of.")]


class CreateUpload(Body, frozen=True, kw_only=True):
    """Begin an upload."""

    filename: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=limits.FILENAME_CHARS,
            description="The name that the file will have.",
        ),
    ]
    purpose: Annotated[Purpose, Meta(description="What the file is for.")]
    bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.UPLOAD_BYTES,
            description="The size of the whole file, at most 8 GB.",
        ),
    ]
    mime_type: Annotated[
        str,
        Meta(
            description="The MIME type of the file. Purpose `vision` takes images only, and "
            "`fine-tune` JSON lines."
        ),
    ]
    expires_after: GivenExpiresAfter = UNSET


class AddUploadPart(FormBody, frozen=True, kw_only=True):
    """A part of an upload, as multipart/form-data."""

    FILE: ClassVar[str] = "data"
    MAX_BYTES: ClassVar[int] = limits.PART_BYTES

    data: Annotated[FormFile, Meta(description="The bytes of this part, at most 64 MB.")]


class CompleteUpload(Body, frozen=True, kw_only=True):
    """Make a file of the parts."""

    part_ids: Annotated[
        list[str],
        Meta(
            max_length=limits.UPLOAD_PARTS,
            description="The ids of the parts, in the order of their bytes.",
        ),
    ]
    md5: Annotated[
        str | None | UnsetType,
        Meta(description="The MD5 of the whole file in hex; another one is refused."),
    ] = UNSET
