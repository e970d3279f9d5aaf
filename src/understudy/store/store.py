"""Store: the record in our words, over any Database."""

import builtins  # `list` is a method of Store, so its annotations name the type in full.
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from understudy import limits
from understudy.store import Database, Row, Statement, UnknownCursor
from understudy.store.records import AnswerRow, EventRow, Job, JournalRow, KeyRow, Record

Order: TypeAlias = Literal["asc", "desc"]
_Place: TypeAlias = tuple[float, int]  # (created_at, seq): the order key of every list.

_FIRST: _Place = (-1e300, -(2**63))
_LAST: _Place = (1e300, 2**63 - 1)
# (is a run's messages only, direction) → statement.
_LISTS: dict[tuple[bool, Order], str] = {
    (False, "asc"): "list_asc",
    (False, "desc"): "list_desc",
    (True, "asc"): "list_run_messages_asc",
    (True, "desc"): "list_run_messages_desc",
}


class Store:
    """Reads, leases and the one write verb. Every read of an object names its project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def commit(
        self, *statements: Statement | tuple[Statement, ...]
    ) -> builtins.list[builtins.list[Row]]:
        """Apply all changes or none, durably; one row list per statement, tuples flattened.

        Raises Conflict when a guard failed or a unique value was taken. A caller that is
        cancelled here does not know whether its changes were applied: read before repeating.
        """
        flat: builtins.list[Statement] = []
        for item in statements:
            if isinstance(item, Statement):
                flat.append(item)
            else:
                flat.extend(item)
        return await self._database.commit(flat)

    async def get(
        self, kind: str, project: str, id: str, parent: str | None = None
    ) -> Record | None:
        """The object, if it is this project's (and this parent's, when one is named)."""
        args = {"id": id, "kind": kind, "project": project}
        rows = await self._database.fetch("get", args)
        if not rows or (parent is not None and rows[0][3] != parent):
            return None
        return _record(rows[0])

    async def get_many(self, kind: str, project: str, ids: Sequence[str]) -> builtins.list[Record]:
        """Those of the objects that exist, in the order of `ids`."""
        args = {"ids": _json(ids), "kind": kind, "project": project}
        found = {row[0]: _record(row) for row in await self._database.fetch("get_many", args)}
        return [found[id] for id in ids if id in found]

    async def list(
        self,
        kind: str,
        project: str,
        parent: str | None,
        *,
        limit: int,
        order: Order,
        after: str | None,
        before: str | None,
        run_id: str | None = None,
    ) -> tuple[builtins.list[Record], bool]:
        """A page of a parent's objects (None: objects without one), and whether more remain.

        With `before` alone the page is the one next to that cursor, still in the requested order,
        and more remain on its far side (SPEC 5). `run_id` keeps only the messages of that run.
        """
        assert run_id is None or kind == "message", "only messages are listed by run"
        scope = {"kind": kind, "project": project, "parent": parent or ""}
        start = await self._place(scope, after)
        stop = await self._place(scope, before)
        backwards = start is None and stop is not None
        low, high = (start, stop) if order == "asc" else (stop, start)
        low_at, low_seq = low or _FIRST
        high_at, high_seq = high or _LAST
        bounds = {"low_at": low_at, "low_seq": low_seq, "high_at": high_at, "high_seq": high_seq}
        scan: Order = _reverse(order) if backwards else order
        query = _LISTS[run_id is not None, scan]
        args = {**scope, **bounds, "run_id": run_id, "limit": limit + 1}
        rows = await self._database.fetch(query, args)
        page = [_record(row) for row in rows[:limit]]
        if backwards:
            page.reverse()
        return page, len(rows) > limit

    async def job(self, id: str) -> Job | None:
        """The job of this object, if work is left."""
        rows = await self._database.fetch("job", {"id": id})
        return _job(rows[0]) if rows else None

    async def active_run(self, thread_id: str) -> Job | None:
        """The job of the run that holds this thread."""
        rows = await self._database.fetch("active_run", {"thread_id": thread_id})
        return _job(rows[0]) if rows else None

    async def claim(
        self, *, owner: str, now: float, lease_until: float, free: int, per_project: int
    ) -> builtins.list[Job]:
        """Lease up to `free` due jobs, oldest first, and each at its next fence.

        Besides these, jobs that only need a moment (expired or cancelled ones) are always taken,
        a bounded number at a time. A project never gets more than `per_project` live leases for
        due work. A job whose last lease ran out counts a reclaim and says `was_leased`.
        """
        args = {
            "owner": owner,
            "now": now,
            "lease_until": lease_until,
            "free": max(0, free),
            "per_project": per_project,
            "urgent": limits.CLAIM_URGENT,
        }
        [rows] = await self._database.commit([Statement("claim_jobs", args)])
        return sorted((_job(row) for row in rows), key=lambda job: (job.due_at, job.id))

    async def renew(
        self, *, owner: str, now: float, lease_until: float, held: Sequence[tuple[str, int]]
    ) -> builtins.list[tuple[str, int, float | None]]:
        """Prolong these (id, fence) leases; the survivors, with when a cancel was asked.

        A lease that ran out is still prolonged when nobody took the job meanwhile.
        """
        args = {"owner": owner, "now": now, "lease_until": lease_until, "held": _json(held)}
        [rows] = await self._database.commit([Statement("renew_leases", args)])
        return [(id, fence, cancel_asked_at) for id, fence, cancel_asked_at in rows]

    async def free_leases(self, *, owner: str, now: float) -> int:
        """End the leases of all other owners; for a start where no other process can be alive."""
        args = {"owner": owner, "now": now}
        [rows] = await self._database.commit([Statement("free_leases", args)])
        return len(rows)

    async def next_due(self, now: float) -> float | None:
        """When the first job without a live lease wants a look; maybe in the past."""
        [(at,)] = await self._database.fetch("next_due", {"now": now})
        return None if at is None else float(at)

    async def events(self, run_id: str, after: tuple[int, int]) -> builtins.list[EventRow]:
        """The rows of a run's log that hold anything after (fence, seq), in order."""
        args = {"run_id": run_id, "fence": after[0], "seq": after[1]}
        return [EventRow(*row) for row in await self._database.fetch("events", args)]

    async def journal(self, run_id: str) -> builtins.list[JournalRow]:
        """The outside calls of a run, in the order they were started."""
        rows = await self._database.fetch("journal", {"run_id": run_id})
        return [JournalRow(*row) for row in rows]

    async def prune_deltas(self, *, before: float, limit: int) -> int:
        """Remove up to `limit` delta rows older than that, of runs at rest; how many went."""
        args = {"before": before, "limit": limit}
        [rows] = await self._database.commit([Statement("prune_deltas", args)])
        return len(rows)

    async def key(self, hash: str) -> KeyRow | None:
        """The key with this hash, unless it was revoked."""
        rows = await self._database.fetch("key", {"hash": hash})
        return KeyRow(*rows[0]) if rows else None

    async def keys(self, project: str | None) -> builtins.list[KeyRow]:
        """All keys, revoked ones too, oldest first; of one project or of all."""
        rows = await self._database.fetch("keys", {"project": project})
        return [KeyRow(*row) for row in rows]

    async def answer(self, project: str, key: str) -> AnswerRow | None:
        """What was answered under this idempotency key."""
        rows = await self._database.fetch("answer", {"project": project, "key": key})
        if not rows:
            return None
        project, key, hash, created_at, answer, run_id = rows[0]
        return AnswerRow(project, key, hash, created_at, answer.encode(), run_id)

    async def ping(self) -> None:
        """Raises when the record cannot be written."""
        await self._database.commit([Statement("ping", {})])

    async def close(self) -> None:
        """Finish what was accepted, then let go of the record."""
        await self._database.close()

    async def _place(self, scope: dict[str, str], cursor: str | None) -> _Place | None:
        """Where a cursor stands in its list, also after its object was deleted."""
        if cursor is None:
            return None
        rows = await self._database.fetch("cursor", {**scope, "id": cursor})
        if not rows:
            raise UnknownCursor(cursor)
        created_at, seq = rows[0]
        return created_at, seq


def _reverse(order: Order) -> Order:
    return "desc" if order == "asc" else "asc"


def _record(row: Row) -> Record:
    id, kind, project, parent, created_at, seq, version, children, body, private = row
    return Record(
        id,
        kind,
        project,
        parent or None,
        created_at,
        seq,
        version,
        children,
        body.encode(),
        None if private is None else private.encode(),
    )


def _job(row: Row) -> Job:
    # SQLite has no booleans; the last column is one.
    return Job(*(*row[:-1], bool(row[-1])))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
