"""kill -9 of a real server under load: nothing acknowledged is lost, every run ends once.

One cycle: twenty runs of mixed kinds begin, the server's process group is killed at a random
moment (sometimes twice), it starts again on the same data folder, the clients go on, and
everything that they were ever told is compared with what is there. `SOAK=1` makes it 200 kills.
"""

import asyncio
import logging
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from tests.crash.checks import check_calls, check_life, check_record, reading
from tests.crash.client import Client
from tests.crash.lives import MIX, Life, make_assistant
from tests.crash.processes import KEY, Process, Provider, running_provider, start_server

IS_SOAK = os.environ.get("SOAK") == "1"
KILLS = 200 if IS_SOAK else 10
MID_DELTA = 50 if IS_SOAK else 3
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**9))
_LIFE_S = 30.0

_log = logging.getLogger(__name__)


@dataclass
class Theatre:
    """The processes, the client, and the counts."""

    folder: Path
    provider: Provider
    client: Client
    rng: random.Random
    sdk: openai.OpenAI
    server: Process | None = None
    assistant_id: str = ""
    kills: int = 0
    mid_delta: int = 0
    runs: int = 0
    cuts: int = 0
    calls: set[str] = field(default_factory=set)

    @property
    def record(self) -> Path:
        """The SQLite file."""
        return self.folder / "data" / "understudy.db"

    async def start(self) -> None:
        """A server on the same folder, as a supervisor would start it."""
        self.server = await asyncio.to_thread(start_server, self.folder, self.provider.url)
        await self.client.use(self.server.url)

    async def kill(self, lives: list[Life]) -> None:
        """Kill the group now; while it is down, compare the provider's calls with the journal."""
        assert self.server is not None
        self.mid_delta += any(life.is_mid_delta for life in lives)
        self.client.expect_loss()
        await asyncio.to_thread(self.server.kill, writer=self.rng.random() < 0.5)
        self.kills += 1
        await self.client.lose()
        self.check_calls()

    def check_calls(self) -> None:
        """The server is down: its journal tells of everything that it asked."""
        calls = self.provider.calls()
        check_calls(calls, self.record)
        ids = {call["call_id"] for call in calls}
        assert not ids & self.calls, "a call was repeated under its old line"
        self.calls |= ids
        self.provider.forget()

    async def cycle(self) -> None:
        """Twenty lives and one kill, or two."""
        lives = [
            Life(self.client, self.assistant_id, random.Random(self.rng.random()), kind)
            for kind in MIX
        ]
        works = [asyncio.create_task(life.live(), name=repr(life)) for life in lives]
        try:
            await self._moment(lives)
            await self.kill(lives)
            await self.start()
            if self.rng.random() < 0.2:
                await self._moment(lives)
                await self.kill(lives)
                await self.start()
            _, late = await asyncio.wait(works, timeout=_LIFE_S)
            assert not late, await self._why(late)
            await asyncio.gather(*works)
            async with asyncio.timeout(_LIFE_S):
                await asyncio.gather(*(check_life(self.client, life, self.sdk) for life in lives))
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        self.runs += 2 * len(lives)
        self.cuts += sum(life.cuts for life in lives)

    async def _why(self, late: set[asyncio.Task[None]]) -> str:
        """What the lives that do not end wait for, and what the server knows of their runs."""
        lines = []
        for work in late:
            where = [f"{frame.f_code.co_name}:{frame.f_lineno}" for frame in work.get_stack()]
            lines.append(f"{work.get_name()} waits in {where}")
        with reading(self.record) as connection:
            lines += [str(row) for row in connection.execute("select * from jobs")]
        return "\n".join(lines)

    async def _moment(self, lives: list[Life]) -> None:
        """Any moment; every second time one in which text is on its way to some client."""
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.uniform(0.02, 0.8))
            return
        give_up_at = time.monotonic() + 2.0
        while (  # noqa: ASYNC110 (a moment in time is no event)
            not any(life.is_mid_delta for life in lives) and time.monotonic() < give_up_at
        ):
            await asyncio.sleep(0.005)
        await asyncio.sleep(self.rng.uniform(0, 0.15))

    async def close(self) -> None:
        """Let go of everything."""
        if self.server is not None:
            await asyncio.to_thread(self.server.kill)
        await self.client.lose()


@pytest.mark.timeout(3600 if IS_SOAK else 180)
async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with (
        running_provider(tmp_path) as provider,
        openai.OpenAI(base_url="http://replay", api_key=KEY) as sdk,
    ):
        theatre = Theatre(tmp_path, provider, Client(), random.Random(SEED), sdk)
        try:
            await _play(theatre)
        except Exception as error:
            error.add_note(f"again with CRASH_SEED={SEED}; this was kill {theatre.kills}")
            raise
        finally:
            await theatre.close()
    _log.info("%d streams cut, %d calls", theatre.cuts, len(theatre.calls))


async def _play(theatre: Theatre) -> None:
    await theatre.start()
    theatre.assistant_id = await make_assistant(theatre.client)
    while theatre.kills < KILLS or theatre.mid_delta < MID_DELTA:
        await theatre.cycle()
        _log.info("%d kills, %d of them amid deltas", theatre.kills, theatre.mid_delta)
    assert theatre.server is not None
    assert theatre.server.stop() == 0
    theatre.check_calls()
    fences = check_record(theatre.record)
    assert sum(fences.values()) == theatre.runs
    _log.info("%d runs, by the fence they ended in: %s", theatre.runs, dict(fences))
