"""The client process: takes a job on stdin, answers on stdout, until stdin ends."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator

import msgspec
import uvloop

from benchmarks.connection import BadAnswer, Connection, Heard, connect
from benchmarks.jobs import Ask, Cancels, Done, Job, Load, Samples, Stamped, Streams
from benchmarks.stamps import delays, stamps

_SETTLE_S = 0.03  # The provider has the request by then; it says nothing to that.
_job = msgspec.json.Decoder(Job)


def main() -> None:
    """Serve jobs; the argument is the key."""
    key = sys.argv[1]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            done = runner.run(_perform(_job.decode(line), key))
            sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
            sys.stdout.buffer.flush()


async def _perform(job: Job, key: str) -> Done:
    match job:
        case Load():
            return await _load(job, key)
        case Streams():
            return await _streams(job, key)
        case Stamped():
            return await _stamped(job, key)
        case Samples():
            return await _samples(job, key)
        case Cancels():
            return await _cancels(job, key)


@contextlib.asynccontextmanager
async def _connected(port: int, key: str, count: int) -> AsyncIterator[list[Connection]]:
    connections = [await connect(port, key) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.transport.close()


async def _load(job: Load, key: str) -> Done:
    async with _connected(job.port, key, job.clients) as connections:
        started = time.monotonic()
        until = started + job.seconds
        counts = await asyncio.gather(*(_repeat(one, job.flow, until) for one in connections))
        return Done(count=sum(counts), seconds=time.monotonic() - started)


async def _repeat(connection: Connection, flow: list[Ask], until: float) -> int:
    """How many flows one client completed."""
    ready = [connection.request(ask.method, ask.path, ask.body) for ask in flow]
    count = 0
    while time.monotonic() < until:
        id = ""
        for ask, request in zip(flow, ready, strict=True):
            if "{id}" in ask.path:
                request = connection.request(ask.method, ask.path.replace("{id}", id), ask.body)
            heard = await connection.send(request)
            if ask.holds and ask.holds.encode() not in heard.body:
                raise BadAnswer(f"no {ask.holds} in {heard.body[-600:]!r}")
            if len(flow) > 1 and not id:
                id = json.loads(heard.body)["id"]
        count += 1
    return count


async def _streams(job: Streams, key: str) -> Done:
    async with _connected(job.port, key, job.streams) as connections:
        started = time.monotonic()
        pause_s = job.starts_s / job.streams
        counts = await asyncio.gather(
            *(_listen(one, job, number * pause_s) for number, one in enumerate(connections))
        )
        return Done(count=sum(counts), seconds=time.monotonic() - started)


async def _listen(connection: Connection, job: Streams, after_s: float) -> int:
    """How many events one connection brought."""
    await asyncio.sleep(after_s)
    count = 0
    for _ in range(job.rounds):
        heard = await connection.send(_request(connection, job.ask))
        count += _whole(heard).count(job.event.encode())
    return count


def _request(connection: Connection, ask: Ask) -> bytes:
    return connection.request(ask.method, ask.path, ask.body)


def _whole(heard: Heard) -> bytes:
    """The body of a stream that came to its end."""
    body = heard.body
    if b"[DONE]" not in body[-100:]:
        raise BadAnswer(f"a stream ended with {body[-300:].decode(errors='replace')}")
    return body


async def _stamped(job: Stamped, key: str) -> Done:
    """Two lists of delays: of all deltas, and of those that were written while all streams ran."""
    async with _connected(job.port, key, job.streams) as connections:
        started, cpu_s = time.monotonic(), time.process_time()
        pause_s = job.starts_s / job.streams
        heard = await asyncio.gather(
            *(_start_at(number * pause_s, one, job.ask) for number, one in enumerate(connections))
        )
        seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu_s
    found = [stamps(one, job.deltas, is_ours=job.is_ours) for one in heard]
    return Done(count=job.streams * job.deltas, seconds=seconds, samples=delays(found), cpu_s=cpu_s)


async def _start_at(after_s: float, connection: Connection, ask: Ask) -> Heard:
    await asyncio.sleep(after_s)
    return await connection.send(_request(connection, ask))


async def _samples(job: Samples, key: str) -> Done:
    beside = None
    if job.beside is not None:
        beside = asyncio.create_task(_streams(job.beside, key))
        await asyncio.sleep(job.beside.starts_s + 0.5)  # Until all of them flow.
    try:
        samples = await _in_turn(job, key)
        if beside is not None and beside.done():
            raise BadAnswer("the streams beside ended before the samples did")
        return Done(samples=samples)
    finally:
        if beside is not None:
            beside.cancel()
            await asyncio.wait([beside])


async def _in_turn(job: Samples, key: str) -> list[list[float]]:
    async with contextlib.AsyncExitStack() as stack:
        connections = [
            (await stack.enter_async_context(_connected(target.port, key, 1)))[0]
            for target in job.targets
        ]
        samples: list[list[float]] = [[] for _ in job.targets]
        for number in range(len(job.targets[0].asks)):
            for target, connection, taken in zip(job.targets, connections, samples, strict=True):
                request = _request(connection, target.asks[number])
                started = time.monotonic()
                heard = await connection.send(request, target.mark)
                at = heard.marked_at if target.mark else heard.ended_at
                if at is None:
                    raise BadAnswer(f"no {target.mark} in {heard.body[:600]!r}")
                taken.append(at - started)
        return samples


async def _cancels(job: Cancels, key: str) -> Done:
    async with (
        _connected(job.port, key, 2) as (stream, control),
        _connected(job.upstream_port, key, 1) as (upstream,),
    ):
        taken = [await _cancel(job, id, stream, control, upstream) for id in job.threads]
        return Done(samples=[taken])


async def _cancel(
    job: Cancels, thread_id: str, stream: Connection, control: Connection, upstream: Connection
) -> float:
    """Seconds from the cancel to the later of: the stream's end, the provider's socket closed."""
    path = f"/v1/threads/{thread_id}/runs"
    end = stream.send(stream.request("POST", path, job.body), "event: thread.run.in_progress")
    await stream.marked()
    await asyncio.sleep(_SETTLE_S)
    listed = await control.send(control.request("GET", f"{path}?limit=1"))
    run_id = json.loads(listed.body)["data"][0]["id"]
    started = time.monotonic()
    answer = await control.send(control.request("POST", f"{path}/{run_id}/cancel", "{}"))
    heard = await end
    if b"event: thread.run.cancelled" not in heard.body or b'"status":"canc' not in answer.body:
        raise BadAnswer(f"not cancelled: {answer.body!r}")
    closed = json.loads((await upstream.send(upstream.request("GET", "/closed"))).body)
    closed_at: float = closed["closed_at"]
    return max(heard.ended_at, closed_at) - started


if __name__ == "__main__":
    main()
