"""Blobs in a folder, in memory, or in any object store that obstore speaks to.

That a put never replaces a blob is left to the place, for no look before can promise it. What fits
into one request is made with "only where none is", which a folder, memory, S3, GCS and Azure all
know. A longer blob is uploaded in parts, whose last request has no such condition in the library
(and none at all at GCS). So it is written beside its key first, under a name that is taken in the
same way (`key.part`), and then copied to its key "only where none is". In a folder that is another
name for the same file, in memory it is nothing, on S3 the store copies. A part that stays behind,
because the process died or the store went away, goes when the key is deleted.

What cannot be had: GCS and Azure can copy so, but whether that is whole and quick for large blobs
is not proven here, and an S3 store may be told to do without conditions (`AWS_CONDITIONAL_PUT`, for
those that do not know them). There the key is looked at before the first byte and again before the
last, and two puts of one key that end in the same moment may both succeed. A store that takes the
condition and ignores it cannot be told from one that obeys.

In a folder a blob is one file, which is synced before `put` returns, and so is its folder, else a
power cut could take what was acknowledged.

Reading is a request per piece: one that streams a whole blob would end with the library's
timeout when the client is slow.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore

from understudy import limits
from understudy.blobs import BlobExists, Blobs, BlobsFull, BlobsUnavailable, NoBlob
from understudy.blobs.failures import reading, writing
from understudy.blobs.remote import Remote, open_remote
from understudy.blobs.upload import Uncut, Upload

if TYPE_CHECKING:
    from obstore import PutMode

_PART = ".part"
# No key is so; asking for it tells whether a store can be read.
_NOBODY = "no-blob-has-this-key"


def open_blobs(url: str, options: Mapping[str, str]) -> Blobs:
    """The blobs at this URL; `options` are for the remote ones. ValueError when it is none."""
    parts = urlsplit(url)
    match parts.scheme:
        case "file" if parts.path and not parts.netloc:
            return _Folder(Path(unquote(parts.path)))
        case "memory":
            store = MemoryStore()
            return _Objects(store, store)
        case "s3" | "gs" | "az" if parts.netloc:
            return _RemoteObjects(open_remote(url, parts.scheme, options))
    raise ValueError(f"{url} is none of file:///folder, memory:, s3://bucket, gs:// and az://")


class _Objects:
    """Blobs in memory, and what all places have in common.

    `copier` copies "only where none is"; without one, keys are looked at. `creates` says whether
    that is known for what is written with one request.
    """

    def __init__(
        self,
        store: ObjectStore,
        copier: ObjectStore | None = None,
        *,
        creates: bool = True,
        is_remote: bool = False,
    ) -> None:
        self._store = store
        self._copier = copier
        self._creates = creates
        self._is_remote = is_remote
        self._part_bytes = limits.BLOB_PART_BYTES if is_remote else limits.BLOB_BUFFER_BYTES
        self._answer_s = limits.BLOB_ANSWER_S if is_remote else None

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Store the pieces: in one request if they fit into it."""
        first = bytearray()
        async for piece in pieces:  # Outside of the translation: its errors are the caller's.
            self._require_space()
            first += piece
            if len(first) >= self._part_bytes:
                size = await self._put_long(key, bytes(first), pieces)
                break
        else:
            size = len(first)
            await self._put_short(key, bytes(first))
        await self._settle(key)
        return size

    async def _put_short(self, key: str, data: bytes) -> None:
        """An object of one request. Dying here, it is there or not."""
        if not self._creates:
            await self._require_none(key)
        uncut = Uncut()
        try:
            with writing(key):
                mode: PutMode = "create" if self._creates else "overwrite"
                await uncut.wait(
                    obstore.put_async(self._store, key, data, mode=mode, use_multipart=False)
                )
        finally:
            await uncut.settled()

    async def _put_long(self, key: str, first: bytes, rest: AsyncIterator[bytes]) -> int:
        """An object of many requests. Dying here, its part may stay until the key is deleted."""
        if self._copier is None:
            await self._require_none(key)
            return await self._upload(key, key, first, rest)
        part = key + _PART
        await self._put_short(part, b"")
        try:
            return await self._upload(key, part, first, rest)
        finally:
            await self._clear(part)

    async def _upload(self, key: str, path: str, first: bytes, rest: AsyncIterator[bytes]) -> int:
        """Write everything to `path`, and have it at the key."""
        size = len(first)
        uncut = Uncut()
        async with Upload(self._store, path, uncut, part_bytes=self._part_bytes) as upload:
            with writing(key):
                await upload.write(first)
            async for piece in rest:
                self._require_space()
                size += len(piece)
                with writing(key):
                    await upload.write(piece)
            if self._copier is None:
                await self._require_none(key)
            with writing(key):
                await upload.finish()
                if self._copier is not None:
                    await uncut.wait(obstore.copy_async(self._copier, path, key, overwrite=False))
        return size

    async def _require_none(self, key: str) -> None:
        try:
            await self._size(key)
        except NoBlob:
            return
        raise BlobExists(key)

    async def _clear(self, part: str) -> None:
        """Remove a part. Where that is not possible now, it goes with the key."""
        with suppress(BlobsUnavailable), writing(part):
            async with asyncio.timeout(limits.BLOB_ABORT_S):
                await obstore.delete_async(self._store, part)

    async def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes, a piece at a time."""
        if length is None:
            length = await self._size(key) - start
        while length > 0:
            step = min(length, limits.BLOB_PIECE_BYTES)
            yield await self._piece(key, start, step)
            start += step
            length -= step

    async def _piece(self, key: str, start: int, length: int) -> bytes:
        with reading(key, is_remote=self._is_remote):
            async with asyncio.timeout(self._answer_s):
                range = obstore.get_range_async(self._store, key, start=start, length=length)
                return bytes(await range)

    async def _size(self, key: str) -> int:
        with reading(key, is_remote=False):
            async with asyncio.timeout(self._answer_s):
                return (await obstore.head_async(self._store, key))["size"]

    async def delete(self, key: str) -> None:
        """Remove the blob, and its part, with one request where that is possible."""
        paths = [key] if self._copier is None else [key, key + _PART]
        with suppress(NoBlob), reading(key, is_remote=self._is_remote):
            async with asyncio.timeout(self._answer_s):
                await obstore.delete_async(self._store, paths)

    async def ping(self) -> None:
        """Memory is there."""

    async def close(self) -> None:
        """Nothing is held."""

    def _require_space(self) -> None:
        """Whether there is any is not known before it is used."""

    async def _settle(self, key: str) -> None:
        """What was written stays."""


class _Folder(_Objects):
    """Blobs as files of a folder, under their keys."""

    def __init__(self, folder: Path) -> None:
        with writing(str(folder)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = LocalStore(folder)
        super().__init__(store, store)
        self._folder = folder

    async def delete(self, key: str) -> None:
        """Remove the file, or what is there of it."""
        with writing(key):
            await asyncio.to_thread(_remove, self._folder / key)

    async def ping(self) -> None:
        """The folder is there, and ours."""
        with writing(str(self._folder)):
            await asyncio.to_thread(os.stat, self._folder / ".")

    def _require_space(self) -> None:
        """Files must not take the last of a disk, for the record may be on it."""
        with writing(str(self._folder)):
            found = os.statvfs(self._folder)
        if found.f_bavail * found.f_frsize < limits.FREE_BYTES_FOR_BLOBS:
            raise BlobsFull(f"almost no space is left on the disk of {self._folder}")

    async def _settle(self, key: str) -> None:
        """Make a file and its name survive a power cut."""
        with writing(key):
            await asyncio.to_thread(_sync, self._folder / key)


def _remove(path: Path) -> None:
    """Remove a file, its part, and what cut puts left of both."""
    for name in (path.name, path.name + _PART):
        path.with_name(name).unlink(missing_ok=True)
        _remove_staged(path.with_name(name))


def _remove_staged(path: Path) -> None:
    """The library writes to another name, which it numbers from 1, before it renames the file."""
    for number in count(1):  # Bounded by the files that are there.
        try:
            path.with_name(f"{path.name}#{number}").unlink()
        except FileNotFoundError:
            return


def _sync(path: Path) -> None:
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _RemoteObjects(_Objects):
    """Blobs in an object store of a provider."""

    def __init__(self, remote: Remote) -> None:
        super().__init__(remote.store, remote.copier, creates=remote.creates, is_remote=True)

    async def ping(self) -> None:
        """Ask for a blob that is not there, and be told so."""
        with suppress(NoBlob):
            await self._piece(_NOBODY, 0, 1)

    async def _size(self, key: str) -> int:
        try:
            return await super()._size(key)
        except NoBlob:
            await self._piece(key, 0, 1)  # A HEAD has no body to say what was not found.
            raise
