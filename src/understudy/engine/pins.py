"""Pins: which server has the session of a thread's code.

Variables live in one session on one server, so the next run of the thread is left to that server
for a moment (`claim_jobs`), and does not begin where its request came in. When another server had
to take a run meanwhile, the session that was left here is old, and is not gone on with: its
variables would be those of some calls ago.
"""

from typing import TYPE_CHECKING

from understudy import limits
from understudy.engine.app import App
from understudy.engine.sandbox_files import has_code
from understudy.store import changes
from understudy.wire.runs import Run

if TYPE_CHECKING:
    from understudy.engine.drive import Driver


async def is_elsewhere(app: App, run: Run) -> bool:
    """Whether another server has the session that this run would go on with."""
    if app.worker.is_alone or not has_code(run):
        return False
    return await app.store.pin(run.thread_id, app.world.now()) not in (None, app.boot_id)


async def forget_session(app: App, thread_id: str) -> None:
    """The session of a deleted thread ends, wherever it is."""
    if not app.worker.is_alone and await app.store.pin(thread_id, app.world.now()) is not None:
        app.bell.ring(f"sessions#{thread_id}")
    await app.sandbox.forget(thread_id)


async def take(driver: "Driver") -> None:
    """The session of the run's thread is here from now on; an old one goes, if another server had
    it meanwhile. Raises Conflict when the lease is lost: then the session is with who has it."""
    app, thread_id = driver.app, driver.state.run.thread_id
    if app.worker.is_alone:
        return
    now = app.world.now()
    if await app.store.pin(thread_id, now) != app.boot_id:
        await app.sandbox.forget(thread_id)
    until = now + limits.CODE_IDLE_S
    await driver.commit(None, changes.keep_pin(thread_id, node=app.boot_id, until=until))
