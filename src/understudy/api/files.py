"""Files (SPEC 7.6): the bytes are in the blobs, everything else in the record."""

import mimetypes
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote

from msgspec import UNSET, UnsetType

from understudy.api import objects
from understudy.api.operation import Call, operation
from understudy.api.transport import Content
from understudy.blobs import NoBlob
from understudy.engine import files
from understudy.errors import ApiError
from understudy.errors import files as errors
from understudy.machine.private import BlobRef, FilePrivate
from understudy.store import Conflict, Statement
from understudy.store.records import Record
from understudy.wire.base import Deleted, ListOf
from understudy.wire.files import CreateFile, File, FileExpiresAfter, ObjectPurpose
from understudy.wire.query import FileListQuery, ListQuery

TAG = "Files"

# What only tools may read, unless the operator says otherwise.
_NOT_FOR_DOWNLOAD = ("assistants", "user_data")
_UNKNOWN_TYPE = "application/octet-stream"
# Of the library itself: what else a machine has installed must make no difference.
_TYPES = mimetypes.MimeTypes()
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@operation("POST", "/files", tag=TAG)
async def create_file(call: Call, body: CreateFile) -> File:
    """Upload a file.

    Any kind of file is taken: whether a tool can read it is checked when it is given to the tool.
    """
    assert call.file is not None, "the form has its file, else it was refused"
    if call.file.size_bytes == 0:
        raise errors.empty_file("file")
    file, statements = new_file(
        call, body.file, body.purpose, [call.file], lifetime_of(body.expires_after)
    )
    await call.commit(*statements, files.kept(call.file.key), answer=file)
    return file


def lifetime_of(expires_after: FileExpiresAfter | None | UnsetType) -> int | None:
    """How long a file will last; None: until it is deleted."""
    return expires_after.seconds if isinstance(expires_after, FileExpiresAfter) else None


def new_file(
    call: Call, filename: str, purpose: ObjectPurpose, blobs: list[BlobRef], lifetime_s: int | None
) -> tuple[File, list[Statement | tuple[Statement, ...]]]:
    """A file of these blobs, and what stores it; nothing is stored yet."""
    now = call.app.world.now()
    file = File(
        id=call.app.world.new_id("file"),
        bytes=sum(blob.size_bytes for blob in blobs),
        created_at=int(now),
        expires_at=UNSET if lifetime_s is None else int(now) + lifetime_s,
        filename=filename,
        purpose=purpose,
    )
    stored = objects.insert(call, "file", file, at=now, private=FilePrivate(blobs=blobs))
    return file, [stored, files.expiry(file, call.project)]


@operation("GET", "/files", tag=TAG)
async def list_files(call: Call, page: FileListQuery, purpose: str | None = None) -> ListOf[File]:
    """List files, newest first; with `purpose` only those that are for it."""
    found = await objects.page(
        call,
        "file",
        File,
        ListQuery(limit=page.limit, order=page.order, after=page.after),
        where={"purpose": purpose} if purpose else None,
    )
    now = call.app.world.now()
    present = [file for file in found.data if not files.is_gone(file, now)]
    return ListOf(
        data=present, first_id=found.first_id, last_id=found.last_id, has_more=found.has_more
    )


@operation("GET", "/files/{file_id}", tag=TAG)
async def get_file(call: Call, file_id: str) -> File:
    """Retrieve a file's description."""
    return (await load(call, file_id)).object


async def load(call: Call, file_id: str) -> objects.Loaded[File]:
    """A file that is there and did not expire."""
    loaded = await objects.load(call, "file", file_id, File)
    if files.is_gone(loaded.object, call.app.world.now()):
        raise ApiError.not_found("file", file_id)
    return loaded


@operation("DELETE", "/files/{file_id}", tag=TAG)
async def delete_file(call: Call, file_id: str) -> Deleted:
    """Delete a file.

    It leaves every vector store, and the tool resources of all assistants and threads.
    """
    loaded = await load(call, file_id)
    answer = Deleted(id=file_id, object="file")
    try:
        await call.commit(files.removal(loaded.record, call.app.world.now()))
    except Conflict as conflict:
        if conflict.what == "delete_object":
            raise ApiError.not_found("file", file_id) from None
        raise
    call.app.bell.ring("jobs")
    return answer


@operation("GET", "/files/{file_id}/content", tag=TAG)
async def get_file_content(call: Call, file_id: str) -> Content:
    """Download a file.

    Files of the purposes `assistants` and `user_data` are refused unless the operator allows it.
    One range of bytes may be asked for with the `Range` header.
    """
    loaded = await load(call, file_id)
    file = loaded.object
    is_free = call.app.settings.allow_file_downloads or file.purpose not in _NOT_FOR_DOWNLOAD
    if not is_free:
        raise errors.download_refused(file.purpose)
    tag = f'"{file.id}"'
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": disposition(file.filename),
        "etag": tag,  # The bytes of a file never change.
        "x-content-type-options": "nosniff",
    }
    start, stop, status = 0, file.bytes, 200
    wanted = _range(call, file.bytes, tag)
    if wanted is not None:
        start, stop, status = *wanted, 206
        headers["content-range"] = f"bytes {start}-{stop - 1}/{file.bytes}"
    return Content(
        pieces=await _begun(call, loaded.record, start, stop - start),
        size_bytes=stop - start,
        content_type=content_type(file.filename),
        status=status,
        headers=headers,
    )


def _range(call: Call, size: int, tag: str) -> tuple[int, int] | None:
    """The range that is asked for, as [start, stop); None for the whole.

    Several ranges, other units and what cannot be read may be answered with the whole (RFC 9110),
    and so may a range of something that changed.
    """
    match = _ONE_RANGE.fullmatch(call.headers.get("range", "").strip())
    if match is None or match[0] == "bytes=-" or call.headers.get("if-range", tag) != tag:
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= size:
        raise errors.bad_range(size)
    return start, stop


async def _begun(call: Call, record: Record, start: int, length: int) -> AsyncGenerator[bytes]:
    """The bytes, once the first of them were read: until then an error can be answered."""
    pieces = files.content(call.app, files.blobs_of(record), start, length)
    if call.method != "GET":
        return pieces
    try:
        first = await anext(pieces, b"")
    except NoBlob:
        raise errors.content_lost(record.id) from None
    return _with(first, pieces)


async def _with(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def content_type(filename: str) -> str:
    """The type that a file's name promises. JSON is not said: the Node SDK would parse it."""
    guessed = _TYPES.guess_type("name" + filename[filename.rfind(".") :])[0] or _UNKNOWN_TYPE
    return _UNKNOWN_TYPE if "json" in guessed else guessed


def disposition(filename: str) -> str:
    """Save it under this name: once in ASCII for old clients, once as it is (RFC 6266)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
