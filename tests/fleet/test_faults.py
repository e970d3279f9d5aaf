"""Faults of several nodes, each with real processes: what users are promised holds all the same."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.crash.checks import check_order, check_places, rows
from tests.crash.client import Client, Event
from tests.crash.processes import Provider, running_provider
from tests.fleet.balance import Balance
from tests.fleet.clusters import schema
from tests.fleet.cut import Wire
from tests.fleet.fleet import Fleet, Shared, fleet
from understudy import limits

_AWAY = frozenset({502, 503})
_PATIENCE_S = 60.0
Json = dict[str, Any]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """The model provider of all tests here."""
    with running_provider(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture
def record() -> Iterator[str]:
    """A schema of the test's own."""
    with schema() as url:
        yield url


class World:
    """Some nodes behind a balancer, and a client that asks again."""

    def __init__(self, record: str, nodes: Fleet, balance: Balance, client: Client) -> None:
        self.record = record
        self.nodes = nodes
        self.balance = balance
        self.client = client

    async def start(self, script: Json, **more: Any) -> tuple[str, str]:
        """A run whose model plays this script; the path of its thread, and its own."""
        function = {"name": "look_up", "parameters": {"type": "object"}}
        tools = [{"type": "function", "function": function}]
        assistant = await self.client.post("/assistants", {"model": "m", "tools": tools})
        thread = (await self.client.post("/threads", {}))["id"]
        said = {"role": "user", "content": f"Please rehearse:{json.dumps(script)}"}
        await self.client.post(f"/threads/{thread}/messages", said)
        body = {"assistant_id": assistant["id"], **more}
        run = await self.client.post(f"/threads/{thread}/runs", body)
        return f"/threads/{thread}", f"/threads/{thread}/runs/{run['id']}"

    async def until(self, run: str, *statuses: str) -> Json:
        """The run when it has one of these statuses."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up_at:
            found: Json = await self.client.get(run)
            if found["status"] in statuses:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{found['status']} is none of {statuses}\n{self.nodes.log_ends()}")

    async def events(self, run: str) -> list[Event]:
        """All events of a run that is over, in their order."""
        found = [event async for event in self.client.stream("GET", f"{run}/events", None, None)]
        check_places([event.place for event in found])
        check_order(found)
        return found

    def holder(self, run: str) -> str:
        """The name of the node that has the run's lease."""
        id = run.rpartition("/")[2]
        [(owner,)] = rows(self.record, f"select lease_owner from jobs where id = '{id}'")
        [name] = [node.name for node in self.nodes.nodes.values() if node.id == owner]
        return name

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the record says."""
        return rows(self.record, sql)


@asynccontextmanager
async def world(
    folder: Path,
    record: str,
    provider: Provider,
    *,
    api: int = 2,
    worker: int = 2,
    settings: Mapping[str, str] | None = None,
    **more: Any,
) -> AsyncIterator[World]:
    """So many nodes."""
    shared = Shared(
        provider.url,
        record,
        f"file://{folder}/blobs",
        {"UNDERSTUDY_DATABASE_CONNECTIONS": "4", **(settings or {})},
    )
    with (
        fleet(folder, shared, api=api, worker=worker, **more) as nodes,
        Balance(nodes.urls) as balance,
    ):
        client = Client(patience_s=_PATIENCE_S, away=_AWAY)
        await client.use(balance.url)
        try:
            yield World(record, nodes, balance, client)
        except BaseException as error:
            error.add_note(nodes.log_ends())
            raise
        finally:
            await client.lose()


SLOW = {"steps": [{"words": 60, "every_ms": 50}]}
QUICK = {"steps": [{"text": "Done."}]}


async def test_a_frozen_worker_writes_nothing_when_it_wakes(
    tmp_path: Path, record: str, provider: Provider
) -> None:
    """SIGSTOP for two leases, then SIGCONT: the run is somebody else's by then, and stays so."""
    async with world(tmp_path, record, provider) as here:
        _, run = await here.start(SLOW)
        await here.until(run, "in_progress")
        zombie = here.holder(run)
        here.nodes[zombie].pause()
        done = await here.until(run, "completed")
        await asyncio.sleep(2 * limits.LEASE_S - 20)
        before = here.rows("select * from events order by run_id, fence, seq_from")
        here.nodes[zombie].resume()
        await asyncio.sleep(limits.HEARTBEAT_S + 1)
        assert here.rows("select * from events order by run_id, fence, seq_from") == before
        assert await here.client.get(run) == done
        events = await here.events(run)
        assert {event.place[0] for event in events} == {0, 1, 2}
        lines = here.rows("select attempt, fence, outcome from journal order by attempt")
        assert lines == [(1, 1, None), (2, 2, "done")]
        # It is a worker like any other again.
        here.nodes[{"worker-0": "worker-1", "worker-1": "worker-0"}[zombie]].kill()
        _, again = await here.start(QUICK)
        await here.until(again, "completed")


