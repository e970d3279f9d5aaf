"""Plans: how many nodes and PostgreSQLs a number of runs a day takes.

Nodes are added until none uses more than 70 % of its core in the busiest minute. Where one
PostgreSQL, or what its nodes ring to each other, is too much, the runs are divided among several.
"""

from dataclasses import dataclass, replace

from benchmarks.capacity import Asked, Mix, Nodes, asked
from benchmarks.costs import Costs
from benchmarks.day import Day, arrivals, replay

CORES = (2, 4, 8, 16, 32)  # Of a PostgreSQL; larger ones are not reckoned with.
BUSY = 0.7  # Of anything, in the busiest minute.
_LEAST = 2  # Nodes of each role: one may die.
_MOST = 400  # Nodes on one PostgreSQL.
_MOST_RUNS = 1e9  # A day.


class TooMuch(Exception):
    """For one PostgreSQL; the text says what is."""


@dataclass(frozen=True)
class Plan:
    """Servers for a number of runs a day: so many PostgreSQLs, each with such nodes; and a day of
    one of them."""

    runs_a_day: float
    shards: int
    nodes: Nodes
    day: Day

    @property
    def peak(self) -> Asked:
        """The busiest minute."""
        return self.day.peak.asked

    @property
    def cores(self) -> int:
        """Of each PostgreSQL: the fewest that do."""
        return next((one for one in CORES if self.peak.postgres_cpu <= BUSY * one), CORES[-1])

    @property
    def busy(self) -> dict[str, float]:
        """How near to its end everything is in the busiest minute."""
        return {
            "CPU of the API nodes": self.peak.api_cpu,
            "CPU of the workers": self.peak.worker_cpu,
            "slots of the workers": self.peak.live / self.nodes.worker / self.nodes.max_runs,
            "CPU of PostgreSQL": self.peak.postgres_cpu / self.cores,
        }

    @property
    def first(self) -> str:
        """What is nearest to it."""
        return max(self.busy, key=self.busy.__getitem__)


def plan(costs: Costs, mix: Mix, runs_a_day: float, bell: str) -> Plan:
    """The fewest PostgreSQLs that do, and their nodes."""
    shards = 1
    while True:
        try:
            nodes = sized(costs, mix, runs_a_day / shards, bell)
        except TooMuch:
            shards += 1
        else:
            day = replay(costs, mix, nodes, arrivals(runs_a_day / shards))
            return Plan(runs_a_day, shards, nodes, day)


def sized(costs: Costs, mix: Mix, runs_a_day: float, bell: str, cores: int = CORES[-1]) -> Nodes:
    """The fewest nodes for so many runs a day on one PostgreSQL of so many cores, or TooMuch."""
    nodes = Nodes(_LEAST, _LEAST, bell)
    runs_s = max(arrivals(runs_a_day)) / 60
    while nodes.all <= _MOST:
        now = asked(costs, mix, nodes, runs_s)
        now = asked(costs, mix, nodes, runs_s, pruned_s=now.delta_rows)
        if now.postgres_cpu > BUSY * cores:
            raise TooMuch("the CPU of PostgreSQL")
        if now.notifies > BUSY * costs.heard.per_s:
            raise TooMuch("notifications, which PostgreSQL commits one by one")
        if now.worker_cpu > BUSY or now.live > BUSY * nodes.worker * nodes.max_runs:
            nodes = replace(nodes, worker=nodes.worker + 1)
        elif now.api_cpu > BUSY:
            nodes = replace(nodes, api=nodes.api + 1)
        else:
            return nodes
    raise TooMuch("what the nodes ring to each other")


def most(costs: Costs, mix: Mix, bell: str, cores: int) -> tuple[float, Nodes, str]:
    """How many runs a day one PostgreSQL of so many cores takes, to a hundredth; by how many nodes;
    and what is too much with more."""
    low, high, why = 0.0, _MOST_RUNS, ""
    found = Nodes(_LEAST, _LEAST, bell)
    while high - low > high / 100:
        middle = (low + high) / 2
        try:
            found = sized(costs, mix, middle, bell, cores)
        except TooMuch as end:
            high, why = middle, str(end)
        else:
            low = middle
    return low, found, why
