"""Every change that can be committed: one function per change, giving its statement or statements.

These functions do nothing by themselves: hand what they return to `Store.commit`. A change that
must not happen when the world moved on carries a guard; see each docstring for what it refuses.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from understudy import limits
from understudy.store import Statement

# Objects.


def insert_object(
    kind: str,
    *,
    id: str,
    project: str,
    parent: str | None,
    created_at: float,
    body: bytes,
    private: bytes | None = None,
    children: int = 0,
) -> Statement:
    """A new object, with as many `children` as are inserted with it. Conflict("exists") when the
    id is taken."""
    args = {
        "id": id,
        "kind": kind,
        "project": project,
        "parent": parent or "",
        "created_at": created_at,
        "children": children,
        "body": body.decode(),
        "private": _text(private),
    }
    return Statement("insert_object", args)


def update_object(
    id: str,
    *,
    project: str,
    body: bytes,
    private: bytes | None,
    version: int | None = None,
) -> Statement:
    """A new body; private None keeps what is there. Refused when gone, or not at `version`."""
    args = {
        "id": id,
        "project": project,
        "body": body.decode(),
        "private": _text(private),
        "version": version,
    }
    return Statement("update_object", args, rows=1)


def overwrite_object(id: str, *, project: str, body: bytes, private: bytes | None) -> Statement:
    """A new body at any version, with the metadata that is there: the only part that a client may
    change of what a run writes. Refused when the object is gone."""
    head, tail = _around_metadata(body)
    args = {"id": id, "project": project, "head": head, "tail": tail, "private": _text(private)}
    return Statement("overwrite_object", args, rows=1)


def delete_object(id: str, *, kind: str, project: str) -> tuple[Statement, ...]:
    """The object goes, its tombstone stays as a cursor. Refused when there is none."""
    args = {"id": id, "kind": kind, "project": project}
    return Statement("bury_object", args), Statement("delete_object", args, rows=1)


def grow(id: str, *, project: str, by: int, limit: int) -> Statement:
    """Count children and lock the parent's row. Refused when gone or the limit would be passed."""
    args = {"id": id, "project": project, "by": by, "limit": limit}
    return Statement("grow", args, rows=1)


def require_object(id: str, *, kind: str, project: str) -> Statement:
    """Changes nothing; refused when the object is gone."""
    return Statement("require_object", {"id": id, "kind": kind, "project": project}, rows=1)


def require_version(id: str, *, kind: str, project: str, version: int) -> Statement:
    """Changes nothing; refused when the object is gone, or was changed since this version."""
    args = {"id": id, "kind": kind, "project": project, "version": version}
    return Statement("require_version", args, rows=1)


def purge_children(parent: str, *, limit: int) -> tuple[Statement, ...]:
    """Remove up to `limit` rows each of what belongs to a deleted parent, deepest first.

    That is: the steps, events and journals of its runs (or its own, when it is a run), then its
    children, then their tombstones. Every statement returns a row per removal; the work is done
    when a commit returns none.
    """
    args = {"parent": parent, "limit": limit}
    names = ("purge_steps", "purge_events", "purge_journal", "purge_children", "purge_tombstones")
    return tuple(Statement(name, args) for name in names)


# Jobs.


def thread_free(thread_id: str) -> Statement:
    """Changes nothing; refused while the thread has an active run."""
    return Statement("thread_free", {"thread_id": thread_id}, rows=0)


def insert_job(
    id: str,
    *,
    kind: str,
    project: str,
    thread_id: str | None,
    due_at: float,
    expires_at: float | None,
    fence: int,
    lease_owner: str | None,
    lease_until: float | None,
    next_call: str | None = None,
) -> Statement:
    """A new job, maybe already leased; else `next_call` is the model call that whoever takes it
    begins with. Conflict("thread_lock") when its thread has a run."""
    args = {
        "id": id,
        "kind": kind,
        "project": project,
        "thread_id": thread_id,
        "due_at": due_at,
        "expires_at": expires_at,
        "fence": fence,
        "lease_owner": lease_owner,
        "lease_until": lease_until,
        "next_call": next_call,
    }
    return Statement("insert_job", args)


