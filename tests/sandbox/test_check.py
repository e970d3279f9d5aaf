"""Where the sandbox does not start: each cause is brought about, and each has its words.

What a system refuses is refused to a child process: by a seccomp filter as containers have it, and
by something mounted over a part of /proc.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.sandboxes import environment, opened
from understudy.sandbox import Result, SandboxUnavailable, Session
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.check import found_bwrap, prove, why
from understudy.sandbox.session import ChannelSession

# Starts a sandbox and prints what it is then, and a sum, if it can.
STARTING = """
import asyncio, ctypes, dataclasses, errno, platform, struct, sys
from pathlib import Path
from understudy.sandbox import SandboxUnavailable
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.environment import installed
from understudy.sandbox.inside import kernel, seccomp

def deny(calls):
    code = [(0x20, 0, 0, 0)]
    for number, flags in calls:
        code += [(0x15, 0, 3, number), (0x20, 0, 0, 16), (0x45, 0, 1, flags),
                 (6, 0, 0, 0x50000 | errno.EPERM), (0x20, 0, 0, 0)]
    code.append((6, 0, 0, 0x7FFF0000))
    kernel.filter_calls(b"".join(struct.pack("HBBI", *step) for step in code))

IS_BARE = False

async def main(folder):
    environment = installed(Path(folder))
    if IS_BARE:  # Without packages a session of its own starts fast.
        environment = dataclasses.replace(environment, site=Path("/usr/share"))
    sandbox = Bubblewrap(environment)
    try:
        await sandbox.started()
        session = await sandbox.session("a")
        await session.run("1 + 1", timeout_s=10, on_logs=print)
    except SandboxUnavailable:
        pass
    print(sandbox.state, sandbox.detail)
    await sandbox.close()

column = 0 if platform.machine() == "x86_64" else 1
clone, unshare = (56, 272) if column == 0 else (220, 97)
"""
REFUSING = STARTING + "deny([(clone, kernel.CLONE_NEW), (unshare, kernel.CLONE_NEW)])\n"
NOT_NESTING = STARTING + "IS_BARE = True\ndeny([(unshare, kernel.CLONE_NEWPID)])\n"
RUN = "asyncio.run(main(sys.argv[1]))\n"


def started(code: str, *before: str) -> str:
    """What a server would say of its sandbox, in a process of its own."""
    done = subprocess.run(
        [*before, sys.executable, "-c", code + RUN, str(environment().folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def unavailable(sandbox: Bubblewrap) -> SandboxUnavailable:
    """Why it does not start."""
    async with opened(sandbox):
        with pytest.raises(SandboxUnavailable) as refused:
            await sandbox.started()
        assert sandbox.state == "off"
        assert sandbox.detail == f"{refused.value.cause} {refused.value.remedy}"
        with pytest.raises(SandboxUnavailable):
            await sandbox.session("a")
    return refused.value


async def test_bubblewrap_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The remedy is a command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = await unavailable(Bubblewrap(environment()))
    assert refused.cause == "bubblewrap (bwrap) is not installed."
    assert "install bubblewrap`" in refused.remedy


@pytest.mark.parametrize("said", ["bubblewrap 0.6.1", "what?", ""])
async def test_bubblewrap_is_too_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str
) -> None:
    """So is one that does not say how old it is."""
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = await unavailable(Bubblewrap(environment()))
    assert refused.cause.startswith("bubblewrap is too old (version ")
    assert "0.8" in refused.remedy


async def test_the_packages_are_missing() -> None:
    """The remedy is our own command."""
    refused = await unavailable(Bubblewrap(None))
    assert "not installed" in refused.cause
    assert "`understudy sandbox install`" in refused.remedy


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs Linux."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable) as refused:
        found_bwrap(None)
    assert refused.value.cause == "The sandbox needs Linux."
    assert "container" in refused.value.remedy


def test_user_namespaces_are_refused() -> None:
    """As a container's default profile does."""
    said = started(REFUSING)
    assert said.startswith("off User namespaces are refused to this server (bwrap: No permissions")
    assert "seccomp=" in said
    assert "never with --privileged" in said


def test_sessions_are_cold_where_nesting_is_refused() -> None:
    """By itself, and it says so."""
    said = started(NOT_NESTING)
    assert "2\n" in said
    assert "up bubblewrap" in said
    assert ", cold" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount without a user namespace")
