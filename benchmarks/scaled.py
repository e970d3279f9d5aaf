"""Scaled out: one API node and workers of their own on PostgreSQL and a disk that syncs.

Dispatch is the time from the commit that creates a run (PostgreSQL's own commit timestamp) to the
first byte of the request at the provider, beside a bare claim: the same row found, leased and
committed by one statement on one connection. Runs and claims take turns, each after the same pause,
so that both find the machine as it is just then. Both clocks are this machine's, and the client
costs next to nothing: with two cores, what it does with an answer would be part of the figure.
"""

import asyncio
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import asyncpg

from benchmarks import workers
from benchmarks.connection import Connection, connect
from benchmarks.figures import Figure, judged, median, p99
from benchmarks.nodes import Nodes, opened_nodes
from benchmarks.plan import Plan
from benchmarks.stage import KEY, Stage
from tests.fleet.clusters import Cluster, private
from tests.fleet.installations import any_installation
from tests.fleet.statements import execute, fetch

_TICK_MS = 30
_NATS = "nats://127.0.0.1:4222"
_PAUSE_S = 0.02  # What follows a run's end is over by then.
_STAMP = re.compile(rb'"value":"(\d+)@([\d.]+) "')
_BARE = """
with due as (
  select id from bare where lease_owner is null and due_at <= $1
  order by due_at, id limit 1 for update skip locked
)
update bare set lease_owner = $2, lease_until = $1 + 15, fence = fence + 1
where id in (select id from due)
returning id, fence
"""
_BARE_TABLE = """
create table if not exists bare (
  id text primary key, due_at double precision not null, lease_owner text,
  lease_until double precision, fence bigint not null default 0
);
create index if not exists bare_due on bare (due_at, id) where lease_owner is null;
truncate bare;
insert into bare select 'run_' || n, n from generate_series(1, 10000) as n;
"""
# What the target leaves out: ticks of deltas, heartbeats, BEGIN and SET. The rest is counted.
_LEFT_OUT = re.compile(
    r"^(begin|commit|set|show|select pg_stat|select pg_catalog)|set_config|"
    r"clock_timestamp|insert into nodes|update jobs set lease_until",
    re.IGNORECASE,
)
_WRITES = re.compile(
    r"^\s*((select|call) apply|with (recursive|claimed)|insert|update|delete)", re.IGNORECASE
)


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """All figures of several nodes."""
    with private(
        any_installation(),
        statements=True,
        on_disk=True,
        track_commit_timestamp="on",
        max_wal_size="4GB",
    ) as cluster:
        yield from asyncio.run(_of_one_run(stage, plan, cluster))
        for nats_url in (None, _NATS):
            yield asyncio.run(_delta_delay(stage, plan, cluster, nats_url))
        yield from workers.measure(stage, plan, cluster)


async def _of_one_run(stage: Stage, plan: Plan, cluster: Cluster) -> list[Figure]:
    """Dispatch and statements, of runs one after the other: where the server that creates a run has
    a slot for it, and where a worker takes it, who hears of it in one way or the other."""
    async with opened_nodes(stage, cluster, serve=1) as nodes:
        here = await _dispatches(nodes, cluster, plan.dispatches)
    async with opened_nodes(stage, cluster, worker=1) as nodes:
        late = await _dispatches(nodes, cluster, plan.dispatches)
        before, started = _counted(nodes), time.monotonic()
        runs = await _runs(nodes, plan.dispatches)
        after, busy_s = _counted(nodes), time.monotonic() - started
        await asyncio.sleep(busy_s)
        idle = _counted(nodes)
    async with opened_nodes(stage, cluster, worker=1, nats_url=_NATS) as nodes:
        hinted = await _dispatches(nodes, cluster, plan.dispatches)
    return [
        _dispatch("dispatch in the server itself", *here),
        _dispatch("dispatch to a worker", *late),
        _dispatch("dispatch to a worker, with NATS", *hinted),
        *_statements(before, after, idle, len(runs)),
    ]


def _dispatch(name: str, late: Sequence[float], bare: Sequence[float]) -> Figure:
    return judged(
        Figure(
            f"{name}: commit to upstream, p50",
            f"{median(late):.2f} ms",
            f"{median(bare):.2f} ms",
            f"{median(late) / median(bare):.1f} times",
            note=f"p99 {p99(late):.1f} ms; a bare claim {p99(bare):.1f}",
        ),
        median(late) / median(bare),
        at_most=3,
        unit=" times",
    )


async def _runs(nodes: Nodes, count: int) -> list[str]:
    """So many runs of one turn, one after the other; their ids."""
    connection = await connect(nodes.port, KEY)
    found = []
    for _ in range(count):
        found.append(await _run(nodes, connection))
        await asyncio.sleep(_PAUSE_S)
    connection.transport.close()
    return found


async def _run(nodes: Nodes, connection: Connection) -> str:
    """A thread with a message, and a run of it that is watched to its end."""
    said = json.dumps({"messages": [{"role": "user", "content": "Hello."}]})
    thread = await connection.send(connection.request("POST", "/v1/threads", said))
    path = f"/v1/threads/{_id(thread.body, 'thread')}/runs"
    body = json.dumps({"assistant_id": nodes.assistant_id, "stream": True})
    answer = await connection.send(connection.request("POST", path, body))
    assert b"event: thread.run.completed" in answer.body, answer.body
    return _id(answer.body, "run")


