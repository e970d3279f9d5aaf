"""The seam to stored bytes: what Blobs are, what they may raise, and how they are opened.

A blob is written once, under a key that nobody used before, and never changed: a put under a key
that has a blob is refused. It is there as a whole or not at all, and once `put` returned it
survives a crash. Who stores what is not known here: before a put the caller promises to delete the
key (see engine/files.py), so that a process that dies half-way leaves nothing for ever.

Nothing here waits for long: a place that does not answer is BlobsUnavailable within a minute, and
whoever asks may ask again later.
"""

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Protocol


class BlobsUnavailable(Exception):
    """The bytes cannot be written or read now; nothing was acknowledged."""

    def __init__(self, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class BlobsFull(BlobsUnavailable):
    """There is no space for more bytes."""


class BlobExists(BlobsUnavailable):
    """The key has a blob, which stays as it is, or is being written by somebody else.

    It may be the caller's own: a store may lose its answer to a write, and refuse the next try. So
    nothing was acknowledged, and under a new key it can be tried again.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is in use already")
        self.key = key


class NoBlob(Exception):
    """Nothing is stored under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Blobs(Protocol):
    """A place for bytes of any size. All of it may raise BlobsUnavailable."""

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Store the pieces as one blob, all or nothing, and durably; how many bytes it has.

        An error of `pieces` is the caller's own: it comes through, and nothing is stored. Raises
        BlobExists when the key is not new; of several who put it at once, at most one succeeds.
        """
        ...

    def open(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes from `start`, `length` of them or all, a piece at a time. Raises NoBlob."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a blob, and what a put of it left when it was cut. Gone already is fine."""
        ...

    async def ping(self) -> None:
        """Do nothing, if blobs can be read now; else raises BlobsUnavailable."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


def open_blobs(url: str, options: Mapping[str, str] | None = None) -> Blobs:
    """The blobs at this URL: `file:///folder`, `memory:`, `s3://bucket/prefix`, `gs://` or `az://`.

    `options` are for the remote ones, such as credentials. ValueError when the URL is none.
    """
    # Imported when asked for: not every command needs the library.
    module = importlib.import_module("understudy.blobs.objects")
    blobs: Blobs = module.open_blobs(url, options or {})
    return blobs
