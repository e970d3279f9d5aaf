"""A queued run whose first call is journalled with its claim: no commit comes before the call."""

import asyncio

from tests.engine.stage import Hooked, eventually, opened_stage
from understudy.store.store import Store


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
