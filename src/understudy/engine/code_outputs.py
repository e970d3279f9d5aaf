"""Code outputs: the images and files that a call leaves become file objects.

Their bytes are written first, under keys that are promised to be deleted; what makes them files is
committed with the call's answer. So a call that is cut, or a server that dies, leaves no object
without bytes, and no bytes without an object or a job (engine/files.py).

A file that code only read is as it was noted, and makes no object.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from understudy import limits
from understudy.blobs import BlobsFull, BlobsUnavailable
from understudy.engine import code_logs, files
from understudy.engine.sandbox_files import is_link
from understudy.machine.private import BlobRef, FilePrivate, SandboxFile
from understudy.machine.sandbox_names import base_name, safe_path
from understudy.sandbox import FileInfo, FileRefused, Note, Session
from understudy.store import Statement
from understudy.wire.files import File

if TYPE_CHECKING:
    from understudy.engine.drive import Driver

_log = structlog.get_logger()

_PNG = b"\x89PNG\r\n\x1a\n"
# What Python itself writes beside modules.
_CACHE = "__pycache__"


class _TooLarge(Exception):
    """A file goes on beyond the limit."""


@dataclass
class Outputs:
    """What a call leaves. `notes` are for the session, once `statements` are committed."""

    images: list[str] = field(default_factory=list)
    files: list[SandboxFile] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    notes: dict[str, Note] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    are_away: bool = False  # Blobs: they are asked once, for a run does not wait for each output.


async def changed(session: Session) -> list[FileInfo]:
    """The files that code made or changed since they were noted."""
    return [
        info
        for info in await session.files()
        if not is_link(session, info.path)
        and _CACHE not in info.path.split("/")
        and (info.path not in session.notes or session.notes[info.path].stamp != info.stamp)
    ]


def shown(images: Sequence[bytes]) -> list[bytes]:
    """Those of a sandbox's images that may be shown, whatever it sent."""
    return [
        image
        for image in images[: limits.CODE_IMAGES]
        if image.startswith(_PNG) and len(image) <= limits.CODE_IMAGE_BYTES
    ]


async def saved(
    driver: "Driver", session: Session, images: Sequence[bytes], found: Sequence[FileInfo]
) -> Outputs:
    """Bytes on their way to be file objects. Raises SandboxLost."""
    outputs = Outputs()
    kept = found[: limits.CODE_FILES]
    keys = [driver.new_id("blob") for _ in range(len(images) + len(kept))]
    if keys:
        driver.promised.update(keys)
        await files.promise(driver.app, driver.lease.project, keys)
    saving = _Saving(driver, session, outputs)
    for key, image in zip(keys, images, strict=False):
        await saving.image(key, image)
    for key, info in zip(keys[len(images) :], kept, strict=True):
        await saving.file(key, info)
    if len(found) > len(kept):
        outputs.refused.append(code_logs.too_many(len(found) - len(kept)))
    return outputs


@dataclass(frozen=True)
class _Saving:
    """One call's outputs being written."""

    driver: "Driver"
    session: Session
    outputs: Outputs

    async def image(self, key: str, image: bytes) -> None:
        """A figure; its name is its id, as at the original."""
        file_id = self.driver.new_id("file")
        if await self._write(key, file_id, f"{file_id}.png", _one(image), name="An image"):
            self.outputs.images.append(file_id)

    async def file(self, key: str, info: FileInfo) -> None:
        """A file, by its own name; where it lay is kept beside it."""
        path = safe_path(info.path)
        # One that is refused is noted: it is not refused again before it changes.
        self.outputs.notes[info.path] = Note(info.stamp, "")
        if path is None:
            self.outputs.refused.append(code_logs.not_saved("A file", "it has no name."))
            return
        if info.size_bytes > limits.CODE_FILE_BYTES:
            why = code_logs.too_large(info.size_bytes)
            self.outputs.refused.append(code_logs.not_saved(path, why))
            return
        file_id = self.driver.new_id("file")
        pieces = _bounded(self.session.get(info.path))
        if await self._write(key, file_id, base_name(path), pieces, name=path, path=path):
            self.outputs.notes[info.path] = Note(info.stamp, file_id)
            self.outputs.files.append(SandboxFile(path=path, file_id=file_id))

    async def _write(
        self,
        key: str,
        file_id: str,
        filename: str,
        pieces: AsyncGenerator[bytes],
        *,
        name: str,
        path: str | None = None,
    ) -> bool:
        """Whether the bytes are written, and the object will be."""
        app = self.driver.app
        try:
            async with aclosing(pieces):
                if self.outputs.are_away:
                    raise BlobsUnavailable("they were not there for another output")
                size = await app.blobs.put(key, pieces)
        except FileRefused as refused:
            why = str(refused)
        except _TooLarge:
            why = code_logs.too_large(limits.CODE_FILE_BYTES + 1)
        except BlobsFull:
            why = "there is no space left."
        except BlobsUnavailable as error:
            _log.warning("an output cannot be saved", file_id=file_id, reason=repr(error))
            why = "files cannot be stored now."
            self.outputs.are_away = True
        else:
            self._make(file_id, filename, BlobRef(key=key, size_bytes=size), path)
            return True
        self.outputs.refused.append(code_logs.not_saved(name, why))
        return False

    def _make(self, file_id: str, filename: str, blob: BlobRef, path: str | None) -> None:
        now = self.driver.app.world.now()
        file = File(
            id=file_id,
            bytes=blob.size_bytes,
            created_at=int(now),
            filename=filename,
            purpose="assistants_output",
        )
        private = FilePrivate(blobs=[blob], path=path)
        self.outputs.keys.append(blob.key)
        self.outputs.statements += files.creation(file, private, self.driver.lease.project, now)


async def _one(piece: bytes) -> AsyncGenerator[bytes]:
    yield piece


async def _bounded(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The pieces, as long as they are no more than a file may have."""
    size = 0
    async with aclosing(pieces):
        async for piece in pieces:
            size += len(piece)
            if size > limits.CODE_FILE_BYTES:
                raise _TooLarge
            yield piece
