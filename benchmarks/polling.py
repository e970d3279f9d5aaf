"""Polling: how soon the SDK's `create_and_poll` knows that a run is over, and how often it asks.

A second connection follows the run's events: what it hears is the moment of the end. The GETs are
counted where they leave the SDK.
"""

import asyncio
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from benchmarks.connection import Connection, connect
from benchmarks.figures import Figure, judged, median, p99
from benchmarks.plan import Plan
from benchmarks.stage import KEY, Stage

_PAUSE_MS = 50
_DELTAS = (
    40  # Two seconds of them; each run has one more, so that ends fall anywhere between polls.
)


@dataclass(frozen=True)
class _Polled:
    """One run."""

    late_ms: float  # From the end of the run to the helper's return.
    seconds: float
    gets: int


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """Runs of two seconds, one after the other."""
    found = asyncio.run(_polled_runs(stage, plan.polled_runs))
    late = [one.late_ms for one in found]
    note = f"p99 {p99(late):.1f} ms, {len(found)} runs of 2 s and more"
    yield judged(
        Figure("create_and_poll after the end, p50", _ms(late), "", _ms(late), note=note),
        median(late),
        at_most=30,
        unit=" ms",
    )
    rate = median([one.gets / one.seconds for one in found])
    shown = f"{rate:.1f} a second"
    yield judged(
        Figure("GETs of create_and_poll meanwhile", shown, "", shown), rate, at_most=3, unit=" /s"
    )


def _ms(values: list[float]) -> str:
    return f"{median(values):.1f} ms"


async def _polled_runs(stage: Stage, count: int) -> list[_Polled]:
    gets: list[float] = []

    async def seen(request: object) -> None:
        if getattr(request, "method", "") == "GET":
            gets.append(time.monotonic())

    http = DefaultAsyncHttpxClient(event_hooks={"request": [seen]})
    url = f"http://127.0.0.1:{stage.server.port}/v1"
    listener = await connect(stage.server.port, KEY)
    async with AsyncOpenAI(api_key=KEY, base_url=url, http_client=http) as client:
        found = []
        for number in range(count):
            model = f"deltas-{_DELTAS + number}-{_PAUSE_MS}"
            gets.clear()
            started = time.monotonic()
            ended_at, returned_at = await _polled_run(stage, client, listener, model)
            late_ms = 1000 * (returned_at - ended_at)
            found.append(_Polled(late_ms, returned_at - started, len(gets)))
    listener.transport.close()
    return found


async def _polled_run(
    stage: Stage, client: AsyncOpenAI, listener: Connection, model: str
) -> tuple[float, float]:
    """When the run was over, and when the helper said so."""
    thread_id = stage.thread(1)
    end = asyncio.create_task(_end(listener, thread_id))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Of the API that we keep alive.
        run = await client.beta.threads.runs.create_and_poll(
            thread_id=thread_id, assistant_id=stage.assistant_id, model=model
        )
    returned_at = time.monotonic()
    assert run.status == "completed", run
    return await end, returned_at


async def _end(listener: Connection, thread_id: str) -> float:
    """When the thread's only run said that it is completed."""
    runs = f"/v1/threads/{thread_id}/runs"
    listed: list[dict[str, str]] = []
    while not listed:
        await asyncio.sleep(0.05)
        heard = await listener.send(listener.request("GET", f"{runs}?limit=1"))
        listed = json.loads(heard.body)["data"]
    events = listener.request("GET", f"{runs}/{listed[0]['id']}/events")
    heard = await listener.send(events, "event: thread.run.completed")
    assert heard.marked_at is not None, "a run that did not complete"
    return heard.marked_at
