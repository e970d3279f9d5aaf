"""Launch: a run that a door creates or wakes, committed already leased when a slot is free.

With a slot, the commit holds the run as its driver begins it (in_progress), its job with this
process's lease, its first events and the journal's line of the first model call, so that the call
can begin the moment the commit is durable (DECISIONS, first token). The door answers with the run
as it was before: queued. Without a slot, the job waits for any worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from understudy import limits
from understudy.engine import frames, history, record
from understudy.engine.app import App
from understudy.engine.call import journal_key
from understudy.engine.drive import Start
from understudy.engine.lease import Lease
from understudy.machine.happenings import CallModel, Claimed, Move
from understudy.machine.run import apply
from understudy.machine.transcript import Stored
from understudy.store import Row, Statement, changes
from understudy.store.records import Job
from understudy.wire.events import Event
from understudy.wire.runs import Run


@dataclass(frozen=True)
class Launch:
    """What to commit, and what to do after: `go` when it is durable, `abandon` when it was
    refused. `run` is what the door answers with; `move` is past that where there is a slot."""

    app: App
    run: Run
    move: Move
    events: tuple[Event, ...]
    job: Job
    versions: record.Versions
    is_new: bool
    messages: history.Newest | None = None  # Of the thread; None: the commit has to read them.

    @property
    def fence(self) -> int:
        """The fence of this launch's events; the first of them has sequence 1."""
        return self.job.fence

    @property
    def statements(self) -> list[Statement]:
        """Everything of the run and its job; the door adds what else belongs to its call."""
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

    @property
    def readings(self) -> list[Statement]:
        """What the commit is to read for the driver, after the thread's own changes."""
        if self.job.lease_owner is None or self.messages is not None:
            return []
        return [history.newest(self.job.project, self.run.thread_id)]

    def go(self, rows: Sequence[Sequence[Row]]) -> None:
        """The commit is durable and read this: begin, or ring for whoever has a slot."""
        worker = self.app.worker
        if self.job.lease_owner is None:
            self.app.bell.ring(f"run:{self.job.id}")
            self.app.bell.ring("jobs")
            return
        worker.release(self.job.project)
        self.versions.wrote(self.move.writes)
        lease = Lease(self.job, self.job.lease_owner)
        live = self.app.log.open(lease)
        live.show(self._frames)
        # Decoded by the driver: what goes wrong now, after the commit, is the run's failure.
        newest = self.messages or partial(history.newest_of, rows[0])
        worker.adopt(lease, live, Start(self.move.state, self.versions, newest))

    def abandon(self) -> None:
        """The commit was refused: the slot is free again."""
        if self.job.lease_owner is not None:
            self.app.worker.release(self.job.project)

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
            )
        return changes.take_job(
            job.id,
            now=now,
            fence=job.fence - 1,
            owner=job.lease_owner,
            lease_until=job.lease_until,
            due_at=job.due_at,
        )

    @cached_property
    def _frames(self) -> list[bytes]:
        return frames.frames_of(self.events)

    def _events_statement(self, now: float) -> Statement:
        pairs = zip(self.events, self._frames, strict=True)
        kept = [frames.stored(event, shown) for event, shown in pairs]
        return self.app.log.life_row(self.job.id, self.job.fence, 1, kept)


def launch_new(
    app: App,
    project: str,
    move: Move,
    *,
    before: Sequence[Event] = (),
    messages: Sequence[Stored] | None = None,
) -> Launch:
    """A run that is created; `before` are events that precede its own (thread.created), `messages`
    those of a thread that is made with it, the oldest first."""
    run = move.state.run
    now = app.world.now()
    begun = _begun(app, project, move)
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
    )
    move = begun or move
    return Launch(
        app,
        run,
        move,
        (*before, *move.events),
        job,
        record.Versions(),
        is_new=True,
        messages=None if messages is None else history.Newest(messages[::-1], has_older=False),
    )


def launch_again(app: App, job: Job, move: Move, versions: record.Versions) -> Launch:
    """A run that waited for its client and goes on; `job` is as read, without a live lease."""
    run = move.state.run
    now = app.world.now()
    begun = _begun(app, job.project, move)
    taken = replace(
        job,
        due_at=now,
        lease_owner=app.boot_id if begun else None,
        lease_until=now + limits.LEASE_S if begun else None,
        fence=job.fence + 1,
        was_leased=False,
    )
    move = begun or move
    return Launch(app, run, move, move.events, taken, versions, is_new=False)


def _begun(app: App, project: str, move: Move) -> Move | None:
    """The move with what a driver does first, which saves a commit and its wait; None when no
    slot is free, or when the run does not go on with its model."""
    now, spare_id = int(app.world.now()), app.world.new_id("step")
    claimed = apply(move.state, Claimed(now=now, spare_id=spare_id))
    if not isinstance(claimed.next, CallModel) or not app.worker.reserve(project):
        return None
    writes = {write.object.id: write for write in (*move.writes, *claimed.writes)}
    events = (*move.events, *claimed.events)
    return Move(claimed.state, tuple(writes.values()), events, claimed.next)
