"""What runs, live streams and wake-ups cost on an API node, a worker and PostgreSQL."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import msgspec

from benchmarks.connection import BadAnswer, Connection, connect
from benchmarks.costs import Bell, Heard, Idle, Look, RunCost, StreamCost, Wake
from benchmarks.figures import median
from benchmarks.looks import Eyes, Spent, difference, less, middle
from benchmarks.nodes import Nodes
from benchmarks.stage import KEY
from understudy.bell import open_bell
from understudy.bell.postgres import channel

PLAIN, FUNCTION = "deltas-300-10", "calls-300-10"
_STAMPS = "stamps-200-50"
_RUN_S = 3.2  # Of 300 tokens, 100 a second.
FEW, MANY = 14, 60  # Runs at once: below and above what makes ticks longer.
_STREAMS, _STREAMS_S = 60, 6.0
_IDLE_S = 11.0  # Backends tell what they counted after ten idle seconds.
IDLE_LESS_S = 6.0  # Where nobody needs what they count.
_RINGS_S = 3.0
_PAIRS = 3  # Of rings that a worker obeys and such that it ignores.
_RINGS = 50  # A second, ...
_LOOKS = 150  # ... those that make a worker look, each of which has time to be done, ...
_MANY_RINGS = 400  # ... and as many as several busy nodes send.
_TOPICS = 200  # Of one notification: it holds no more.
_LISTENERS = 40
_BELLS = 3  # One sends at most 200 messages a second through NATS.
_NOTIFIERS = 8
_LEASES = (0, 500, 5_000)
_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}
_RUN_ID = re.compile(rb'"id":"(run_\w+)"')
_CALL_ID = re.compile(rb'"id":"(call_\w+)"')
_LEASED = """
insert into jobs (id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence)
select 'run_bench' || n, 'run', 'project_' || n % 20, 'thread_bench' || n, n, 4e9, 'boot_x', 4e9, 1
from generate_series(1, $1::integer) as n
"""


@dataclass
class Clients:
    """Connections to the API node, each for one run at a time."""

    connections: list[Connection]
    assistants: dict[str, str]  # By their models.
    threads: dict[str, list[str]] = field(default_factory=dict)  # Of runs with these models.

    async def connect(self, port: int) -> None:
        """Connections in place of those that were idle for as long as a server keeps such."""
        self.close()
        self.connections = [await connect(port, KEY) for _ in range(max(MANY, _STREAMS))]

    def close(self) -> None:
        """Hang up."""
        for connection in self.connections:
            connection.transport.close()


@asynccontextmanager
async def opened_clients(nodes: Nodes) -> AsyncIterator[Clients]:
    """As many as are needed at once."""
    assistants = {}
    for model in (PLAIN, FUNCTION, _STAMPS):
        tools = [_TOOL] if model == FUNCTION else []
        body = {"model": model, "instructions": "You tell the weather. " * 10, "tools": tools}
        made = await nodes.http.post("/assistants", json=body)
        assistants[model] = made.raise_for_status().json()["id"]
    clients = Clients([], assistants)
    await clients.connect(nodes.port)
    try:
        yield clients
    finally:
        clients.close()


# Runs.


async def warm_up(clients: Clients) -> None:
    """Caches, statements and connections are as after a while."""
    await asyncio.gather(*(_run(clients, one, PLAIN) for one in clients.connections[:FEW]))


async def run_cost(
    eyes: Eyes,
    clients: Clients,
    idle: Spent,
    model: str,
    *,
    live: int,
    each: int = 1,
    rounds: int = 3,
) -> RunCost:
    """The median of some rounds of runs."""
    [cost] = await run_costs(eyes, clients, idle, [model], live=live, each=each, rounds=rounds)
    return cost


async def run_costs(
    eyes: Eyes,
    clients: Clients,
    idle: Spent,
    models: Sequence[str],
    *,
    live: int,
    each: int = 1,
    rounds: int = 3,
) -> list[RunCost]:
    """The same of several models in turn, so that what slows the machine for a while slows all."""
    found: dict[str, list[Spent]] = {model: [] for model in models}
    for model in [*models] * rounds:
        before = await eyes.look()
        took = await _runs(clients, model, live, each)
        await asyncio.sleep(0.2)  # What follows a run's end is over.
        spent = less(await eyes.since(before), idle)
        of_each = {name: count / len(took) for name, count in spent.items()}
        found[model].append({**of_each, "seconds": median(took)})
    return [msgspec.convert({**middle(of), "live": live}, RunCost) for of in found.values()]


async def _runs(clients: Clients, model: str, live: int, each: int = 1) -> list[float]:
    """So many at once, and so many one after the other; how long each took. They begin at different
    times, as those of strangers do."""

    async def one(number: int) -> list[float]:
        await asyncio.sleep(_RUN_S * number / live)
        return [await _run(clients, clients.connections[number], model) for _ in range(each)]

    return [took for found in await asyncio.gather(*map(one, range(live))) for took in found]


async def _run(clients: Clients, connection: Connection, model: str) -> float:
    """A thread with a message, and a run on it that is watched to its end; how long that took."""

    async def ask(path: str, body: object) -> bytes:
        request = connection.request("POST", f"/v1/threads{path}", json.dumps(body))
        return (await connection.send(request)).body

    said = {"messages": [{"role": "user", "content": "Tell me about the weather of Oslo."}]}
    thread = json.loads(await ask("", said))["id"]
    clients.threads.setdefault(model, []).append(thread)
    started = time.monotonic()
    body = {"assistant_id": clients.assistants[model], "stream": True}
    heard = await ask(f"/{thread}/runs", body)
    if model == FUNCTION:
        run, call = _RUN_ID.search(heard), _CALL_ID.search(heard)
        assert run is not None and call is not None, heard[-600:]
        outputs = [{"tool_call_id": call[1].decode(), "output": "It rains."}]
        path = f"/{thread}/runs/{run[1].decode()}/submit_tool_outputs"
        heard = await ask(path, {"tool_outputs": outputs, "stream": True})
    if b"event: thread.run.completed" not in heard:
        raise BadAnswer(f"a run ended with {heard[-300:].decode(errors='replace')}")
    return time.monotonic() - started


async def bell_costs(eyes: Eyes, clients: Clients, idle: Spent, few: RunCost | None = None) -> Bell:
    """All of runs of one turn; of few at once, it may be known."""
    return Bell(
        few=few or await run_cost(eyes, clients, idle, PLAIN, live=FEW, rounds=2),
        many=await run_cost(eyes, clients, idle, PLAIN, live=MANY, each=2, rounds=2),
        stream=await _stream_cost(eyes, clients, idle),
    )


async def _stream_cost(eyes: Eyes, clients: Clients, idle: Spent) -> StreamCost:
    """Of streams in their midst; how they begin and end is left out."""
    streams = asyncio.gather(
        *(_run(clients, one, _STAMPS) for one in clients.connections[:_STREAMS])
    )
    await asyncio.sleep(2.0)
    before = await eyes.look()
    await asyncio.sleep(_STREAMS_S)
    spent = less(await eyes.since(before), idle)
    await streams
    shares = _STREAMS * spent["seconds"]
    return StreamCost(
        api_cpu=spent["api_cpu_s"] / shares,
        worker_cpu=spent["worker_cpu_s"] / shares,
        postgres_cpu=spent["postgres_cpu_s"] / shares,
    )


# Nodes of which nothing is asked, and that are woken for nothing.


async def idle_costs(eyes: Eyes, seconds: float = _IDLE_S) -> Spent:
    """What is spent anyway."""
    before = await eyes.look()
    await asyncio.sleep(seconds)
    return await eyes.since(before)


async def idle_nodes(eyes: Eyes, nodes: Nodes, both: Spent) -> tuple[Idle, Idle]:
    """The API node's and the worker's share of that. The API node is stopped for it."""
    await asyncio.to_thread(nodes.fleet["api-0"].stop)
    alone = await idle_costs(eyes, IDLE_LESS_S)
    per_s = {name: count / both["seconds"] for name, count in both.items()}
    of_worker = {name: count / alone["seconds"] for name, count in alone.items()}
    of_api = difference(per_s, of_worker)

    def idle(name: str, found: Spent, cpu: float) -> Idle:
        return Idle(
            cpu=max(0.0, cpu),
            postgres_cpu=max(0.0, found["postgres_cpu_s"]),
            statements=max(0.0, found["statements"]),
        )

    return (
        idle("api", of_api, per_s["api_cpu_s"]),
        idle("worker", of_worker, of_worker["worker_cpu_s"]),
    )


async def late_cost(eyes: Eyes, idle: Spent) -> Look:
    """A worker that is told of one run that another has, as all but one are of each."""
    await eyes.connection.execute(_LEASED, 1)
    look = Look(**await _look(eyes, idle, "jobs#run_bench1"))
    await eyes.connection.execute("delete from jobs where id like 'run_bench%'")
    return look


async def wake_costs(eyes: Eyes, idle: Spent) -> list[Wake]:
    """A worker that is rung for jobs, with more and more leases of others beside."""
    found = []
    for leases in _LEASES:
        await eyes.connection.execute("delete from jobs where id like 'run_bench%'")
        await eyes.connection.execute(_LEASED, leases)
        await eyes.connection.execute("vacuum analyze jobs")
        found.append(Wake(leases=leases, **await _look(eyes, idle, "jobs")))
    await eyes.connection.execute("delete from jobs where id like 'run_bench%'")
    return found


async def _look(eyes: Eyes, idle: Spent, topic: str) -> dict[str, float]:
    """What a worker's look costs: what a ring that it obeys costs more than one that it ignores, by
    turns, since what else the machine does for a while costs as much."""
    found = []
    for _ in range(_PAIRS):
        ignored = await _each_notified(eyes, idle, '["nothing"]', _LOOKS)
        obeyed = await _each_notified(eyes, idle, json.dumps([topic]), _LOOKS)
        found.append({name: obeyed[name] - ignored[name] for name in obeyed})
    cost = middle(found)
    return {name: max(0.0, cost[name]) for name in ("worker_cpu_s", "postgres_cpu_s", "statements")}


async def heard_costs(eyes: Eyes, nodes: Nodes, idle: Spent) -> Heard:
    """Notifications that concern nobody: of one topic, full ones, and these for many."""
    topics = [f"run:run_{number:024}" for number in range(_TOPICS)]
    short = await _each_notified(eyes, idle, json.dumps(topics[:1]), _MANY_RINGS)
    full = await _each_notified(eyes, idle, json.dumps(topics))
    async with AsyncExitStack() as stack:
        for _ in range(_LISTENERS):
            connection = await asyncpg.connect(nodes.record)
            stack.push_async_callback(connection.close)
            await connection.add_listener(await _channel(eyes), lambda *_: None)
        many = await _each_notified(eyes, idle, json.dumps(topics))
    delivery = (many["postgres_cpu_s"] - full["postgres_cpu_s"]) / _LISTENERS
    return Heard(
        message_cpu_s={"postgres": _of_a_node(short)},
        topic_cpu_s=max(0.0, _of_a_node(full) - _of_a_node(short)) / (_TOPICS - 1),
        notify_cpu_s=max(0.0, full["postgres_cpu_s"] - 2 * delivery),  # Two nodes hear it.
        delivery_cpu_s=max(0.0, delivery),
        per_s=await _most_notifies(nodes),
    )


async def nats_message_cost(eyes: Eyes, nodes: Nodes, idle: Spent, nats_url: str) -> float:
    """CPU of a node for each message of topics that it hears through NATS."""
    async with AsyncExitStack() as stack:
        bells = []
        for _ in range(_BELLS):
            bells.append(await open_bell(nodes.record, nats_url))
            stack.push_async_callback(bells[-1].close)
        before, started = await eyes.look(), time.monotonic()
        rings = int(_MANY_RINGS * _RINGS_S)
        for number in range(rings):
            bells[number % _BELLS].ring(f"run:run_{number:024}")
            await asyncio.sleep(max(0.0, started + number / _MANY_RINGS - time.monotonic()))
        spent = less(await eyes.since(before), idle)
    return _of_a_node(spent) / rings


def _of_a_node(spent: Spent) -> float:
    """CPU of one of the two."""
    return (spent["api_cpu_s"] + spent["worker_cpu_s"]) / 2


async def _each_notified(eyes: Eyes, idle: Spent, message: str, rings_s: int = _RINGS) -> Spent:
    spent = less(await _notified(eyes, message, rings_s), idle)
    return {name: count / spent["rings"] for name, count in spent.items()}


async def _notified(eyes: Eyes, message: str, rings_s: int) -> Spent:
    """What it takes to hear this so often a second; `rings` is how often it was."""
    name = await _channel(eyes)
    before, rings, started = await eyes.look(), 0, time.monotonic()
    while time.monotonic() < started + _RINGS_S:
        await eyes.connection.execute("select pg_notify($1, $2)", name, message)
        rings += 1
        await asyncio.sleep(max(0.0, started + rings / rings_s - time.monotonic()))
    return {**await eyes.since(before), "rings": rings}


async def _channel(eyes: Eyes) -> str:
    return channel(await eyes.connection.fetchval("select current_schema()"))


async def _most_notifies(nodes: Nodes) -> float:
    """Notifications a second, of several nodes that do nothing else."""
    count = 0
    message = "x" * 4_000
    until = time.monotonic() + _RINGS_S

    async def one() -> None:
        nonlocal count
        connection = await asyncpg.connect(nodes.record)
        while time.monotonic() < until:
            await connection.execute("select pg_notify('bench', $1)", message)
            count += 1
        await connection.close()

    await asyncio.gather(*(one() for _ in range(_NOTIFIERS)))
    return count / _RINGS_S