async def test_without_any_ring_everything_is_a_poll_later(
    tmp_path: Path, record: str, provider: Provider
) -> None:
    """No NOTIFY arrives anywhere: each node's way to PostgreSQL loses what rings."""
    with Wire(record) as wire:
        wire.lose_notifications()
        async with world(tmp_path, wire.url, provider) as here:
            started = time.monotonic()
            _, run = await here.start({"turns": [[_CALL], [{"text": "Done."}]]})
            waits = await here.until(run, "requires_action")
            await here.client.post(f"{run}/submit_tool_outputs", _outputs(waits))
            await here.until(run, "completed")
            await here.events(run)
            _, run = await here.start(
                {"steps": [{"text": "One", "every_ms": 0}, {"silence": True}]}
            )
            await here.until(run, "in_progress")
            await here.client.post(f"{run}/cancel", {})
            await here.until(run, "cancelled")
            assert time.monotonic() - started < 30
        assert wire.lost > 0


_CALL = {"call": {"name": "look_up", "arguments": {"number": 1}}}


def _outputs(run: Json) -> Json:
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    return {"tool_outputs": [{"tool_call_id": call["id"], "output": "found"} for call in calls]}


async def test_clocks_that_are_minutes_off_change_nothing(
    tmp_path: Path, record: str, provider: Provider
) -> None:
    """Leases, expiry and order go by the clock of the record, whatever a node's own says."""
    skews = {"api-0": 300, "api-1": -300, "worker-0": 240, "worker-1": -240}
    async with world(tmp_path, record, provider, clock_skew_s=skews) as here:
        thread, run = await here.start(SLOW)
        await here.until(run, "completed")
        assert here.rows("select max(fence), count(*) from journal") == [(1, 1)]
        for number in range(6):
            said = {"role": "user", "content": f"number {number}"}
            await here.client.post(f"{thread}/messages", said)
        listed = (await here.client.get(f"{thread}/messages?order=asc&limit=100"))["data"]
        times = [message["created_at"] for message in listed]
        assert times == sorted(times)
        assert abs(times[-1] - time.time()) < 60
        assert [m["content"][0]["text"]["value"] for m in listed[-6:]] == [
            f"number {number}" for number in range(6)
        ]


async def test_a_run_expires_on_time_by_the_records_clock(
    tmp_path: Path, record: str, provider: Provider
) -> None:
    skews = {"api-0": 3_600, "worker-0": -3_600}
    settings = {"UNDERSTUDY_RUN_TTL_S": "3"}
    async with world(
        tmp_path, record, provider, api=1, worker=1, settings=settings, clock_skew_s=skews
    ) as here:
        started = time.monotonic()
        _, run = await here.start({"steps": [_CALL]})
        await here.until(run, "requires_action")
        await here.until(run, "expired")
        assert 1.5 < time.monotonic() - started < 15


