"""A queued run whose first call is journalled with its claim: no commit comes before the call."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from structlog.testing import capture_logs

from tests.engine.stage import Clock, Hooked, Json, eventually, opened_stage, opened_store
from understudy import limits
from understudy.bell.local import LocalBell
from understudy.store import Database, Ring, Row, Statement, Told, changes
from understudy.store.store import Store

WORDS: Json = {"steps": [{"text": "one two three"}]}


async def test_the_call_goes_out_while_the_run_is_marked_as_begun(
    store: Store, database: Hooked
) -> None:
    """The commit that puts the run in progress is held back: the model is asked meanwhile, but
    nothing that it says is shown."""
    may_go_on = asyncio.Event()

    async def hold_back(names: list[str]) -> None:
        if names[0] == "hold_job":
            await may_go_on.wait()

    async with opened_stage(store, works=False, runs_at_once=0) as door:
        run = await door.start({"steps": [{"text": "one two three"}]})
        assert run["status"] == "queued"
    database.before = hold_back
    async with opened_stage(store) as stage:
        await eventually(lambda: len(stage.model.calls) == 1)
        [line] = await store.journal(run["id"])
        assert (line.key, line.attempt, line.ended_at) == ("llm:1", 1, None)
        await asyncio.sleep(0.05)
        assert (await stage.run(run))["status"] == "queued"
        assert b"in_progress" not in b"".join(
            [row.frames for row in await store.events(run["id"], (0, 0))]
        )
        may_go_on.set()
        done = await stage.rested(run)
    assert done["status"] == "completed"
    [line] = await store.journal(run["id"])
    assert line.outcome == "done"


async def test_a_worker_that_is_told_of_a_run_takes_it_in_one_commit(
    store: Store, database: Hooked
) -> None:
    """Between the door's commit and the call there is nothing but the claim, which reads what the
    call needs."""
    bell, seen = LocalBell(), list[list[str]]()

    async def note(names: list[str]) -> None:
        seen.append(names)

    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(
            opened_stage(store, works=False, runs_at_once=0, bell=bell)
        )
        stage = await stack.enter_async_context(opened_stage(store, bell=bell, is_alone=False))
        await eventually(lambda: not stage.app.worker._has_backlog)
        await asyncio.sleep(0.05)  # The worker waits for rings.
        database.before = note
        run = await door.start(WORDS)
        await eventually(lambda: len(stage.model.calls) == 1)
        done = await door.rested(run)
    assert done["status"] == "completed"
    created = next(n for n, names in enumerate(seen) if "insert_job" in names)
    assert seen[created + 1] == ["claim_run"]
    [line] = await store.journal(run["id"])
    assert (line.attempt, line.fence, line.outcome) == (1, 1, "done")


async def test_rings_of_single_runs_put_off_no_other_job(store: Store, clock: Clock) -> None:
    """A run that came to be due without a ring is found at the next poll, however many rings tell
    of others meanwhile."""
    bell = LocalBell()
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(
            opened_stage(store, clock, works=False, runs_at_once=0)  # Its bell is its own.
        )
        stage = await stack.enter_async_context(
            opened_stage(store, clock, bell=bell, is_alone=False)
        )
        await asyncio.sleep(0.05)
        quiet = await door.start(WORDS)
        over_at = time.monotonic() + 5.0
        while not stage.model.calls and time.monotonic() < over_at:
            clock.at += limits.POLL_JOBS_S / 1000
            bell.ring("jobs#run_0")  # Always, so that the worker never waits.
            await asyncio.sleep(0)
        assert stage.model.calls
        assert (await door.rested(quiet))["status"] == "completed"


async def test_a_ring_for_one_run_does_not_overtake_those_that_wait(store: Store) -> None:
    """With all slots taken and runs waiting, a new one has its turn behind them."""
    bell = LocalBell()
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(
            opened_stage(store, works=False, runs_at_once=0, bell=bell)
        )
        stage = await stack.enter_async_context(
            opened_stage(store, bell=bell, is_alone=False, runs_at_once=1)
        )
        stage.model.may_speak.clear()
        runs = [await door.start(WORDS) for _ in range(4)]
        await eventually(lambda: len(stage.model.calls) == 1)
        stage.model.may_speak.set()
        for run in runs:
            assert (await door.rested(run))["status"] == "completed"
    begun = [(await store.journal(run["id"]))[0].started_at for run in runs]
    assert begun == sorted(begun)


async def test_who_is_told_of_a_run_takes_it_though_its_clock_is_behind(store: Store) -> None:
    """Two servers know the record's clock to some milliseconds: the run is due all the same, for it
    was due when it was made."""
    bell = LocalBell()
    async with AsyncExitStack() as stack:
        ahead = Clock(at=Clock().at + 0.02)
        door = await stack.enter_async_context(
            opened_stage(store, ahead, works=False, runs_at_once=0, bell=bell)
        )
        stage = await stack.enter_async_context(opened_stage(store, bell=bell, is_alone=False))
        await asyncio.sleep(0.05)  # The worker waits for rings.
        run = await door.start(WORDS)
        await eventually(lambda: len(stage.model.calls) == 1)
        assert (await door.rested(run))["status"] == "completed"


class Noting(LocalBell):
    """A bell that knows what other processes would be told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def ring(self, topic: str) -> None:
        """Wake all."""
        self.told.append(topic)
        super().ring(topic)

    def ring_here(self, topic: str) -> None:
        """Wake those of this process."""
        super().ring(topic)


