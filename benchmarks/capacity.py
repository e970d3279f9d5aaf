"""Capacity: what a number of runs a second asks of API nodes, workers and PostgreSQL, by the unit
costs that were measured and the limits of the code.

How it is reckoned:

- A run costs a fixed part and one for each row of its deltas, which are saved once a tick. The more
  runs of a worker stream at once, the longer is its tick, so the fewer rows has each. Both parts
  come from two measures, with few and with many live runs. Nodes are never taken to be cheaper than
  they were with many: to read and write a delta costs something, however few rows it ends in.
- What grows with the number of nodes comes on top. Each worker hears when any API node rings: for
  the run that it is told of, or where it heard of several meanwhile for any job, which takes longer
  the more leases are alive. And each node hears what all others ring.
- CPU of a node is of one core: a node is one process with one loop. PostgreSQL's is of all cores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp

from benchmarks.costs import Bell, Costs, RunCost
from understudy import limits

_CLAIM_WAIT_S = 0.001  # Of a claim and the look after it, beside CPU: two trips.


@dataclass(frozen=True)
class Mix:
    """What runs are like: an assumption."""

    rounds: float = 1.0  # Of function calls: 0 in 70 % of runs, 3 in 20 %, 4 in 10 %.
    tokens: int = 300
    tokens_s: float = 100.0
    first_token_s: float = 2.5  # Of each model call.
    answer_s: float = 2.0  # Of a client that is asked to call a function, ...
    long_share: float = 0.05  # ... but this share of runs waits once for a person,
    long_answer_s: float = 300.0  # and for so long.

    @property
    def streaming_s(self) -> float:
        """How long a run streams text."""
        return self.tokens / self.tokens_s

    @property
    def live_s(self) -> float:
        """How long a worker has a run."""
        return (1 + self.rounds) * self.first_token_s + self.streaming_s

    @property
    def waiting_s(self) -> float:
        """How long a run waits for its client, which takes a row and nothing else."""
        return self.rounds * self.answer_s + self.long_share * self.long_answer_s


@dataclass(frozen=True)
class Nodes:
    """Server processes on one PostgreSQL, and how they wake each other: a key of Costs.bells."""

    api: int
    worker: int
    bell: str
    max_runs: int = limits.RUNS_AT_ONCE

    @property
    def all(self) -> int:
        """Of both roles."""
        return self.api + self.worker

    @property
    def connections(self) -> int:
        """To PostgreSQL, at most."""
        return self.all * (limits.CONNECTIONS + 1)


@dataclass(frozen=True)
class Asked:
    """What is asked of everybody in one second."""

    live: float
    waiting: float
    delta_rows: float
    rows: float
    commits: float
    statements: float
    notifies: float
    wal_bytes: float
    api_cpu: float  # Of each of them.
    worker_cpu: float  # The same.
    postgres_cpu: float  # Cores.
    looks_cpu: float  # Of these, for workers that look for jobs beside others.


def asked(costs: Costs, mix: Mix, nodes: Nodes, runs_s: float, pruned_s: float = 0.0) -> Asked:
    """All of it, at so many runs a second, while so many old delta rows are removed."""
    bell = costs.bells[nodes.bell]
    ticks = nodes.worker * _ticks(runs_s * mix.streaming_s / nodes.worker)
    delta_rows = nodes.worker * _delta_rows(runs_s * mix.streaming_s / nodes.worker)
    rows = delta_rows / runs_s if runs_s else 0.0  # Of a run.
    node_rows = max(rows, bell.many.delta_rows)

    def run(what: Callable[[RunCost], float], rows: float) -> float:
        return _at(bell, what, rows) + mix.rounds * round_of(costs, what)

    commits = runs_s * run(lambda one: one.commits - one.ticks, rows)
    messages = _messages(nodes, mix, runs_s, commits, ticks)
    looks = _looks(costs, nodes, mix, runs_s)
    heard = messages.to_all * costs.heard.message_cpu_s[nodes.bell]
    heard += (delta_rows + commits) * costs.heard.topic_cpu_s
    heard_of_runs = messages.to_workers * costs.heard.message_cpu_s["postgres"]
    quiet = run(lambda one: one.statements - one.ticks - one.notifies, rows)
    idle_statements = nodes.api * costs.api.statements + nodes.worker * costs.worker.statements
    api_cpu_s = run(lambda one: one.api_cpu_s, node_rows)
    worker_cpu_s = run(lambda one: one.worker_cpu_s, node_rows)
    return Asked(
        live=runs_s * mix.live_s,
        waiting=runs_s * mix.waiting_s,
        delta_rows=delta_rows,
        rows=delta_rows + runs_s * _other_rows(costs, mix),
        commits=commits
        + ticks
        + nodes.worker / limits.HEARTBEAT_S
        + nodes.all / limits.HEARTBEAT_S,
        statements=runs_s * quiet + ticks + messages.notifies + looks.statements + idle_statements,
        notifies=messages.notifies,
        wal_bytes=runs_s * (run(lambda one: one.wal_bytes, rows) + _cold_wal_bytes(costs))
        + pruned_s * costs.pruned.wal_bytes,
        api_cpu=costs.api.cpu + heard + runs_s * api_cpu_s / nodes.api,
        worker_cpu=costs.worker.cpu
        + heard
        + heard_of_runs
        + looks.worker_cpu
        + runs_s * worker_cpu_s / nodes.worker,
        postgres_cpu=runs_s * run(lambda one: one.postgres_cpu_s, rows)
        + looks.postgres_cpu
        + messages.notifies * max(0, nodes.all - 2) * costs.heard.delivery_cpu_s
        + pruned_s * costs.pruned.postgres_cpu_s
        + nodes.api * costs.api.postgres_cpu
        + nodes.worker * costs.worker.postgres_cpu,
        looks_cpu=looks.postgres_cpu,
    )


def runs_s_at_most(costs: Costs, mix: Mix, nodes: Nodes) -> float:
    """How many runs the workers can begin in a second: by their slots, and by their CPU."""
    bell = costs.bells[nodes.bell]
    cpu_s = bell.many.worker_cpu_s + mix.rounds * round_of(costs, lambda one: one.worker_cpu_s)
    return nodes.worker * min(nodes.max_runs / mix.live_s, 1 / cpu_s)


# Of one run.


def _at(bell: Bell, what: Callable[[RunCost], float], rows: float) -> float:
    """What a run of one turn costs that has so many rows of deltas. These cost no more than all of
    it, whatever was measured: else more runs would be cheaper together."""
    few, many = bell.few, bell.many
    of_row = max(0.0, (what(few) - what(many)) / (few.delta_rows - many.delta_rows))
    of_row = min(of_row, what(many) / many.delta_rows)
    return max(0.0, what(many) + of_row * (rows - many.delta_rows))


def round_of(costs: Costs, what: Callable[[RunCost], float]) -> float:
    """What a round of function calls adds."""
    bell, function = costs.bells["postgres"], costs.function
    return max(0.0, what(function) - _at(bell, what, function.delta_rows))


def _other_rows(costs: Costs, mix: Mix) -> float:
    """Rows that a run writes beside deltas."""
    plain = sum(costs.rows["plain"].values()) - costs.bells["postgres"].few.delta_rows
    function = sum(costs.rows["function"].values()) - costs.function.delta_rows
    return plain + mix.rounds * max(0.0, function - plain)


def _cold_wal_bytes(costs: Costs) -> float:
    """Whole pages in the log of writes: in a large table a run meets none that was written to since
    the last checkpoint."""
    return max(0.0, costs.cold_wal_bytes - costs.bells["postgres"].few.wal_bytes)


# Of one worker (engine/log.py).


def _ticks(streaming: float) -> float:
    """Commits of deltas in a second."""
    tick_s = max(limits.DELTA_TICK_S, streaming / limits.DELTA_ROWS_S)
    return min(streaming, 1.0) / tick_s


def _delta_rows(streaming: float) -> float:
    """Rows of deltas in a second."""
    return min(streaming / limits.DELTA_TICK_S, limits.DELTA_ROWS_S)


# Of all nodes together.


@dataclass(frozen=True)
class _Looks:
    """Workers that look for jobs, beyond one look for each run."""

    statements: float
    postgres_cpu: float
    worker_cpu: float  # Of each.


def _looks(costs: Costs, nodes: Nodes, mix: Mix, runs_s: float) -> _Looks:
    """Each worker looks at each ring, unless it is still looking. One look for each run is among
    what a run costs, by a worker that was alone."""
    gap_s = limits.BELL_GAP_S if nodes.bell == "postgres" else limits.NATS_GAP_S
    late, first, last = costs.late, costs.wakes[0], costs.wakes[-1]
    of_lease = (last.postgres_cpu_s - first.postgres_cpu_s) / (last.leases - first.leases)
    longer_s = max(0.0, of_lease) * runs_s * mix.live_s
    told = (1 + mix.rounds) * runs_s
    look_s = _CLAIM_WAIT_S + first.postgres_cpu_s + first.worker_cpu_s + longer_s
    looks = _together(nodes.api * _together(told / nodes.api, gap_s), look_s)
    others = nodes.worker - 1
    of_one = looks * _at_most_one(told * look_s + told / nodes.api * gap_s)
    of_all = looks - of_one
    return _Looks(
        statements=others * (of_one * late.statements + of_all * first.statements),
        postgres_cpu=others * (of_one * late.postgres_cpu_s + of_all * first.postgres_cpu_s)
        + nodes.worker * of_all * longer_s,
        worker_cpu=others
        / nodes.worker
        * (of_one * late.worker_cpu_s + of_all * first.worker_cpu_s),
    )


def _at_most_one(expected: float) -> float:
    """How likely it is that one came or none, where so many are expected and come by chance."""
    return exp(-expected) * (1 + expected)


@dataclass(frozen=True)
class _Messages:
    """In a second."""

    notifies: float  # Of PostgreSQL.
    to_all: float  # Heard by each node, through NATS if there is one.
    to_workers: float  # Heard by workers, through PostgreSQL.


def _messages(nodes: Nodes, mix: Mix, runs_s: float, commits: float, ticks: float) -> _Messages:
    """Of new runs PostgreSQL tells workers alone, with their commits or soon after, and NATS tells
    all of those that could not ring with their commits; what workers ring is heard by all."""
    begun = (1 + mix.rounds) * runs_s / nodes.api
    of_worker = (commits + ticks) / nodes.worker
    told = nodes.api * _together(begun, limits.BELL_GAP_S)

    def of_workers(gap_s: float) -> float:
        return nodes.worker * _together(of_worker, gap_s)

    if nodes.bell == "postgres":
        rung = of_workers(limits.BELL_GAP_S)
        return _Messages(told + rung, rung, told)
    later = begun - told / nodes.api
    late = nodes.api * _together(later, limits.NATS_GAP_S)
    beneath = nodes.api * _together(later, limits.BELL_GAP_BENEATH_S)
    return _Messages(
        told + beneath + of_workers(limits.BELL_GAP_BENEATH_S),
        late + of_workers(limits.NATS_GAP_S),
        told,
    )


def _together(rings: float, gap_s: float) -> float:
    """How many messages so many rings a second become, when those within a gap go together."""
    return rings / (1 + rings * gap_s)
