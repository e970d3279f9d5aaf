"""Files: their bytes, and the background work that keeps record and blobs in step.

A blob is never without somebody who will delete it. Before its first byte is written, a job is
committed that deletes it later (`promised`); the commit that stores the file or part removes the
job (`kept`). Deleting a file puts such jobs back, due at once. So whatever dies at any await,
each blob has either an object in the record, or a job.

An upload that is over leaves its parts to its job: it deletes the blobs that did not become the
file's, then the parts. Until then the job waits for the upload's expiry, and its fence 0 says that
the upload is still pending.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import msgspec
import structlog
from msgspec.structs import replace

from understudy import limits
from understudy.blobs import BlobsUnavailable
from understudy.engine.app import App
from understudy.engine.lease import Lease
from understudy.engine.record import decoded, private_of
from understudy.machine.private import BlobRef, FilePrivate
from understudy.store import Conflict, Statement, Unavailable, changes, index_changes
from understudy.store.records import Record
from understudy.wire.files import File
from understudy.wire.uploads import Upload

_PAGE = 100

_log = structlog.get_logger()


# Reading.


def is_gone(file: File, now: float) -> bool:
    """Whether the file expired; its job may not have deleted it yet."""
    return isinstance(file.expires_at, int) and file.expires_at <= now


async def present(app: App, project: str, ids: Sequence[str]) -> list[Record]:
    """Those of the files that exist and did not expire, in the order of `ids`."""
    if not ids:
        return []
    records = await app.store.get_many("file", project, ids)
    now = app.world.now()
    return [record for record in records if not is_gone(decoded(record, File), now)]


def blobs_of(record: Record) -> list[BlobRef]:
    """Where the bytes of a file are."""
    return private_of(record, FilePrivate).blobs


async def content(
    app: App, blobs: Sequence[BlobRef], start: int = 0, length: int | None = None
) -> AsyncGenerator[bytes]:
    """Bytes of a file, a piece at a time. Raises NoBlob and BlobsUnavailable."""
    left = sum(blob.size_bytes for blob in blobs) - start if length is None else length
    for blob in blobs:
        if start >= blob.size_bytes:
            start -= blob.size_bytes
            continue
        step = min(left, blob.size_bytes - start)
        if step <= 0:
            return
        async with aclosing(app.blobs.open(blob.key, start, step)) as pieces:
            async for piece in pieces:
                yield piece
        start, left = 0, left - step


# Promises to delete.


@asynccontextmanager
async def promised(app: App, project: str) -> AsyncIterator[str]:
    """A key to put bytes under. They go again unless a commit within has `kept` it."""
    key = app.world.new_id("blob")
    await promise(app, project, [key])
    try:
        yield key
    finally:
        await hurry(app, key)


async def promise(app: App, project: str, keys: Sequence[str]) -> None:
    """From now on bytes may be put under these new keys. Whoever does it commits that they are
    `kept`, or calls `hurry` when that will not happen."""
    due_at = app.world.now() + limits.BLOB_CLAIM_S
    await app.store.commit(*(_blob_job(key, project, due_at) for key in keys))


def kept(key: str) -> Statement:
    """The blob has its object now. Refused when its promise was carried out already."""
    return changes.delete_job(key, fence=0)


async def hurry(app: App, key: str) -> None:
    """Carry a promise out now, if it is still there."""
    try:
        if await app.store.job(key) is not None:
            await app.store.commit(changes.rest_job(key, fence=0, due_at=app.world.now()))
            app.bell.ring("jobs")
    except Conflict:
        return  # A worker is at it.
    except Unavailable as away:
        _log.warning("a blob is deleted later", key=key, reason=str(away))


def _blob_job(key: str, project: str, due_at: float) -> Statement:
    return _job(key, "blob", project, due_at)


def _job(id: str, kind: str, project: str, due_at: float) -> Statement:
    return changes.insert_job(
        id,
        kind=kind,
        project=project,
        thread_id=None,
        due_at=due_at,
        expires_at=None,
        fence=0,
        lease_owner=None,
        lease_until=None,
    )


# Changes.


def creation(file: File, private: FilePrivate, project: str, at: float) -> tuple[Statement, ...]:
    """A new file that the server itself made; `at` has the sub-second part that orders lists."""
    stored = changes.insert_object(
        "file",
        id=file.id,
        project=project,
        parent=None,
        created_at=at,
        body=msgspec.json.encode(file),
        private=msgspec.json.encode(private),
    )
    return (stored, *(kept(blob.key) for blob in private.blobs))


def expiry(file: File, project: str) -> tuple[Statement, ...]:
    """What deletes a new file when its time is over."""
    if not isinstance(file.expires_at, int):
        return ()
    return (_job(file.id, "expire", project, file.expires_at),)


def removal(record: Record, now: float) -> tuple[Statement, ...]:
    """A file goes, with its bytes and its places in vector stores. Refused when it is gone."""
    project = record.project
    return (
        *changes.delete_object(record.id, kind="file", project=project),
        *(_blob_job(blob.key, project, now) for blob in blobs_of(record)),
        changes.delete_job(record.id, fence=None),
        *index_changes.forget_file(record.id, project=project, now=now),
    )


def upload_job(upload: Upload, project: str) -> Statement:
    """What ends a new upload when its time is over, and then cleans up."""
    return _job(upload.id, "upload", project, upload.expires_at)


def still_pending(upload: Upload) -> Statement:
    """Changes nothing; refused when the upload is over."""
    return changes.rest_job(upload.id, fence=0, due_at=upload.expires_at)


def end_upload(upload: Upload, now: float) -> Statement:
    """The upload is over, and its job is to clean up. Refused when it was over already."""
    return changes.take_job(upload.id, now=now, fence=0, owner=None, lease_until=None, due_at=now)


# Jobs.


async def delete_blob(app: App, lease: Lease) -> None:
    """Carries out a promise: the blob goes, then the job. Dying between, it is done again."""
    if await _deleted(app, lease, [lease.id]):
        await app.store.commit(changes.delete_job(lease.id, fence=lease.fence))


async def expire_file(app: App, lease: Lease) -> None:
    """Deletes a file whose time is over; with it goes this job."""
    record = await app.store.get("file", lease.project, lease.id)
    if record is None:
        await app.store.commit(changes.delete_job(lease.id, fence=None))
        return
    try:
        await app.store.commit(removal(record, app.world.now()))
    except Conflict:
        return  # A client deleted it meanwhile.
    app.bell.ring("jobs")


async def clean_upload(app: App, lease: Lease) -> None:
    """Ends an upload that was left pending, then removes its parts, and with them the blobs that
    no file has. Each step may be done again."""
    record = await app.store.get("upload", lease.project, lease.id)
    if record is not None:
        upload = decoded(record, Upload)
        if upload.status == "pending":
            await app.store.commit(
                changes.hold_job(lease.id, owner=lease.owner, fence=lease.fence, cancelled_ok=True),
                changes.update_object(
                    upload.id,
                    project=lease.project,
                    body=msgspec.json.encode(replace(upload, status="expired")),
                    private=None,
                ),
            )
        if not await _clean_parts(app, lease, upload):
            return
    await app.store.commit(changes.delete_job(lease.id, fence=lease.fence))


async def _clean_parts(app: App, lease: Lease, upload: Upload) -> bool:
    """Whether no part is left."""
    used = await _used(app, lease, upload)
    after = None
    while True:  # Bounded by the parts that an upload may have.
        page, has_more = await app.store.list(
            "part", lease.project, upload.id, limit=_PAGE, order="asc", after=after, before=None
        )
        keys = [private_of(part, BlobRef).key for part in page]
        if not await _deleted(app, lease, [key for key in keys if key not in used]):
            return False
        if not has_more:
            break
        after = page[-1].id
    purge = changes.purge_children(upload.id, limit=limits.DELETE_BATCH)
    while any(await app.store.commit(purge)):  # Bounded likewise.
        pass
    return True


async def _used(app: App, lease: Lease, upload: Upload) -> set[str]:
    """The blobs that became the file's. When that is deleted already, so are they."""
    if upload.file is None:
        return set()
    record = await app.store.get("file", lease.project, upload.file.id)
    return set() if record is None else {blob.key for blob in blobs_of(record)}


async def _deleted(app: App, lease: Lease, keys: Sequence[str]) -> bool:
    """Delete blobs; when that is not possible now, the job looks again later."""
    try:
        await app.worker.deletions.delete(app.blobs, keys)
    except BlobsUnavailable as away:
        _log.warning("blobs cannot be deleted now", job_id=lease.id, reason=str(away))
        tries = min(lease.fence, limits.BLOB_RETRIES_COUNTED)  # Each lease is one.
        again = app.world.now() + limits.BLOB_RETRY_S * 2 ** (tries - 1)
        await app.store.commit(changes.rest_job(lease.id, fence=lease.fence, due_at=again))
        return False
    return True
