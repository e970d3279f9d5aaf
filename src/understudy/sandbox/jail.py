"""The jail: the command line of bubblewrap, and starting it as a user who owns nothing.

Rules of this file, each learned from an attack. The jail sees the system's programs, its own
packages, and nothing else of the host. bubblewrap's own root and /dev are memory that all could
write to, so both are made read-only at the end, after /dev/shm got a mount of its own. It is
started with an empty environment, because its first process would show the server's to everybody.
A server that is root becomes somebody else first, or bubblewrap would keep root's rights to files.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from understudy import limits
from understudy.sandbox import FOLDER
from understudy.sandbox.environment import Environment
from understudy.sandbox.inside.bounds import MATPLOTLIB
from understudy.sandbox.interpreter import JAIL_ID
from understudy.sandbox.package import package

SITE = "/opt/site"
_PACKAGE = "/run/understudy.pyz"
_ID = "1000"  # The user inside.
_TMP = "/tmp"  # noqa: S108 - the jail's own.
_SHM = "/dev/shm"  # noqa: S108 - the jail's own.
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_READ_ONLY = ("/etc/fonts", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_SMALL_FILES = 1_000  # Inodes of /dev/shm.
_SAID_BYTES = 4096
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": _TMP,
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONPATH": SITE,
    "PYTHONDONTWRITEBYTECODE": "1",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": MATPLOTLIB,
    # One thread each: a zygote with threads cannot make user namespaces, and a session has one
    # processor anyway.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Jail:
    """What every jail is made of: the program, and the Python in it."""

    bwrap: str
    environment: Environment

    def start(self, kind: str, its: socket.socket) -> "Jailed":
        """Start a `zygote` or a `session` that has the other end of a socket. Raises OSError."""
        code = os.memfd_create("understudy.pyz", os.MFD_CLOEXEC)
        said = os.memfd_create("said", os.MFD_CLOEXEC)
        try:
            os.write(code, package())
            os.lseek(code, 0, os.SEEK_SET)
            is_root = os.geteuid() == 0
            process = subprocess.Popen(  # noqa: S603 - bubblewrap, with our own words.
                self._command(kind, code, its.fileno()),
                pass_fds=[code, its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                env={},
                start_new_session=True,  # No terminal; and a group that can be killed.
                user=JAIL_ID if is_root else None,
                group=JAIL_ID if is_root else None,
                extra_groups=[] if is_root else None,
            )
        except BaseException:
            os.close(said)
            raise
        finally:
            os.close(code)
        return Jailed(process, said)

    def _command(self, kind: str, code: int, server: int) -> list[str]:
        return [
            self.bwrap,
            "--unshare-all",
            "--unshare-user",
            "--die-with-parent",
            "--as-pid-1",
            "--clearenv",
            *("--uid", _ID, "--gid", _ID, "--hostname", "sandbox"),
            *self._mounts(),
            *("--perms", "0444", "--ro-bind-data", str(code), _PACKAGE),
            *_own_memory(),
            *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", FOLDER),
            *(word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)),
            "--",
            str(self.environment.python),
            *("-I", "-S", _PACKAGE, kind, str(server), SITE),
        ]

    def _mounts(self) -> Iterator[str]:
        yield from ("--ro-bind", "/usr", "/usr")
        for name in _LINKS:
            path = Path("/", name)
            if path.is_symlink():
                yield from ("--symlink", str(path.readlink()), f"/{name}")
            elif path.is_dir():
                yield from ("--ro-bind", f"/{name}", f"/{name}")
        for name in _READ_ONLY:
            yield from ("--ro-bind-try", name, name)
        prefix = self.environment.prefix
        if not prefix.is_relative_to("/usr"):
            yield from ("--ro-bind", str(prefix), str(prefix))
        yield from ("--ro-bind", str(self.environment.site), SITE)
        yield from ("--proc", "/proc", "--dev", "/dev")


def _own_memory() -> Iterator[str]:
    for folder, size, _, mode in mounts():
        yield from ("--perms", mode, "--size", str(size), "--tmpfs", folder)


def mounts() -> list[tuple[str, int, int, str]]:
    """Where code may write: the folder, its bytes, its files, its mode."""
    return [
        (FOLDER, limits.CODE_FOLDER_BYTES, limits.CODE_FOLDER_FILES, "0755"),
        (_TMP, limits.CODE_TMP_BYTES, limits.CODE_FOLDER_FILES, "1777"),
        (_SHM, limits.CODE_TMP_BYTES, _SMALL_FILES, "1777"),
    ]


class Jailed:
    """A jail that was started, seen as the process of bubblewrap that watches over it."""

    def __init__(self, process: subprocess.Popen[bytes], said: int) -> None:
        self._process = process
        self._said = said

    def kill(self) -> None:
        """End everything in it, at whatever moment.

        Its first process is bound to this one, but only from the end of its start on. Until then
        it waits for this one, for ever if need be. So the whole group goes: it has no member but
        these two, as workers have groups of their own.
        """
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def release(self) -> None:
        """It is over: let go of what was held for it."""
        if self._said >= 0:
            os.close(self._said)
            self._said = -1

    def said(self) -> str:
        """What it wrote for the operator: why it does not start."""
        return os.pread(self._said, _SAID_BYTES, 0).decode(errors="replace").strip()
