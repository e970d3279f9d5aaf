"""The seccomp programs, run by an interpreter of our own over every number of both tables."""

import errno
import struct

import pytest

from understudy.sandbox.inside import seccomp
from understudy.sandbox.inside.kernel import CLONE_NEW, CLONE_NEWUSER
from understudy.sandbox.inside.seccomp import ALLOW, DENIED, FAIL, KILL, LOOKED_AT

MACHINES = {"x86_64": 0, "aarch64": 1}
REFUSED = FAIL | errno.EPERM
UNKNOWN = FAIL | errno.ENOSYS
SIGCHLD = 17
HIGHEST = 600


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the kernel would do with a call."""
    arguments = (*arguments, *[0] * (6 - len(arguments)))
    arch = seccomp.AUDIT_ARCH[machine] if arch is None else arch
    data = struct.pack("<iIQ6Q", number, arch, 0, *(value % 2**64 for value in arguments))
    program = seccomp.program(machine)
    code = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("<I", data, constant)
            case 0x15:
                at += if_true if value == constant else if_false
            case 0x35:
                at += if_true if value >= constant else if_false
            case 0x45:
                at += if_true if value & constant else if_false
            case 0x06:
                return int(constant)
            case _:
                raise AssertionError(hex(operation))


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_has_the_verdict_of_its_name(machine: str) -> None:
    """Denied calls are refused, all others are allowed; those that are looked at come below."""
    column = MACHINES[machine]
    denied = {row[column] for row in DENIED.values()}
    looked_at = {row[column] for row in LOOKED_AT.values()}
    for number in range(HIGHEST):
        if number not in looked_at:
            expected = REFUSED if number in denied else ALLOW
            assert verdict(machine, number) == expected, number


@pytest.mark.parametrize("machine", MACHINES)
def test_a_program_fits_into_the_kernel(machine: str) -> None:
    """4,096 instructions, and jumps of a byte."""
    assert len(seccomp.program(machine)) % 8 == 0
    assert len(seccomp.program(machine)) // 8 < 4096


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (SIGCHLD,), ALLOW),
        ("clone", (0x3D0F00,), ALLOW),  # A thread.
        ("clone", (CLONE_NEWUSER | SIGCHLD,), REFUSED),
        ("clone3", (0,), UNKNOWN),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), REFUSED),
        ("ioctl", (0, 0x541C), REFUSED),
        ("ioctl", (0, 0x5412 | 1 << 32), REFUSED),  # The kernel looks at the low half only.
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (1, 7), REFUSED),
        ("prlimit64", (1 | 1 << 32, 7), REFUSED),
        ("sched_setaffinity", (0,), ALLOW),
        ("sched_setaffinity", (1,), REFUSED),
        ("sched_setattr", (1,), REFUSED),
        ("sched_setparam", (1,), REFUSED),
        ("sched_setscheduler", (1,), REFUSED),
        ("setpriority", (0, 0, 5), ALLOW),
        ("setpriority", (0, 1, 5), REFUSED),
        ("setpriority", (1, 0, 5), REFUSED),  # The group.
        ("setpriority", (2, 0, 5), REFUSED),  # All of the user.
        ("socket", (1, 1), ALLOW),
        ("socket", (2, 1), REFUSED),
        ("socket", (40, 1), REFUSED),
        ("socketpair", (1, 1), ALLOW),
        ("socketpair", (30, 1), REFUSED),
    ],
)
def test_some_calls_depend_on_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    """The harmless use goes through."""
    assert verdict(machine, LOOKED_AT[name][MACHINES[machine]], *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_every_new_namespace_is_refused(machine: str) -> None:
    """Whichever bit says it."""
    clone = LOOKED_AT["clone"][MACHINES[machine]]
    for bit in range(32):
        if CLONE_NEW & 1 << bit:
            assert verdict(machine, clone, 1 << bit | SIGCHLD) == REFUSED


@pytest.mark.parametrize("machine", MACHINES)
def test_other_sets_of_numbers_are_closed(machine: str) -> None:
    """Calls of another machine kill; x32 does not exist."""
    for arch in (0, 0x40000003, seccomp.AUDIT_ARCH["aarch64" if machine == "x86_64" else "x86_64"]):
        assert verdict(machine, 39, arch=arch) == KILL
    assert verdict(machine, 0x40000000 | 101) == UNKNOWN


def test_new_calls_have_one_number_everywhere() -> None:
    """Since 424 the kernel gives all machines the same."""
    for name, (x86, arm) in (DENIED | LOOKED_AT).items():
        if x86 is not None and x86 >= 424:
            assert x86 == arm, name


@pytest.mark.parametrize("column", MACHINES.values())
def test_no_number_is_there_twice(column: int) -> None:
    """A slip in a table would deny the wrong call."""
    numbers = [row[column] for row in (DENIED | LOOKED_AT).values() if row[column] is not None]
    assert len(numbers) == len(set(numbers))


def test_an_unknown_machine_has_no_program() -> None:
    """It gets no session rather than one without a filter."""
    with pytest.raises(KeyError):
        seccomp.program("riscv64")
