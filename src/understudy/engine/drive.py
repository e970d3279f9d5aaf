"""Drive: one run from claim to rest. It performs what the machine asks and feeds back what
happened.

Every await may be the last: what is true in the store is enough for the next driver. A state is
taken over in memory only after its commit (a new run's first one: beginning.py); a commit carries
the fence, so a driver that lost its lease changes nothing. `Interrupted` ends any wait inside a
turn; commits are finished first.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from understudy import limits
from understudy.engine import call, endings, file_search, files, history, record, sandbox_files
from understudy.engine.answer import Answer, ToolOff
from understudy.engine.app import App
from understudy.engine.beginning import Beginning
from understudy.engine.lease import Interrupted, Lease, Stopped, Uncut
from understudy.engine.live_log import LiveLog
from understudy.engine.sandbox_files import Mount
from understudy.engine.tools import TOOLS
from understudy.errors import ApiError
from understudy.machine import toolbox
from understudy.machine.deltas import Pieces, Said, Turn
from understudy.machine.happenings import (
    BudgetExhausted,
    CallModel,
    Claimed,
    Happening,
    ModelFailed,
    Move,
    Reclaimed,
    Rest,
    RunTool,
    State,
    ToolFailed,
    ToolRan,
    Wait,
)
from understudy.machine.run import ACTIVE, apply
from understudy.model import SORRY
from understudy.store import Conflict, Statement, Unavailable, changes, index_changes
from understudy.store.records import Begun
from understudy.wire.events import STREAM_ENDS, Event
from understudy.wire.steps import Step

T = TypeVar("T")

_log = structlog.get_logger()

TOO_LONG = f"{SORRY} The conversation does not fit the model's context window."


class Driver:
    """One lease being worked on. `run` returns when the run rests or is somebody else's."""

    def __init__(
        self,
        app: App,
        lease: Lease,
        live: LiveLog,
        beginning: Beginning | None,
        begun: Begun | None = None,
    ) -> None:
        self.app = app
        self.lease = lease
        self.live = live
        self.versions = beginning.versions if beginning else record.Versions()
        self.attempts: dict[str, int] = {}  # Journal key → attempts made before this lease.
        # Whether the first call's line is in the commit that began this lease.
        self.is_journalled = beginning is not None or lease.job.is_journalled
        self._has_begun = beginning is not None  # A door has committed what a driver does first.
        self._arriving: asyncio.Task[None] | None = None  # A commit beside the first call.
        self.ending: list[Statement] = []  # Journal lines that the next commit takes along.
        self.made: Answer | None = None  # What the next commit has to store of a tool's answer.
        self.promised: set[str] = set()  # Keys of blobs that no commit has kept yet.
        self.turn: Turn | None = None  # The model turn being heard.
        self.unsaid: list[Said] = []  # What it said, as far as it is not shown or committed.
        self._uncut = Uncut()
        self._beginning = beginning  # Until its commit is known to be durable.
        self._state = beginning.state if beginning else None
        self._reach: tuple[file_search.Reach | None] | None = None  # Once it is known.
        self._mounts: list[Mount] | None = None  # The same.
        self._newest = beginning.newest if beginning else None  # Until the first request.
        self._begun = begun  # What the claim has read, until it is looked at.

    @property
    def state(self) -> State:
        """The state as committed; of a new run, as the commit on its way has it."""
        assert self._state is not None, "loaded before it is used"
        return self._state

    async def run(self) -> None:
        """From the claim to the rest; the live log is closed on every way out."""
        error: ApiError | None = ApiError.unavailable()
        try:
            await self._run()
            error = None
        except Stopped:
            deleted = self.lease.reason == "deleted"
            error = ApiError.thread_deleted() if deleted else ApiError.unavailable()
        finally:
            await self._arrived()
            self.app.log.close(self.live, error)
        await self._let_go()

    async def _let_go(self) -> None:
        """What was written and not committed goes now rather than when its promise is due; so does
        the session of a deleted thread, which may have begun just then."""
        for key in self.promised:
            await files.hurry(self.app, key)
        if self.lease.reason == "deleted" and self._state is not None:
            await self.app.sandbox.forget(self.state.run.thread_id)

    async def _run(self) -> None:
        was_leased = self.lease.job.was_leased and not self.is_journalled
        if self._state is None:
            self._state = await self._patiently(self._loaded)
        if self._state is None or self._state.run.status not in ACTIVE:
            await self._drop_job()
            return
        if was_leased:
            await self._patiently(self._load_attempts)
        try:
            await self._go(await self._begin(was_leased))
        except (Interrupted, Conflict, Stopped) as stop:
            await endings.interrupted(self, stop)
        except Exception as bug:  # noqa: BLE001 (a bug of ours fails its run, no other)
            await endings.crashed(self, bug)

    async def _loaded(self) -> State | None:
        """The run as the record has it; where its first call is to be made at once, the end of its
        thread is read along."""
        app, project, job = self.app, self.lease.project, self.lease.job
        if not self.is_journalled:
            return await record.load_state(app.store, project, job.id, self.versions)
        begun = self._begun or await app.store.beginning(job.id)
        self._begun = None
        if begun.run is None:
            return None

        async def known() -> history.Newest | None:
            return history.newest_of(begun.newest)

        self._newest = known
        return await record.state_of(app.store, project, begun.run, self.versions)

    async def _go(self, move: Move | None) -> None:
        """The loop: perform, feed back, commit, until the run rests."""
        while move is not None:
            match move.next:
                case CallModel():
                    move = await self._turn(move)
                case RunTool():
                    move = await self._tool(move, move.next)
                case Wait():
                    await self.commit(
                        move,
                        changes.rest_job(
                            self.lease.id, fence=self.lease.fence, due_at=move.next.until
                        ),
                    )
                    return
                case Rest():
                    await self.commit(move, self.delete_job())
                    return

    async def _begin(self, was_leased: bool) -> Move | None:
        """The first happening of this lease."""
        now = self.now
        run = self.state.run
        if self.lease.reason == "cancel" or (run.expires_at is not None and now >= run.expires_at):
            raise Interrupted(self.lease.reason)
        if run.status == "requires_action":
            # Woken before its deadline: it waits for the client, not for us.
            rest = changes.rest_job(
                self.lease.id, fence=self.lease.fence, due_at=run.expires_at or math.inf
            )
            await self.app.store.commit(self._hold(False), rest)
            return None
        if self._has_begun:
            return Move(self.state, (), (), CallModel())
        if was_leased:
            partial = await record.partial_content(self.app.store, self.state)
            reclaims = self.lease.job.reclaims
            return self.apply(
                Reclaimed(now=now, partial=partial, reclaims=reclaims, spare_id=self.new_id("step"))
            )
        return self.apply(Claimed(now=now, spare_id=self.new_id("step")))

    async def _turn(self, move: Move) -> Move:
        """One model turn; the move that led here is committed on the way, before its sight."""
        pending = move if move.events else None  # A door has committed it already.
        if any(isinstance(write.object, Step) for write in move.writes):
            # The request is made from the record, so what this move adds to it comes first.
            await self.commit(move)
            pending = None
        if toolbox.built_in(move.state.run.tools):
            await self.begun()  # What they reach may come with the run, as its thread may.
        try:
            reach = await self.reach(move.state)
        except file_search.StoreExpired as expired:
            await self.commit(pending)
            return self.apply(ModelFailed(now=self.now, code="server_error", message=str(expired)))
        if reach is not None and move.state.private.turn == 0:
            pending = await self._prepare(reach, pending)
        for _ in range(limits.MODEL_ATTEMPTS):
            try:
                question = await history.next_question(
                    self.app,
                    self.lease.project,
                    move.state,
                    reach,
                    await self.mounts() if sandbox_files.has_code(move.state.run) else None,
                    context_tokens=self._window(move.state),
                    end=self,
                )
                return await call.make(self, pending, question)
            except history.NoBudget as none:
                await self.commit(pending)
                return self.apply(BudgetExhausted(now=self.now, budget=none.budget))
            except call.Shrink:
                pending = None
        return self.apply(ModelFailed(now=self.now, code="server_error", message=TOO_LONG))

    async def reach(self, state: State) -> file_search.Reach | None:
        """What the run may search, looked up once in a lease. Raises StoreExpired."""
        if self._reach is None:
            self._reach = (await file_search.reach(self.app, self.lease.project, state.run),)
        return self._reach[0]

    async def mounts(self, *, fresh: bool = False) -> list[Mount]:
        """What code finds under /mnt/data, looked up again after each call of it."""
        if self._mounts is None or fresh:
            self._mounts = await sandbox_files.mounts(self.app, self.lease.project, self.state)
        return self._mounts

    async def _prepare(self, reach: file_search.Reach, pending: Move | None) -> Move | None:
        """Before a run's first turn: its stores count as used, and files that the thread just got
        are waited for. What led here is committed before the wait; None when it was."""
        now = self.app.world.now()
        self.ending += [index_changes.touch_store(id, now=now) for id in reach.store_ids]
        if not reach.unsettled:
            return pending
        await self.commit(pending)
        self._newest = None  # A message may be deleted meanwhile.
        async with self.lease.interruptible(self.time_left_s):
            await file_search.wait_for_files(self.app, reach.unsettled)
        return None

    async def newest(self) -> history.Newest | None:
        """How the thread ends, for the first request; None: it has to be read."""
        newest, self._newest = self._newest, None
        return None if newest is None else await newest()

    def _window(self, state: State) -> int | None:
        return self.app.worker.context_tokens.get(state.run.model)

    async def _tool(self, opened: Move, next: RunTool) -> Move:
        """One call of a built-in tool, whose step is `opened`. A search only reads, so it does not
        wait for that commit; code does."""
        tool = toolbox.built_in(self.state.run.tools)[next.call.name]
        run_call = TOOLS[tool]
        try:
            if tool == "file_search":
                async with self.lease.interruptible(self.time_left_s):
                    answer = await self.beside_commit(opened, run_call(self, next.call))
            else:
                await self.commit(opened)
                async with self.lease.interruptible(self.time_left_s):
                    answer = await run_call(self, next.call)
        except ToolOff as off:
            return self.apply(ToolFailed(now=self.now, message=str(off)))
        self.made = answer
        return self.apply(
            ToolRan(
                now=self.now,
                call=answer.call,
                shown_logs=answer.shown_logs,
                files=answer.files,
                spare_id=self.new_id("step"),
            )
        )

    # Showing and committing.

    def show(self, deltas: Sequence[Event | Pieces]) -> None:
        """Clients see these at once; they are saved soon."""
        self.live.show_deltas(deltas)
        self.app.log.save_soon(self.live, self.lease)

    def apply(self, happening: Happening) -> Move:
        """The machine's answer, from the committed state."""
        return apply(self.state, happening)

    async def commit(
        self,
        move: Move | None,
        *more: Statement,
        cancelled_ok: bool = False,
    ) -> None:
        """Make a move true, then visible. Finished even when this task is cancelled.

        Raises Conflict when the lease is lost or a cancel was asked; then nothing changed.
        """
        try:
            await self.begun()
            await self._commit(move, more, cancelled_ok)
        finally:
            self._uncut.go_on()

    async def begun(self) -> None:
        """Waits for the commit that this lease begins with: a door's, or the one that is on its way
        beside the first call. Raises Stopped or Conflict, once, if it is refused."""
        if self._beginning is not None:
            if not await self._beginning.durable():
                raise Stopped
            self._beginning = None
            await self._patiently(lambda: self.app.worker.prolong_late(self.lease))
        if self._arriving is not None:
            arriving = self._arriving
            await asyncio.wait([arriving])
            self._arriving = None
            await arriving

    @property
    def is_arriving(self) -> bool:
        """Whether a commit is on its way of which nothing may be shown before."""
        return self._arriving is not None

    def arrive(self, move: Move) -> None:
        """Commit a move beside the first call, which is journalled already."""
        self._arriving = asyncio.create_task(self._arrive(move))

    async def _arrive(self, move: Move) -> None:
        await asyncio.sleep(0)  # The call goes first: aiohttp writes it in a task that comes now.
        await self._commit(move, (), cancelled_ok=False)

    async def _arrived(self) -> None:
        """Nothing is on its way any more, whatever became of it."""
        if self._arriving is not None:
            await asyncio.wait([self._arriving])
            self._arriving.exception()

    async def beside_commit(self, move: Move, work: Awaitable[T]) -> T:
        """Commit a move while work goes on of which nothing is seen before; what it came to."""
        working = asyncio.ensure_future(work)
        try:
            await self.commit(move)
            return await working
        finally:
            if not working.done():
                working.cancel()
                await asyncio.wait([working])
            elif not working.cancelled():
                working.exception()  # Seen, also when the commit's own error is on its way.

    async def _commit(
        self,
        move: Move | None,
        more: tuple[Statement, ...],
        cancelled_ok: bool,
    ) -> None:
        async with self.live.saving:
            with self.live.unsaved() as deltas:
                events, shown = self.app.log.append(self.live, deltas, move.events if move else ())
                stored = self.made.statements if self.made else ()
                statements = [self._hold(cancelled_ok), *events, *self.ending, *stored, *more]
                if move is not None:
                    move = await self._write(move, statements)
                    if move.state.private.turn != self.state.private.turn:
                        self.turn = None  # It is in the record now.
                    self._state = move.state
                elif len(statements) > 1:
                    await self._store(statements)
            self.ending.clear()
            self._made_true()
            if move is not None and shown:
                ends = any(event.name in STREAM_ENDS for event in move.events)
                self.live.show(shown, ends=ends)
                self.app.log.announce(self.live)

    def _made_true(self) -> None:
        """A tool's answer is committed, with all that it stored."""
        if self.made is not None:
            self.made.committed()
            self.promised.difference_update(self.made.keys)
            self.made = self._mounts = None

    async def _write(self, move: Move, statements: list[Statement]) -> Move:
        """Commit a move; a client's metadata edit in between is kept and the commit repeated, at
        any version then: a client that edits without pause must not stop its run."""
        try:
            await self._store_move(move, statements)
        except Conflict as conflict:
            if conflict.what != "update_object":
                raise
            move = await record.merged(self.app.store, self.lease.project, move, self.versions)
            await self._store_move(move, statements, at_any_version=True)
        self.versions.wrote(move.writes)
        return move

    async def _store_move(
        self, move: Move, statements: list[Statement], *, at_any_version: bool = False
    ) -> None:
        writes = record.statements(
            move,
            self.versions,
            project=self.lease.project,
            created_at=self.app.world.now(),
            at_any_version=at_any_version,
        )
        if writes or len(statements) > 1:
            await self._store([*statements, *writes])

    async def _store(self, statements: list[Statement]) -> None:
        """Commit. What the provider says meanwhile waits in its socket."""
        await self._patiently(lambda: self._uncut.wait(self.app.store.begin_commit(*statements)))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store; while it is away, again, as long as the lease is surely ours."""
        clock = self.app.world.monotonic
        give_up_at = clock() + limits.LEASE_S - limits.LEASE_MARGIN_S
        while True:
            try:
                return await ask()
            except Unavailable as away:
                if clock() >= give_up_at or self.lease.reason not in (None, "cancel"):
                    raise Stopped from away
                await asyncio.sleep(away.retry_after_s)

    async def _drop_job(self) -> None:
        """The run is over or gone; its job has no more to do."""
        await self.app.store.commit(changes.delete_job(self.lease.id, fence=None))

    def _hold(self, cancelled_ok: bool) -> Statement:
        return changes.hold_job(
            self.lease.id,
            owner=self.lease.owner,
            fence=self.lease.fence,
            cancelled_ok=cancelled_ok,
        )

    def delete_job(self) -> Statement:
        """The run is over."""
        return changes.delete_job(self.lease.id, fence=self.lease.fence)

    # Small facts.

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(self.app.world.now())

    @property
    def time_left_s(self) -> float | None:
        """Until the run expires."""
        expires_at = self.state.run.expires_at
        return None if expires_at is None else max(0.0, expires_at - self.app.world.now())

    def new_id(self, kind: str) -> str:
        """A fresh id."""
        return self.app.world.new_id(kind)

    async def _load_attempts(self) -> None:
        """The calls that earlier drivers started: a repeated one gets the next attempt."""
        for row in await self.app.store.journal(self.lease.id):
            self.attempts[row.key] = max(row.attempt, self.attempts.get(row.key, 0))


def drive(
    app: App,
    lease: Lease,
    live: LiveLog,
    beginning: Beginning | None,
    begun: Begun | None = None,
) -> Coroutine[Any, Any, None]:
    """Work on one run's lease; `beginning` is given by the door that commits it, `begun` by a
    claim that has read it. (A coroutine of its own would keep what it was given for as long as the
    run takes.)"""
    return Driver(app, lease, live, beginning, begun).run()
