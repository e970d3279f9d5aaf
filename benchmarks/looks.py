"""Looks at nodes and their PostgreSQL, and what was spent between two of them: CPU, statements,
commits, bytes of its log.

What is spent is a mapping of names to numbers; the names are those of costs.RunCost.
"""

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import psutil

from benchmarks.figures import median
from benchmarks.nodes import Nodes
from tests.fleet.clusters import Cluster

Spent: TypeAlias = Mapping[str, float]

_OURS = re.compile(r"pg_stat|pg_current_wal|pg_total_relation|kind = .delta.", re.IGNORECASE)
_KINDS = {
    "tick": re.compile(r"\A\s*with soon", re.IGNORECASE),
    "claim": re.compile(r"\A\s*with recursive", re.IGNORECASE),
    "claim of one": re.compile(r"\A\s*with claimed", re.IGNORECASE),
    "commit": re.compile(r"\A\s*select apply", re.IGNORECASE),
    "ring": re.compile(r"pg_notify", re.IGNORECASE),
}
_COMMITS = ("tick", "commit", "claim of one")
_STATEMENTS = "select query, calls, rows from public.pg_stat_statements"
# Commits that ring are CALLs, and pg_stat_statements counts a CALL only when its plan is new: it
# takes the number off a utility statement. But each commit has a number on its connection.
_APPLIED = "select coalesce(sum(number), 0)::bigint from commits"
_WAL = "select (pg_current_wal_insert_lsn() - '0/0')::double precision"
_DELTAS = "select count(*) from events where kind = 'delta'"
_ROWS = """
select relname, n_tup_ins + n_tup_upd + n_tup_del as written from pg_stat_user_tables
where schemaname = current_schema() and relname not in ('nodes', 'commits')
"""


class Eyes:
    """Looks through a connection of its own, which costs next to nothing."""

    def __init__(
        self, connection: "asyncpg.Connection[asyncpg.Record]", pids: Mapping[str, int]
    ) -> None:
        self.connection = connection
        self._pids = pids
        self._last: dict[str, float] = {}

    async def look(self) -> Spent:
        """All that was spent so far."""
        found: Counter[str] = Counter()
        ringing: int = await self.connection.fetchval(_APPLIED)  # Since an unknown beginning.
        for query, calls, rows in await self.connection.fetch(_STATEMENTS):
            if not _OURS.search(query):
                found.update(_counted(query, calls, rows))
                ringing -= calls if kind_of(query) == "commit" else 0
        found.update(commits=ringing, notifies=ringing, statements=2 * ringing)
        return {
            **found,
            **{f"{name}_cpu_s": self._cpu_s(name) for name in self._pids},
            "delta_rows": await self.connection.fetchval(_DELTAS),
            "wal_bytes": await self.connection.fetchval(_WAL),
            "seconds": time.monotonic(),
        }

    async def since(self, before: Spent) -> Spent:
        """What was spent since then."""
        return difference(await self.look(), before)

    async def rows(self) -> Spent:
        """Rows that were ever written, by table. Backends tell of them when they were idle for ten
        seconds."""
        found = await self.connection.fetch(_ROWS)
        return {str(row["relname"]): float(row["written"]) for row in found}

    def _cpu_s(self, name: str) -> float:
        """A process that has ended uses no more."""
        if psutil.pid_exists(self._pids[name]):
            self._last[name] = cpu_s(self._pids[name])
        return self._last[name]


@asynccontextmanager
async def opened_eyes(cluster: Cluster, nodes: Nodes) -> AsyncIterator[Eyes]:
    """On one API node, one worker and their PostgreSQL."""
    connection = await asyncpg.connect(nodes.record)
    pids = {name: nodes.fleet[f"{name}-0"].pid for name in ("api", "worker")}
    try:
        yield Eyes(connection, {**pids, "postgres": cluster.pid})
    finally:
        await connection.close()


def difference(after: Spent, before: Spent) -> Spent:
    """Name by name."""
    return {name: after[name] - before.get(name, 0) for name in after}


def less(spent: Spent, idle: Spent) -> Spent:
    """What is left without what is spent anyway in that time."""
    share = spent["seconds"] / idle["seconds"]
    left = {name: spent[name] - share * idle.get(name, 0) for name in spent}
    return {**left, "seconds": spent["seconds"]}


def middle(found: Sequence[Spent]) -> Spent:
    """The medians, name by name."""
    return {name: median([one[name] for one in found]) for name in found[0]}


def cpu_s(pid: int) -> float:
    """Of a process and all that it has started, those that have ended included."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue  # Its parent has its time in a moment.
        total += times.user + times.system + times.children_user + times.children_system
    return total


def kind_of(query: str) -> str:
    """What a statement is to us: a `tick` saves deltas, a `commit` is any other, a `claim` commits
    if it takes something, and so does a `claim of one` (all of them, by a worker that is alone); a
    `ring` notifies."""
    return next((kind for kind, text in _KINDS.items() if text.search(query)), "other")


def _counted(query: str, calls: int, rows: int) -> dict[str, int]:
    """A statement among the others."""
    kind = kind_of(query)
    return {
        "statements": calls,
        "ticks": calls if kind == "tick" else 0,
        "notifies": calls if kind == "ring" else 0,
        "commits": rows if kind == "claim" else calls if kind in _COMMITS else 0,
    }
