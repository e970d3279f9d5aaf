"""Workers: what two of them get done beside one, each with 16 runs at once, of a provider that
takes 100 ms to say anything.

They work off what waits when they begin, while nobody creates or watches runs: with two cores for
all processes, clients and API node would take what the second worker needs. How it is when they do
is told as well, without a target.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator

from benchmarks.connection import connect
from benchmarks.figures import Figure, judged, median
from benchmarks.nodes import Nodes, opened_nodes
from benchmarks.plan import Plan
from benchmarks.stage import KEY, Stage
from tests.fleet.clusters import Cluster
from tests.fleet.statements import fetch

_RUNS = 16  # At once, of each worker.
_WAIT_S = 0.1  # Of the provider.
_WARM_RUNS = 300
_LEAD_S = 1.0  # Before what is measured, and after it.
_AT_ONCE = 48  # Clients that watch.


def measure(stage: Stage, plan: Plan, cluster: Cluster) -> Iterator[Figure]:
    """Runs a second."""

    async def drained(nodes: Nodes, workers: int) -> float:
        return await _drained(nodes, workers, plan.workers_s)

    async def watched(nodes: Nodes, _workers: int) -> float:
        return await _watched(nodes, plan.workers_s)

    one, two = asyncio.run(_pairs(stage, cluster, plan.worker_pairs, drained))
    yield judged(
        _figure("runs of 2 workers, 16 at once each", one, two),
        two / one,
        at_least=1.7,
        unit=" times",
    )
    one, two = asyncio.run(_pairs(stage, cluster, 1, watched))
    yield _figure("the same, with their clients on the same cores", one, two)


def _figure(name: str, one: float, two: float) -> Figure:
    return Figure(name, f"{two:.0f} a second", f"{one:.0f} of one", f"{two / one:.2f} times")


async def _pairs(
    stage: Stage, cluster: Cluster, pairs: int, rate: Callable[[Nodes, int], Awaitable[float]]
) -> tuple[float, float]:
    """The medians with one worker and with two, in turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(2 * pairs):
        count = 1 + (number + number // 2) % 2  # 1, 2, 2, 1, ...
        async with opened_nodes(
            stage,
            cluster,
            worker=count,
            model=f"waits-{1000 * _WAIT_S:.0f}",
            UNDERSTUDY_MAX_RUNS=f"{_RUNS}",
        ) as nodes:
            rates[count].append(await rate(nodes, count))
    return median(rates[1]), median(rates[2])


async def _drained(nodes: Nodes, workers: int, seconds: float) -> float:
    """Of runs that all wait already."""
    await _create(nodes, _WARM_RUNS)
    while _waiting(nodes):  # noqa: ASYNC110 - Other processes are at work.
        await asyncio.sleep(0.2)
    halted = [nodes.fleet[f"worker-{number}"] for number in range(workers)]
    for worker in halted:
        worker.pause()
    await _create(nodes, round(workers * _RUNS / _WAIT_S * (seconds + 2 * _LEAD_S)))
    counts_from = time.time() + _LEAD_S
    for worker in halted:
        worker.resume()
    await asyncio.sleep(seconds + 2 * _LEAD_S)
    assert _waiting(nodes), "there was always something to do"
    query = "select count(*) from journal where ended_at between $1 and $2"
    [(ended,)] = fetch(nodes.record, query, counts_from, counts_from + seconds)
    return float(ended) / seconds


def _waiting(nodes: Nodes) -> int:
    [(count,)] = fetch(nodes.record, "select count(*) from jobs where kind = 'run'")
    return int(count)


async def _create(nodes: Nodes, count: int) -> None:
    """Runs that nobody watches."""
    left = count

    async def client() -> None:
        nonlocal left
        connection = await connect(nodes.port, KEY)
        request = connection.request("POST", "/v1/threads/runs", _body(nodes, stream=False))
        while left > 0:
            left -= 1
            await connection.send(request)
        connection.transport.close()

    await asyncio.gather(*(client() for _ in range(_RUNS)))


async def _watched(nodes: Nodes, seconds: float) -> float:
    """Of runs that as many clients create and watch as keep all slots busy."""
    done = 0
    ends_at = time.monotonic() + _LEAD_S + seconds
    counts_from = ends_at - seconds

    async def client() -> None:
        nonlocal done
        connection = await connect(nodes.port, KEY)
        request = connection.request("POST", "/v1/threads/runs", _body(nodes, stream=True))
        while time.monotonic() < ends_at:
            heard = await connection.send(request)
            assert b"event: thread.run.completed" in heard.body, heard.body
            done += counts_from <= time.monotonic() < ends_at
        connection.transport.close()

    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
    return done / seconds


def _body(nodes: Nodes, *, stream: bool) -> str:
    """A run in a thread that is made with it."""
    thread = {"messages": [{"role": "user", "content": "Hello."}]}
    return json.dumps({"assistant_id": nodes.assistant_id, "thread": thread, "stream": stream})
