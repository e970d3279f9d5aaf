"""`python -m benchmarks.unit_costs`: what runs cost on several nodes, for the model of capacity.

One API node and one worker on a PostgreSQL of their own, on a disk that syncs, first without NATS
and then with it; then that PostgreSQL alone. It takes some five minutes, prints what it found, and
writes it to benchmarks/unit_costs.json, which `python -m benchmarks.simulate` reads. Others who use
the machine at the same time make CPU dearer and rates lower: the state of the machine is written
down, too.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks import costs, report
from benchmarks.costs import Costs
from benchmarks.fleet_costs import (
    FEW,
    FUNCTION,
    IDLE_LESS_S,
    PLAIN,
    Clients,
    bell_costs,
    heard_costs,
    idle_costs,
    idle_nodes,
    late_cost,
    nats_message_cost,
    opened_clients,
    run_cost,
    run_costs,
    wake_costs,
    warm_up,
)
from benchmarks.host import Watch
from benchmarks.looks import Eyes, Spent, difference, opened_eyes
from benchmarks.nodes import Nodes, opened_nodes
from benchmarks.record_costs import kept_bytes, rates
from benchmarks.stage import Stage, opened_stage
from tests.fleet.clusters import Cluster, private
from tests.fleet.installations import any_installation

_NATS = "nats://127.0.0.1:4222"
_FRAMES = "select avg(octet_length(frames)) from events where kind = 'delta'"


def main() -> None:
    """Measure, write, print."""
    watch, before = Watch(), report.conditions()
    with (
        opened_stage() as stage,
        private(
            any_installation(),
            statements=True,
            on_disk=True,
            shared_buffers="1GB",
            max_wal_size="8GB",
            checkpoint_timeout="1h",
        ) as cluster,
    ):
        found = asyncio.run(_measured(stage, cluster, before, watch))
    print(costs.save(found), end="")
    print(f"{watch.seconds:.0f} s.", file=sys.stderr)


async def _measured(stage: Stage, cluster: Cluster, before: str, watch: Watch) -> Costs:
    """Everything."""
    async with _watched(stage, cluster, None) as (nodes, clients, eyes):
        idle = await idle_costs(eyes)
        rows, function_rows = [await _rows(eyes, clients, idle, one) for one in (PLAIN, FUNCTION)]
        few, function = await run_costs(eyes, clients, idle, (PLAIN, FUNCTION), live=FEW, rounds=5)
        bell = await bell_costs(eyes, clients, idle, few)
        frames_bytes = await eyes.connection.fetchval(_FRAMES)
        await _vacuum(eyes, "off")  # What follows is small, or makes much to vacuum.
        late = await late_cost(eyes, idle)
        wakes = await wake_costs(eyes, idle)
        heard = await heard_costs(eyes, nodes, idle)
        await clients.connect(nodes.port)
        kept = await kept_bytes(eyes, clients)
        await eyes.connection.execute("checkpoint")
        cold = await run_cost(eyes, clients, idle, PLAIN, live=FEW, rounds=1)
        api, worker = await idle_nodes(eyes, nodes, idle)
        await eyes.connection.execute("truncate objects, events, journal")
        await _vacuum(eyes, "on")
    async with _watched(stage, cluster, _NATS) as (nodes, clients, eyes):
        idle = await idle_costs(eyes, IDLE_LESS_S)
        with_nats = await bell_costs(eyes, clients, idle)
        heard.message_cpu_s["nats"] = await nats_message_cost(eyes, nodes, idle, _NATS)
    commits, deltas, pruned = await rates(cluster, int(frames_bytes))
    return Costs(
        machine=report.machine(),
        conditions=f"Before: {before}. After: {report.conditions()}. Meanwhile {watch}.",
        api=api,
        worker=worker,
        bells={"postgres": bell, "nats": with_nats},
        function=function,
        rows={"plain": rows, "function": function_rows},
        kept=kept,
        cold_wal_bytes=cold.wal_bytes,
        late=late,
        wakes=wakes,
        heard=heard,
        commits=commits,
        deltas=deltas,
        pruned=pruned,
    )


async def _vacuum(eyes: Eyes, state: str) -> None:
    """Let PostgreSQL vacuum by itself, or not."""
    await eyes.connection.execute(f"alter system set autovacuum = {state}")
    await eyes.connection.execute("select pg_reload_conf()")


@asynccontextmanager
async def _watched(
    stage: Stage, cluster: Cluster, nats_url: str | None
) -> AsyncIterator[tuple[Nodes, Clients, Eyes]]:
    """Nodes that are warm, their clients, and somebody who looks."""
    async with (
        opened_nodes(stage, cluster, worker=1, nats_url=nats_url) as nodes,
        opened_clients(nodes) as clients,
        opened_eyes(cluster, nodes) as eyes,
    ):
        await warm_up(clients)
        yield nodes, clients, eyes


async def _rows(eyes: Eyes, clients: Clients, idle: Spent, model: str) -> dict[str, float]:
    """Rows that a run writes, by table. Backends have told of what was before."""
    before, made = await eyes.rows(), len(clients.threads.get(model, ()))
    await run_cost(eyes, clients, idle, model, live=FEW, rounds=1)
    await idle_costs(eyes)
    runs = len(clients.threads[model]) - made
    written = difference(await eyes.rows(), before)
    return {table: count / runs for table, count in written.items() if count >= runs / 2}


if __name__ == "__main__":
    main()
