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
from understudy import limits

IS_SOAK = os.environ.get("SOAK") == "1"
RUNS = 1_000 if IS_SOAK else 120
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
    cut_short: Counter[str] = field(default_factory=Counter)  # Runs whose worker was killed.

    async def play_and_check(self) -> None:
        """All of it."""
        async with asyncio.TaskGroup() as group:
            overhearing = group.create_task(self._overhear())
            await self.play()
            await self.check()
            overhearing.cancel()
        self.calls += self.provider.fresh_calls()
        self.check_record()

    async def play(self) -> None:
        """Lives, and deaths, until enough runs are over."""
        self.assistant_id = await make_assistant(self.client)
        async with asyncio.TaskGroup() as group:
            killing = group.create_task(self._kill(group))
            await asyncio.gather(*(self._live() for _ in range(AT_ONCE)))
            killing.cancel()

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

    async def _kill(self, group: asyncio.TaskGroup) -> None:
        """Kill one of the nodes that are up each second, however long others take to come back; the
        record's server instead at a third and at two thirds of the runs, and with all of them up,
        as none starts without it."""
        up = list(self.nodes.nodes.values())
        returning = set[asyncio.Task[None]]()
        while True:
            await asyncio.sleep(PERIOD_S)
            if self.crashes < CRASHES and self.begun > RUNS * (self.crashes + 1) / (CRASHES + 1):
                await asyncio.gather(*returning)
                self.crashes += 1
                await asyncio.to_thread(self._crash)
            elif up:
                node = up.pop(self.rng.randrange(len(up)))
                task = group.create_task(self._restart(node, up))
                returning.add(task)
                task.add_done_callback(returning.discard)

    def _crash(self) -> None:
        self.cluster.crash()
        self.cluster.start()

    async def _restart(self, node: Node, up: list[Node]) -> None:
        """Kill it, count what it leaves, and start it again, as a supervisor would."""
        self.kills[node.command] += 1
        await asyncio.to_thread(node.kill)
        if node.command == "worker":
            held = f"select id from jobs where lease_owner = '{node.id}'"
            self.cut_short.update(id for (id,) in await asyncio.to_thread(rows, self.record, held))
        await asyncio.to_thread(node.start)
        up.append(node)

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
                life.deaths = self.cut_short[life.run_id]
                await check_life(self.client, life, self.sdk)

        await asyncio.gather(*(one(life) for life in self.lives))

    def check_record(self) -> None:
        """What the record says of the calls that were made, and of itself."""
        check_calls(self.calls, self.record)
        [(repeated,)] = rows(self.record, "select count(*) from journal where attempt > 1")
        cut_short = self.cut_short.total()  # Of each of these one call may be made again.
        assert repeated <= cut_short, (repeated, cut_short)
        fences = check_record(self.record)
        assert sum(fences.values()) == 2 * len(self.lives)
        _log.info(
            "%d runs, kills %s, crashes %d, %d streams cut, %d requests repeated, %d calls, "
            "%d made again of %d cut short, %d runs cut short too often; "
            "runs by the fence they ended in: %s",
            len(self.lives),
            dict(self.kills),
            self.crashes,
            sum(life.cuts for life in self.lives),
            self.client.repeats,
            len(self.calls),
            repeated,
            cut_short,
            sum(deaths > limits.RECLAIMS for deaths in self.cut_short.values()),
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
            await theatre.play_and_check()
        except BaseException as error:
            error.add_note(f"again with CRASH_SEED={SEED}; kills {dict(theatre.kills)}")
            raise
        finally:
            await client.lose()
        _log.info("%.0f s", time.monotonic() - started)
