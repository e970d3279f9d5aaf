"""Limits by cgroup v2, where the system has handed a part of the tree over to this server.

They come on top of the jail's own limits, and where there is no such part nothing is missing but
them: memory of all kinds in one sum, and a processor's share. Where systemd runs the server,
`Delegate=yes` with `DelegateSubgroup=server` hands its part over.
"""

import contextlib
import itertools
import os
from pathlib import Path

from understudy import limits

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_DELEGATED = "user.delegate"  # What systemd writes on a part that is handed over.
_CONTROLLERS = ("memory", "pids", "cpu")
_CPU = "100000 100000"  # One processor.
_SPARE_PROCESSES = 8  # Our own, beside those of the code.


class Group:
    """The cgroup of one session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def remove(self) -> None:
        """Its processes have ended."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Groups:
    """Cgroups for sessions, below a part of the tree that is ours."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self._numbers = itertools.count(1)

    @classmethod
    def found(cls, root: Path = _ROOT, own: Path = _OWN) -> "Groups | None":
        """Those of this server, if it may have any."""
        part = _part(root, own)
        return cls(part) if part and _is_usable(part) else None

    def hold(self, pid: int) -> Group | None:
        """Put a process, and all that it will start, into a group of its own."""
        folder = self._part / f"understudy-{os.getpid()}-{next(self._numbers)}"
        memory = limits.CODE_SESSION_BYTES + limits.CODE_FOLDER_BYTES + 2 * limits.CODE_TMP_BYTES
        try:
            folder.mkdir()
        except OSError:
            return None
        try:
            (folder / "memory.max").write_text(str(memory))
            (folder / "pids.max").write_text(str(limits.CODE_PROCESSES + _SPARE_PROCESSES))
            (folder / "cpu.max").write_text(_CPU)
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            Group(folder).remove()
            return None
        with contextlib.suppress(OSError):  # There may be no swap to forbid.
            (folder / "memory.swap.max").write_text("0")
        return Group(folder)


def _part(root: Path, own: Path) -> Path | None:
    """Our own cgroup, or the one above when that is what was handed over."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::/")), None)
    if path is None:
        return None
    mine = root / path.lstrip("/")
    if mine != root and _is_delegated(mine.parent):
        return mine.parent
    return mine if mine != root and _is_delegated(mine) else None


def _is_delegated(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(folder, _DELEGATED) == b"1"
    return False


def _is_usable(part: Path) -> bool:
    """Whether groups below get the controllers that we need."""
    control = part / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        if not _has_all(control):
            control.write_text(" ".join(f"+{name}" for name in _CONTROLLERS))
        return _has_all(control)
    return False


def _has_all(control: Path) -> bool:
    return set(_CONTROLLERS) <= set(control.read_text().split())
