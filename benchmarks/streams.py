"""Streams: events per second and CPU per event, time to the first delta, and cancelling."""

import json
from collections.abc import Iterator

from benchmarks.figures import Figure, alternate, judged, median, p95, p99, rates
from benchmarks.host import calm
from benchmarks.jobs import Ask, Cancels, Samples, Streams, Target
from benchmarks.plan import Plan
from benchmarks.stage import Run, Stage

_DELTAS = 200
_BLOCKS = 10  # Of the samples of the first delta.
_PACED = f"deltas-{_DELTAS}-5"
_LASTING = "deltas-1000-20"  # 20 s of it: longer than any sampling.
_FIRST_CONTENT = '"content":"'


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """Everything about streams."""
    yield from _first_delta(stage, plan)
    yield from _throughput(stage, plan, 1)
    yield from _throughput(stage, plan, 16)
    yield from _throughput(stage, plan, 64, at_least=0.5, cpu_at_most=2)
    yield _paced(stage, plan)
    yield _first_event(stage, plan)
    yield _cancel(stage, plan)


def _first_delta(stage: Stage, plan: Plan) -> list[Figure]:
    """What the first delta takes longer than through the relay; the two alternate."""
    size = plan.first_deltas // _BLOCKS

    def block() -> list[list[float]]:
        paths = [f"/v1/threads/{stage.thread()}/runs" for _ in range(size)]
        asks = [Ask("POST", path, run_body(stage)) for path in paths]
        ours = Target(stage.server.port, asks, "event: thread.message.delta")
        relay = Target(stage.baselines.port, [relayed("deltas-5")] * size, _FIRST_CONTENT)
        return stage.run(Samples([ours, relay]), stage.server).done.samples

    block()  # The warm-up.
    blocks, note = calm(block, _BLOCKS)
    mine, theirs = ([1000 * one for done in blocks for one in done[side]] for side in (0, 1))
    added = [one - other for one, other in zip(mine, theirs, strict=True)]
    name, note = "time to first delta, 1 client", f"{len(added)} samples in turn; {note}"
    return [
        judged(
            Figure(
                name=f"{name}, {word}",
                ours=f"{of(mine):.2f} ms",
                baseline=f"{of(theirs):.2f} ms",
                result=f"{of(added):.2f} ms added",
                note=note,
                spreads={"ours": mine, "relay": theirs} if of is median else None,
            ),
            of(added),
            at_most=most_ms,
            unit=" ms",
        )
        for word, of, most_ms in (("p50", median, 4), ("p99", p99, 15))
    ]


def _throughput(
    stage: Stage,
    plan: Plan,
    count: int,
    *,
    at_least: float | None = None,
    cpu_at_most: float | None = None,
) -> list[Figure]:
    """So many streams of 200 deltas at once, from an upstream that does not wait."""
    rounds = max(1, plan.deltas // (_DELTAS * count))
    pairs = _pairs(stage, plan, f"deltas-{_DELTAS}", count, rounds)
    name = f"events of {count} streams"
    return rates(name, "events", pairs, at_least=at_least, cpu_at_most=cpu_at_most)


def _paced(stage: Stage, plan: Plan) -> Figure:
    """The CPU for an event that arrives alone, as real models' do: 200 a second and stream."""
    return rates("events of 64 paced streams", "events", _pairs(stage, plan, _PACED, 64, 1))[1]


def _pairs(stage: Stage, plan: Plan, model: str, count: int, rounds: int) -> list[tuple[Run, Run]]:
    ours = Streams(stage.server.port, begun(stage, model), "event: ", count, rounds)
    relay = Streams(stage.baselines.port, relayed(model), "data: ", count, rounds)
    return alternate(
        plan.pairs,
        lambda: stage.run(ours, stage.server),
        lambda: stage.run(relay, stage.baselines),
    )


def _first_event(stage: Stage, plan: Plan) -> Figure:
    """From create-run to its first event while 16 streams of 50 deltas a second are open."""
    begin, relay = begun(stage, "deltas-5"), relayed("deltas-5")
    many = plan.first_events
    ours = Samples(
        [Target(stage.server.port, [begin] * many, "event: ")],
        Streams(stage.server.port, begun(stage, _LASTING), "event: ", 16, 1),
    )
    theirs = Samples(
        [Target(stage.baselines.port, [relay] * many, "data: ")],
        Streams(stage.baselines.port, relayed(_LASTING), "data: ", 16, 1),
    )

    def sample(job: Samples) -> list[float]:
        taken = stage.run(job, stage.server).done.samples[0]
        stage.settle()
        return [1000 * one for one in taken]

    pairs = alternate(plan.pairs, lambda: sample(ours), lambda: sample(theirs))
    mine = [taken for pair in pairs for taken in pair[0]]
    passed = [taken for pair in pairs for taken in pair[1]]
    return Figure(
        name="first event under 16 streams, p95",
        ours=f"{p95(mine):.1f} ms",
        baseline=f"{p95(passed):.1f} ms",
        result=f"{p95(mine) - p95(passed):.1f} ms added",
        note=f"medians {median(mine):.1f} and {median(passed):.1f} ms, {len(mine)} samples each",
    )


def _cancel(stage: Stage, plan: Plan) -> Figure:
    """From the cancel to the provider's socket closed and the run's stream ended."""
    threads = [stage.thread(1) for _ in range(plan.cancels)]
    body = run_body(stage, model="silent")
    job = Cancels(stage.server.port, stage.upstream.port, threads, body)
    taken = [1000 * one for one in stage.run(job, stage.server).done.samples[0]]
    return Figure(
        name="cancel with a silent provider, p95",
        ours=f"{p95(taken):.1f} ms",
        baseline="",
        result="",
        note=f"median {median(taken):.1f} ms, {len(taken)} samples",
    )


def run_body(stage: Stage, **more: object) -> str:
    """The body of a streamed run."""
    return json.dumps({"assistant_id": stage.assistant_id, "stream": True, **more})


def begun(stage: Stage, model: str) -> Ask:
    """A thread and a streamed run on it in one call."""
    thread = {"messages": [{"role": "user", "content": "Count."}]}
    body = {"assistant_id": stage.assistant_id, "stream": True, "model": model, "thread": thread}
    return Ask("POST", "/v1/threads/runs", json.dumps(body))


def relayed(model: str) -> Ask:
    """What the server would send upstream, for the relay."""
    messages = [{"role": "user", "content": f"Message {n} of this thread."} for n in range(10)]
    body = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return Ask("POST", "/relay", json.dumps(body))
