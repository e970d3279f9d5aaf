"""Launch: a run that a door creates or wakes, committed already leased when a slot is free.

With a slot, the commit holds the run as its driver begins it (in_progress), its job with this
process's lease, its first events and the journal's line of the first model call, so that the call
can begin the moment the commit is durable (DECISIONS, first token). The driver of a new run makes
that call's request meanwhile (beginning.py). The door answers with the run as it was before:
queued. Without a slot, the job waits for any worker; it says which call that one begins with, so
that the claim can journal it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

from understudy import limits
from understudy.engine import frames, history, record
from understudy.engine.app import App
from understudy.engine.beginning import Beginning
from understudy.engine.call import journal_key
from understudy.engine.lease import Lease
from understudy.machine.happenings import CallModel, Claimed, Move
from understudy.machine.run import apply
from understudy.machine.transcript import Stored
from understudy.store import Ring, Row, Statement, Told, changes
from understudy.store.records import Job
from understudy.wire.events import Event
from understudy.wire.runs import Run

Rows: TypeAlias = Sequence[Sequence[Row]]  # Of each statement of a commit.
Committed: TypeAlias = "asyncio.Future[list[list[Row]]]"


@dataclass(frozen=True)
class Launch:
    """What to commit (`statements`), and what comes of it (`begin`, when it is on its way). `run`
    is what the door answers with; `move` is past that where there is a slot. `more` is what else
    belongs to the door's call; it comes first: a thread must be there before its run."""

    app: App
    run: Run
    move: Move
    events: tuple[Event, ...]
    job: Job
    versions: record.Versions
    more: Sequence[Statement]
    is_new: bool
    messages: history.Newest | None = None  # Of the thread; None: the commit has to read them.

    @property
    def fence(self) -> int:
        """The fence of this launch's events; the first of them has sequence 1."""
        return self.job.fence

    @property
    def statements(self) -> list[Statement]:
        """All that the commit is to do."""
        return [*self.more, *self._readings, *self._of_run]

    @cached_property
    def _readings(self) -> list[Statement]:
        """What it is to read for the driver, after the thread's own changes."""
        if self.job.lease_owner is None or self.messages is not None:
            return []
        return [history.newest(self.job.project, self.run.thread_id)]

    @property
    def _of_run(self) -> list[Statement]:
        """Everything of the run and its job."""
        job, now = self.job, self.app.world.now()
        result = record.statements(self.move, self.versions, project=job.project, created_at=now)
        result.insert(0, self._job_statement(now))
        result.append(self._events_statement(now))
        if job.lease_owner is not None:
            key = journal_key(self.move.state.private.turn)
            result.append(
                changes.start_call(job.id, key=key, attempt=1, fence=job.fence, started_at=now)
            )
        return result

    def begin(self, committed: Committed) -> None:
        """The commit is on its way. Nobody knows a new run yet, so its driver may begin already; a
        run that goes on may have been taken up by somebody else, who is told by the commit."""
        if self.job.lease_owner is not None and self.is_new:
            committed.get_loop().call_soon(self._adopt, committed)  # After the commit has left.
        committed.add_done_callback(self._settle)

    def abandon(self) -> None:
        """There was no commit: the slot is free again."""
        if self.job.lease_owner is not None:
            self.app.worker.release(self.job.project)

    @property
    def known(self) -> Sequence[bytes]:
        """The first frames of the run, where nobody here goes on with it: a stream of it need not
        read them."""
        return self._frames if self.job.lease_owner is None else ()

    @property
    def told(self) -> Told | None:
        """Hears of what the commit has read, before it is durable; None: it reads nothing."""
        return self._read if self._readings else None

    @cached_property
    def ring(self) -> Ring | None:
        """What wakes those who may go on with the run, if the commit can ring by itself."""
        if self.job.lease_owner is not None:
            return None
        said = self.app.bell.with_commit(self._topic)
        return None if said is None else Ring(*said)

    @property
    def _topic(self) -> str:
        return f"jobs#{self.job.id}" if self.job.next_call else "jobs"

    def _read(self, rows: Rows) -> None:
        self._beginning.read(rows[len(self.more)])

    def _settle(self, committed: Committed) -> None:
        """The commit is durable, or was refused, whatever became of the door that asked for it."""
        holds = not _is_refused(committed)
        if self.job.lease_owner is None:
            if holds:
                if not self.is_new:  # Of a new one nobody can have read anything.
                    self.app.bell.ring(f"run:{self.job.id}")
                if self.ring is None:
                    self.app.bell.ring(self._topic)
            return
        if holds and self._readings:
            self._read(committed.result())
        if holds and not self.is_new:
            self._adopt(committed)
        if not self._beginning.is_adopted:
            self.abandon()
        self._beginning.settle(holds=holds)

    def _adopt(self, committed: Committed) -> None:
        """The driver begins, in the slot that was kept for it, unless it is refused already."""
        if _is_refused(committed):
            return
        assert self.job.lease_owner is not None, "there is a slot"
        self.versions.wrote(self.move.writes)
        self.app.worker.release(self.job.project)
        lease = Lease(self.job, self.job.lease_owner)
        live = self.app.log.open(lease)
        if not self.is_new:
            self.app.log.announce(live)
        self._beginning.adopted(lease, live)
        self.app.worker.adopt(lease, live, self._beginning)

    @cached_property
    def _beginning(self) -> Beginning:
        return Beginning(self.move.state, self.versions, self._frames, self.messages)

    def _job_statement(self, now: float) -> Statement:
        job = self.job
        if self.is_new:
            return changes.insert_job(
                job.id,
                kind="run",
                project=job.project,
                thread_id=job.thread_id,
                due_at=job.due_at,
                expires_at=job.expires_at,
                fence=job.fence,
                lease_owner=job.lease_owner,
                lease_until=job.lease_until,
                next_call=job.next_call,
            )
        return changes.take_job(
            job.id,
            now=now,
            fence=job.fence - 1,
            owner=job.lease_owner,
            lease_until=job.lease_until,
            due_at=job.due_at,
            next_call=job.next_call,
        )

    @cached_property
    def _frames(self) -> list[bytes]:
        return frames.frames_of(self.events)

    def _events_statement(self, now: float) -> Statement:
        pairs = zip(self.events, self._frames, strict=True)
        kept = [frames.stored(event, shown) for event, shown in pairs]
        return self.app.log.life_row(self.job.id, self.job.fence, 1, kept)


