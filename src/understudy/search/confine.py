"""What a reading child gives up before it sees a file: memory, time, files, network, its name.

Where the system does not allow a measure, the others still stand; memory and time are never
left out on Linux.
"""

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
from pathlib import Path

from understudy import limits

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_FIRST_TO_GO = "500"
_NICENESS = 5  # The server answers first, and reading still gets on beside a busy one.


def confine(parent: int) -> None:
    """Bind this process to its parent and to its limits."""
    sys.dont_write_bytecode = True  # It could write nothing, only fail to.
    os.chdir("/")
    # Whoever stops a whole group of processes means the server, which ends its children. One that
    # died before it would look as if its file had killed it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        _linux(parent)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    _limit(resource.RLIMIT_AS, limits.READER_ADDRESS_BYTES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits.READER_OPEN_FILES)


def allow_cpu(seconds: int) -> None:
    """End this process with SIGXCPU when it uses so much more processor time from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime) + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or soft <= hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def allow_memory(address_bytes: int) -> None:
    """How much this process may have for the next file, within its own limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or address_bytes <= hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (address_bytes, hard))


def resident_bytes() -> int:
    """How much memory this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def _limit(kind: int, most: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    new = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (new, new))


def _linux(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # It died before we were bound to it.
    with contextlib.suppress(OSError):  # Short of memory, the system shall not take the server.
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # An empty network. Without the privilege for it, a user of our own may have it.
    if libc.unshare(_CLONE_NEWNET):
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
