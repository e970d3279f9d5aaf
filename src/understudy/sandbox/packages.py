"""Fetches pinned packages into a folder, with pip or uv, and words what goes wrong.

The list's hashes are checked, and only wheels are taken: nothing is built, and no code of a package
runs on the way. What is read of pip's output is for the progress bar and for the words alone.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from understudy import limits
from understudy.sandbox.interpreter import CannotInstall
from understudy.settings import clean_environment

# What is done now, and how much of all is done: 0 to 1, or None where nobody can tell.
Progress = Callable[[str, float | None], None]

_KEPT_LINES = 200
_PIN = re.compile(r"^[\w.-]+==", re.MULTILINE)
_COLLECTING = re.compile(r"^(?:Collecting|Processing) (\S+)")
_FETCHING = re.compile(r"^\s*(?:Downloading|Using cached) (\S+?)-([\d.]+\w*)-\S+ (\(.*\))")
_UNPACKING = "Installing collected packages"
_FETCHED, _UNPACKED = 0.6, 0.8  # Of the whole time.

# The first that is found in the output says what went wrong.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Errno 28|Disk quota exceeded",
        "There is no room left for the sandbox's packages.",
        "Make room, or name another folder in UNDERSTUDY_SANDBOX_FOLDER.",
    ),
    (
        r"DO NOT MATCH THE HASHES|Hash mismatch",
        "A package came with other content than the pinned one.",
        "Try again without the cache: PIP_NO_CACHE_DIR=1. If that fails too, do not trust the "
        "package index that pip uses.",
    ),
    (
        r"name resolution|Name or service not known|nodename nor servname|Connection refused|"
        r"NewConnectionError|ConnectTimeout|ReadTimeout|timed out|Max retries|ProxyError|"
        r"Network is unreachable|dns error|tcp connect error|error sending request|"
        r"ConnectionResetError|Connection aborted",
        "The package index cannot be reached.",
        "Check the network, or point pip at a mirror with PIP_INDEX_URL, or at a folder of wheels "
        "with PIP_FIND_LINKS and PIP_NO_INDEX=1.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|invalid peer certificate",
        "The package index shows a certificate that pip does not trust.",
        "If a proxy of yours opens the traffic, name its certificate in PIP_CERT.",
    ),
    (
        r"from versions: none",
        "The package index cannot be reached, or has no wheels for this machine.",
        "Check the network and pip's settings (PIP_INDEX_URL, PIP_FIND_LINKS). Linux on x86-64 or "
        "aarch64 with Python 3.10 to 3.14 is supported.",
    ),
    (
        r"No matching distribution|no wheels with a matching|No solution found",
        "The package index has no wheel of a pinned version for this machine's Python.",
        "Linux on x86-64 or aarch64 with Python 3.10 to 3.14 is supported; install such a python3 "
        "from the system's packages.",
    ),
)


def fetch(python: Path, lists: Sequence[Path], to: Path, progress: Progress) -> None:
    """Install what the lists pin into a folder, for this Python. Raises CannotInstall."""
    scratch = to.with_name("tmp")
    scratch.mkdir()
    pins = sum(len(set(_pinned(path))) for path in lists)
    follow = _Follower(pins, progress)
    with _running(_command(python, lists, to), scratch) as process:
        for line in process.stdout or ():
            follow.hear(line)
        code = process.wait()
    if code != 0:
        raise _explained(follow.lines)
    progress("compiling", _UNPACKED)
    with _running(_compiling(python, to), scratch) as process:
        process.communicate()  # What cannot be compiled, nobody imports on this Python.


def _pinned(path: Path) -> list[str]:
    """The names that a list pins; one may have several pins, for several Pythons."""
    return _PIN.findall(path.read_text())


def _command(python: Path, lists: Sequence[Path], to: Path) -> list[str]:
    """pip works on another Python from outside, which therefore need not have it."""
    options = ["--target", str(to), "--require-hashes", "--no-deps"]
    for path in lists:
        options += ["--requirement", str(path)]
    if importlib.util.find_spec("pip") is not None:
        return [
            sys.executable, "-m", "pip", "--python", str(python), "install", "--no-input",
            "--no-user", "--disable-pip-version-check", "--no-warn-script-location",
            "--root-user-action", "ignore", "--progress-bar", "off", "--no-compile",
            "--only-binary", ":all:", *options,
        ]  # fmt: skip
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if uv is None:
        uv = shutil.which("uv")
    if uv is not None:
        return [
            uv, "pip", "install", "--python", str(python), "--no-progress", "--link-mode", "copy",
            "--only-binary", ":all:", *options,
        ]  # fmt: skip
    raise CannotInstall(
        f"Neither pip nor uv is there to fetch packages for {python}.",
        f"Bring pip with `{sys.executable} -m ensurepip`, or install uv.",
    )


def _compiling(python: Path, site: Path) -> list[str]:
    """The jail sees the packages read-only, and would compile them at each start. pip does so, too,
    but one file after the other, and the packages' own tests as well."""
    tests = f"^{re.escape(str(site))}/.*/tests/"
    return [str(python), "-I", "-m", "compileall", "-q", "-j", "0", "-x", tests, str(site)]


@contextlib.contextmanager
def _running(command: list[str], scratch: Path) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process group of its own, which is ended whatever happens."""
    environment = {
        name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")
    }
    process = subprocess.Popen(  # noqa: S603 (our own command)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**environment, "PYTHONUNBUFFERED": "1", "TMPDIR": str(scratch)},
        umask=0o022,
        start_new_session=True,
    )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    watchdog = threading.Timer(limits.SANDBOX_INSTALL_S, end)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        if process.poll() is None:
            end()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


class _Follower:
    """Reads along, and tells how far it is."""

    def __init__(self, packages: int, progress: Progress) -> None:
        self.lines: list[str] = []
        self._packages = max(1, packages)
        self._collected = 0
        self._progress = progress

    def hear(self, line: str) -> None:
        """One line of output."""
        self.lines = [*self.lines[-_KEPT_LINES:], line]
        share = min(1.0, self._collected / self._packages) * _FETCHED
        if _COLLECTING.match(line):
            self._collected += 1
        elif fetching := _FETCHING.match(line):
            name, version, size = fetching.groups()
            self._progress(f"fetching {name} {version} {size}", share)
        elif line.startswith(_UNPACKING):
            self._progress("unpacking", _FETCHED)


def _explained(lines: Sequence[str]) -> CannotInstall:
    """What the output says, in words that help."""
    output = "".join(lines)
    for pattern, cause, remedy in _CAUSES:
        if re.search(pattern, output, flags=re.IGNORECASE):
            return CannotInstall(cause, remedy)
    told = [line.strip() for line in lines if line.strip()]
    errors = [line for line in told if line.startswith(("ERROR:", "error:"))]
    # "ERROR: Exception:" has a traceback below it, whose last line is the one that counts.
    last = errors[-1] if errors and "Exception:" not in errors[-1] else (told or ["no output"])[-1]
    return CannotInstall(
        f"The sandbox's packages could not be installed: {last.rstrip('.')}.",
        "If that is not clear, `understudy sandbox install` can be tried again.",
    )