def _is_refused(committed: Committed) -> bool:
    return committed.done() and (committed.cancelled() or committed.exception() is not None)


def launch_new(
    app: App,
    project: str,
    move: Move,
    *,
    more: Sequence[Statement],
    before: Sequence[Event] = (),
    messages: Sequence[Stored] | None = None,
    may_begin: bool = True,
) -> Launch:
    """A run that is created; `before` are events that precede its own (thread.created), `messages`
    those of a thread that is made with it, the oldest first. Where another server should have it,
    it may not begin here, slot or not."""
    run = move.state.run
    now = app.world.now()
    first = _first(app, move)
    begun = _begun(app, project, move, first) if may_begin else None
    job = Job(
        id=run.id,
        kind="run",
        project=project,
        thread_id=run.thread_id,
        due_at=now,
        expires_at=run.expires_at,
        lease_owner=app.boot_id if begun else None,
        lease_until=now + limits.LEASE_S if begun else None,
        fence=1 if begun else 0,
        reclaims=0,
        cancel_asked_at=None,
        was_leased=False,
        next_call=None if begun else _call(first),
    )
    move = begun or move
    return Launch(
        app,
        run,
        move,
        (*before, *move.events),
        job,
        record.Versions(),
        more,
        is_new=True,
        messages=None if messages is None else history.Newest(messages[::-1], has_older=False),
    )


def launch_again(
    app: App, job: Job, move: Move, versions: record.Versions, *, may_begin: bool = True
) -> Launch:
    """A run that waited for its client and goes on; `job` is as read, without a live lease."""
    run = move.state.run
    now = app.world.now()
    first = _first(app, move)
    begun = _begun(app, job.project, move, first) if may_begin else None
    taken = replace(
        job,
        due_at=now,
        lease_owner=app.boot_id if begun else None,
        lease_until=now + limits.LEASE_S if begun else None,
        fence=job.fence + 1,
        was_leased=False,
        next_call=None if begun else _call(first),
    )
    move = begun or move
    return Launch(app, run, move, move.events, taken, versions, (), is_new=False)


def _first(app: App, move: Move) -> Move:
    """What a driver does first with the run."""
    return apply(move.state, Claimed(now=int(app.world.now()), spare_id=app.world.new_id("step")))


def _call(first: Move) -> str | None:
    """The model call that this begins with, by its name in the journal, if it is one."""
    if not isinstance(first.next, CallModel):
        return None
    return journal_key(first.state.private.turn)


def _begun(app: App, project: str, move: Move, first: Move) -> Move | None:
    """The move with what a driver does first, which saves a commit and its wait; None when no
    slot is free, or when the run does not go on with its model."""
    if not isinstance(first.next, CallModel) or not app.worker.reserve(project):
        return None
    writes = {write.object.id: write for write in (*move.writes, *first.writes)}
    return Move(first.state, tuple(writes.values()), (*move.events, *first.events), first.next)
