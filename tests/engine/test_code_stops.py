"""What ends code early: lost sessions, cancels, deadlines, deleted threads, a drain."""

import asyncio
from pathlib import Path

import pytest

from tests.crash.checks import check_order
from tests.crash.client import events_in as events
from tests.engine.coding import (
    ENDLESS,
    Troubled,
    begin,
    calls,
    outputs,
    ran,
    runs,
    says,
    upload,
)
from tests.engine.stage import Clock, Hooked, Stage, eventually, opened_stage
from tests.engine.test_stops import saved
from understudy import limits
from understudy.sandbox import SandboxLost
from understudy.store.store import Store

LOST = "[The session was lost while the code ran. It runs again in a new one, without variables.]\n"


# Sessions that are lost.


async def test_a_lost_session_is_replaced_and_the_code_runs_again(
    coder: Stage, sandbox: Troubled
) -> None:
    one = await upload(coder, "in.csv", b"1")
    await ran(coder, "x = 1", thread=(thread := await coder.thread()), files=[one])
    sandbox.losses = 1
    printed = await ran(coder, "print(open('/mnt/data/in.csv').read())", thread=thread, files=[one])
    assert printed.startswith(f"1\n{LOST}[The session was restarted")
    assert printed.endswith("put back.]\n1\n")


async def test_a_session_that_is_lost_twice_is_an_answer(coder: Stage, sandbox: Troubled) -> None:
    sandbox.losses = limits.CODE_LOST_SESSIONS
    printed = await ran(coder, "print('x')")
    assert printed.endswith(
        "x\n[The session was lost again while the code ran. The code was given up.]\n"
    )
    assert await ran(coder, "1") == "1\n"


# What ends it early.


async def test_a_cancel_stops_the_code_and_keeps_the_session(coder: Stage) -> None:
    run = await begin(coder, [runs(ENDLESS)], [says("never")])
    await saved(coder, run, b"going")
    await coder.post(f"{coder.path(run)}/cancel", {})
    assert (await coder.rested(run))["status"] == "cancelled"
    check_order(events(await coder.frames(run)))
    assert await outputs(coder) == []
    after = await ran(coder, "x", thread=run["thread_id"])
    assert after == "5\n[Files written: /mnt/data/half]\n", "what was not saved is saved now"


async def test_the_deadline_stops_the_code(store: Store, sandbox: Troubled) -> None:
    async with opened_stage(store, sandbox=sandbox, run_ttl_s=2) as stage:
        run = await begin(stage, [runs(ENDLESS)], [says("never")])
        await saved(stage, run, b"going")
        assert (await stage.rested(run))["status"] == "expired"
        check_order(events(await stage.frames(run)))
        assert await outputs(stage) == []


async def test_a_deleted_thread_stops_the_code_and_leaves_no_session(
    coder: Stage, sandbox: Troubled
) -> None:
    run = await begin(coder, [runs(ENDLESS)], [says("never")])
    await saved(coder, run, b"going")
    session = await sandbox.session(run["thread_id"])
    assert (await coder.http.delete(f"/threads/{run['thread_id']}")).status_code == 200
    await eventually(lambda: not coder.held)
    assert (await sandbox.session(run["thread_id"])).notes == {}, "the driver made no new one"
    with pytest.raises(SandboxLost):
        await session.files()


async def test_the_next_driver_runs_the_code_again(
    store: Store, clock: Clock, sandbox: Troubled
) -> None:
    code = (
        "import os\nprint('go' + 'ing', flush=True)\nwhile not os.path.exists('/mnt/data/in'): pass"
    )
    async with opened_stage(store, clock, sandbox=sandbox) as stage:
        run = await begin(stage, [runs(code)], [says("Done.")])
        await saved(stage, run, b"going")
        await stage.app.worker.drain(0.05)
    session = await sandbox.session(run["thread_id"])
    await session.run("open('/mnt/data/in', 'w')", timeout_s=5, on_logs=lambda text: None)
    async with opened_stage(store, clock, sandbox=sandbox) as stage:
        assert (await stage.rested(run))["status"] == "completed"
        check_order(events(await stage.frames(run)))
        assert len(await calls(stage, run)) == 1


@pytest.mark.parametrize("is_applied", [False, True])
async def test_an_answer_that_is_refused_leaves_no_file(
    store: Store, database: Hooked, sandbox: Troubled, tmp_path: Path, is_applied: bool
) -> None:
    """A cancel comes when all is written, just before the commit of the answer, or just after."""
    blobs = tmp_path / "blobs"
    async with opened_stage(store, sandbox=sandbox, blobs_url=blobs.as_uri()) as stage:
        asked, thread = asyncio.Event(), await stage.thread()

        async def cancel(names: list[str]) -> None:
            if "insert_object" in names and "delete_job" in names and not asked.is_set():
                asked.set()
                path = f"/threads/{thread}/runs"
                (run,) = (await stage.get(path))["data"]
                await stage.http.post(f"{path}/{run['id']}/cancel", json={})

        if is_applied:
            database.after = cancel
        else:
            database.before = cancel
        code = "open('/mnt/data/x', 'w').write('1');"
        run = await begin(stage, [runs(code)], [says("Done.")], thread=thread)
        assert (await stage.rested(run))["status"] == "cancelled"
        assert asked.is_set()
        assert len(await outputs(stage)) == is_applied
        await eventually(lambda: len(list(blobs.iterdir())) == is_applied)
        after = await ran(stage, "2", thread=thread)
        assert ("Files written" in after) != is_applied, "it is saved once, and not lost"
