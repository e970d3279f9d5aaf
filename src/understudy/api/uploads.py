"""Uploads (SPEC 7.7): a large file comes in parts, at once and in any order.

Nothing is copied: the blobs of the parts become the file's. That an upload is pending is said by
its job, which is at fence 0 until somebody ends it (engine/files.py); so of two who complete it
at once, one is refused.
"""

import asyncio
from collections.abc import Sequence
from hashlib import md5

from msgspec.structs import replace

from understudy import limits
from understudy.api import objects
from understudy.api.files import lifetime_of, new_file
from understudy.api.forms import file_name
from understudy.api.operation import Call, operation
from understudy.engine import files
from understudy.engine.record import private_of
from understudy.errors import files as errors
from understudy.machine.private import BlobRef, UploadPrivate
from understudy.store import Conflict, Statement, changes
from understudy.wire.base import given
from understudy.wire.uploads import (
    AddUploadPart,
    CompleteUpload,
    CreateUpload,
    Upload,
    UploadPart,
)

TAG = "Uploads"

# Purposes that take certain types only; `*` stands for any tail.
_MIME_TYPES = {
    "fine-tune": (
        "text/jsonl",
        "application/jsonl",
        "application/x-jsonlines",
        "application/json",
        "application/x-ndjson",
        "text/plain",
        "application/octet-stream",
    ),
    "vision": ("image/jpeg", "image/jpg", "image/png", "image/gif", "image/webp"),
}


@operation("POST", "/uploads", tag=TAG)
async def create_upload(call: Call, body: CreateUpload) -> Upload:
    """Begin an upload, which takes parts for an hour."""
    supported = _MIME_TYPES.get(body.purpose)
    kind = body.mime_type.partition(";")[0].strip().lower()
    if supported is not None and kind not in supported:
        raise errors.bad_mime_type(body.mime_type, body.purpose, supported)
    now = call.app.world.now()
    upload = Upload(
        id=call.app.world.new_id("upload"),
        bytes=body.bytes,
        created_at=int(now),
        filename=file_name(body.filename),
        purpose=body.purpose,
        status="pending",
        expires_at=int(now) + limits.UPLOAD_TTL_S,
        file=None,
    )
    private = UploadPrivate(expires_after_s=lifetime_of(body.expires_after))
    await call.commit(
        objects.insert(call, "upload", upload, at=now, private=private),
        files.upload_job(upload, call.project),
        answer=upload,
    )
    return upload


async def _pending(call: Call, upload_id: str) -> objects.Loaded[Upload]:
    """An upload that is not over."""
    loaded = await objects.load(call, "upload", upload_id, Upload)
    is_late = call.app.world.now() >= loaded.object.expires_at
    if loaded.object.status != "pending" or is_late:
        raise errors.upload_not_pending(upload_id)
    return loaded


@operation("POST", "/uploads/{upload_id}/parts", tag=TAG)
async def add_upload_part(call: Call, upload_id: str, body: AddUploadPart) -> UploadPart:
    """Add a part to an upload.

    Parts may be sent at once; their order is said when the upload is completed.
    """
    assert call.file is not None, "the form has its file, else it was refused"
    upload = (await _pending(call, upload_id)).object
    if call.file.size_bytes == 0:
        raise errors.empty_file("data")
    now = call.app.world.now()
    part = UploadPart(id=call.app.world.new_id("part"), created_at=int(now), upload_id=upload_id)
    try:
        await call.commit(
            files.still_pending(upload),
            changes.grow(upload_id, project=call.project, by=1, limit=limits.UPLOAD_PARTS),
            objects.insert(call, "part", part, at=now, parent=upload_id, private=call.file),
            files.kept(call.file.key),
            answer=part,
        )
    except Conflict as conflict:
        if conflict.what == "grow":
            raise errors.too_many_parts(limits.UPLOAD_PARTS) from None
        raise _explained(conflict, upload_id) from None
    return part


@operation("POST", "/uploads/{upload_id}/complete", tag=TAG)
async def complete_upload(call: Call, upload_id: str, body: CompleteUpload) -> Upload:
    """Make a file of the parts, in the order of their ids.

    Together they must have the size that was said at the beginning. Parts that are not named are
    deleted.
    """
    loaded = await _pending(call, upload_id)
    upload = loaded.object
    blobs = await _named(call, upload, body.part_ids)
    expected = given(body.md5, "")
    if expected:
        found = await _md5(call, blobs)
        if found != expected.strip().lower():
            raise errors.wrong_md5(expected, found)
    lifetime_s = private_of(loaded.record, UploadPrivate).expires_after_s
    file, statements = new_file(call, upload.filename, upload.purpose, blobs, lifetime_s)
    completed = replace(upload, status="completed", file=file)
    return await _end(call, loaded, completed, *statements)


async def _named(call: Call, upload: Upload, part_ids: Sequence[str]) -> list[BlobRef]:
    """The bytes of these parts, which must be all that was announced."""
    records = await call.app.store.get_many("part", call.project, part_ids)
    found = {one.id: private_of(one, BlobRef) for one in records if one.parent == upload.id}
    seen: set[str] = set()
    for id in part_ids:
        if id not in found:
            raise errors.unknown_part(upload.id, id)
        if id in seen:
            raise errors.repeated_part(id)
        seen.add(id)
    blobs = [found[id] for id in part_ids]
    total = sum(blob.size_bytes for blob in blobs)
    if total != upload.bytes:
        raise errors.wrong_total(upload.bytes, total)
    return blobs


async def _md5(call: Call, blobs: Sequence[BlobRef]) -> str:
    """The digest of all bytes, in hex."""
    digest = md5(usedforsecurity=False)
    async for piece in files.content(call.app, blobs):
        await asyncio.to_thread(digest.update, piece)
    return digest.hexdigest()


@operation("POST", "/uploads/{upload_id}/cancel", tag=TAG)
async def cancel_upload(call: Call, upload_id: str) -> Upload:
    """Cancel an upload. Its parts are deleted."""
    loaded = await _pending(call, upload_id)
    return await _end(call, loaded, replace(loaded.object, status="cancelled"))


async def _end(
    call: Call,
    loaded: objects.Loaded[Upload],
    upload: Upload,
    *statements: Statement | tuple[Statement, ...],
) -> Upload:
    """The upload is over; its job cleans up. Of several who end it, all but one are refused."""
    try:
        await call.commit(
            files.end_upload(upload, call.app.world.now()),
            objects.replace(call, loaded, upload),
            *statements,
            answer=upload,
        )
    except Conflict as conflict:
        raise _explained(conflict, upload.id) from None
    call.app.bell.ring("jobs")
    return upload


def _explained(conflict: Conflict, upload_id: str) -> Exception:
    """What a refused commit means: somebody has ended the upload, or try again."""
    is_over = conflict.what in ("rest_job", "take_job")
    return errors.upload_not_pending(upload_id) if is_over else conflict


@operation("GET", "/uploads/{upload_id}", tag=TAG)
async def get_upload(call: Call, upload_id: str) -> Upload:
    """Retrieve an upload.

    An extension: the original could not be asked.
    """
    upload = (await objects.load(call, "upload", upload_id, Upload)).object
    is_late = call.app.world.now() >= upload.expires_at
    return replace(upload, status="expired") if upload.status == "pending" and is_late else upload
