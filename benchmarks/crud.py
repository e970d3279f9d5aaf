"""Requests per second against a handler of the same stack that stores nothing.

wrk sends the single requests. A flow whose second request needs the first one's id is our client's.
"""

import json
from collections.abc import Iterator

from benchmarks import wrk
from benchmarks.figures import Figure, alternate, rates
from benchmarks.jobs import Ask, Load
from benchmarks.plan import Plan
from benchmarks.stage import ASSISTANT_BODY, KEY, Part, Run, Stage

MESSAGE = json.dumps({"role": "user", "content": "What is the weather in Oslo today?"})


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """Create, get, list, and the two calls that begin a conversation."""
    for _ in range(20):
        stage.ask("POST", "/v1/assistants", json.loads(ASSISTANT_BODY))
    create = Ask("POST", "/v1/assistants", ASSISTANT_BODY)
    get = Ask("GET", f"/v1/assistants/{stage.assistant_id}")
    listing = Ask("GET", "/v1/assistants?limit=20")
    begin = [Ask("POST", "/v1/threads", "{}"), Ask("POST", "/v1/threads/{id}/messages", MESSAGE)]
    yield from _single(stage, plan, "create assistant, 32 clients", create, 32, at_least=0.5)
    yield from _single(stage, plan, "create assistant, 1 client", create, 1)
    yield from _single(stage, plan, "get assistant, 32 clients", get, 32, at_least=0.5)
    yield from _single(stage, plan, "list of 20 assistants, 32 clients", listing, 32, at_least=0.4)
    yield from _flow(stage, plan, "create thread, then message, 32 clients", begin, 32)


def _single(
    stage: Stage, plan: Plan, name: str, ask: Ask, clients: int, *, at_least: float | None = None
) -> list[Figure]:
    def run(server: Part) -> Run:
        return stage.watched(server, lambda: wrk.load(server.port, ask, clients, plan.load_s, KEY))

    pairs = alternate(plan.pairs, lambda: run(stage.server), lambda: run(stage.baselines))
    return rates(name, "times", pairs, at_least=at_least)


def _flow(stage: Stage, plan: Plan, name: str, flow: list[Ask], clients: int) -> list[Figure]:
    ours = Load(stage.server.port, flow, clients, plan.load_s)
    theirs = Load(stage.baselines.port, flow, clients, plan.load_s)
    pairs = alternate(
        plan.pairs,
        lambda: stage.run(ours, stage.server),
        lambda: stage.run(theirs, stage.baselines),
    )
    return rates(name, "times", pairs)
