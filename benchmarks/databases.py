"""Databases: gets, pages and creates in a file of 10 MB and in one of 5 GB, ids at random.

Most of the file is the weight of large messages; what is read are the small ones between them. The
bare script beside it runs the same statements on the same file.
"""

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import apsw

from benchmarks.curve import Curve, Point
from benchmarks.figures import Figure, judged
from benchmarks.fill import FILE, Filled, filling
from benchmarks.jobs import Ask
from benchmarks.plan import Plan
from benchmarks.sampling import FLAT, asked, data_folder, flat, point, sampled
from benchmarks.stage import Stage, fresh_server
from understudy.api.auth import DEFAULT_PROJECT
from understudy.store.statements import load_queries

_SMALL, _LARGE = 20, 4  # Messages of a thread; the small ones are the newest.
_SMALL_TEXT = "What is the weather in Oslo today, and will it last until the weekend? " * 3
_LARGE_TEXT = "word " * 13_000
_THREAD_BYTES = _LARGE * (len(_LARGE_TEXT) + 700) + _SMALL * 1_100
_MESSAGE = '{"role": "user", "content": "What is the weather in Oslo today?"}'
_ROOM = 1.2  # Times the size: logs, and what the creates add.
_FOREVER = 1e18


def measure(stage: Stage, plan: Plan) -> Iterator[Figure]:
    """All sizes at once, each with a server of its own, sampled in turn."""
    _require_room(sum(plan.database_mb))
    chance = random.Random(7)
    with ExitStack() as stack:
        folders, threads, ports = {}, {}, {}
        for size_mb in plan.database_mb:
            data = folders[size_mb] = stack.enter_context(data_folder(stage))
            threads[size_mb] = _fill(data, size_mb)
            fresh = stack.enter_context(fresh_server(stage, data))
            ports[size_mb] = fresh.server.port
            _warm(data)
        reads, writes = plan.database_reads, plan.database_writes
        some = {mb: chance.choices(threads[mb], k=asked(reads)) for mb in threads}
        gets = {mb: [_get(one, chance) for one in some[mb]] for mb in some}
        pages = {mb: [_page(one) for one in some[mb]] for mb in some}
        creates = {mb: [_create(one) for one in some[mb][: asked(writes)]] for mb in some}
        bare = [_bare(folders[mb], some[mb][:reads], mb, chance) for mb in some]
        yield from _flat("get of a message", sampled(stage, gets, ports), [one[0] for one in bare])
        yield from _flat(
            f"list of {_SMALL} messages", sampled(stage, pages, ports), [one[1] for one in bare]
        )
        yield flat(
            Curve("create of a message", "MB of database", "ms", sampled(stage, creates, ports))
        )


def _flat(name: str, points: list[Point], bare: list[Point]) -> Iterator[Figure]:
    """Neither the middle nor the last hundredth of the samples may grow."""
    curve = Curve(name, "MB of database", "ms", points)
    shown = " / ".join(f"{one.p50:.2g}" for one in bare)
    figure = replace(flat(curve), baseline=f"bare SQLite {shown} ms")
    yield figure
    slow = replace(
        figure,
        name=f"{figure.name}, p99",
        ours=f"{' / '.join(f'{one.p99:.3g}' for one in points)} ms",
        baseline=f"bare SQLite {' / '.join(f'{one.p99:.2g}' for one in bare)} ms",
        result=f"{curve.growth_p99:.2f} times",
        curve=None,
    )
    yield judged(slow, curve.growth_p99, at_most=FLAT, unit=" times")


def _fill(data: Path, size_mb: int) -> list[Filled]:
    """Threads of small and large messages, and as many assistants."""
    threads = []
    with filling(data) as filler:
        for _ in range(max(1, size_mb * 1_000_000 // _THREAD_BYTES)):
            filled = filler.thread([_LARGE_TEXT] * _LARGE + [_SMALL_TEXT] * _SMALL)
            threads.append(replace(filled, message_ids=filled.message_ids[_LARGE:]))
            filler.assistant()
    return threads


def _get(thread: Filled, chance: random.Random) -> Ask:
    return Ask("GET", f"/v1/threads/{thread.thread_id}/messages/{_any(thread, chance)}")


def _page(thread: Filled) -> Ask:
    return Ask("GET", f"/v1/threads/{thread.thread_id}/messages?limit={_SMALL}")


def _create(thread: Filled) -> Ask:
    return Ask("POST", f"/v1/threads/{thread.thread_id}/messages", _MESSAGE)


def _any(thread: Filled, chance: random.Random) -> str:
    return chance.choice(thread.message_ids)


def _bare(
    data: Path, threads: Sequence[Filled], size_mb: int, chance: random.Random
) -> tuple[Point, Point]:
    """The same get and the same page without a server."""
    queries = load_queries("sqlite")
    common = {"kind": "message", "project": DEFAULT_PROJECT}
    bounds = {"low_at": 0, "low_seq": 0, "high_at": _FOREVER, "high_seq": 0, "limit": _SMALL + 1}
    connection = apsw.Connection(str(data / FILE), flags=apsw.SQLITE_OPEN_READONLY)

    def timed(query: str, args: dict[str, object]) -> float:
        started = perf_counter()
        connection.execute(queries[query], args).fetchall()
        return 1000 * (perf_counter() - started)

    try:
        gets = [timed("get", {**common, "id": _any(one, chance)}) for one in threads]
        pages = [
            timed("list_desc", {**common, **bounds, "parent": one.thread_id}) for one in threads
        ]
    finally:
        connection.close()
    return point(size_mb, gets), point(size_mb, pages)


def _warm(data: Path) -> None:
    """What was just written is in memory, unless the machine had no room for it."""
    with (data / FILE).open("rb") as file:
        while file.read(1 << 20):
            pass


def _require_room(size_mb: int) -> None:
    free = shutil.disk_usage("/tmp").free / 1e6
    assert free > size_mb * _ROOM, f"{size_mb} MB of databases, and only {free:.0f} MB free"
