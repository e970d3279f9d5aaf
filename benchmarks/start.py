"""Starting: from the process to the first 200 on /health, and the memory of a server at rest."""

import compileall
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import understudy as package
from benchmarks.figures import Figure, alternate, median
from benchmarks.meter import memory
from benchmarks.plan import Plan
from benchmarks.stage import Stage, understudy

# What a server loads before it is ready: no server on this stack starts sooner.
_LOADED = (
    "aiohttp, apsw, httptools, msgspec, obstore, python_multipart, structlog, uvicorn, uvloop, yarl"
)
# All of pyproject.toml's run-time dependencies, by the modules that the server imports of them:
# what is loaded at a start, and what waits for the first search, file, schema or other command.
LIBRARIES = (
    f"{_LOADED}, charset_normalizer, jsonschema_rs, lxml.etree, numpy, olefile, openpyxl, "
    "puremagic, pypdfium2, rich.console, rs_bpe, starlette.applications, Stemmer, "
    "striprtf.striprtf, typer"
)
_NAME = "start to the first 200 on /health"
_AT_MOST_TIMES = 1.6
_AT_MOST_MEGABYTES = 100
# Longer than anything that a server does by itself once it is ready.
_REST_S = 5.0


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """All figures, on data folders of their own."""
    # As pip does when it installs. From a checkout, each start could compile the source anew.
    compileall.compile_dir(Path(package.__file__).parent, quiet=1)
    pairs = alternate(plan.starts, lambda: _start(stage), partial(_import, LIBRARIES))
    yield _time(_NAME, pairs, "the baseline imports all run-time libraries", _AT_MOST_TIMES)
    ours, bare = [pair[0][1] for pair in pairs], [pair[1][1] for pair in pairs]
    yield Figure(
        name="idle memory (resident)",
        ours=f"{median(ours):.0f} MB",
        baseline=f"{median(bare):.0f} MB",
        result=f"{median(ours) - median(bare):+.0f} MB",
        target=f"<= {_AT_MOST_MEGABYTES} MB",
        met=median(ours) <= _AT_MOST_MEGABYTES,
        note=f"{_REST_S:g} s after it is ready, with its writer; the baseline has only imported "
        "the libraries",
    )
    pairs = alternate(plan.starts, lambda: _start(stage, rest_s=0), partial(_import, _LOADED))
    yield _time(f"{_NAME}, strictly", pairs, "the baseline imports only what a start loads")


def _time(
    name: str,
    pairs: list[tuple[tuple[float, float], tuple[float, float]]],
    note: str,
    at_most: float | None = None,
) -> Figure:
    """How long a start takes, as so many times an import."""
    ratio = median([ours[0] / theirs[0] for ours, theirs in pairs])
    return Figure(
        name=name,
        ours=f"{median([ours[0] for ours, _ in pairs]):.2f} s",
        baseline=f"{median([theirs[0] for _, theirs in pairs]):.2f} s",
        result=f"{ratio:.2f} times",
        target="" if at_most is None else f"<= {at_most:g} times",
        met=None if at_most is None else ratio <= at_most,
        note=note,
    )


def _start(stage: Stage, rest_s: float = _REST_S) -> tuple[float, float]:
    """Seconds to /health, and MB at rest."""
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
        started = time.monotonic()
        with understudy(Path(folder), f"http://127.0.0.1:{stage.upstream.port}") as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200, "ready"
            taken = time.monotonic() - started
            connection.close()
            time.sleep(rest_s)
            return taken, _megabytes(server.process)


def _import(libraries: str) -> tuple[float, float]:
    """Seconds to import the libraries, and MB after it."""
    code = f"import sys, {libraries}; print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    started = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None, "opened with a pipe"
        process.stdout.readline()
        taken = time.monotonic() - started
        return taken, _megabytes(process)


def _megabytes(process: subprocess.Popen[bytes]) -> float:
    return memory(process.pid).resident_kb / 1000
