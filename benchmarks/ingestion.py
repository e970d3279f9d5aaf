"""Taking in: files becoming searchable, against a bare script; and the memory of a large upload.

Ingestion is measured from the request that puts a file into a vector store until the file is
`completed`, on a server whose embedder is instant, with its reading child already started. The
baseline (bare.py) cuts, tokenises, embeds and inserts the same text in one process.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from benchmarks import texts
from benchmarks.bare import Bare
from benchmarks.figures import Figure, alternate, judged, median
from benchmarks.instant import SERVER, Instant
from benchmarks.plan import QUICK, Plan
from benchmarks.shelf import Shelf
from benchmarks.stage import Part, Stage, understudy
from understudy.machine import tokens

T = TypeVar("T")

_NOBODY = "http://127.0.0.1:9"  # No provider is asked.
_POLL_S = 5e-9  # For each character of the text: asking costs the server time too.
_POLL_LEAST_S = 0.005
_SAMPLE_S = 0.005
_WORD_CHARS = 5.3  # Of a word with its space; a text is cut to size.
_UPLOAD_BYTES = 256 * 1024 * 1024
_PIECE = (b"All work and no play makes a dull file. " * 32_768)[: 1024 * 1024]


def measure(_stage: Stage | None, plan: Plan) -> Iterator[Figure]:
    """Two sizes of text, and the upload."""
    with (
        tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder,
        understudy(Path(folder), _NOBODY, main=SERVER) as server,
        closing(Shelf(server.port)) as shelf,
    ):
        store_id = shelf.store()
        cold_s = _ingested(shelf, store_id, "A first text, which starts a child process.")
        for megabytes in (1.2, 12.0):
            yield _ingestion(shelf, store_id, megabytes, cold_s, plan)
        yield _upload(server, shelf)


def _ingestion(shelf: Shelf, store_id: str, megabytes: float, cold_s: float, plan: Plan) -> Figure:
    size = int(megabytes * 1e6)
    text = texts.prose(np.random.default_rng(5), int(1.1 * size / _WORD_CHARS))[:size]
    assert len(text) == size, "a text is long enough to be cut"
    tokens.load()
    _bare(text[:100_000])  # The baseline's process is warm too.
    pairs = alternate(
        plan.ingestions, lambda: _ingested(shelf, store_id, text), lambda: _bare(text)
    )
    ratio = median([ours / theirs for ours, theirs in pairs])
    ours_s, theirs_s = median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs])
    return judged(
        Figure(
            name=f"ingestion of {megabytes} MB of text",
            ours=f"{ours_s:.2f} s",
            baseline=f"{theirs_s:.2f} s",
            result=f"{ratio:.2f} times",
            note=f"{megabytes / ours_s:.1f} MB/s; the first file of a server takes {cold_s:.2f} s",
        ),
        ratio,
        at_most=2,
    )


def _ingested(shelf: Shelf, store_id: str, text: str) -> float:
    """Seconds from putting a file into a store until it is completed."""
    file_id = shelf.file("text.txt", text.encode())
    path = f"/v1/vector_stores/{store_id}/files"
    pause_s = max(_POLL_LEAST_S, len(text) * _POLL_S)
    started = time.monotonic()
    file = shelf.ask("POST", path, {"file_id": file_id})
    while file["status"] == "in_progress":
        time.sleep(pause_s)
        file = shelf.ask("GET", f"{path}/{file_id}")
    taken = time.monotonic() - started
    assert file["status"] == "completed", file
    return taken


def _bare(text: str) -> float:
    with (
        tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder,
        closing(Bare(Path(folder) / "bare.db")) as bare,
    ):
        embedder = Instant()
        started = time.monotonic()
        bare.ingest(text, embedder)
        return time.monotonic() - started


def _upload(server: Part, shelf: Shelf) -> Figure:
    """How much the server's memory grows while a large file comes in."""
    process = psutil.Process(server.process.pid)
    shelf.file("small.txt", b"A small file, so that all code is loaded.")
    before = process.memory_info().rss
    pieces = [_PIECE] * (_UPLOAD_BYTES // len(_PIECE))
    started = time.monotonic()
    peak, _ = _peak(process, lambda: shelf.streamed_file("large.txt", pieces, _UPLOAD_BYTES))
    taken = time.monotonic() - started
    grown = (peak - before) / 2**20
    return judged(
        Figure(
            name="memory growth in an upload of 256 MB",
            ours=f"{grown:.0f} MB",
            baseline=f"{before / 2**20:.0f} MB before",
            result=f"{grown:.0f} MB",
            note=f"{_UPLOAD_BYTES / 2**20 / taken:.0f} MB/s; "
            f"sampled every {1000 * _SAMPLE_S:.0f} ms",
        ),
        grown,
        at_most=64,
        unit=" MB",
    )


def _peak(process: psutil.Process, work: Callable[[], T]) -> tuple[int, T]:
    """The most resident memory that a process had meanwhile."""
    peak = process.memory_info().rss
    is_over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(_SAMPLE_S):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return_value = work()
    finally:
        is_over.set()
        watcher.join()
    return peak, return_value


if __name__ == "__main__":
    from benchmarks import report

    print(report.conditions())
    for one in measure(None, QUICK if "--quick" in sys.argv else Plan()):
        print(f"{one.name}: {one.ours} / {one.baseline} = {one.result}; {one.note}", flush=True)