def test_proc_is_masked() -> None:
    """As in a container."""
    said = started(
        STARTING,
        *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
        'mount -t tmpfs none /proc/irq && exec "$@"',
        "sh",
    )
    assert said.startswith("off This container hides parts of /proc")
    assert "systempaths=unconfined" in said


@pytest.mark.parametrize(
    ("said", "cause", "remedy"),
    [
        ("bwrap: setting up uid map: Permission denied", "AppArmor", "bwrap-userns-restrict"),
        ("bwrap: loopback: Failed RTM_NEWADDR: x", "AppArmor", "bwrap-userns-restrict"),
        ("bwrap: Can't mount proc on /newroot/proc: x", "/proc", "unmask=ALL"),
        ("bwrap: No permissions to create new namespace, likely", "refused", "seccomp"),
        ("Segmentation fault", "does not start: Segmentation fault.", "docs/sandbox.md"),
        ("x" * 5000, "does not start", "docs/sandbox.md"),
    ],
)
def test_what_bubblewrap_says_has_a_meaning(
    tmp_path: Path, said: str, cause: str, remedy: str
) -> None:
    """Its own words stay in the cause, as far as they are few."""
    refused = why(said, tmp_path)
    assert cause in refused.cause
    assert remedy in refused.remedy
    assert len(refused.cause) < 500


@pytest.mark.parametrize(
    ("switch", "value", "words"),
    [
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "bwrap-userns-restrict"),
        ("user/max_user_namespaces", "15000", "seccomp"),
    ],
)
def test_a_switch_of_the_system_is_named(
    tmp_path: Path, switch: str, value: str, words: str
) -> None:
    """Instead of guessing at containers."""
    path = tmp_path / "proc/sys" / switch
    path.parent.mkdir(parents=True)
    path.write_text(f"{value}\n")
    assert words in why("bwrap: No permissions to create new namespace", tmp_path).remedy


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a list of its system calls there is no filter, and so no sandbox."""
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable) as refused:
        found_bwrap(environment())
    assert "riscv64" in refused.value.cause


async def test_the_self_test_finds_a_sandbox_without_walls() -> None:
    """A session that is none: everything is within reach."""
    with pytest.raises(SandboxUnavailable) as refused:
        await prove(_Unjailed(), Path("/usr"))
    assert "sees files of this machine, reaches the network" in refused.value.cause


@pytest.mark.parametrize("said", ["", "[]", "{}", "null", '{"environment": []}'])
async def test_the_self_test_believes_nothing_less(said: str) -> None:
    """Than every answer that it asked for."""
    with pytest.raises(SandboxUnavailable):
        await prove(_Saying(said), Path("/usr"))


async def test_the_self_test_wants_a_python_that_counts() -> None:
    """Walls alone are no use."""
    walls = '{"environment": [], "files": [], "network": [], "namespaces": [], "root": []}'
    with pytest.raises(SandboxUnavailable) as refused:
        await prove(_Saying(walls), Path("/usr"))
    assert "1 + 1 is" in refused.value.cause


async def test_our_own_mistake_leaves_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never up without a self-test."""

    async def broken(_: Session, __: Path) -> None:
        raise ValueError

    monkeypatch.setattr("understudy.sandbox.bubblewrap.prove", broken)
    refused = await unavailable(Bubblewrap(environment(), way="nested"))
    assert refused.cause == "The sandbox did not start."


async def test_closing_while_it_starts_leaves_nothing() -> None:
    """And who waits for it hears that it is off."""
    sandbox = Bubblewrap(environment())
    sandbox.start()
    before = sandbox.state
    await asyncio.sleep(0.2)
    await sandbox.close()
    assert [before, sandbox.state] == ["starting", "off"]
    with pytest.raises(SandboxUnavailable):
        await sandbox.started()


class _Saying(ChannelSession):
    """A session whose every call prints this."""

    def __init__(self, said: str) -> None:
        self._said = said

    async def run(self, code: str, *, timeout_s: float, on_logs: Callable[[str], None]) -> Result:
        """Print it."""
        on_logs(self._said)
        return Result()


class _Unjailed(ChannelSession):
    """A session that runs code as a child of ours, with an environment of its own."""

    def __init__(self) -> None:
        pass

    async def run(self, code: str, *, timeout_s: float, on_logs: Callable[[str], None]) -> Result:
        """Run it."""
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env={}
        )
        out, _ = await done.communicate()
        on_logs(out.decode())
        return Result()
