"""Upload: the bytes of a long blob on their way, which are finished or taken back.

An object store keeps the parts of an upload that nobody finishes, and wants to be paid for them. So
whatever cuts an upload while its process lives has it aborted. What a killed process leaves, and
parts whose abort fails because the store is away, are for the store's own rule on unfinished
uploads (docs/files.md).
"""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from understudy import limits

T = TypeVar("T")


class Uncut:
    """Requests that a cancel does not cut in half, one after the other.

    What the store made of half a request would not be known: a write might come after the delete
    that follows it, and the id that an abort needs is in the answer to the upload's first request.
    """

    def __init__(self) -> None:
        self._request: asyncio.Future[Any] | None = None

    async def wait(self, request: Awaitable[T]) -> T:
        """The result. It goes on when the caller is cancelled."""
        future = asyncio.ensure_future(request)
        future.add_done_callback(_looked_at)
        self._request = future
        return await asyncio.shield(future)

    async def settled(self) -> None:
        """The last one is over, or it takes too long and is cut after all."""
        if self._request is not None and not self._request.done():
            await asyncio.wait([self._request], timeout=limits.BLOB_ABORT_S)
            self._request.cancel()


class Upload:
    """A blob that is written piece by piece: an async context, which `finish` ends well. Left
    without that, it is aborted."""

    def __init__(self, store: ObjectStore, path: str, uncut: Uncut, *, part_bytes: int) -> None:
        self._writer = obstore.open_writer_async(
            store, path, buffer_size=part_bytes, max_concurrency=limits.BLOB_WRITES_AT_ONCE
        )
        self._uncut = uncut
        self._is_ended = False

    async def write(self, piece: bytes) -> None:
        """Take a piece; waits while too many are on their way."""
        await self._uncut.wait(self._writer.write(piece))

    async def finish(self) -> None:
        """All of it is there now. When that fails, the library has aborted it."""
        self._is_ended = True
        await self._uncut.wait(self._writer.close())

    async def __aenter__(self) -> "Upload":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._uncut.settled()
        if self._is_ended:
            return
        try:
            async with asyncio.timeout(limits.BLOB_ABORT_S):
                await self._writer.__aexit__(kind, error, traceback)
        except (BaseError, OSError):
            return  # What ended the upload is told, and the store's rule does the rest.


def _looked_at(request: asyncio.Future[Any]) -> None:
    """Nobody may be left to ask for its error, and that is no news to the log."""
    if not request.cancelled():
        request.exception()
