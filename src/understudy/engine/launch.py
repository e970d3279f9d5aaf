"""Launch: a run that a door creates or wakes, committed already leased when a slot is free.

With a slot, the commit holds the run, its job with this process's lease, its first events and
the journal's line of the first model call, so that the call can begin the moment the commit is
durable (DECISIONS, first token). Without one, the job waits for any worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from understudy import limits
from understudy.engine import frames, record
from understudy.engine.app import App
from understudy.engine.call import journal_key
from understudy.engine.lease import Lease
from understudy.machine.happenings import Move
from understudy.store import Statement, changes
from understudy.store.records import Job
from understudy.wire.events import Event


@dataclass(frozen=True)
class Launch:
    """What to commit, and what to do after: `go` when it is durable, `abandon` when it was
    refused. `fence` is where the run's events of this launch are."""

    app: App
    move: Move
    events: tuple[Event, ...]
    job: Job
    versions: record.Versions
    is_new: bool

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

    def go(self) -> None:
        """The commit is durable: begin, or ring for whoever has a slot."""
        worker = self.app.worker
        if self.job.lease_owner is None:
            self.app.bell.ring(f"run:{self.job.id}")
            self.app.bell.ring("jobs")
            return
        worker.release(self.job.project)
        self.versions.wrote(self.move.writes)
        lease = Lease(self.job, self.job.lease_owner)
        live = self.app.log.open(lease)
        live.show([frames.frame(event) for event in self.events])
        worker.adopt(lease, live, self.move.state, self.versions)

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

    def _events_statement(self, now: float) -> Statement:
        kept = [frames.stored(event, frames.frame(event)) for event in self.events]
        return self.app.log.life_row(self.job.id, self.job.fence, 1, kept)


def launch_new(app: App, project: str, move: Move, *, before: Sequence[Event] = ()) -> Launch:
    """A run that is created; `before` are events that precede its own (thread.created)."""
    run = move.state.run
    now = app.world.now()
    has_slot = app.worker.reserve(project)
    job = Job(
        id=run.id,
        kind="run",
        project=project,
        thread_id=run.thread_id,
        due_at=now,
        expires_at=run.expires_at,
        lease_owner=app.boot_id if has_slot else None,
        lease_until=now + limits.LEASE_S if has_slot else None,
        fence=1 if has_slot else 0,
        reclaims=0,
        cancel_asked_at=None,
        was_leased=False,
    )
    return Launch(app, move, (*before, *move.events), job, record.Versions(), is_new=True)


def launch_again(app: App, job: Job, move: Move, versions: record.Versions) -> Launch:
    """A run that waited for its client and goes on; `job` is as read, without a live lease."""
    now = app.world.now()
    has_slot = app.worker.reserve(job.project)
    taken = replace(
        job,
        due_at=now,
        lease_owner=app.boot_id if has_slot else None,
        lease_until=now + limits.LEASE_S if has_slot else None,
        fence=job.fence + 1,
        was_leased=False,
    )
    return Launch(app, move, move.events, taken, versions, is_new=False)
