"""`understudy` that, on SIGUSR2, writes down what it holds: tasks, objects, and where memory went.

Nothing else of the server is changed. With SOAK_TRACE=1 allocations are traced, which makes it
larger and slower: for finding the cause of a growth, never for measuring one.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

FILE = "SOAK_HOLDINGS"  # The variable that names the file to write.
SERVER = "from tests.soak.watched import main; main()"
_TYPES = 40
_PLACES = 400


def main() -> None:
    """The command line as it is."""
    file = Path(os.environ[FILE])
    if os.environ.get("SOAK_TRACE") == "1":
        tracemalloc.start()
    signal.signal(signal.SIGUSR2, lambda *_: _write(file))
    from understudy.cli import main as understudy

    understudy()


def _write(file: Path) -> None:
    """The file appears whole."""
    gc.collect()  # What is left now is held by somebody.
    found: dict[str, Any] = {
        "tasks": _tasks(),
        "blocks": sys.getallocatedblocks(),
        "types": _types(),
    }
    if tracemalloc.is_tracing():
        found["places"] = _places()
    half = file.with_suffix(".half")
    half.write_text(json.dumps(found))
    half.replace(file)


def _tasks() -> list[str]:
    tasks = [one for one in gc.get_objects() if isinstance(one, asyncio.Task)]
    return sorted(
        f"{task.get_name()} {getattr(task.get_coro(), '__qualname__', '')}"
        for task in tasks
        if not task.done()
    )


def _types() -> list[tuple[str, int]]:
    """How many objects of which type there are, without those that were there at the start."""
    kinds = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    return kinds.most_common(_TYPES)


def _places() -> dict[str, int]:
    """How many KiB were allocated by which line."""
    statistics = tracemalloc.take_snapshot().statistics("lineno")
    return {str(one.traceback): one.size // 1024 for one in statistics[:_PLACES]}
