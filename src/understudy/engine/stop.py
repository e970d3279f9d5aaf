"""Stop: cancelling a run from a door (SPEC 8.5).

Only the holder of the fence appends to a run's log. While a driver lives, a cancel writes
`cancel_asked_at` and interrupts it; without one, the caller takes the next fence and makes the
move itself.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from understudy import limits
from understudy.bell import Subscription
from understudy.engine import frames, record
from understudy.engine.app import App
from understudy.engine.lease import Lease, Reason
from understudy.errors import ApiError
from understudy.machine.happenings import CancelAsked, Move, State
from understudy.machine.run import ACTIVE, apply
from understudy.store import Conflict, Statement, changes
from understudy.store.records import Job
from understudy.wire.runs import Run

# What a door wants to be committed with the cancel, given its answer.
Along = Callable[[Run], tuple[Statement, ...]]


async def cancel(app: App, project: str, run_id: str, along: Along = lambda answer: ()) -> Run:
    """Cancel an active run; the run as `cancelling`.

    Raises ApiError when the run is over or already being cancelled, or unknown.
    """
    for _ in range(limits.CONFLICT_RETRIES):
        versions = record.Versions()
        state = await record.load_state(app.store, project, run_id, versions)
        if state is None:
            raise ApiError.not_found("run", run_id)
        if state.run.status not in ACTIVE:
            raise ApiError.cannot_cancel(state.run.status)
        job = await app.store.job(run_id)
        if job is None:
            continue  # It ended between the two reads.
        if job.cancel_asked_at is not None:
            raise ApiError.cannot_cancel("cancelling")
        # A living driver finds its own words; a dead one's are in the log.
        partial = await record.partial_content(app.store, state)
        move = apply(state, CancelAsked(now=int(app.world.now()), partial=partial))
        answer = cancelling(move, state)
        more = along(answer)
        try:
            if job.lease_until is not None and job.lease_until > app.world.now():
                await _ask(app, job, more)
            else:
                await _take(app, job, move, versions, more)
        except Conflict:
            continue
        return answer
    raise ApiError.unavailable()


def interrupt(app: App, run_id: str, reason: Reason) -> Lease | None:
    """Stop the driver of a run that the record wants stopped: here, whose lease it is then, or
    wherever else it is, where a ring makes it look."""
    lease = app.worker.interrupt(run_id, reason)
    if lease is None:
        app.bell.ring(f"cancels#{run_id}")
    return lease


def cancelling(move: Move, state: State) -> Run:
    """The run as the cancel's own event shows it."""
    for event in move.events:
        if isinstance(event.data, Run) and event.data.status == "cancelling":
            return event.data
    return state.run


async def _ask(app: App, job: Job, more: tuple[Statement, ...]) -> None:
    """A driver lives: tell it, and give it a moment, so that the next read shows the cancel."""
    assert job.lease_owner is not None, "a lease that lives has an owner"
    # A driver that rested meanwhile would not hear it: then the cancel begins anew.
    still = changes.hold_job(job.id, owner=job.lease_owner, fence=job.fence, cancelled_ok=True)
    with app.bell.subscribe(f"run:{job.id}") as rings:
        await app.store.commit(still, changes.ask_cancel(job.id, now=app.world.now()), *more)
        lease = interrupt(app, job.id, "cancel")
        app.bell.ring("jobs")
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.CANCEL_WAIT_S):
                if lease is not None:
                    await lease.done.wait()
                else:
                    await _gone(app, job.id, rings)


async def _gone(app: App, run_id: str, rings: Subscription) -> None:
    """Wait until a driver on another server has ended the run."""
    while await app.store.job(run_id) is not None:
        await rings.wait(limits.POLL_JOBS_S)


async def _take(
    app: App, job: Job, move: Move, versions: record.Versions, more: tuple[Statement, ...]
) -> None:
    """Nobody drives it: one commit ends it."""
    now = app.world.now()
    fence = job.fence + 1
    taken = changes.take_job(
        job.id, now=now, fence=job.fence, owner=None, lease_until=None, due_at=now
    )
    kept = [frames.stored(event, frames.frame(event)) for event in move.events]
    await app.store.commit(
        taken,
        *record.statements(move, versions, project=job.project, created_at=now),
        app.log.life_row(job.id, fence, 1, kept),
        changes.delete_job(job.id, fence=fence),
        *more,
    )
    app.bell.ring(f"run:{job.id}")
