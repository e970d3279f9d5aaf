"""Which Python runs the code: one that the sandbox's user can read, which is not always ours.

A server that root started runs the code as a user who owns nothing. A Python below /root, as pyenv
and uv put it there, is out of that user's reach. Whether a candidate will do is not guessed from
the modes of folders: it is started, as that user.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy import limits

# The user of the jail when the server is root's. Above all that distributions give to people (1000
# to 60000), in the range that systemd takes its passing users from (it asks first whether a number
# is free), and not 65534, `nobody`, who owns files on some network shares.
JAIL_ID = 61_184 + 4_000

_OLDEST = (3, 10)
_SYSTEM = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
# What the code in the jail is built on; Debian's minimal python3 lacks some of it.
_ASK = (
    "import sys, json, os, array, ast, ctypes, socket, traceback, zipimport, zlib; "
    "print(json.dumps([os.path.realpath(sys.executable), sys.base_prefix, "
    "*sys.version_info[:2]]))"
)
# Left out of a copy: what is for developers, and what pip put there.
_NOT_COPIED = ("site-packages", "__pycache__", "test", "idlelib", "ensurepip", "*.a", "share")


class CannotInstall(Exception):
    """The sandbox's environment cannot be made: `cause` is why, `remedy` what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy


@dataclass(frozen=True)
class Interpreter:
    """A Python, the folder that it was installed in, and its version, as in 3.11."""

    python: Path
    prefix: Path
    version: str


def found(copy: Path) -> Interpreter | None:
    """The first Python that the sandbox's user can run: ours, the system's, or a copy."""
    for candidate in _candidates(copy):
        interpreter = _asked(candidate)
        if interpreter is not None:
            return interpreter
    return None


def copied(to: Path) -> Path:
    """A copy of our own Python, without packages."""
    shutil.copytree(sys.base_prefix, to, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    return to


def readable(command: Sequence[str], timeout_s: float) -> str | None:
    """Run a command as the sandbox's user; what is wrong with it, or None."""
    try:
        done = _as_jail_user(command, timeout_s)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1].rstrip(".") if lines else f"exit code {done.returncode}"


def _candidates(copy: Path) -> Iterator[Path]:
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield Path(sys.base_prefix) / "bin" / ours
    for name in _SYSTEM:
        yield Path("/usr/bin") / name
    yield copy / "bin" / ours


def _asked(python: Path) -> Interpreter | None:
    """What a Python says of itself; None when it does not answer, or is too old."""
    if not python.exists():
        return None
    try:
        done = _as_jail_user([str(python), "-I", "-c", _ASK], limits.SANDBOX_PROOF_S)
        path, prefix, major, minor = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if (major, minor) < _OLDEST:
        return None
    return Interpreter(Path(path), Path(prefix), f"{major}.{minor}")


def _as_jail_user(command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run to the end, as the user that the code will run as, with nothing of our environment."""
    is_root = os.geteuid() == 0
    return subprocess.run(  # noqa: S603 (our own command)
        command,
        cwd="/",
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "MPLBACKEND": "Agg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        user=JAIL_ID if is_root else None,
        group=JAIL_ID if is_root else None,
        extra_groups=[] if is_root else None,
    )
