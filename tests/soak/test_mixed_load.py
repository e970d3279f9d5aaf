"""The soak of mixed load: a dozen clients do everything at once, for half an hour with `SOAK=1`.

Runs, streams, cancels, functions, uploads, searches, disconnects and mistakes, at a bounded rate;
what is made is deleted again, and every answer is checked. The server may not grow: the median of
its memory in the last sixth of the time (minutes 25-30) is less than 5 % above that of the second
sixth (minutes 5-10), and once the load has gone it holds what it held after the warm-up.
`SOAK_MINUTES=10` sets another length; below three minutes memory says nothing and is not judged.
"""

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.crash.checks import reading
from tests.crash.processes import running_provider
from tests.soak import habits, mistakes, runs, shelves, stops
from tests.soak.client import Client, opened_client
from tests.soak.meter import GROWTH, Meter, descriptors
from tests.soak.server import STOP_S, Server, running_server

IS_SOAK = os.environ.get("SOAK") == "1"
MINUTES = float(os.environ.get("SOAK_MINUTES") or (30 if IS_SOAK else 0.15))
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(10**9))
CLIENTS = 12
PACE_S = 1.5  # A client begins a scenario at most so often: two cores are busy, not saturated.
JUDGED_MINUTES = 3
KEEP_ALIVE_SEEN_S = 17.0  # A silent stream has had a comment by then (KEEP_ALIVE_S).
_SCENARIO_S = 60.0
_SETTLED_S = 60.0
# Threads of pools that fill one by one: the loop's executor has cpus + 4, at most 32, and SQLite's
# lanes and the file store's own are there from the start.
_POOL_THREADS = min(32, (os.cpu_count() or 1) + 4)

Scenario = Callable[[Client], Awaitable[None]]

_log = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(logging.WARNING)  # Of the SDK: each request is a line.


def scenarios() -> list[Scenario]:
    """Everything that a client does; what is most common in life comes twice."""
    common: list[Scenario] = [*runs.ALL, stops.cancelled, stops.left]
    return [*common, *runs.ALL, *stops.ALL, *shelves.ALL, *mistakes.ALL, *habits.ALL]


@dataclass
class Soak:
    """The load on one server, and what it has done."""

    server: Server
    provider_port: int
    rng: random.Random
    answers: Counter[str] = field(default_factory=Counter)
    played: Counter[str] = field(default_factory=Counter)

    async def load(self, decks: Sequence[list[Scenario]], seconds: float | None) -> None:
        """A client for each deck: it is played again and again until the time is over, or once."""
        until = None if seconds is None else time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for deck in decks:
                group.create_task(self._live(list(deck), until))

    async def _live(self, deck: list[Scenario], until: float | None) -> None:
        rng = random.Random(self.rng.random())
        silence_s = 1.0 if until is None or not IS_SOAK else KEEP_ALIVE_SEEN_S
        async with opened_client(self.server.url, rng, silence_s) as client:
            client.counts = self.answers
            if until is not None:
                await asyncio.sleep(rng.uniform(0, PACE_S))
            while True:
                rng.shuffle(deck)
                for scenario in deck:
                    if until is not None and time.monotonic() >= until:
                        return
                    await self._play(scenario, client)
                if until is None:
                    return

    async def _play(self, play: Scenario, client: Client) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(_SCENARIO_S):
                await play(client)
        except Exception as error:
            error.add_note(f"in {play.__name__}; again with SOAK_SEED={SEED}")
            raise
        self.played[play.__name__] += 1
        pause_s = PACE_S * client.rng.uniform(0.8, 1.2) - (time.monotonic() - started)
        await asyncio.sleep(max(0.0, pause_s))

    async def settled(self, known: Counter[str] | None = None) -> "Held":
        """What the server holds when nothing is left to do; given what is `known`, this is waited
        for: a socket's end is seen a moment late."""
        give_up_at = time.monotonic() + _SETTLED_S
        # What another process does is no event.
        while self._jobs() and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        assert self._jobs() == [], "there is work left, and nobody who wants it"
        while True:
            await asyncio.sleep(0.5)
            found = descriptors(self.server.pid, self.provider_port)
            if known is not None and found - known and time.monotonic() < give_up_at:
                continue
            holdings = await asyncio.to_thread(self.server.holdings)
            return Held(found, Meter(self.server.pid).look().threads, holdings)

    def _jobs(self) -> list[Any]:
        with closing(reading(self.server.record)) as record:
            return list(record.execute("select id, kind, due_at from jobs"))

    def objects(self) -> dict[str, int]:
        """What is in the record, by kind."""
        with closing(reading(self.server.record)) as record:
            rows = record.execute("select kind, count(*) from objects group by kind")
            return {str(kind): int(str(count)) for kind, count in rows}


