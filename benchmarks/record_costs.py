"""What a record on PostgreSQL takes by itself: bytes that stay, commits and deltas as fast as they
go."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from benchmarks.costs import Kept, Rate
from benchmarks.fleet_costs import FUNCTION, PLAIN, Clients
from benchmarks.looks import Eyes, cpu_s
from tests.fleet.clusters import Cluster, schema
from tests.fleet.statements import execute, fetch
from understudy import limits
from understudy.store import Database, Statement, changes, open_database
from understudy.store.changes import Stretch
from understudy.store.store import Store
from understudy.world import random_id

_AT_ONCE = 32
_RATE_S = 4.0
_RUNS = 250  # In one statement of deltas.
_SAVERS = 2  # Workers that save deltas at the same time.
_COPIES = {PLAIN: 400, FUNCTION: 200}
_COPIED = 70  # Runs of each kind; of so many is each copy made.
_DELTA_COPIES = 20
_OTHER = """
create function pg_temp.other(id text, n integer) returns text immutable language sql as $$
  select case when id = '' then '' else
    split_part(id, '_', 1) || '_' || left(md5(id || n::text), 24) end
$$
"""
_OBJECTS = """
insert into objects (id, kind, project, parent, created_at, version, children, body, private)
select pg_temp.other(id, n), kind, project, pg_temp.other(parent, n), created_at, version, children,
  body, private
from objects, generate_series(1, $2::integer) as n
where id = any ($1::text[]) or parent = any ($1::text[])
  or parent in (select id from objects where parent = any ($1::text[]))
"""
_OF_RUNS = "run_id in (select id from objects where parent = any ($1::text[]) and kind = 'run')"
_EVENTS = f"""
insert into events (run_id, fence, seq_from, seq_to, kind, created_at, frames)
select pg_temp.other(run_id, n), fence, seq_from, seq_to, kind, created_at, frames
from events, generate_series(1, $2::integer) as n
where kind = $3 and {_OF_RUNS}
"""
_JOURNAL = f"""
insert into journal (run_id, key, attempt, fence, started_at, ended_at, outcome)
select pg_temp.other(run_id, n), key, attempt, fence, started_at, ended_at, outcome
from journal, generate_series(1, $2::integer) as n
where {_OF_RUNS}
"""
_BYTES = """
select sum(pg_total_relation_size(name::regclass))::bigint
from unnest(array['objects', 'events', 'journal']) as name
"""


async def kept_bytes(eyes: Eyes, clients: Clients) -> Kept:
    """How much the tables grow by many copies of the runs that were measured, whose ids are spread
    as random ones are. They stay, so that what comes after meets tables of some size."""
    await eyes.connection.execute(_OTHER)
    sizes = {}
    for model, copies in _COPIES.items():
        threads = clients.threads[model][:_COPIED]
        before = await _bytes(eyes)
        for statement, *more in ((_OBJECTS,), (_EVENTS, "life"), (_JOURNAL,)):
            await eyes.connection.execute(statement, threads, copies, *more)
        sizes[model] = (await _bytes(eyes) - before) / copies / len(threads)
    before = await _bytes(eyes)
    threads = clients.threads[PLAIN][:_COPIED]
    done = await eyes.connection.execute(_EVENTS, threads, _DELTA_COPIES, "delta")
    of_deltas = await _bytes(eyes) - before
    return Kept(
        run=sizes[PLAIN],
        function_run=sizes[FUNCTION],
        delta_row=of_deltas / int(done.rsplit(" ", 1)[1]),
    )


async def _bytes(eyes: Eyes) -> int:
    return int(await eyes.connection.fetchval(_BYTES))


# As fast as it goes.


async def rates(cluster: Cluster, frames_bytes: int) -> tuple[Rate, Rate, Rate]:
    """Commits that create a run; rows of deltas of so many bytes that are saved; and rows of them
    that are removed."""
    with schema(cluster.url) as url:
        database = await open_database(url, connections=_AT_ONCE)

        async def create() -> int:
            await database.commit(_creation(random_id("run"), "boot_bench"))
            return 1

        async def save(ticks: Iterator[list[Stretch]]) -> int:
            stretches = next(ticks)
            await database.commit([changes.save_deltas(stretches, created_at=time.time())])
            return len(stretches)

        async def prune() -> int:
            return await Store(database).prune_deltas(before=1e12, limit=limits.PRUNE_BATCH)

        try:
            commits = await _rate(cluster, [create] * _AT_ONCE)
            all_ticks = [
                await _ticks(database, f"boot_{number}", bytes(frames_bytes))
                for number in range(_SAVERS)
            ]
            deltas = await _rate(cluster, [partial(save, ticks) for ticks in all_ticks])
            execute(url, "delete from jobs", "vacuum analyze events")
            pruned = await _rate(cluster, [prune])
        finally:
            await database.close()
    return commits, deltas, pruned


async def _rate(cluster: Cluster, works: Sequence[Callable[[], Awaitable[int]]]) -> Rate:
    """All of them at once, again and again, each of which says how much it has done; 0 ends it."""
    count = 0
    before, started = _spent(cluster), time.monotonic()

    async def go_on(work: Callable[[], Awaitable[int]]) -> None:
        nonlocal count
        while time.monotonic() < started + _RATE_S and (done := await work()):
            count += done

    await asyncio.gather(*map(go_on, works))
    seconds = time.monotonic() - started
    postgres, client, wal = (
        last - first for last, first in zip(_spent(cluster), before, strict=True)
    )
    return Rate(
        per_s=count / seconds,
        postgres_cpu_s=postgres / count,
        client_cpu_s=client / count,
        wal_bytes=wal / count,
    )


def _spent(cluster: Cluster) -> tuple[float, float, float]:
    """CPU of PostgreSQL and of this process, and bytes of the log."""
    wal = fetch(cluster.url, "select (pg_current_wal_insert_lsn() - '0/0')::double precision")
    return cpu_s(cluster.pid), time.process_time(), float(wal[0][0])


def _creation(run_id: str, owner: str) -> list[Statement]:
    """As a door creates a run and leases it."""
    now, thread_id = time.time(), random_id("thread")

    def insert(kind: str, id: str, size: int) -> Statement:
        body = json.dumps({"id": id, "run_id": None, "text": "x" * size}).encode()
        return changes.insert_object(
            kind, id=id, project="bench", parent=thread_id, created_at=now, body=body
        )

    return [
        changes.insert_job(
            run_id,
            kind="run",
            project="bench",
            thread_id=thread_id,
            due_at=now,
            expires_at=now + 600,
            fence=1,
            lease_owner=owner,
            lease_until=now + 600,
        ),
        insert("message", random_id("message"), 400),
        insert("run", run_id, 1_000),
        changes.append_events(
            run_id, fence=1, seq_from=1, seq_to=3, kind="life", created_at=now, frames=bytes(1_000)
        ),
        changes.start_call(run_id, key="llm:1", attempt=1, fence=1, started_at=now),
    ]


async def _ticks(database: Database, owner: str, frames: bytes) -> Iterator[list[Stretch]]:
    """Deltas of runs that this owner has leased, tick after tick."""
    ids = [random_id("run") for _ in range(_RUNS)]
    for id in ids:
        await database.commit(_creation(id, owner))
    return ([Stretch(id, 1, at, at, frames, owner) for id in ids] for at in itertools.count(4))
