"""What a server does before it serves."""

import re
import subprocess
import sys

import pytest

from understudy import limits

_COUNT = """
import ctypes, threading
from understudy.serving import share_heaps
share_heaps()
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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked")
def test_threads_share_their_heaps() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _COUNT],
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert len(re.findall(r"<heap nr=", told)) == limits.HEAPS
