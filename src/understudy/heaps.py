"""Heaps: the memory that glibc's malloc gives to Python and its libraries, few and without air.

A server under mixed load otherwise grows for hours, though it holds no more objects than before.
Another libc has no such heaps, and nothing is done. mallopt(3), malloc_trim(3).
"""

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


def trim() -> None:
    """Give free pages back to the system, not only those at a heap's end, as free() does.

    Whoever allocates meanwhile waits: a millisecond for a heap of 20 MB, 20 for one of 100 MB of
    which most is free, and then there is less.
    """
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