def _id(body: bytes, kind: str) -> str:
    found = re.search(rf'"({kind}_\w+)"'.encode(), body)
    assert found is not None, body
    return found[1].decode()


async def _dispatches(
    nodes: Nodes, cluster: Cluster, count: int
) -> tuple[list[float], list[float]]:
    """Milliseconds from each run's commit to its first byte at the provider; and of bare claims,
    one after each run."""
    await _runs(nodes, 30)
    execute(cluster.url, _BARE_TABLE)
    client, connection = await connect(nodes.port, KEY), await asyncpg.connect(cluster.url)
    runs, bare = [], []
    for _ in range(count):
        runs.append(await _run(nodes, client))
        await asyncio.sleep(_PAUSE_S)
        started = time.perf_counter()
        rows = await connection.fetch(_BARE, 1e9, "boot_bare")
        bare.append(1000 * (time.perf_counter() - started))
        assert len(rows) == 1
        await asyncio.sleep(_PAUSE_S)
    await connection.close()
    client.transport.close()
    with urllib.request.urlopen(f"{nodes.upstream}/arrivals") as answer:
        arrivals: dict[str, float] = json.load(answer)
    committed = fetch(
        nodes.record,
        "select run_id, extract(epoch from pg_xact_commit_timestamp(xmin))::double precision "
        "from events where fence <= 1 and seq_from = 1 order by run_id, fence desc",
    )
    at = {str(run_id): float(when) for run_id, when in committed}
    return [1000 * (arrivals[f"{run}:llm:1:1"] - at[run]) for run in runs], bare


def _counted(nodes: Nodes) -> Counter[str]:
    """How often each statement was performed. A CALL, which commits and rings, is counted as two,
    and by the numbers of all commits (looks.py)."""
    rows = fetch(nodes.record, "select query, calls from public.pg_stat_statements")
    counts: Counter[str] = Counter()
    for query, calls in rows:
        if not _LEFT_OUT.search(query):
            counts[" ".join(query.split())[:160]] += calls
    [(applied,)] = fetch(nodes.record, "select sum(number)::bigint from commits")
    alone = sum(count for query, count in counts.items() if query.startswith("select apply"))
    counts["call apply"] = counts["its ring"] = applied - alone
    return counts


def _statements(
    before: Mapping[str, int], after: Mapping[str, int], idle: Mapping[str, int], runs: int
) -> list[Figure]:
    """Of one run, less what the nodes ask when nothing happens, for as long."""
    each = {
        query: (2 * after[query] - before.get(query, 0) - idle.get(query, 0)) / runs
        for query in after
    }
    each = {query: count for query, count in each.items() if count >= 0.05}
    thread = 1.0  # The commit that makes the run's thread is none of the run.
    statements = sum(each.values()) - thread
    commits = sum(count for query, count in each.items() if _WRITES.search(query)) - thread
    shown = "; ".join(
        f"{count:.1f} {query[:40]}"
        for query, count in sorted(each.items(), key=lambda one: -one[1])
    )
    return [
        judged(
            Figure("statements of a run of one turn", f"{statements:.1f}", "", "", note=shown),
            statements,
            at_most=12,
        ),
        judged(
            Figure("commits of a run of one turn", f"{commits:.1f}", "", ""), commits, at_most=8
        ),
    ]


async def _delta_delay(stage: Stage, plan: Plan, cluster: Cluster, nats_url: str | None) -> Figure:
    """From the provider's write to the client of another node than the one that drives the run."""
    model = f"stamps-{plan.delay_deltas}-50"
    async with opened_nodes(stage, cluster, worker=1, nats_url=nats_url, model=model) as nodes:
        late = [one for _ in range(plan.delay_pairs) for one in await _stamped(nodes)]
    name = "delta to another node" if nats_url is None else "delta to another node, with NATS"
    return judged(
        Figure(f"{name}, p50", f"{median(late):.1f} ms", "", "", note=f"p99 {p99(late):.1f} ms"),
        median(late),
        at_most=_TICK_MS + 5 if nats_url is None else 5,
        unit=" ms",
    )


async def _stamped(nodes: Nodes) -> list[float]:
    """Of one stream, each delta's delay in milliseconds."""
    said = {"messages": [{"role": "user", "content": "Hello."}]}
    thread = (await nodes.http.post("/threads", json=said)).raise_for_status().json()["id"]
    body = {"assistant_id": nodes.assistant_id, "stream": True}
    late, rest = [], b""
    async with nodes.http.stream("POST", f"/threads/{thread}/runs", json=body) as answer:
        async for piece in answer.aiter_raw():
            now = time.monotonic()
            *frames, rest = (rest + piece).split(b"\n\n")
            for frame in frames:
                found = _STAMP.search(frame)
                if found is not None and b"thread.message.delta" in frame:
                    late.append(1000 * (now - float(found[2])))
    return late
