"""The record's clock: the server's, whatever the network, the server or this machine do."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fleet.clocks import skewed
from tests.fleet.clusters import schema
from tests.fleet.cut import Wire
from understudy import limits
from understudy.store.postgres import PostgresDatabase
from understudy.store.postgres_clock import ServerClock
from understudy.store.postgres_migrations import migrate

AHEAD_S = 1_800_000_000.0  # Of the monotonic clock, in the tests without a server.
WAYS = st.floats(0, 3)  # Seconds that a question or an answer takes.


@pytest.fixture
def wire() -> Iterator[Wire]:
    """What the database's connections go through."""
    with schema() as url, Wire(url) as made:
        yield made


class Looks:
    """A clock, and looks at a server whose own is so far ahead of the monotonic one."""

    def __init__(self, ahead_s: float = AHEAD_S) -> None:
        self.ahead_s = ahead_s
        self._clock = ServerClock()
        self._at = time.monotonic() - 10_000

    def look(self, there_s: float, back_s: float) -> None:
        """Five seconds later: a question and its answer take so long."""
        asked_at = self._at = self._at + limits.CLOCK_S
        told = asked_at + there_s + self.ahead_s
        self._clock.heard(asked_at, asked_at + there_s + back_s, told)

    @property
    def error_s(self) -> float:
        """How far off it is."""
        before, now, after = time.monotonic(), self._clock.now(), time.monotonic()
        return max(before + self.ahead_s - now, now - after - self.ahead_s, 0)


@given(ways=st.lists(st.tuples(WAYS, WAYS), min_size=1, max_size=8))
def test_it_is_never_off_by_more_than_its_best_look_allows(
    ways: list[tuple[float, float]],
) -> None:
    """So it never goes back by more than that either, however slow the looks are that follow."""
    looks = Looks()
    best_s = 3.0
    for there_s, back_s in ways:
        looks.look(there_s, back_s)
        best_s = min(best_s + limits.CLOCK_S * limits.CLOCK_DRIFT, (there_s + back_s) / 2)
        assert looks.error_s <= best_s + 0.01


@given(jump_s=st.sampled_from([-3600.0, -10.0, 10.0, 3600.0]), ways=st.tuples(WAYS, WAYS))
def test_it_follows_a_server_whose_clock_was_set(jump_s: float, ways: tuple[float, float]) -> None:
    """At the first look that contradicts what was known, however slow; a quick one mends it."""
    looks = Looks()
    looks.look(0.001, 0.001)
    looks.ahead_s += jump_s
    looks.look(*ways)
    assert looks.error_s <= sum(ways) / 2 + 0.001
    looks.look(0.001, 0.001)
    assert looks.error_s <= 0.002


def test_it_follows_a_clock_that_drifts_and_no_stray_answer() -> None:
    """By 100 millionths for an hour; an answer that takes a second to come back says nothing."""
    looks = Looks()
    for number in range(720):
        looks.ahead_s += limits.CLOCK_S * 1e-4
        looks.look(0.001, 1.0 if number % 10 == 9 else 0.001)
        assert looks.error_s <= 0.007


async def test_over_a_slow_network_it_is_right_within_its_way(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And better as soon as the network is; it does not go back by more than it was wrong."""
    monkeypatch.setattr(limits, "CLOCK_S", 0.02)
    await migrate(wire.url)
    wire.delay(0.2)
    database = PostgresDatabase(wire.url, connections=1)
    await database.open()
    assert abs(database.now() - time.time()) <= 0.2
    wire.delay(0)
    before = database.now()
    async with asyncio.timeout(10):
        while abs(database.now() - time.time()) > 0.01:
            assert database.now() >= before - 0.2
            await asyncio.sleep(0.01)
    await database.close()


async def test_it_goes_on_while_the_server_is_away(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And looks again when it is back."""
    monkeypatch.setattr(limits, "CLOCK_S", 0.02)
    database = PostgresDatabase(wire.url, connections=1)
    await database.open()
    wire.refuse()
    wire.cut()
    for _ in range(10):
        assert abs(database.now() - time.time()) < 0.05
        await asyncio.sleep(0.02)
    wire.accept()
    assert await database.fetch("ping", {}) == []
    await database.close()


ASKED = """
import asyncio, sys, time
from understudy.assembly import opened_app
from understudy.settings import Settings

async def main(url, data):
    async with opened_app(Settings(database_url=url, data=data, sandbox="off")) as app:
        print(app.world.now(), time.time())

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("by_s", [-300.0, 300.0])
def test_a_node_whose_own_clock_is_wrong_goes_by_the_records(by_s: float, tmp_path: Path) -> None:
    """Its world does, and with it every lease and every due time."""
    with schema() as url:
        told = subprocess.run(
            [sys.executable, "-c", ASKED, url, str(tmp_path)],
            env=os.environ | skewed(by_s),
            capture_output=True,
            text=True,
            check=True,
        )
    by_record, by_itself = map(float, told.stdout.split())
    assert abs(by_record - time.time()) < 5
    assert abs(by_itself - by_record - by_s) < 5
