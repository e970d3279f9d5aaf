"""The blobs of a record: those that its files and parts of uploads name, copied and compared.

Other blobs nobody can ask for: the record has a job that deletes each of them. A blob is written
whole or not at all, so that one which is there was copied, and a second start goes on with the
others.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import msgspec

from understudy import limits
from understudy.blobs import Blobs, NoBlob
from understudy.machine.private import BlobRef, FilePrivate
from understudy.store.tables import TABLES, Tables
from understudy.transfer.progress import Tell
from understudy.transfer.rows import pages
from understudy.transfer.verifying import Difference

_OBJECTS = next(table for table in TABLES if table.name == "objects")
_KIND, _PRIVATE = _OBJECTS.places(["kind", "private"])


@dataclass
class Moved:
    """What was done with blobs, and the first differences that were found."""

    count: int = 0
    size_bytes: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, ref: BlobRef) -> None:
        """One is done."""
        self.count += 1
        self.size_bytes += ref.size_bytes

    def differ(self, ref: BlobRef, how: str) -> None:
        """One is not the same."""
        self.differing += 1
        if len(self.differences) < limits.COPY_DIFFERENCES:
            self.differences.append(Difference("blobs", ref.key, how))


async def counted(record: Tables) -> Moved:
    """How many there are, by the record."""
    found = Moved()
    async with aclosing(_refs(record)) as refs:
        async for _, ref in refs:
            found.add(ref)
    return found


async def copy_blobs(record: Tables, source: Blobs, target: Blobs, total: int, tell: Tell) -> Moved:
    """Put at the target what is not there yet. Dying at any await, some are there as a whole."""
    moved = Moved()

    async def copy(_: str, ref: BlobRef) -> None:
        if not await _is_there(target, ref):
            await target.delete(ref.key)  # What a copy left that was killed in the middle of it.
            with suppress(NoBlob):  # The comparison that follows names it.
                await target.put(ref.key, source.open(ref.key))
        moved.add(ref)
        tell("copying blobs", moved.count, total, moved.size_bytes)

    await _each(record, copy)
    return moved


async def verify_blobs(
    record: Tables, source: Blobs, target: Blobs, total: int, tell: Tell
) -> Moved:
    """Read both sides and compare them. Changes nothing.

    A part's blob may be at neither: the server was stopped while it cleaned up an upload that had
    ended, and goes on with that at the target (`clean_upload`).
    """
    moved = Moved()

    async def verify(kind: str, ref: BlobRef) -> None:
        one, other = await _content(source, ref.key), await _content(target, ref.key)
        how = _difference(kind, one, other)
        if how is not None:
            moved.differ(ref, how)
        moved.add(ref)
        tell("verifying blobs", moved.count, total, moved.size_bytes)

    await _each(record, verify)
    return moved


def _difference(
    kind: str, one: tuple[int, bytes] | None, other: tuple[int, bytes] | None
) -> str | None:
    """How the target's is not the source's, if so."""
    if one == other:
        return "is not at the source" if one is None and kind != "part" else None
    if one is None or other is None:
        return f"is not at the {'source' if one is None else 'target'}"
    return f"has {other[0]} bytes, not {one[0]}" if one[0] != other[0] else "has other bytes"


async def _is_there(blobs: Blobs, ref: BlobRef) -> bool:
    """Whether something is stored under this key. Of its end a byte is read."""
    try:
        async with aclosing(blobs.open(ref.key, max(0, ref.size_bytes - 1))) as pieces:
            async for _ in pieces:
                break
    except NoBlob:
        return False
    return True


async def _content(blobs: Blobs, key: str) -> tuple[int, bytes] | None:
    """How many bytes a blob has, and their digest."""
    size, digest = 0, hashlib.blake2b(digest_size=16)
    try:
        async with aclosing(blobs.open(key)) as pieces:
            async for piece in pieces:
                size += len(piece)
                digest.update(piece)
    except NoBlob:
        return None
    return size, digest.digest()


async def _each(record: Tables, work: Callable[[str, BlobRef], Awaitable[None]]) -> None:
    """Do something with each blob, with a few at once, and never with one blob twice at once."""
    at_work: dict[str, asyncio.Future[None]] = {}
    try:
        async with aclosing(_refs(record)) as refs:
            async for kind, ref in refs:
                while ref.key in at_work:  # As a part's: what is a file's is looked at as that.
                    await _one_done(at_work)
                at_work[ref.key] = asyncio.ensure_future(work(kind, ref))
                while len(at_work) >= limits.COPY_BLOBS_AT_ONCE:
                    await _one_done(at_work)
        while at_work:
            await _one_done(at_work)
    finally:
        for task in at_work.values():
            task.cancel()
        await asyncio.gather(*at_work.values(), return_exceptions=True)


async def _one_done(at_work: dict[str, asyncio.Future[None]]) -> None:
    """Wait for one; its exception is everybody's."""
    await asyncio.wait(at_work.values(), return_when=asyncio.FIRST_COMPLETED)
    for key in [key for key, task in at_work.items() if task.done()]:
        at_work.pop(key).result()


async def _refs(record: Tables) -> AsyncGenerator[tuple[str, BlobRef]]:
    """The blobs that objects name, with the kinds of these. Until an upload is cleaned up, two of
    them name one blob."""
    async with aclosing(pages(record, _OBJECTS)) as found:
        async for rows in found:
            for row in rows:
                for ref in _named(row[_KIND], row[_PRIVATE]):
                    yield row[_KIND], ref


def _named(kind: str, private: str | None) -> list[BlobRef]:
    if private is None or kind not in ("file", "part"):
        return []
    if kind == "part":
        return [msgspec.json.decode(private, type=BlobRef)]
    return msgspec.json.decode(private, type=FilePrivate).blobs
