"""Curves: time and memory as the work grows. Nothing may be worse than linear; gets and pages are
flat. Threads and databases are filled in their server's absence (fill.py).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from benchmarks import databases, live
from benchmarks.curve import Curve
from benchmarks.figures import Figure
from benchmarks.fill import Filled, filling
from benchmarks.jobs import Ask
from benchmarks.plan import Plan
from benchmarks.sampling import asked, data_folder, flat, linear, sampled
from benchmarks.stage import Stage, fresh_server
from benchmarks.streams import run_body

_TEXT = "The weather in Oslo is fine today, and it will stay so until the end of the week. " * 2
_MESSAGE = json.dumps({"role": "user", "content": _TEXT})
_PAGE = 20
_COPIES = 30  # A thread of 10 would not stay one: each sample may add a message.
_STRIDE = 7_919  # A prime: gets go all over a thread.
_MOST_TEXT = 256_000  # Characters of a message.

_Threads = Mapping[int, Sequence[Filled]]


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """All curves."""
    yield from _threads(stage, plan)
    yield from _assistants(stage, plan)
    yield from _sizes(stage, plan)
    yield from live.measure(stage, plan)
    yield from databases.measure(stage, plan)


def _threads(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """As a thread grows: its messages, and runs on it."""
    with data_folder(stage) as data:
        with filling(data) as filler:
            threads = {
                length: [
                    filler.thread([_TEXT] * length)
                    for _ in range(max(1, _COPIES * plan.curve_samples // length))
                ]
                for length in plan.thread_lengths
            }
        with fresh_server(stage, data) as fresh:
            yield from _reads_and_adds(fresh, plan, threads)
            yield from _first_deltas(fresh, plan, threads)


def _reads_and_adds(stage: Stage, plan: Plan, threads: _Threads) -> Iterator[Figure]:
    def curve(name: str, ask: Callable[[Filled, int], Ask]) -> Curve:
        return _curve(stage, plan, threads, name, ask)

    def one(thread: Filled, number: int) -> Ask:
        ids = thread.message_ids
        return Ask("GET", f"{_messages(thread)}/{ids[number * _STRIDE % len(ids)]}")

    def newest(thread: Filled, _number: int) -> Ask:
        return Ask("GET", f"{_messages(thread)}?limit={_PAGE}")

    def middle(thread: Filled, _number: int) -> Ask:
        after = thread.message_ids[len(thread.message_ids) // 2]
        return Ask("GET", f"{_messages(thread)}?limit={_PAGE}&after={after}")

    def add(thread: Filled, _number: int) -> Ask:
        return Ask("POST", _messages(thread), _MESSAGE)

    yield flat(curve("get of a message", one))
    yield flat(curve(f"newest {_PAGE} messages", newest), since=100)  # 10 are no page.
    yield flat(curve(f"{_PAGE} messages from the middle", middle), since=100)
    yield flat(curve("add of a message", add))


def _first_deltas(stage: Stage, plan: Plan, threads: _Threads) -> Iterator[Figure]:
    def curve(name: str, strategy: Mapping[str, object]) -> Curve:
        body = run_body(stage, model="deltas-5", truncation_strategy=strategy)

        def ask(thread: Filled, _number: int) -> Ask:
            return Ask("POST", f"/v1/threads/{thread.thread_id}/runs", body)

        return _curve(stage, plan, threads, name, ask, "event: thread.message.delta")

    last = {"type": "last_messages", "last_messages": 10}
    yield flat(curve("first delta of a run on the last 10", last))
    yield linear(curve("first delta of a run on what the model takes", {"type": "auto"}))


def _curve(
    stage: Stage,
    plan: Plan,
    threads: _Threads,
    name: str,
    ask: Callable[[Filled, int], Ask],
    mark: str = "",
) -> Curve:
    asks = {
        length: [ask(some[n % len(some)], n) for n in range(asked(plan.curve_samples))]
        for length, some in threads.items()
    }
    ports = dict.fromkeys(asks, stage.server.port)
    return Curve(name, "messages of the thread", "ms", sampled(stage, asks, ports, mark))


def _messages(thread: Filled) -> str:
    return f"/v1/threads/{thread.thread_id}/messages"


def _assistants(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """As their list grows; each number has a server of its own."""
    with ExitStack() as stack:
        ports = {}
        for count in plan.assistants:
            data = stack.enter_context(data_folder(stage))
            with filling(data) as filler:
                for _ in range(count - 1):
                    filler.assistant()
            # This one makes the last of them.
            ports[count] = stack.enter_context(fresh_server(stage, data)).server.port
        for limit in (20, 100):
            ask = Ask("GET", f"/v1/assistants?limit={limit}")
            asks = dict.fromkeys(ports, [ask] * asked(plan.curve_samples))
            points = sampled(stage, asks, ports)
            curve = Curve(f"list of {limit} assistants", "assistants", "ms", points)
            yield flat(curve, since=100)  # Fewer are no page.


def _sizes(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """As a message grows."""
    samples = asked(plan.curve_samples)
    creates, gets = {}, {}
    for size_kb in plan.message_kb:
        path = f"/v1/threads/{stage.thread(0)}/messages"
        text = ("word " * (size_kb * 1024 // 5 + 1))[: min(size_kb * 1024, _MOST_TEXT)]
        body = {"role": "user", "content": text}
        made = stage.ask("POST", path, body)["id"]
        creates[size_kb] = [Ask("POST", path, json.dumps(body))] * samples
        gets[size_kb] = [Ask("GET", f"{path}/{made}")] * samples
    ports = dict.fromkeys(creates, stage.server.port)
    for name, asks in (("create of a message", creates), ("get of a message", gets)):
        yield linear(Curve(name, "KB of its text", "ms", sampled(stage, asks, ports)))