def hold_job(id: str, *, owner: str, fence: int, cancelled_ok: bool) -> Statement:
    """Changes nothing; refused when the job is not this owner's at this fence any more.

    Also refused when a cancel was asked, unless that is fine. Put it before every engine write.
    """
    args = {"id": id, "owner": owner, "fence": fence, "cancelled_ok": cancelled_ok}
    return Statement("hold_job", args, rows=1)


def rest_job(id: str, *, fence: int, due_at: float) -> Statement:
    """Give the lease back and be looked at again at `due_at`. Refused at another fence."""
    return Statement("rest_job", {"id": id, "fence": fence, "due_at": due_at}, rows=1)


def hand_over_job(id: str, *, owner: str, fence: int, now: float) -> Statement:
    """End a lease early for the next holder, whose takeover counts as no reclaim.

    Refused when the job is not this owner's at this fence any more.
    """
    args = {"id": id, "owner": owner, "fence": fence, "now": now}
    return Statement("hand_over_job", args, rows=1)


def take_job(
    id: str,
    *,
    now: float,
    fence: int,
    owner: str | None,
    lease_until: float | None,
    due_at: float,
    next_call: str | None = None,
) -> Statement:
    """Take the fence after `fence`, with a lease or (owner None) only to change the run;
    `next_call` as in insert_job.

    Refused while a lease is alive, or when the job is not at `fence`.
    """
    args = {
        "id": id,
        "now": now,
        "fence": fence,
        "owner": owner,
        "lease_until": lease_until,
        "due_at": due_at,
        "next_call": next_call,
    }
    return Statement("take_job", args, rows=1)


def ask_cancel(id: str, *, now: float) -> Statement:
    """Mark the job as to be cancelled. Refused when it is gone or already marked."""
    return Statement("ask_cancel", {"id": id, "now": now}, rows=1)


def delete_job(id: str, *, fence: int | None) -> Statement:
    """The work is over. With a fence, refused when the job is not at it; else never refused."""
    if fence is None:
        return Statement("drop_job", {"id": id})
    return Statement("delete_job", {"id": id, "fence": fence}, rows=1)


# Nodes.


def keep_node(id: str, *, role: str, version: str, live_runs: int, now: float) -> Statement:
    """This server is alive."""
    args = {"id": id, "role": role, "version": version, "live_runs": live_runs, "now": now}
    return Statement("keep_node", args)


def drop_node(id: str) -> tuple[Statement, ...]:
    """This server ends, and the sessions of code with it."""
    return Statement("drop_node", {"id": id}), Statement("drop_pins", {"id": id})


def forget_nodes(*, before: float, now: float) -> tuple[Statement, ...]:
    """Servers that were not seen since `before` are forgotten, and sessions that are over."""
    return Statement("forget_nodes", {"before": before}), Statement("forget_pins", {"before": now})


def keep_pin(thread_id: str, *, node: str, until: float) -> Statement:
    """The session of a thread's code is on this server."""
    return Statement("keep_pin", {"thread_id": thread_id, "node": node, "until": until})


# Events and the journal of outside calls.


def append_events(
    run_id: str,
    *,
    fence: int,
    seq_from: int,
    seq_to: int,
    kind: Literal["life", "delta"],
    created_at: float,
    frames: bytes,
) -> Statement:
    """A stretch of the run's log. Conflict("exists") when this place is taken."""
    args = {
        "run_id": run_id,
        "fence": fence,
        "seq_from": seq_from,
        "seq_to": seq_to,
        "kind": kind,
        "created_at": created_at,
        "frames": frames,
    }
    return Statement("append_events", args)


