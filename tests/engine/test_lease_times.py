"""Leases and a store that takes its time: none ends while its run goes on."""

import asyncio

import pytest

from tests.engine.leases import SILENCE, claim_no_more, has_spoken, silent_run
from tests.engine.stage import Clock, Hooked, eventually, opened_stage
from understudy import limits
from understudy.bell.local import LocalBell
from understudy.store import Unavailable
from understudy.store.store import Store


async def test_a_run_that_is_new_after_the_store_was_away_is_not_given_up(
    store: Store, database: Hooked, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the store is away once more, and then takes its time over heartbeats."""
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(limits, "POLL_LEAST_S", 0.01)
    away, answered = 0, 0

    async def fail(names: list[str]) -> None:
        nonlocal away
        if names == ["renew_leases"]:
            away += 1
            raise Unavailable("It is away.")

    async def hesitate(names: list[str]) -> None:
        nonlocal answered
        if names == ["renew_leases"]:
            await asyncio.sleep(0.1)
            answered += 1

    async with opened_stage(store, clock) as stage:
        old = await silent_run(stage)
        claim_no_more(stage)
        lease = stage.held[old["id"]]
        database.before = fail
        clock.at += limits.LEASE_S
        await lease.done.wait()
        assert lease.reason == "lost"
        new = await silent_run(stage)
        lease = stage.held[new["id"]]
        once_more = away + 2
        await eventually(lambda: away >= once_more)
        database.before = hesitate
        await eventually(lambda: answered >= 2)
        assert lease.reason is None


@pytest.mark.parametrize("takes_it", ["insert_job", "claim"])
async def test_a_lease_that_comes_late_is_prolonged_at_once(
    store: Store, database: Hooked, clock: Clock, takes_it: str
) -> None:
    """The store took so long over a door's commit, or a claim, that a heartbeat is too late."""

    is_made = asyncio.Event()

    async def wait(names: list[str]) -> None:
        if takes_it == "claim" and any(name.startswith("claim") for name in names):
            await is_made.wait()

    async def pass_time(names: list[str]) -> None:
        if any(name.startswith(takes_it) for name in names):
            database.after = pass_no_time
            clock.at += limits.LEASE_S - limits.LEASE_MARGIN_S

    async def pass_no_time(names: list[str]) -> None:
        """Another commit is quick."""

    bell = LocalBell()
    async with (
        opened_stage(store, clock, bell=bell, works=False, runs_at_once=0) as door,
        opened_stage(store, clock, bell=bell, is_alone=False) as stage,
    ):
        database.before, database.after = wait, pass_time
        run = await (stage if takes_it == "insert_job" else door).start(SILENCE)
        is_made.set()
        await has_spoken(stage, run)
        job = await store.job(run["id"])
        assert job is not None and job.fence == 1
        assert job.lease_until == clock.now() + limits.LEASE_S
