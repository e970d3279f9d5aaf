"""The sandbox: how long a session takes, and what many of them hold while nobody uses them.

The baselines are what no sandbox can avoid: the same interpreter that imports the same libraries in
a fresh process. Memory is proportional set size, so that pages which sessions share with their
zygote count once; the zygote itself is included.
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figures import Figure, judged, median
from benchmarks.plan import Plan
from benchmarks.stage import Stage
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.environment import Environment, installed
from understudy.sandbox.pool import Sizes
from understudy.settings import Settings, sandbox_folder_of

_LIBRARIES = "import numpy, pandas, matplotlib.pyplot"
_USES_PANDAS = "import pandas\nframe = pandas.DataFrame({'a': range(1000)})\nframe.a.sum()"
_WATCHED_S = 5.0
_CALL_S = 30.0
_GIB = 1024**3


@dataclass(frozen=True)
class _Crowd:
    """What so many idle sessions cost."""

    bytes: int
    cpu_s: float  # Of the sessions, while they were watched.
    server_cpu_s: float


def measure(_stage: Stage | None, plan: Plan) -> Iterator[Figure]:
    """Times, then memory and CPU."""
    environment = installed(sandbox_folder_of(Settings()))
    if environment is None:
        raise SystemExit("The sandbox is not installed: understudy sandbox install")
    claims, numpy = asyncio.run(_times(environment, 4, "1 + 1", "import numpy", plan.sessions))
    yield _ratio("claim of a warm session, and 1+1", claims, "import numpy", numpy, 0.2)
    starts, bare = asyncio.run(_times(environment, 0, _LIBRARIES, _LIBRARIES, plan.sessions))
    name = "new session with pandas and matplotlib"
    yield _ratio(name, starts, "importing them in a fresh process", bare, 0.1)
    idle = asyncio.run(_crowd(environment, 100, None))
    yield _memory("memory of 100 idle sessions", idle, 1.0)
    used = asyncio.run(_crowd(environment, 200, _USES_PANDAS))
    yield _memory("memory of 200 sessions that used pandas", used, 3.5)
    yield Figure(
        name=f"CPU of 200 idle sessions in {_WATCHED_S:.0f} s",
        ours=f"{used.cpu_s:.3f} s, and the server {used.server_cpu_s:.2f} s",
        baseline="",
        result=f"{used.cpu_s:.3f} s",
        target="<= 0.02 s, and 0.25 s",
        met=used.cpu_s <= 0.02 and used.server_cpu_s <= 0.25,
    )


def _ratio(name: str, ours: list[float], what: str, theirs: list[float], at_most: float) -> Figure:
    ratio = median([one / other for one, other in zip(ours, theirs, strict=True)])
    return judged(
        Figure(
            name=name,
            ours=f"{median(ours) * 1e3:.1f} ms",
            baseline=f"{median(theirs) * 1e3:.0f} ms",
            result=f"{ratio:.3f} of it",
            note=f"the baseline is {what}; {len(ours)} pairs",
        ),
        ratio,
        at_most=at_most,
    )


def _memory(name: str, crowd: _Crowd, at_most_gib: float) -> Figure:
    gib = crowd.bytes / _GIB
    return judged(
        Figure(
            name=name,
            ours=f"{gib:.2f} GiB",
            baseline="",
            result=f"{gib:.2f} GiB",
        ),
        gib,
        at_most=at_most_gib,
        unit=" GiB",
    )


@asynccontextmanager
async def _opened(environment: Environment, sizes: Sizes) -> AsyncIterator[Bubblewrap]:
    sandbox = Bubblewrap(environment, sizes=sizes)
    try:
        await sandbox.started()
        yield sandbox
    finally:
        await sandbox.close()


async def _times(
    environment: Environment, spare: int, code: str, bare: str, pairs: int
) -> tuple[list[float], list[float]]:
    """Seconds from the wish for a session to the end of its first call; and of a bare process."""
    ours, theirs = [], []
    async with _opened(environment, Sizes(spare=spare)) as sandbox:
        for number in range(pairs):
            theirs.append(await asyncio.to_thread(_bare, environment, bare))
            await asyncio.sleep(0.5)  # The pool is full again.
            began = time.perf_counter()
            session = await sandbox.session(str(number))
            await session.run(code, timeout_s=_CALL_S, on_logs=lambda _: None)
            ours.append(time.perf_counter() - began)
    return ours, theirs


def _bare(environment: Environment, code: str) -> float:
    began = time.perf_counter()
    variables = {"PYTHONPATH": str(environment.site), "MPLBACKEND": "Agg", "HOME": "/tmp"}
    command = [str(environment.python), "-s", "-c", code]
    subprocess.run(command, env=variables, check=True)
    return time.perf_counter() - began


async def _crowd(environment: Environment, count: int, code: str | None) -> _Crowd:
    """So many sessions, each of which ran code, if any; then nobody asks for anything."""
    others = set(_children())
    async with _opened(environment, Sizes(sessions=count, spare=0)) as sandbox:
        for number in range(count):
            session = await sandbox.session(str(number))
            if code:
                await session.run(code, timeout_s=_CALL_S, on_logs=lambda _: None)
        await asyncio.sleep(2.0)
        processes = [one for one in _children() if one not in others]
        held = sum(one.memory_full_info().pss for one in processes)
        before, ours = _cpu_s(processes), time.process_time()
        await asyncio.sleep(_WATCHED_S)
        return _Crowd(held, _cpu_s(processes) - before, time.process_time() - ours)


def _children() -> list[psutil.Process]:
    """All processes below this one; the benchmark's own servers are among them."""
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def _cpu_s(processes: list[psutil.Process]) -> float:
    """From the scheduler: the times of /proc/<pid>/stat are in hundredths."""
    stats = [
        path for one in processes for path in Path(f"/proc/{one.pid}/task").glob("*/schedstat")
    ]
    return sum(int(path.read_text().split()[0]) for path in stats) / 1e9
