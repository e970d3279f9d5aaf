"""deploy/seccomp.json, the profile for containers: it lets the jail be made, and little else."""

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.sandbox.inside.seccomp import DENIED

PROFILE = Path(__file__).resolve().parent.parent.parent / "deploy" / "seccomp.json"
# What bubblewrap and the zygote call to make namespaces and to fill them.
NEEDED = {
    "capset", "chdir", "chroot", "clone", "clone3", "mount", "pivot_root", "prctl", "seccomp",
    "setgroups", "sethostname", "setns", "setresgid", "setresuid", "umount2", "unshare",
}  # fmt: skip


@pytest.fixture
def rules() -> list[dict[str, Any]]:
    """The profile's rules."""
    found: list[dict[str, Any]] = json.loads(PROFILE.read_text())["syscalls"]
    return found


def test_what_makes_the_jail_is_allowed(rules: list[dict[str, Any]]) -> None:
    assert json.loads(PROFILE.read_text())["defaultAction"] == "SCMP_ACT_ALLOW"
    unconditional = {name for rule in rules if "args" not in rule for name in rule["names"]}
    assert unconditional & NEEDED == set()


def test_what_is_denied_answers_as_if_it_were_not_permitted(rules: list[dict[str, Any]]) -> None:
    assert {(rule["action"], rule["errnoRet"]) for rule in rules} == {("SCMP_ACT_ERRNO", 1)}


@pytest.mark.parametrize(
    "call",
    ["add_key", "bpf", "init_module", "io_uring_setup", "kexec_load", "keyctl", "perf_event_open",
     "ptrace", "reboot", "settimeofday", "userfaultfd"],
)  # fmt: skip
def test_ways_into_the_kernel_are_denied_here_and_in_the_jail(
    rules: list[dict[str, Any]], call: str
) -> None:
    assert call in rules[0]["names"]
    assert call in DENIED


def test_vsock_and_typing_into_a_terminal_are_denied(rules: list[dict[str, Any]]) -> None:
    conditional = {rule["names"][0]: rule["args"] for rule in rules if "args" in rule}
    assert conditional["socket"] == [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]
    [argument] = conditional["ioctl"]
    assert argument["valueTwo"] == 0x5412
