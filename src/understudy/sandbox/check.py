"""Whether the jail holds: what is missing, what the system refuses, and the self-test.

The self-test starts a true session and tries to get out of it. Each cause has words that an
operator can act on, because `it does not work` is all that many a system says of namespaces.
"""

import asyncio
import contextlib
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from textwrap import dedent

from understudy import limits
from understudy.sandbox import SandboxLost, SandboxUnavailable, Session
from understudy.sandbox.environment import Environment
from understudy.sandbox.inside.seccomp import AUDIT_ARCH
from understudy.sandbox.system import BUBBLEWRAP, command_for

PAGE = "docs/sandbox.md"
_OLDEST = (0, 8)
_SAID_CHARS = 300
_SYSTEM = Path("/")
_REFUSED = ("No permissions to create new namespace", "Creating new namespace failed", "unshare")
_APPARMOR = ("setting up uid map", "Failed RTM_NEWADDR", "setting up gid map")
_PROC = "mount proc"


def found_bwrap(environment: Environment | None) -> tuple[str, str]:
    """The path of bubblewrap and its version. Raises SandboxUnavailable for what is missing."""
    if sys.platform != "linux":
        raise SandboxUnavailable(
            "The sandbox needs Linux.",
            f"Run the server in a Linux container, or set UNDERSTUDY_SANDBOX=jupyter+... ({PAGE}).",
        )
    if platform.machine() not in AUDIT_ARCH:
        raise SandboxUnavailable(
            f"The sandbox does not know the system calls of this machine ({platform.machine()}).",
            f"It needs {' or '.join(AUDIT_ARCH)}; or set UNDERSTUDY_SANDBOX=jupyter+... ({PAGE}).",
        )
    path = shutil.which("bwrap")
    if path is None:
        raise SandboxUnavailable(
            "bubblewrap (bwrap) is not installed.",
            f"Install it with `{command_for(BUBBLEWRAP)}` and restart the server.",
        )
    version = _version(path)
    if version < _OLDEST:
        said = ".".join(map(str, version)) or "unknown"
        raise SandboxUnavailable(
            f"bubblewrap is too old (version {said}).",
            "Install version 0.8 or newer and restart the server.",
        )
    if environment is None:
        raise SandboxUnavailable(
            "The sandbox's Python packages are not installed.",
            "Install them with `understudy sandbox install` and restart the server.",
        )
    return path, ".".join(map(str, version))


def _version(path: str) -> tuple[int, ...]:
    try:
        said = subprocess.run(  # noqa: S603 - what is called bwrap here.
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limits.CODE_CLOSE_S,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    numbers = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(number) for number in numbers.groups("0")) if numbers else ()


def why(said: str, system: Path = _SYSTEM) -> SandboxUnavailable:
    """What it means when bubblewrap says this instead of starting."""
    said = " ".join(said.split())[:_SAID_CHARS]
    if _PROC in said:
        return SandboxUnavailable(
            f"This container hides parts of /proc, so that the sandbox gets none ({said}).",
            "Docker: --security-opt systempaths=unconfined; Podman: --security-opt unmask=ALL; "
            f"Kubernetes: hostUsers: false and procMount: Unmasked ({PAGE}).",
        )
    if any(text in said for text in _APPARMOR):
        return _apparmor(said)
    if any(text in said for text in _REFUSED):
        return _refused(said, system)
    return SandboxUnavailable(f"The sandbox does not start: {said}.", f"See {PAGE}.")


def _refused(said: str, system: Path) -> SandboxUnavailable:
    """User namespaces are refused: by a switch of the system, by AppArmor, or by a container."""
    if _read(system / "proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return _apparmor(said)
    for name in ("user/max_user_namespaces", "kernel/unprivileged_userns_clone"):
        if _read(system / "proc/sys" / name) == "0":
            knob = name.replace("/", ".")
            value = "15000" if "max" in name else "1"
            return SandboxUnavailable(
                f"User namespaces are switched off on this system ({knob} = 0).",
                f"Run `sysctl -w {knob}={value}` and keep it in /etc/sysctl.d.",
            )
    return SandboxUnavailable(
        f"User namespaces are refused to this server ({said}).",
        "In a container: start it with --security-opt seccomp=... and the profile in "
        "deploy/seccomp.json, and --security-opt apparmor=unconfined; never with --privileged "
        f"({PAGE}). Elsewhere the system's administrator has to allow user namespaces.",
    )


def _apparmor(said: str) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"AppArmor refuses user namespaces to bubblewrap ({said}).",
        "Ubuntu 24.04: `apt install apparmor-profiles`, then copy "
        "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict to /etc/apparmor.d and run "
        f"`systemctl reload apparmor` ({PAGE}).",
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


# The self-test.

_PROBES = """
    import ctypes, glob, json, os, socket
    found = {}
    names = set()
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path) as file:
                names |= {entry.split("=")[0] for entry in file.read().split("\\0")}
        except OSError:
            pass
    found["environment"] = sorted(names - set(os.environ) - {"", "PWD", "LC_CTYPE"})
    found["files"] = [path for path in FILES if os.path.exists(path)]
    found["network"] = []
    for host, port in PLACES:
        try:
            socket.create_connection((host, port), 1).close()
            found["network"].append(host)
        except OSError:
            pass
    libc = ctypes.CDLL(None)
    found["namespaces"] = ["user"] if libc.unshare(0x10000000) == 0 else []
    found["root"] = ["uid 0"] if 0 in (os.getuid(), os.geteuid()) else []
    print(json.dumps(found))
"""
_WALLS = {
    "environment": "sees environment variables of other processes",
    "files": "sees files of this machine",
    "network": "reaches the network",
    "namespaces": "can make user namespaces",
    "root": "is root",
}
_SECRETS = ("/etc/passwd", "/etc/shadow", "/root", "/home")


async def prove(session: Session, visible: Path) -> None:
    """Try to get out of a session, to which `visible` is shown of the files here. Raises
    SandboxUnavailable if anything of it succeeds."""
    secrets = [path for path in _SECRETS if not visible.is_relative_to(path)]
    async with _canaries() as (files, places):
        given = f"FILES = {[*files, *secrets]!r}\nPLACES = {places!r}\n"
        said = await _said(session, given + dedent(_PROBES))
    try:
        found = json.loads(said)
        broken = [words for wall, words in _WALLS.items() if found[wall]]
    except (ValueError, KeyError, TypeError):
        raise _unproven(f"it said {said[:_SAID_CHARS]!r}") from None
    if broken:
        raise _unproven(f"code in it {', '.join(broken)}")
    if (sum_ := await _said(session, "1 + 1")) != "2\n":
        raise _unproven(f"1 + 1 is {sum_[:_SAID_CHARS]!r}")


async def _said(session: Session, code: str) -> str:
    logs: list[str] = []
    try:
        await session.run(code, timeout_s=limits.CODE_START_S, on_logs=logs.append)
    except SandboxLost:
        raise _unproven("its first session was lost") from None
    return "".join(logs)


@contextlib.asynccontextmanager
async def _canaries() -> AsyncGenerator[tuple[list[str], list[tuple[str, int]]]]:
    """A file of ours, and a port that listens: neither may be there for the code."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with tempfile.NamedTemporaryFile(prefix="understudy-canary-") as file:
        try:
            yield [file.name], [("127.0.0.1", port), (socket.gethostname(), port)]
        finally:
            server.close()
            await server.wait_closed()


def _unproven(what: str) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"The sandbox failed its self-test: {what}.",
        f"Please report this, with the versions of Linux and bubblewrap ({PAGE}).",
    )
