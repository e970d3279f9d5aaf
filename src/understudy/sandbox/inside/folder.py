"""The files below /mnt/data: listed, read, written and linked by the supervisor, never by the code.

Rules of this file. The code made what is there, so every name may be a trap: a path is walked one
component at a time, no symbolic link is followed, only regular files are opened, and what was
opened is looked at again. Every walk has a bound.
"""

import contextlib
import os
import stat
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

from understudy.sandbox.inside.bounds import LISTING_BYTES, PATH_BYTES, Bounds

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A file that the server wrote looks this much older than it is. The clock of a file system may
# tick that seldom, and a change within one tick would not be seen.
_TICK_NS = 10_000_000


class Refused(Exception):
    """A file cannot be had or made; the text says why."""


@dataclass(frozen=True)
class Found:
    """A regular file: its path below the folder, its size, and what changes when it does."""

    path: str
    size_bytes: int
    stamp: str

    def said(self) -> list[str | int]:
        """As it goes to the server."""
        return [self.path, self.size_bytes, self.stamp]


def listed(bounds: Bounds) -> list[Found]:
    """The regular files, nearest first, as far as the bounds go."""
    found: list[Found] = []
    room = LISTING_BYTES
    entries = bounds.folder_files
    waiting: deque[tuple[str, ...]] = deque([()])
    while waiting and entries > 0:
        parts = waiting.popleft()
        for name, status in _entries(bounds.folder, parts, entries):
            entries -= 1
            here = (*parts, name)
            if stat.S_ISDIR(status.st_mode):
                if len(here) < bounds.folder_depth:
                    waiting.append(here)
                continue
            path = "/".join(here)
            if not stat.S_ISREG(status.st_mode) or not _is_text(path):
                continue
            room -= len(path.encode())
            if room < 0 or len(found) == bounds.files_seen:
                return found
            found.append(_found(path, status))
    return found


def _entries(folder: str, parts: tuple[str, ...], most: int) -> list[tuple[str, os.stat_result]]:
    """What lies in one folder, by name; nothing when it cannot be looked into."""
    entries: list[tuple[str, os.stat_result]] = []
    with (
        contextlib.suppress(OSError, Refused),
        _opened_folder(folder, parts) as opened,
        os.scandir(opened) as scan,
    ):
        for entry in scan:
            if len(entries) == most:
                break
            with contextlib.suppress(OSError):
                entries.append((entry.name, entry.stat(follow_symlinks=False)))
    return sorted(entries, key=lambda entry: entry[0])


def _is_text(path: str) -> bool:
    """Whether a name can be said in UTF-8; one that cannot has no place in any answer of ours."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _found(path: str, status: os.stat_result) -> Found:
    stamp = f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_size}-{status.st_ino}"
    return Found(path, status.st_size, stamp)


class Reading:
    """A file on its way out."""

    def __init__(self, folder: str, path: str) -> None:
        *parents, name = _parts(path)
        with _worded(path), _opened_folder(folder, tuple(parents)) as opened:
            self._file = os.open(name, _READ, dir_fd=opened)
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise Refused(f"{path} is not a regular file.")
        self.size_bytes = status.st_size

    def read(self, most: int) -> bytes:
        """The next piece; nothing at the end."""
        return os.read(self._file, most)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


class Writing:
    """A file on its way in: a new one, whatever had the name before."""

    def __init__(self, folder: str, path: str) -> None:
        *parents, name = _parts(path)
        self._path = path
        self._name = name
        with _worded(path), _opened_folder(folder, tuple(parents), makes_folders=True) as opened:
            _clear(opened, name, path)
            self._file = os.open(name, _WRITE, 0o644, dir_fd=opened)
            self._folder = os.dup(opened)

    def write(self, data: bytes) -> None:
        """Add a piece."""
        rest = memoryview(data)
        with _worded(self._path):
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def keep(self) -> Found:
        """All is written."""
        past = os.fstat(self._file).st_mtime_ns - _TICK_NS
        os.utime(self._file, ns=(past, past))
        found = _found(self._path, os.fstat(self._file))
        self._close()
        return found

    def discard(self) -> None:
        """It was not to be: what there is goes away."""
        with contextlib.suppress(OSError):
            os.unlink(self._name, dir_fd=self._folder)
        self._close()

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._folder)


def link(folder: str, path: str, target: str) -> None:
    """Make a path another name of a file."""
    Reading(folder, target).close()
    *parents, name = _parts(path)
    way = os.path.relpath("/".join(_parts(target)), "/".join(parents) or ".")
    with _worded(path), _opened_folder(folder, tuple(parents), makes_folders=True) as opened:
        _clear(opened, name, path)
        os.symlink(way, name, dir_fd=opened)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise Refused("A path has to be below the folder, without empty parts, `.` and `..`.")
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise Refused("A path has to be text.") from None
    if length > PATH_BYTES:
        raise Refused("A path is too long.")
    return parts


def _clear(folder: int, name: str, path: str) -> None:
    """Take away what has a name, if it is no folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise Refused(f"{path} is a folder.") from None


@contextlib.contextmanager
def _opened_folder(
    folder: str, parts: tuple[str, ...], *, makes_folders: bool = False
) -> Generator[int]:
    """A folder, walked to from the top one."""
    opened = os.open(folder, _FOLDER)
    try:
        for part in parts:
            if makes_folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=opened)
            below = os.open(part, _FOLDER, dir_fd=opened)
            os.close(opened)
            opened = below
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def _worded(path: str) -> Generator[None]:
    """Whatever the system says of a path becomes a refusal."""
    try:
        yield
    except OSError as error:
        raise Refused(f"{path}: {os.strerror(error.errno or 0)}.") from None