@dataclass(frozen=True)
class Held:
    """What the server holds between two loads."""

    descriptors: Counter[str]
    threads: int
    holdings: dict[str, Any]

    @property
    def tasks(self) -> Counter[str]:
        """Its tasks by what they do; the default names of asyncio are numbers."""
        return Counter(self.holdings["tasks"])

    def check_against(self, before: "Held") -> None:
        """Nothing more than before, apart from threads of pools that were not full yet."""
        assert self.descriptors - before.descriptors == Counter(), "descriptors leaked"
        assert len(self.holdings["tasks"]) <= len(before.holdings["tasks"]), self.tasks
        assert self.threads <= before.threads + _POOL_THREADS


@pytest.mark.timeout(60 * MINUTES + 400)
async def test_mixed_load_leaves_the_server_as_it_was(tmp_path: Path) -> None:
    with (
        running_provider(tmp_path) as provider,
        running_server(tmp_path, provider.url) as server,
    ):
        port = urlsplit(provider.url).port
        assert port is not None
        soak = Soak(server, port, random.Random(SEED))
        try:
            await _soak(soak)
        finally:
            _log.info("%s\n%s", dict(soak.answers), dict(soak.played))


async def _soak(soak: Soak) -> None:
    server = soak.server
    everything = scenarios()
    await soak.load([everything[number::CLIENTS] for number in range(CLIENTS)], None)
    before = await soak.settled()
    meter = Meter(server.pid)
    watching = asyncio.create_task(meter.watch())
    try:
        await soak.load([everything] * CLIENTS, 60 * MINUTES)
    finally:
        watching.cancel()
        _log.info("memory in MiB\n%s", meter.series())
    after = await soak.settled(before.descriptors)
    _note(before, after)
    after.check_against(before)
    # An upload is the one thing that clients cannot delete.
    assert soak.objects().keys() <= {"upload"}, f"deleted and still there: {soak.objects()}"
    await _check_health(server.url)
    code, taken_s, left = await asyncio.to_thread(server.stop)
    assert (code, left) == (0, [])
    assert taken_s < STOP_S
    assert server.complaints() == []
    assert [status for status in soak.answers if status.startswith("5")] == []
    if MINUTES >= JUDGED_MINUTES:
        growth = meter.growth(MINUTES)
        _log.info("growth: %s", {name: f"{value:+.1%}" for name, value in growth.items()})
        assert max(growth.values()) < GROWTH, f"memory grows: {growth}\n{meter.series()}"


async def _check_health(url: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url.removesuffix('/v1')}/health") as answer,
    ):
        assert (answer.status, (await answer.json())["status"]) == (200, "ready")


def _note(before: Held, after: Held) -> None:
    """What may tell the cause of a growth."""
    for name, held in (("before", before), ("after", after)):
        _log.info(
            "%s: %s, %d threads, %d tasks, %d blocks of memory",
            *(name, dict(held.descriptors), held.threads, len(held.holdings["tasks"])),
            held.holdings["blocks"],
        )
    types = Counter(dict(after.holdings["types"]))
    types.subtract(dict(before.holdings["types"]))
    _log.info("more objects by type: %s", types.most_common(15))
    known = before.holdings.get("places", {})
    grown = {
        place: kib - known.get(place, 0) for place, kib in after.holdings.get("places", {}).items()
    }
    for place, kib in sorted(grown.items(), key=lambda one: -one[1])[:20]:
        _log.info("%+d KiB from %s", kib, place)
