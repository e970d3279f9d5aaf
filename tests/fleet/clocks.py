"""A wrong clock for one process, and for what it starts: libfaketime, without its command.

    apt-get install faketime

The library is loaded before others and answers the questions for the time of day; C and Rust in
the process see the same wrong time as Python does. The monotonic clock is left alone, by which
timeouts and event loops go, as it is on a machine whose clock is wrong. Two flaws of its version
0.9.10 (Debian 12) and what is done about them:

- With the monotonic clock left alone, `time.sleep` fails (EINVAL), for it takes the absolute time
  until which Python sleeps by that clock for a time of day. `skewed/sitecustomize.py` gives the
  process another one. Waits for locks, events, queues and loops are right, uvloop's as well.
- A process that is killed leaves two files in /dev/shm, named for its number, and a later process
  with that number would not start. `forget` removes them.

The times of files stay right.
"""

import os
from pathlib import Path

from tests.fleet.installations import Missing

_LIBRARY = "*/faketime/libfaketimeMT.so.1"  # The one for processes with threads.
_SHARED = Path("/dev/shm")


def skewed(by_s: float) -> dict[str, str]:
    """The environment of a process whose clock is ahead by so much, or behind if it is negative."""
    if by_s == 0:
        return {}
    paths = (str(Path(__file__).parent / "skewed"), os.environ.get("PYTHONPATH"))
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{by_s:+f}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def forget(pid: int) -> None:
    """Remove what a skewed process left when it was killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (_SHARED / name).unlink(missing_ok=True)


def _library() -> Path:
    for found in Path("/usr/lib").glob(_LIBRARY):
        return found
    raise Missing("a clock of its own for a process needs libfaketime: apt-get install faketime")
