"""Blobs in a folder, in memory, or in any object store that obstore speaks to.

In a folder a blob is one file. The library writes it under another name (`key#1`) and renames it
when it is whole; a process that is killed meanwhile leaves that file, and `delete` removes it. A
file is synced before `put` returns, and so is its folder, else a power cut could take what was
acknowledged.

Reading is a request per piece: one that streams a whole blob would end with the library's
timeout when the client is slow.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store

from understudy import limits
from understudy.blobs import Blobs, BlobsFull, BlobsUnavailable, NoBlob


def open_blobs(url: str, options: Mapping[str, str]) -> Blobs:
    """The blobs at this URL; `options` are for the remote ones. ValueError when it is none."""
    parts = urlsplit(url)
    match parts.scheme:
        case "file" if parts.path and not parts.netloc:
            folder = Path(unquote(parts.path))
            with _translated(str(folder)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                return _Objects(LocalStore(folder), folder)
        case "memory":
            return _Objects(MemoryStore())
        case "s3" | "gs" | "az" if parts.netloc:
            try:
                return _Objects(_remote(url, parts.scheme, options))
            except (BaseError, ValueError) as error:
                raise ValueError(_first_line(error)) from error
    raise ValueError(f"{url} is none of file:///folder, memory:, s3://bucket, gs:// and az://")


def _remote(url: str, scheme: str, options: Mapping[str, str]) -> ObjectStore:
    """The object store of a provider. Its own environment variables count, too."""
    if scheme == "s3":
        is_plain = options.get("aws_endpoint_url", "").startswith("http://")
        return S3Store.from_url(
            url,
            config=dict(options),  # type: ignore[arg-type]
            client_options={"allow_http": is_plain},
        )
    return GCSStore.from_url(url) if scheme == "gs" else AzureStore.from_url(url)


class _Objects:
    """Blobs in an object store; `folder` is where they are when that is a folder."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Store the pieces. Cancelled or refused, it leaves no blob: its writer is not closed."""
        size = 0
        with _translated(key):
            writer = obstore.open_writer_async(
                self._store,
                key,
                buffer_size=limits.BLOB_BUFFER_BYTES if self._folder else limits.BLOB_PART_BYTES,
                max_concurrency=limits.BLOB_WRITES_AT_ONCE,
            )
        async for piece in pieces:  # Outside of the translation: its errors are the caller's.
            size += len(piece)
            with _translated(key):
                self._require_space()
                await writer.write(piece)
        with _translated(key):
            await writer.close()
            if self._folder is not None:
                await asyncio.to_thread(_settle, self._folder / key)
        return size

    async def open(
        self, key: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes, a piece at a time."""
        if length is None:
            with _translated(key):
                length = (await obstore.head_async(self._store, key))["size"] - start
        while length > 0:
            step = min(length, limits.BLOB_PIECE_BYTES)
            with _translated(key):
                piece = await obstore.get_range_async(self._store, key, start=start, length=step)
            yield bytes(piece)
            start += step
            length -= step

    async def delete(self, key: str) -> None:
        """Remove the blob, or what is there of it."""
        with _translated(key):
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)
            if self._folder is not None:
                await asyncio.to_thread(_remove_staged, self._folder / key)

    async def close(self) -> None:
        """Nothing is held."""

    def _require_space(self) -> None:
        """Files must not take the last of a disk, for the record may be on it."""
        if self._folder is not None:
            found = os.statvfs(self._folder)
            if found.f_bavail * found.f_frsize < limits.FREE_BYTES_FOR_BLOBS:
                raise BlobsFull(f"almost no space is left on the disk of {self._folder}")


def _settle(path: Path) -> None:
    """Make a file and its name survive a power cut."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_staged(path: Path) -> None:
    """Remove the files that cut puts of this key left; the library numbers them from 1."""
    for number in count(1):  # Bounded by the files that are there.
        try:
            path.with_name(f"{path.name}#{number}").unlink()
        except FileNotFoundError:
            return


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """The library's exceptions as ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoBlob(key) from error
    except (BaseError, OSError) as error:
        raise BlobsUnavailable(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    """What an exception says, without the library's debug lines."""
    return str(error).partition("\n")[0]
