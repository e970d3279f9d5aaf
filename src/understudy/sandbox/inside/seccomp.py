"""The system calls that code may not make, as a seccomp program for x86-64 and aarch64.

A list of what is denied, not of what is allowed: a new version of the C library or of numpy must
not stop working because it makes a call that nobody had thought of. Denied is what reaches past
the jail (mounts, namespaces, other processes' memory), what no limit bounds (memory that belongs
to no process), and what has often been a way into the kernel (io_uring, bpf, userfaultfd).
"""

import errno
import platform
import struct
from dataclasses import dataclass
from functools import cache

from understudy.sandbox.inside.kernel import CLONE_NEW

# Name → its number on x86-64 and on aarch64; None where there is no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "inotify_add_watch": (254, 27),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "lsm_set_self_attr": (460, 460),
    "mbind": (237, 235),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "remap_file_pages": (216, 234),
    "request_key": (249, 218),
    "semget": (64, 190),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "shmget": (29, 194),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}

# Calls whose arguments are looked at.
LOOKED_AT: dict[str, tuple[int, int]] = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioctl": (16, 29),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "setpriority": (141, 140),
    "socket": (41, 198),
    "socketpair": (53, 199),
}

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}
_X32_BIT = 0x40000000  # The third set of numbers that an x86-64 kernel may know.

_AF_UNIX = 1
_SUPERVISOR = 1  # Its pid.
_TIOCSTI = 0x5412  # Types into the terminal.
_TIOCLINUX = 0x541C
_PRIO_PROCESS = 0

ALLOW = 0x7FFF0000
KILL = 0x80000000
FAIL = 0x00050000

_LOAD = 0x20
_EQUAL = 0x15
_AT_LEAST = 0x35
_ANY_BIT = 0x45
_RETURN = 0x06
_NUMBER_AT = 0
_ARCH_AT = 4
_INSTRUCTION = struct.Struct("HBBI")


@dataclass(frozen=True)
class _Test:
    """Something about the low half of an argument; when it is so, the call fails."""

    argument: int
    comparison: int
    value: int
    is_denied: bool = True  # When it holds; else, when it does not.

    def code(self) -> list[tuple[int, int, int, int]]:
        """Load, compare, and perhaps fail."""
        skips = (0, 1) if self.is_denied else (1, 0)
        at = 16 + 8 * self.argument
        return [
            (_LOAD, 0, 0, at),
            (self.comparison, *skips, self.value),
            (_RETURN, 0, 0, FAIL | errno.EPERM),
        ]


_TESTS: dict[str, list[_Test]] = {
    "clone": [_Test(0, _ANY_BIT, CLONE_NEW)],
    "ioctl": [_Test(1, _EQUAL, _TIOCSTI), _Test(1, _EQUAL, _TIOCLINUX)],
    "prlimit64": [_Test(0, _EQUAL, _SUPERVISOR)],
    "sched_setaffinity": [_Test(0, _EQUAL, _SUPERVISOR)],
    "sched_setattr": [_Test(0, _EQUAL, _SUPERVISOR)],
    "sched_setparam": [_Test(0, _EQUAL, _SUPERVISOR)],
    "sched_setscheduler": [_Test(0, _EQUAL, _SUPERVISOR)],
    "setpriority": [
        _Test(0, _EQUAL, _PRIO_PROCESS, is_denied=False),
        _Test(1, _EQUAL, _SUPERVISOR),
    ],
    "socket": [_Test(0, _EQUAL, _AF_UNIX, is_denied=False)],
    "socketpair": [_Test(0, _EQUAL, _AF_UNIX, is_denied=False)],
}


@cache
def program(machine: str = "") -> bytes:
    """The program for a machine, this one when none is named. Raises KeyError for others."""
    machine = machine or platform.machine()
    column = _COLUMN[machine]
    code = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, FAIL | errno.ENOSYS),
    ]
    for number in sorted(n for row in DENIED.values() if (n := row[column]) is not None):
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, FAIL | errno.EPERM)]
    # As if the kernel were too old for it: the C library then takes `clone`, whose flags we see.
    code += [
        (_EQUAL, 0, 1, LOOKED_AT["clone3"][column]),
        (_RETURN, 0, 0, FAIL | errno.ENOSYS),
    ]
    for name, tests in _TESTS.items():
        body = [step for test in tests for step in test.code()]
        body.append((_RETURN, 0, 0, ALLOW))
        code += [(_EQUAL, 0, len(body), LOOKED_AT[name][column]), *body]
    code.append((_RETURN, 0, 0, ALLOW))
    return b"".join(_INSTRUCTION.pack(*step) for step in code)
