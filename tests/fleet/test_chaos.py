"""Chaos: two API nodes and two workers that are killed, on a PostgreSQL that crashes.

Lives of mixed kinds go on all the time, each request to another node; each second one node is
killed -9 and started again, and the server of the record crashes twice. At the end everything that
clients were told is compared with what is there. SOAK=1 makes it a thousand runs.
"""

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.crash.checks import check_calls, check_life, check_record, rows
from tests.crash.client import Client
from tests.crash.lives import MIX, Life, make_assistant
from tests.crash.processes import KEY, Provider, running_provider
from tests.fleet.balance import Balance
from tests.fleet.clusters import Cluster, private
from tests.fleet.fleet import Fleet, Node, Shared, fleet
from tests.fleet.installations import any_installation

IS_SOAK = os.environ.get("SOAK") == "1"
RUNS = 1_000 if IS_SOAK else 40
AT_ONCE = 20
CRASHES = 2
PERIOD_S = 1.0  # Between two kills.
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**9))
_LIFE_S = 120.0
_AWAY = frozenset({502, 503})

_log = logging.getLogger(__name__)


@dataclass
class Theatre:
    """The processes, the client, and the counts."""

    cluster: Cluster
    record: str
    provider: Provider
    nodes: Fleet
    balance: Balance
    client: Client
    rng: random.Random
    sdk: openai.OpenAI
    assistant_id: str = ""
    begun: int = 0
    lives: list[Life] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    cut_short: int = 0  # Leases that a killed worker held: as many calls may be made twice.

    async def play(self) -> None:
        """Lives, and deaths, until enough runs are over."""
        self.assistant_id = await make_assistant(self.client)
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self._kill()), group.create_task(self._overhear())]
            await asyncio.gather(*(self._live() for _ in range(AT_ONCE)))
            for task in beside:
                task.cancel()

    async def _live(self) -> None:
        """One life after the other."""
        while self.begun < RUNS:
            kind = MIX[self.begun % len(MIX)]
            self.begun += 1
            life = Life(self.client, self.assistant_id, random.Random(self.rng.random()), kind)
            self.lives.append(life)
            try:
                async with asyncio.timeout(_LIFE_S):
                    await life.live()
            except TimeoutError:
                raise AssertionError(f"{life} does not end: {await self._why(life)}") from None

    async def _overhear(self) -> None:
        """Collect what the provider is asked, before it forgets."""
        while True:
            self.calls += await asyncio.to_thread(self.provider.fresh_calls)
            await asyncio.sleep(PERIOD_S)

    async def _kill(self) -> None:
        """Kill a node each second; the record's server at a third and at two thirds of the runs."""
        while True:
            await asyncio.sleep(PERIOD_S)
            if self.crashes < CRASHES and self.begun > RUNS * (self.crashes + 1) / (CRASHES + 1):
                self.crashes += 1
                await asyncio.to_thread(self._crash)
                continue
            node = self.rng.choice(list(self.nodes.nodes.values()))
            await asyncio.to_thread(self._restart, node)

    def _crash(self) -> None:
        self.cluster.crash()
        self.cluster.start()

    def _restart(self, node: Node) -> None:
        """Kill it, count what it leaves, and start it again, as a supervisor would."""
        self.kills[node.command] += 1
        node.kill()
        if node.command == "worker":
            held = f"select count(*) from jobs where lease_owner = '{node.id}'"
            self.cut_short += rows(self.record, held)[0][0]
        node.start()

    async def _why(self, life: Life) -> list[tuple[Any, ...]]:
        found = await asyncio.to_thread(
            rows, self.record, f"select * from jobs where id = '{life.run_id}'"
        )
        return [*found, *await asyncio.to_thread(rows, self.record, "select * from nodes")]

    async def check(self) -> None:
        """What every life was told."""
        await asyncio.to_thread(self.nodes.start)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(life: Life) -> None:
            async with places:
                await check_life(self.client, life, self.sdk)

        await asyncio.gather(*(one(life) for life in self.lives))
        self.calls += self.provider.fresh_calls()
        check_calls(self.calls, self.record)
        [(repeated,)] = rows(self.record, "select count(*) from journal where attempt > 1")
        assert repeated <= self.cut_short, (repeated, self.cut_short)
        fences = check_record(self.record)
        assert sum(fences.values()) == 2 * len(self.lives)
        _log.info(
            "%d runs, kills %s, crashes %d, %d streams cut, %d requests repeated, %d calls, "
            "%d made again of %d cut short; runs by the fence they ended in: %s",
            len(self.lives),
            dict(self.kills),
            self.crashes,
            sum(life.cuts for life in self.lives),
            self.client.repeats,
            len(self.calls),
            repeated,
            self.cut_short,
            dict(fences),
        )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that may crash."""
    with private(any_installation()) as cluster:
        yield cluster


@pytest.mark.timeout(3600 if IS_SOAK else 300)
async def test_nothing_acknowledged_is_lost_in_chaos(tmp_path: Path, cluster: Cluster) -> None:
    with (
        running_provider(tmp_path) as provider,
        openai.OpenAI(base_url="http://replay", api_key=KEY) as sdk,
        fleet(
            tmp_path,
            Shared(provider.url, database_url=cluster.url, blobs_url=f"file://{tmp_path}/blobs"),
            api=2,
            worker=2,
        ) as nodes,
        Balance(nodes.urls) as balance,
    ):
        client = Client(patience_s=_LIFE_S, away=_AWAY)
        theatre = Theatre(
            cluster,
            cluster.url,
            provider,
            nodes,
            balance,
            client,
            random.Random(SEED),
            sdk,
        )
        await client.use(balance.url)
        started = time.monotonic()
        try:
            await theatre.play()
            await theatre.check()
        except BaseException as error:
            error.add_note(f"again with CRASH_SEED={SEED}; kills {dict(theatre.kills)}")
            raise
        finally:
            await client.lose()
        _log.info("%.0f s", time.monotonic() - started)