def append_deltas(
    run_id: str, *, fence: int, seq_from: int, seq_to: int, created_at: float, frames: bytes
) -> Statement:
    """Deltas of a run, in a commit of its driver. Never refused: a save of them, or of their first
    ones, may have been made without its answer being heard, and then the row grows."""
    args = {
        "run_id": run_id,
        "fence": fence,
        "seq_from": seq_from,
        "seq_to": seq_to,
        "created_at": created_at,
        "frames": frames,
    }
    return Statement("append_deltas", args)


class Stretch(NamedTuple):
    """Deltas of a run that follow each other, from one sequence to another, and whose lease it was
    that they were heard under."""

    run_id: str
    fence: int
    seq_from: int
    seq_to: int
    frames: bytes
    owner: str


def save_deltas(stretches: Sequence[Stretch], *, created_at: float) -> Statement:
    """Deltas of many runs. Never refused: of a job that is not its owner's at this fence any more,
    nothing is saved, and a row that is there grows, as above. They may be lost when the record's
    server dies, unlike all else that was committed: then their turn is made again."""
    rows = [
        (one.run_id, one.fence, one.seq_from, one.seq_to, created_at, one.frames, one.owner)
        for one in stretches
    ]
    return Statement("save_deltas", {}, many=rows)


def start_call(run_id: str, *, key: str, attempt: int, fence: int, started_at: float) -> Statement:
    """An outside call is about to start. Conflict("exists") when this attempt is known."""
    args = {
        "run_id": run_id,
        "key": key,
        "attempt": attempt,
        "fence": fence,
        "started_at": started_at,
    }
    return Statement("start_call", args)


def end_call(run_id: str, *, key: str, attempt: int, ended_at: float, outcome: str) -> Statement:
    """An outside call ended. Refused when it was never started."""
    args = {
        "run_id": run_id,
        "key": key,
        "attempt": attempt,
        "ended_at": ended_at,
        "outcome": outcome,
    }
    return Statement("end_call", args, rows=1)


# Idempotency and keys.


def remember_answer(
    project: str,
    *,
    key: str,
    hash: str,
    created_at: float,
    answer: bytes,
    run_id: str | None,
) -> Statement:
    """What was answered under an idempotency key. Conflict("idempotency") when it is taken."""
    args = {
        "project": project,
        "key": key,
        "hash": hash,
        "created_at": created_at,
        "answer": answer.decode(),
        "run_id": run_id,
    }
    return Statement("remember_answer", args)


def forget_answers(*, before: float) -> Statement:
    """Forget a batch of the answers older than that; returns a row per answer forgotten."""
    return Statement("forget_answers", {"before": before, "limit": limits.DELETE_BATCH})


def insert_key(
    id: str, *, project: str, hash: str, prefix: str, name: str, created_at: float
) -> Statement:
    """A new API key. Conflict("exists") when the id or the hash is taken."""
    args = {
        "id": id,
        "project": project,
        "hash": hash,
        "prefix": prefix,
        "name": name,
        "created_at": created_at,
    }
    return Statement("insert_key", args)


def revoke_key(id: str, *, now: float) -> Statement:
    """The key opens nothing any more. Refused when it is unknown or already revoked."""
    return Statement("revoke_key", {"id": id, "now": now}, rows=1)


def _text(value: bytes | None) -> str | None:
    """JSON as the databases want it."""
    return None if value is None else value.decode()


def _around_metadata(body: bytes) -> tuple[str, str]:
    """A body's JSON before and after the value of its metadata, byte for byte."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    names = list(fields)
    place = names.index("metadata")
    before = [f"{_quoted(name)}:{bytes(fields[name]).decode()}," for name in names[:place]]
    after = [f",{_quoted(name)}:{bytes(fields[name]).decode()}" for name in names[place + 1 :]]
    return "{" + "".join(before) + '"metadata":', "".join(after) + "}"


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()
