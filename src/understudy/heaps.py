"""Heaps: the memory that glibc's malloc gives to Python and its libraries, few and without air.

A server under mixed load otherwise grows for hours, though it holds no more objects than before.
Another libc has no such heaps. mallopt(3), malloc_trim(3).
"""

import gc
from functools import cache
from typing import Any

from understudy import limits

_M_ARENA_MAX = -8


def share() -> None:
    """Let all threads allocate from few heaps; call it before there are threads.

    By itself each thread gets a heap of its own, up to eight for each processor, and each keeps
    what its busiest moment took.
    """
    if (mallopt := _libc("mallopt")) is not None:
        mallopt(_M_ARENA_MAX, limits.HEAPS)


def give_back() -> None:
    """Give free memory back to the system, not only what is at a heap's end, as free() does.

    Garbage in cycles goes first: there is little of it, so that Python leaves it for minutes
    (GC_OBJECTS), scattered over what then cannot be given back. Only the young is looked at: with
    everything, the pause under 150 live streams was what their p99 was made of. Some milliseconds;
    with a heap of 100 MB of which most is free some tens, once.
    """
    gc.collect(1)
    if (malloc_trim := _libc("malloc_trim")) is not None:
        malloc_trim(0)


@cache
def _libc(name: str) -> Any:
    """A function of the libc, if it has it."""
    import ctypes  # Loaded late: a writer begins without it.

    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
