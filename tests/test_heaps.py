"""Memory: few heaps, and what is free is given back."""

import ctypes
import re
import subprocess
import sys

import pytest

from understudy import limits

_COUNT = """
import ctypes, threading
from understudy import heaps
heaps.share()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(12)
def use():
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=use) for _ in range(12)]
for one in threads: one.start()
for one in threads: one.join()
libc.fdopen.restype = ctypes.c_void_p
out = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(out))
libc.fflush(ctypes.c_void_p(out))
"""


_TRIM = """
from pathlib import Path
from understudy import heaps

def resident_kib():
    [line] = [l for l in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in l]
    return int(line.split()[1])

kept = []
held = []
for _ in range(20_000):
    held.append(bytearray(2_000))  # Above the 512 bytes that Python has memory of its own for.
kept.append(bytearray(2_000))  # The heap's end is in use.
full = resident_kib()
held.clear()
freed = resident_kib()
heaps.give_back()
print(full, freed, resident_kib())
"""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another libc has no such heaps"
)


def test_threads_share_their_heaps() -> None:
    assert len(re.findall(r"<heap nr=", _told(_COUNT))) == limits.HEAPS


def test_free_memory_below_a_heap_s_end_is_given_back() -> None:
    full, freed, trimmed = map(int, _told(_TRIM).split())
    assert freed > 0.9 * full, "what this is for: free() keeps it"
    assert trimmed < full - 30_000


def _told(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
