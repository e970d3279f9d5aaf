"""Costs: what runs cost on each side, as `python -m benchmarks.unit_costs` measures it and
`python -m benchmarks.simulate` reads it.

CPU is in seconds of a core. All of a run is less what the nodes do anyway when nothing happens.
"""

from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("unit_costs.json")


class RunCost(msgspec.Struct, frozen=True, kw_only=True):
    """One run, of so many that were live at once."""

    live: int
    seconds: float
    api_cpu_s: float
    worker_cpu_s: float
    postgres_cpu_s: float  # With all its backends.
    statements: float
    commits: float  # A commit of deltas is shared by all runs of a tick.
    ticks: float  # Those commits.
    delta_rows: float
    notifies: float
    wal_bytes: float


class StreamCost(msgspec.Struct, frozen=True, kw_only=True):
    """One live stream of 20 deltas a second, as shares of a core."""

    api_cpu: float
    worker_cpu: float
    postgres_cpu: float


class Bell(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one turn, where servers wake each other in one way."""

    few: RunCost
    many: RunCost
    stream: StreamCost


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """A node of which nothing is asked: cores, PostgreSQL's for it, statements a second."""

    cpu: float
    postgres_cpu: float
    statements: float


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that hears of work and finds none."""

    worker_cpu_s: float
    postgres_cpu_s: float
    statements: float


class Wake(Look, frozen=True, kw_only=True):
    """The same where it looks for any job, while so many leases are alive."""

    leases: int


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What rings: CPU of a node for each message that it hears, by the way on which it came, and
    for each topic in it; of PostgreSQL for each notification, and for each node that it goes to;
    and how many notifications are committed in a second."""

    message_cpu_s: dict[str, float]
    topic_cpu_s: float
    notify_cpu_s: float
    delivery_cpu_s: float
    per_s: float


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """As many a second as there can be here, and what each costs."""

    per_s: float
    postgres_cpu_s: float
    client_cpu_s: float
    wal_bytes: float


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in tables and indexes, whose keys come in no order."""

    run: float
    function_run: float
    delta_row: float


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    machine: str
    conditions: str
    api: Idle
    worker: Idle
    bells: dict[str, Bell]  # `postgres`, and `nats` on top of it.
    function: RunCost  # One function round; few at once, without NATS.
    rows: dict[str, dict[str, float]]  # Kind of run → table → rows written.
    kept: Kept
    cold_wal_bytes: float  # Of a run to whose pages nobody has written since the checkpoint.
    late: Look  # For one run, which another worker has.
    wakes: list[Wake]
    heard: Heard
    commits: Rate  # Of those that create a run.
    deltas: Rate  # Rows that are saved, 250 in a statement.
    pruned: Rate  # Rows that are removed.


def load() -> Costs:
    """What was measured last."""
    return msgspec.json.decode(FILE.read_bytes(), type=Costs)


def save(costs: Costs) -> str:
    """Write it down; the text. Four digits say more than was measured."""
    found = _rounded(msgspec.to_builtins(costs))
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
    FILE.write_text(text, encoding="utf-8")
    return text


def _rounded(value: object) -> object:
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {name: _rounded(one) for name, one in value.items()}
        case list():
            return [_rounded(one) for one in value]
    return value