async def test_outputs_a_cancel_and_the_expiry_race_and_one_wins(
    tmp_path: Path, record: str, provider: Provider
) -> None:
    """All three at the moment of the expiry, on different nodes: the run ends once, and who was
    told that it had won has won."""
    settings = {"UNDERSTUDY_RUN_TTL_S": "4"}
    async with world(tmp_path, record, provider, settings=settings) as here:
        runs = [await here.start({"turns": [[_CALL], [{"text": "Done."}]]}) for _ in range(12)]
        paths = [run for _, run in runs]
        waiting = [await here.until(run, "requires_action") for run in paths]
        left_s = waiting[0]["expires_at"] - time.time()

        async def race(run: str, found: Json, number: int) -> None:
            await asyncio.sleep(max(0.0, left_s - 0.3 + 0.05 * number))
            results = await asyncio.gather(
                here.client.post(f"{run}/submit_tool_outputs", _outputs(found)),
                here.client.post(f"{run}/cancel", {}),
                return_exceptions=True,
            )
            has_submitted, has_cancelled = [not isinstance(one, BaseException) for one in results]
            end = await here.until(run, "completed", "cancelled", "expired")
            if has_cancelled:
                assert end["status"] in ("cancelled", "expired"), (results, end)
            elif has_submitted:
                assert end["status"] in ("completed", "expired"), (results, end)
            await here.events(run)

        await asyncio.gather(
            *(
                race(run, found, n)
                for n, (run, found) in enumerate(zip(paths, waiting, strict=True))
            )
        )
        assert here.rows("select id from jobs where kind = 'run'") == []


async def test_a_drained_worker_hands_its_runs_over_at_once(
    tmp_path: Path, record: str, provider: Provider
) -> None:
    """A rolling restart: no run waits for a lease to run out, and no takeover counts as a death."""
    async with world(tmp_path, record, provider) as here:
        _, run = await here.start({"steps": [{"words": 300, "every_ms": 60}]})
        await here.until(run, "in_progress")
        first = here.holder(run)
        started = time.monotonic()
        code = await asyncio.to_thread(here.nodes[first].stop)
        assert (code, time.monotonic() - started < 10) == (0, True)
        [other] = {"worker-0", "worker-1"} - {first}
        give_up_at = time.monotonic() + 5
        while time.monotonic() < give_up_at:
            [(owner, reclaims)] = here.rows(
                "select lease_owner, reclaims from jobs where kind = 'run'"
            )
            if owner == here.nodes[other].id:
                break
            await asyncio.sleep(0.1)
        assert (here.holder(run), reclaims) == (other, 0)
        await here.client.post(f"{run}/cancel", {})
        await here.until(run, "cancelled")
        [(left,)] = here.rows("select count(*) from nodes where role = 'worker'")
        assert left == 1
        health = httpx2.get(here.nodes["api-0"].url.replace("/v1", "/health")).json()
        assert health["seams"]["nodes"]["detail"].startswith("2 api, 1 worker; ")


async def test_a_worker_that_loses_its_way_to_the_record_stops_before_others_start(
    tmp_path: Path, record: str, provider: Provider
) -> None:
    """A partition: the worker's provider call ends before its lease does."""
    with Wire(record) as wire:
        own = {"worker-0": {"UNDERSTUDY_DATABASE_URL": wire.url}}
        async with world(tmp_path, record, provider, worker=1, own=own) as here:
            provider.forget()
            _, run = await here.start({"steps": [{"text": "One"}, {"silence": True}]})
            await here.until(run, "in_progress")
            wire.hold()
            await _eventually(lambda: provider.calls()[0]["left_early"], limits.LEASE_S + 5)
            [(late_s,)] = here.rows(
                "select extract(epoch from clock_timestamp()) - lease_until from jobs "
                "where kind = 'run'"
            )
            assert late_s < 0, "the call went on after the lease"
            wire.release()
            await here.client.post(f"{run}/cancel", {})
            await here.until(run, "cancelled")


async def _eventually(holds: Callable[[], bool], patience_s: float) -> None:
    give_up_at = time.monotonic() + patience_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.1)
