"""Two servers on one record: the code of a thread goes on where its variables are."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.engine.coding import Troubled, begin, logs, runs, says
from tests.engine.stage import Clock, Json, Stage, eventually, opened_stage
from understudy import limits
from understudy.bell.local import LocalBell
from understudy.store import changes
from understudy.store.store import Store

_REMEMBER = "x = 41"
_ADD = "x = x + 1; print(x)"


@asynccontextmanager
async def two_servers(store: Store, clock: Clock) -> AsyncIterator[tuple[Stage, Stage]]:
    """Both of them can run code."""
    bell = LocalBell()
    async with AsyncExitStack() as stack:
        stages: list[Stage] = []
        for _ in range(2):
            sandbox = Troubled()
            stack.push_async_callback(sandbox.close)
            opened = opened_stage(store, clock, is_alone=False, bell=bell, sandbox=sandbox)
            stages.append(await stack.enter_async_context(opened))
        for stage in stages:
            kept = changes.keep_node(
                stage.app.boot_id, role="serve", version="1", live_runs=0, now=clock.now()
            )
            await store.commit(kept)
        yield stages[0], stages[1]


async def run_code(stage: Stage, thread: str, code: str) -> tuple[Json, str]:
    """A run on this server that runs code in a thread; the run, and what the code printed."""
    run = await begin(stage, [runs(code)], [says("Done.")], thread=thread)
    done = await stage.until(run)
    return done, "".join(await logs(stage, run))


@pytest.fixture
async def servers(store: Store, clock: Clock) -> AsyncIterator[tuple[Stage, Stage]]:
    """Two of them."""
    async with two_servers(store, clock) as both:
        yield both


async def test_a_run_goes_to_the_server_that_has_the_variables(
    servers: tuple[Stage, Stage],
) -> None:
    first, second = servers
    thread = await first.thread()
    await run_code(first, thread, _REMEMBER)
    for number, stage in enumerate([second, first, second]):
        _, printed = await run_code(stage, thread, _ADD)
        assert printed.strip() == str(42 + number)


async def test_variables_that_are_lost_are_said_to_be_lost_and_never_come_back_old(
    servers: tuple[Stage, Stage], store: Store, clock: Clock
) -> None:
    """The other server takes the run, as when this one is too busy; then this one again."""
    first, second = servers
    thread = await first.thread()
    await run_code(first, thread, _REMEMBER)
    pinned = changes.keep_pin(thread, node=second.app.boot_id, until=clock.now() + 100)
    await store.commit(pinned)
    _, printed = await run_code(second, thread, "print('x' in globals())")
    assert "variables of earlier calls are lost" in printed
    assert printed.endswith("False\n")
    gone = [changes.keep_pin(thread, node="boot_gone", until=clock.now() + 100)]
    await store.commit(*gone)
    _, printed = await run_code(first, thread, "print('x' in globals())")
    assert "variables of earlier calls are lost" in printed
    assert printed.endswith("False\n")


async def test_a_server_whose_run_was_taken_over_does_not_take_the_variables(
    servers: tuple[Stage, Stage],
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It froze on its way to the session, and wakes when another has the run and the session."""
    first, second = servers
    thread = await first.thread()
    sandbox = first.app.sandbox
    forget, there = sandbox.forget, second.app.boot_id

    async def freeze(thread_id: str) -> None:
        await forget(thread_id)
        (lease,) = first.held.values()
        later = clock.now() + limits.LEASE_S + 1
        taken = changes.take_job(
            lease.id,
            now=later,
            fence=lease.fence,
            owner=there,
            lease_until=later + limits.LEASE_S,
            due_at=later,
        )
        await store.commit(taken, changes.keep_pin(thread_id, node=there, until=later + 100))

    monkeypatch.setattr(sandbox, "forget", freeze)
    run = await begin(first, [runs(_REMEMBER)], [says("Done.")], thread=thread)
    await eventually(lambda: not first.held)
    assert await store.pin(thread, clock.now()) == there
    assert (await first.run(run))["status"] == "in_progress"


async def test_the_session_of_a_deleted_thread_ends_wherever_it_is(
    servers: tuple[Stage, Stage],
) -> None:
    first, second = servers
    thread, other = await first.thread(), await first.thread()
    for one in (thread, other):
        await run_code(first, one, _REMEMBER)
    sessions = first.app.sandbox._pool._by_key  # type: ignore[attr-defined]
    assert sessions.keys() == {thread, other}
    answer = await second.http.delete(f"/threads/{thread}")
    assert answer.json()["deleted"]
    await eventually(lambda: sessions.keys() == {other})


async def test_a_server_that_is_gone_is_not_waited_for(
    servers: tuple[Stage, Stage], store: Store, clock: Clock
) -> None:
    first, second = servers
    thread = await first.thread()
    await run_code(first, thread, _REMEMBER)
    kept = changes.keep_node(
        first.app.boot_id,
        role="serve",
        version="1",
        live_runs=0,
        now=clock.now() - limits.NODE_ALIVE_S,
    )
    await first.app.worker.drain(0.0)
    await store.commit(kept)
    done, printed = await run_code(second, thread, _ADD)
    assert done["status"] == "completed"
    assert "NameError" in printed
