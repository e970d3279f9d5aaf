"""`python -m benchmarks.simulate`: how many servers a number of runs a day takes.

It reads benchmarks/unit_costs.json, replays days (day.py) by the model of capacity.py, makes plans
(plans.py), and prints the part of docs/scaling.md that is generated; `--write` puts it there.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import costs as measured
from benchmarks.capacity import Mix, round_of
from benchmarks.costs import Costs, RunCost
from benchmarks.plans import CORES, Plan, most, plan
from benchmarks.report import markdown
from understudy import limits

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- Written by python -m benchmarks.simulate. -->\n", "<!-- The end of it. -->\n"
DAYS = (1_000_000, 10_000_000, 100_000_000)
BELLS = {"postgres": "PostgreSQL", "nats": "NATS"}


def main() -> None:
    """Reckon, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into docs/scaling.md")
    arguments = parser.parse_args()
    text = shown(measured.load())
    print(text, end="")
    if arguments.write:
        PAGE.write_text(with_shown(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


def with_shown(page: str, text: str) -> str:
    """The page with this between its markers."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


def shown(costs: Costs) -> str:
    """All tables."""
    mix = Mix()
    plans = [plan(costs, mix, runs, bell) for bell in BELLS for runs in DAYS]
    parts = [
        f"Unit costs, measured on {costs.machine} {costs.conditions}",
        markdown(_run_costs(costs)),
        markdown(_other_costs(costs)),
        "Servers for a day of runs, and what is asked of them in its busiest minute:",
        markdown(_days(plans)),
        f"How far one PostgreSQL goes, with {limits.RUNS_AT_ONCE:,} runs at once in a worker:",
        markdown(_limits(costs, mix)),
    ]
    return "\n\n".join(parts) + "\n"


# Unit costs.

_RUN_LINES: Sequence[tuple[str, Callable[[RunCost], float]]] = (
    ("CPU of the API node, ms", lambda one: 1e3 * one.api_cpu_s),
    ("CPU of the worker, ms", lambda one: 1e3 * one.worker_cpu_s),
    ("CPU of PostgreSQL, ms", lambda one: 1e3 * one.postgres_cpu_s),
    ("rows of deltas", lambda one: one.delta_rows),
    ("commits", lambda one: one.commits),
    ("statements", lambda one: one.statements),
    ("notifications", lambda one: one.notifies),
    ("log of writes, KB", lambda one: one.wal_bytes / 1e3),
)


def _run_costs(costs: Costs) -> list[tuple[str, ...]]:
    """Of runs of one turn, by how many are live and how servers wake each other; and what a round
    of function calls adds."""
    of_bells = [one for bell in BELLS for one in (costs.bells[bell].few, costs.bells[bell].many)]
    names = [f"{one.live} live" for one in of_bells]
    head = ("one run of 300 tokens", *names[:2], *(f"{one}, NATS" for one in names[2:]))
    lines = [(*head, "one function round more")]
    for name, what in _RUN_LINES:
        found = [*map(what, of_bells), round_of(costs, what)]
        lines.append((name, *(f"{one:,.1f}" for one in found)))
    return lines


def _other_costs(costs: Costs) -> list[tuple[str, ...]]:
    """All others, each in its own words."""
    kept, heard, streams = costs.kept, costs.heard, [costs.bells[bell].stream for bell in BELLS]
    first, last = costs.wakes[0], costs.wakes[-1]
    leases = f"with {first.leases} and {last.leases:,} leases alive"
    late = _us(costs.late.postgres_cpu_s)
    looks = f"{_us(first.postgres_cpu_s)} and {_us(last.postgres_cpu_s)}"
    idle = f"{costs.api.statements:.1f} and {costs.worker.statements:.1f}"
    both = [
        (
            "API node: a live stream of 20 deltas a second",
            [f"{one.api_cpu:.2%}" for one in streams],
        ),
        ("worker: the same", [f"{one.worker_cpu:.2%}" for one in streams]),
        ("PostgreSQL: the same", [f"{one.postgres_cpu:.2%}" for one in streams]),
        ("node: a message that rings", [_us(heard.message_cpu_s[bell]) for bell in BELLS]),
    ]
    alone = [
        ("PostgreSQL: a notification", _us(heard.notify_cpu_s)),
        ("PostgreSQL: a notification, for each node that hears it", _us(heard.delivery_cpu_s)),
        ("PostgreSQL: a worker that is told of a run and comes too late", late),
        (f"PostgreSQL: a worker that looks for any job, {leases}", looks),
        ("PostgreSQL: a row of deltas that is removed", _us(costs.pruned.postgres_cpu_s)),
        ("statements of an idle API node and an idle worker, a second", idle),
        ("commits that create a run, a second, as fast as they go", f"{costs.commits.per_s:,.0f}"),
        ("rows of deltas that are saved, the same", f"{costs.deltas.per_s:,.0f}"),
        (
            "log of writes of a run, on pages untouched since a checkpoint",
            _kb(costs.cold_wal_bytes),
        ),
        ("kept of a run; with a function round", f"{_kb(kept.run)}; {_kb(kept.function_run)}"),
        ("kept of a row of deltas, for an hour", f"{kept.delta_row:,.0f} bytes"),
    ]
    lines = [(name, *values) for name, values in both] + [(name, one, "") for name, one in alone]
    return [("other costs (CPU unless it is said)", "", "with NATS"), *lines]


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f} µs"


def _kb(size_bytes: float) -> str:
    return f"{size_bytes / 1e3:,.0f} KB"


# Days.

_DAY_LINES: Sequence[tuple[str, Callable[[Plan], str]]] = (
    ("runs a day", lambda one: f"{one.runs_a_day:,.0f}"),
    ("wake-ups through", lambda one: BELLS[one.nodes.bell]),
    ("PostgreSQLs", lambda one: f"{one.shards}"),
    ("cores of each", lambda one: f"{one.cores}"),
    ("API nodes of each", lambda one: f"{one.nodes.api}"),
    ("workers of each", lambda one: f"{one.nodes.worker}"),
    ("connections to each, at most", lambda one: f"{one.nodes.connections:,}"),
    ("live runs of each", lambda one: f"{one.peak.live:,.0f}"),
    ("runs of each that wait for clients", lambda one: f"{one.peak.waiting:,.0f}"),
    ("projects of each, at least", lambda one: f"{_projects(one)}"),
    ("commits a second", lambda one: f"{one.peak.commits:,.0f}"),
    ("rows written a second", lambda one: f"{one.peak.rows:,.0f}"),
    ("statements a second", lambda one: f"{one.peak.statements:,.0f}"),
    ("notifications a second", lambda one: f"{one.peak.notifies:,.0f}"),
    ("log of writes, MB a second", lambda one: f"{one.peak.wal_bytes / 1e6:,.0f}"),
    ("busy cores of PostgreSQL", lambda one: f"{one.peak.postgres_cpu:.1f}"),
    ("of these, for looks for jobs", lambda one: f"{one.peak.looks_cpu:.1f}"),
    ("CPU of an API node", lambda one: f"{one.peak.api_cpu:.0%}"),
    ("CPU of a worker", lambda one: f"{one.peak.worker_cpu:.0%}"),
    ("slots of a worker in use", lambda one: f"{one.busy['slots of the workers']:.0%}"),
    ("full first, if nothing is added", lambda one: one.first),
    ("runs that wait for a worker, at most", lambda one: f"{_queued(one):,.0f}"),
    ("log of writes a day, GB", lambda one: f"{one.day.wal_bytes / 1e9:,.0f}"),
    ("kept of a day, GB", lambda one: f"{one.day.minutes[-1].kept_bytes / 1e9:,.0f}"),
)


def _days(plans: Sequence[Plan]) -> list[tuple[str, ...]]:
    return [(name, *map(what, plans)) for name, what in _DAY_LINES]


def _projects(plan: Plan) -> int:
    """No project has more runs at once than its share."""
    return math.ceil(plan.peak.live / limits.RUNS_PER_PROJECT)


def _queued(plan: Plan) -> float:
    return max(minute.queued for minute in plan.day.minutes)


_LIMIT_HEAD = ("cores", "wake-ups through", "runs a day", "API nodes", "workers", "full first")


def _limits(costs: Costs, mix: Mix) -> list[tuple[str, ...]]:
    """Of one PostgreSQL, by its cores."""
    lines: list[tuple[str, ...]] = [_LIMIT_HEAD]
    for cores in CORES:
        for bell, name in BELLS.items():
            runs, nodes, why = most(costs, mix, bell, cores)
            found = (f"{cores}", name, f"{_two_digits(runs):,}", f"{nodes.api}", f"{nodes.worker}")
            lines.append((*found, why))
    return lines


def _two_digits(number: float) -> int:
    """As much of it as is worth saying."""
    return int(float(f"{number:.2g}"))


if __name__ == "__main__":
    main()
