"""Spools: a file's bytes as a local file, for the child process that reads it.

A spool is removed when its reader is done. A server that is killed leaves its spools behind, so
each is locked for as long as its server lives, and whoever ingests next removes those that are not.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path

from understudy.engine.app import App
from understudy.engine.files import content
from understudy.machine.private import FilePrivate

_PREFIX = "understudy-spool-"


class NoRoom(Exception):
    """The copy cannot be made here."""


@asynccontextmanager
async def spooled(app: App, private: FilePrivate) -> AsyncGenerator[Path]:
    """The file's bytes in a local file until the end of the block. Raises NoRoom, NoBlob and
    BlobsUnavailable."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(_locked_folder()) / "content"
            with path.open("wb") as spool:
                async with aclosing(content(app, private.blobs)) as pieces:
                    async for piece in pieces:
                        spool.write(piece)
        except OSError as error:
            reason = f"The file cannot be copied for its reader: {error.strerror}."
            raise NoRoom(reason) from error
        yield path


def sweep() -> None:
    """Remove the spools of servers that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # It is in use, or goes just now, or is another user's.
            descriptor = _locked(folder)
            try:
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


@contextmanager
def _locked_folder() -> Iterator[Path]:
    """A folder of our own, until the end of the block."""
    while True:  # Another server may sweep it before it is locked: hardly ever, and never twice.
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.suppress(OSError):
            descriptor = _locked(folder)
            if folder.is_dir():
                break
            os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock; OSError when somebody else has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
