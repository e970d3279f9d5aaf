"""Runs that are driven on one server and watched on another, through a bell that carries bytes."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.bell.servers import NatsServer
from tests.conformance import bells
from tests.crash.checks import check_places
from tests.crash.client import events_in
from tests.engine.stage import Clock, Hooked, Stage, eventually, opened_stage
from understudy.bell import Bell
from understudy.store import Unavailable
from understudy.store.store import Store

SLOW = {"steps": [{"text": "one two three four five six", "every_ms": 30}]}


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A NATS server of the test's own."""
    server = NatsServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def pair(server: NatsServer) -> AsyncIterator[tuple[Bell, Bell]]:
    """The bells of two servers."""
    async with bells.nats(lambda: server) as enter:
        first, second = await enter(), await enter()
        yield first, second
        await first.close()
        await second.close()


@pytest.fixture
async def stages(
    store: Store, clock: Clock, pair: tuple[Bell, Bell]
) -> AsyncIterator[tuple[Stage, Stage]]:
    """One that works, and one that only watches."""
    async with (
        opened_stage(store, clock, is_alone=False, bell=pair[0]) as worker,
        opened_stage(store, clock, is_alone=False, bell=pair[1], works=False) as watcher,
    ):
        yield worker, watcher


async def test_deltas_are_seen_elsewhere_before_the_record_has_them(
    stages: tuple[Stage, Stage], database: Hooked
) -> None:
    """No delta is saved before its message is whole: what the watcher sees came with the bell."""
    worker, watcher = stages

    async def no_deltas(names: list[str]) -> None:
        if names == ["save_deltas"]:
            raise Unavailable("The disk is busy.", retry_after_s=0.01)

    database.before = no_deltas
    run = await worker.start({"steps": [{"delay_ms": 300}, *SLOW["steps"]]})
    seen: list[bytes] = []
    tail = watcher.app.log.tail("default", run["id"], (0, 0), with_ids=True)
    async for chunk in tail.frames():
        seen.append(chunk)
        if b"three" in b"".join(seen):
            break
    rows = await worker.app.store.events(run["id"], (0, 0))
    assert [row.kind for row in rows if row.kind == "delta"] == []
    await worker.rested(run)


async def test_what_is_seen_elsewhere_is_what_is_seen_here(stages: tuple[Stage, Stage]) -> None:
    worker, watcher = stages
    runs = [await worker.start(SLOW) for _ in range(5)]
    here = asyncio.gather(*(worker.frames(run) for run in runs))
    there = asyncio.gather(*(watcher.frames(run) for run in runs))
    assert await here == await there


async def test_a_watcher_that_comes_late_misses_nothing(stages: tuple[Stage, Stage]) -> None:
    worker, watcher = stages
    run = await worker.start(SLOW)
    await asyncio.sleep(0.07)
    late = events_in(await watcher.frames(run))
    check_places([event.place for event in late])
    assert late == events_in(await worker.frames(run))


async def test_a_nats_that_dies_amid_a_stream_only_makes_it_later(
    stages: tuple[Stage, Stage], server: NatsServer
) -> None:
    worker, watcher = stages
    run = await worker.start({"steps": [{"text": "w " * 30, "every_ms": 20}]})
    watching = asyncio.ensure_future(watcher.frames(run))
    await eventually(lambda: watcher.app.log.live(run["id"]) is not None)
    server.kill()
    assert await watching == await worker.frames(run)


async def test_nothing_is_left_of_a_run_that_nobody_watches(stages: tuple[Stage, Stage]) -> None:
    worker, watcher = stages
    run = await worker.start(SLOW)
    await watcher.frames(run)
    assert watcher.app.log.live(run["id"]) is None
    assert watcher.app.log._mirrors._mirrors == {}
