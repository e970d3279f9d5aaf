"""Cycle: what a conversation costs from its beginning to its first answer, everything durable.

A cycle is a thread, a message, and a streamed run of 20 deltas on it. Its rate stands beside the
rate at which the relay passes on the same 20 deltas: what a server does that stores nothing.
"""

import json
from collections.abc import Iterator

from benchmarks.crud import MESSAGE
from benchmarks.figures import Figure, alternate, rates
from benchmarks.jobs import Ask, Load
from benchmarks.plan import Plan
from benchmarks.stage import Stage
from benchmarks.streams import relayed

_CLIENTS = 32
_MODEL = "deltas-20"


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """Cycles a second, against streams a second."""
    run = {"assistant_id": stage.assistant_id, "stream": True, "model": _MODEL}
    flow = [
        Ask("POST", "/v1/threads", "{}"),
        Ask("POST", "/v1/threads/{id}/messages", MESSAGE),
        Ask("POST", "/v1/threads/{id}/runs", json.dumps(run), holds="event: thread.run.completed"),
    ]
    ours = Load(stage.server.port, flow, _CLIENTS, plan.cycle_s)
    theirs = Load(stage.baselines.port, [relayed(_MODEL)], _CLIENTS, plan.cycle_s)
    pairs = alternate(
        plan.pairs,
        lambda: stage.run(ours, stage.server),
        lambda: stage.run(theirs, stage.baselines),
    )
    name = f"thread, message and run of 20 deltas, {_CLIENTS} clients"
    yield from rates(name, "times", pairs, at_least=0.25)
