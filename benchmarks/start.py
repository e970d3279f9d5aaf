"""Starting: from the process to the first 200 on /health, and the memory of a server at rest."""

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.figures import Figure, alternate, median
from benchmarks.plan import Plan
from benchmarks.stage import Stage, understudy

# What the server itself imports to serve; importing it is what no server on this stack can avoid.
_LIBRARIES = (
    "aiohttp, apsw, httptools, jsonschema_rs, msgspec, rs_bpe, starlette, structlog, typer, "
    "uvicorn, uvloop"
)
_REST_S = 2.0


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """Both figures, on data folders of their own."""
    pairs = alternate(plan.starts, lambda: _start(stage), _import)
    starts, imports = [pair[0][0] for pair in pairs], [pair[1][0] for pair in pairs]
    ratio = median([ours[0] / theirs[0] for ours, theirs in pairs])
    yield Figure(
        name="start to the first 200 on /health",
        ours=f"{median(starts):.2f} s",
        baseline=f"{median(imports):.2f} s",
        result=f"{ratio:.2f} times",
        note="the baseline imports the run-time libraries",
    )
    memory, bare = [pair[0][1] for pair in pairs], [pair[1][1] for pair in pairs]
    yield Figure(
        name="idle memory (resident)",
        ours=f"{median(memory):.0f} MB",
        baseline=f"{median(bare):.0f} MB",
        result=f"{median(memory) - median(bare):.0f} MB more",
        note="ours holds the tokenizer; the baseline has only imported the libraries",
    )


def _start(stage: Stage) -> tuple[float, float]:
    """Seconds to /health, and MB at rest."""
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
        started = time.monotonic()
        with understudy(Path(folder), f"http://127.0.0.1:{stage.upstream.port}") as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200, "ready"
            taken = time.monotonic() - started
            connection.close()
            time.sleep(_REST_S)
            return taken, _megabytes(server.process)


def _import() -> tuple[float, float]:
    """Seconds to import the libraries, and MB after it."""
    code = f"import sys, {_LIBRARIES}; print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    started = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None, "opened with a pipe"
        process.stdout.readline()
        taken = time.monotonic() - started
        return taken, _megabytes(process)


def _megabytes(process: subprocess.Popen[bytes]) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / 1e6
