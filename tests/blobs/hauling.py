"""A process that puts a blob, or reads one, and says how much memory that took.

`python -m tests.blobs.hauling URL put|read MEGABYTES`, with the place's variables.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator

import psutil

from understudy.blobs import Blobs, open_blobs
from understudy.settings import object_store_options

_MB = 1_000_000
_PIECE = 64 * 1024
_KEY = "blob_1"


async def _pieces(size: int) -> AsyncIterator[bytes]:
    """Bytes that are new each time, as they come from a socket."""
    while size > 0:
        yield bytes([size % 251]) * min(size, _PIECE)
        size -= _PIECE


async def _read(blobs: Blobs) -> int:
    size = 0
    async for piece in blobs.open(_KEY):
        size += len(piece)
    return size


class _Peak(threading.Thread):
    """The most memory that the process has had since it began."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process()
        self._first: int = self._process.memory_info().rss
        self._most: int = self._first

    def run(self) -> None:
        """Look all the time."""
        while True:
            self._most = max(self._most, self._process.memory_info().rss)
            time.sleep(0.005)

    @property
    def grown(self) -> int:
        """Bytes."""
        return self._most - self._first


async def _main(url: str, what: str, megabytes: int) -> None:
    blobs = open_blobs(url, object_store_options())
    await blobs.ping()  # Libraries are loaded, and a connection is open.
    peak = _Peak()
    peak.start()
    began = time.monotonic()
    if what == "put":
        size = await blobs.put(_KEY, _pieces(megabytes * _MB))
    else:
        size = await _read(blobs)
    took_s = time.monotonic() - began
    said = {"size": size, "grown": peak.grown, "took_s": round(took_s, 2)}
    sys.stdout.write(json.dumps(said))
    sys.stdout.flush()
    # Threads of the library that are still at it abort a process whose interpreter ends meanwhile:
    # github.com/PyO3/pyo3-async-runtimes/issues/40.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
