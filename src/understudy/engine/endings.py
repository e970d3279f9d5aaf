"""Endings: what becomes of a run whose driver was stopped before the run was at rest."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from understudy.engine import call, record
from understudy.engine.lease import Interrupted, Stopped
from understudy.machine.happenings import CancelAsked, DeadlinePassed, Happening, ModelFailed
from understudy.model import SORRY
from understudy.store import Conflict, Unavailable, changes
from understudy.wire.messages import Content
from understudy.wire.runs import Usage

if TYPE_CHECKING:
    from understudy.engine.drive import Driver

_log = structlog.get_logger()


async def interrupted(driver: Driver, stop: Exception) -> None:
    """Cancel and deadline end the run; anything else leaves it to its next driver: Stopped."""
    driver.made = None
    reason = await _reason(driver, stop)
    if reason in ("cancel", "deadline"):
        with suppress(Conflict):  # A cancel may have refused what the lease began with.
            await driver.begun()
    partial, usage = await _so_far(driver)  # It may show what the interruption left unsaid.
    if reason == "drain":
        await _hand_over(driver)
    happening: Happening
    if reason == "cancel":
        happening = CancelAsked(now=driver.now, partial=partial, usage=usage)
    elif reason == "deadline":
        happening = DeadlinePassed(now=driver.now, partial=partial, usage=usage)
    else:
        raise Stopped from stop
    try:
        await driver.commit(driver.apply(happening), driver.delete_job(), cancelled_ok=True)
    except Conflict as conflict:
        raise Stopped from conflict


async def crashed(driver: Driver, bug: Exception) -> None:
    """A bug of ours: the run fails rather than stay stuck, unless even that cannot be written. Then
    the lease runs out and the run is taken over; so it is where the store did not let us read."""
    if isinstance(bug, Unavailable):
        raise Stopped from bug
    _log.error("run crashed", run_id=driver.lease.id, exc_info=bug)
    driver.made = None
    try:
        await driver.begun()
        if driver.state.run.status != "in_progress":
            raise Stopped
        partial, usage = await _so_far(driver)
        failed = ModelFailed(
            now=driver.now, code="server_error", message=SORRY, partial=partial, usage=usage
        )
        await driver.commit(driver.apply(failed), driver.delete_job())
    except Exception as second:
        raise Stopped from second


async def _hand_over(driver: Driver) -> None:
    """The server stops in good order: what was shown is saved, and the next driver's takeover is
    not counted as a death of ours."""
    lease = driver.lease
    handed = changes.hand_over_job(
        lease.id, owner=lease.owner, fence=lease.fence, now=driver.app.world.now()
    )
    try:
        await driver.commit(None, handed, cancelled_ok=True)
    except Conflict as conflict:
        raise Stopped from conflict


async def _reason(driver: Driver, stop: Exception) -> str:
    """Why the work stopped; a failed guard is explained by the job as it is now."""
    if isinstance(stop, Interrupted):
        return stop.reason or "deadline"
    lease = driver.lease
    if isinstance(stop, Stopped) or lease.reason not in (None, "cancel"):
        return "lost"
    job = await driver.app.store.job(lease.id)
    if job is None or job.fence != lease.fence or job.cancel_asked_at is None:
        return "lost"
    return "cancel"


async def _so_far(driver: Driver) -> tuple[list[Content], Usage | None]:
    """What is open and unfinished: heard by us, or left behind by the driver before."""
    if driver.turn is None:
        return await record.partial_content(driver.app.store, driver.state), None
    return call.so_far(driver)