async def test_nobody_elsewhere_is_told_of_a_run_before_there_is_something_to_read(
    store: Store, database: Hooked
) -> None:
    """Readers on other servers would look into the record in vain."""
    may_go_on = asyncio.Event()

    async def hold_back(names: list[str]) -> None:
        if names[0] == "hold_job":
            await may_go_on.wait()

    at_door, bell = Noting(), Noting()
    async with opened_stage(store, works=False, runs_at_once=0, bell=at_door) as door:
        run = await door.start(WORDS)
    assert at_door.told == [f"jobs#{run['id']}"]
    database.before = hold_back
    async with opened_stage(store, bell=bell) as stage:
        await eventually(lambda: len(stage.model.calls) == 1)
        assert f"run:{run['id']}" not in bell.told
        may_go_on.set()
        await stage.rested(run)
        assert f"run:{run['id']}" in bell.told


class AtServer(Noting):
    """A bell that the record's server can ring."""

    def with_commit(self, topic: str) -> tuple[str, str] | None:  # type: ignore[override]
        """Of the first run."""
        return None if self.told else ("channel", topic)


class Server(Hooked):
    """And that server."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner)
        self.rung: list[Ring] = []

    async def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> list[list[Row]]:
        """All statements or none, then the ring."""
        rows = await super().commit(statements, told)
        if ring is not None:
            self.rung.append(ring)
        return rows


async def test_the_commit_of_a_run_rings_by_itself_where_it_can(tmp_path: Path) -> None:
    """What rang with it rings no second time; what could not ring with it rings when it is known.
    A run that is refused rings for nobody."""
    bell, servers = AtServer(), list[Server]()

    def wrap(inner: Database) -> Database:
        servers.append(Server(inner))
        return servers[0]

    async with (
        opened_store(tmp_path / "record.db", wrap) as store,
        opened_stage(store, works=False, runs_at_once=0, bell=bell) as door,
    ):
        first = await door.start(WORDS)
        assert servers[0].rung == [Ring("channel", f"jobs#{first['id']}")]
        assert bell.told == []
        body = {"assistant_id": first["assistant_id"]}
        answer = await door.http.post(f"/threads/{first['thread_id']}/runs", json=body)
        assert answer.status_code == 400
        assert (len(servers[0].rung), bell.told) == (1, [])
        bell.told.append("a moment ago")
        second = await door.start(WORDS)
        assert bell.told[1:] == [f"jobs#{second['id']}"]
        assert len(servers[0].rung) == 1


async def test_a_message_that_cannot_be_read_is_no_trouble_of_the_claims(
    store: Store, clock: Clock
) -> None:
    """As one that a newer server has written may be: its run fails after some tries."""
    bell = LocalBell()
    async with AsyncExitStack() as stack:
        opened = opened_stage(store, clock, works=False, runs_at_once=0, bell=bell)
        door = await stack.enter_async_context(opened)
        opened = opened_stage(store, clock, bell=bell, is_alone=False)
        stage = await stack.enter_async_context(opened)
        await asyncio.sleep(0.05)  # The worker waits for rings.
        thread = await door.thread("Hello.")
        message = (await door.get(f"/threads/{thread}/messages"))["data"][0]["id"]
        assistant = await door.post("/assistants", {"model": "m"})
        await store.commit(
            changes.update_object(message, project="default", body=b'{"id":1}', private=None)
        )
        with capture_logs() as logs:
            run = await door.post(f"/threads/{thread}/runs", {"assistant_id": assistant["id"]})
            async with asyncio.timeout(10):
                while (await door.run(run))["status"] != "failed":
                    await eventually(lambda: run["id"] not in stage.held)
                    clock.at += limits.LEASE_S
                    bell.ring("jobs")
                    await asyncio.sleep(0.01)
        assert {log["event"] for log in logs} == {"run crashed"}
