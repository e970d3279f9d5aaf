"""Runs that stay where they are, and workers that lose them."""

from tests.engine.stage import Clock, Json, Stage, eventually
from understudy import limits
from understudy.store.records import Job
from understudy.store.store import Store

SILENCE: Json = {"steps": [{"text": "wait "}, {"silence": True}]}


async def silent_run(stage: Stage) -> Json:
    """A run whose model said a word and is silent now."""
    run = await stage.start(SILENCE)
    await has_spoken(stage, run)
    return run


async def has_spoken(stage: Stage, run: Json) -> None:
    """Wait for its first word, on the server that drives it."""

    def is_there() -> bool:
        live = stage.app.log._live.get(run["id"])
        return live is not None and any(b"wait " in frame for frame in live.since(0))

    await eventually(is_there)


def claim_no_more(stage: Stage) -> None:
    """This worker keeps what it has; what runs out is for others, and not for itself again."""
    for loop in stage.app.worker._loops:
        if loop.get_name() == "claim":
            loop.cancel()


async def take_over(store: Store, clock: Clock, id: str, owner: str = "another") -> Job:
    """Another worker claims everything that it can, this job among it."""
    now = clock.now()
    claims = await store.claim(
        owner=owner, now=now, lease_until=now + limits.LEASE_S, free=100, per_project=100
    )
    [taken] = [claimed.job for claimed in claims if claimed.job.id == id]
    return taken
