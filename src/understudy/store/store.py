"""Store: the record in our words, over any Database."""

import builtins  # `list` is a method of Store, so its annotations name the type in full.
from collections.abc import Awaitable, Mapping, Sequence
from itertools import takewhile
from typing import Literal, TypeAlias

import msgspec

from understudy import limits
from understudy.store import Comparing, Database, Ring, Row, Statement, Told, UnknownCursor
from understudy.store.claiming import claimed
from understudy.store.halves import Halves
from understudy.store.records import (
    AnswerRow,
    Begun,
    ChunkRow,
    Claimed,
    DocumentRow,
    EventRow,
    IndexRow,
    Job,
    JournalRow,
    KeyRow,
    Listed,
    NodeRow,
    ReadyDocument,
    Record,
    StoreFacts,
)
from understudy.store.rows import begun, claims, has_body, job, listed, record
from understudy.wire.vector_stores import FileCounts

Order: TypeAlias = Literal["asc", "desc"]
_Place: TypeAlias = tuple[float, int]  # (created_at, seq): the order key of every list.

_FIRST: _Place = (-1e300, -(2**63))
_LAST: _Place = (1e300, 2**63 - 1)
# How much of a thread's end is read with its run; one more tells whether there is more.
_END = {
    "limit": limits.MESSAGES_READ_ALONG + 1,
    "most_bytes": limits.MESSAGE_READ_ALONG_BYTES,
}

# (which objects, direction) → statement.
_LISTS: dict[tuple[str, Order], str] = {
    ("all", "asc"): "list_asc",
    ("all", "desc"): "list_desc",
    ("of a run", "asc"): "list_run_messages_asc",
    ("of a run", "desc"): "list_run_messages_desc",
    ("filtered", "asc"): "list_filtered_asc",
    ("filtered", "desc"): "list_filtered_desc",
}


class Store:
    """Reads, leases and the one write verb. Every read of an object names its project."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._halves = Halves(database)

    @property
    def halves(self) -> Halves | None:
        """Vectors that the record compares by itself, if it can."""
        is_able = isinstance(self._database, Comparing) and self._database.compares
        return self._halves if is_able else None

    async def commit(
        self, *statements: Statement | tuple[Statement, ...]
    ) -> builtins.list[builtins.list[Row]]:
        """Apply all changes or none, durably; one row list per statement, tuples flattened.

        Raises Conflict when a guard failed or a unique value was taken. A caller that is
        cancelled here does not know whether its changes were applied: read before repeating.
        """
        return await self.begin_commit(*statements)

    def begin_commit(
        self,
        *statements: Statement | tuple[Statement, ...],
        told: Told | None = None,
        ring: Ring | None = None,
    ) -> Awaitable[builtins.list[builtins.list[Row]]]:
        """The same, on the event loop: the commit is on its way, whoever waits for it. `told` and
        `ring` as in Database."""
        flat: builtins.list[Statement] = []
        for item in statements:
            if isinstance(item, Statement):
                flat.append(item)
            else:
                flat.extend(item)
        return self._database.commit(flat, told, ring)

    async def get(
        self, kind: str, project: str, id: str, parent: str | None = None
    ) -> Record | None:
        """The object, if it is this project's (and this parent's, when one is named)."""
        args = {"id": id, "kind": kind, "project": project}
        rows = await self._database.fetch("get", args)
        if not rows or (parent is not None and rows[0][3] != parent):
            return None
        return record(rows[0])

    async def get_many(self, kind: str, project: str, ids: Sequence[str]) -> builtins.list[Record]:
        """Those of the objects that exist, in the order of `ids`."""
        args = {"ids": _json(ids), "kind": kind, "project": project}
        found = {row[0]: record(row) for row in await self._database.fetch("get_many", args)}
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
        where: Mapping[str, str] | None = None,
        ids: Sequence[str] | None = None,
    ) -> tuple[builtins.list[Listed], bool]:
        """A page of a parent's objects (None: objects without one), and whether more remain.

        With `before` alone the page is the one next to that cursor, still in the requested order,
        and more remain on its far side (SPEC 5). `run_id` keeps only the messages of that run,
        `where` the objects with that `purpose` or `status`, `ids` the ones named.
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
        args: dict[str, object] = {**scope, **bounds, "limit": limit + 1}
        which = "all"
        if run_id is not None:
            which = "of a run"
            args["run_id"] = run_id
        elif where or ids is not None:
            which = "filtered"
            args |= {"purpose": None, "status": None, "ids": None, **(where or {})}
            args["ids"] = None if ids is None else _json(ids)
        rows = await self._database.fetch(_LISTS[which, scan], args)
        page = [listed(row) for row in rows[:limit]]
        if backwards:
            page.reverse()
        return page, len(rows) > limit

    async def beginning(self, run_id: str) -> Begun:
        """What a claimed run begins with, in one trip."""
        args = {"id": run_id, **_END}
        return begun(await self._database.fetch("beginning", args))

    async def job(self, id: str) -> Job | None:
        """The job of this object, if work is left."""
        rows = await self._database.fetch("job", {"id": id})
        return job(rows[0]) if rows else None

    async def active_run(self, thread_id: str) -> Job | None:
        """The job of the run that holds this thread."""
        rows = await self._database.fetch("active_run", {"thread_id": thread_id})
        return job(rows[0]) if rows else None

    async def claim(
        self,
        *,
        owner: str,
        now: float,
        lease_until: float,
        free: int,
        per_project: int,
        with_lost: bool = True,
    ) -> builtins.list[Claimed]:
        """Lease up to `free` due jobs, each at its next fence: of queued runs those of the projects
        that hold the fewest leases first, then the oldest.

        Besides these, jobs that only need a moment (expired or cancelled ones) are always taken,
        a bounded number at a time. A project never gets more than `per_project` live leases for
        due work; a run whose thread has its code on another living server waits a moment for that
        one. A job whose last lease ran out counts a reclaim and says `was_leased`; such ones need
        not be found where they are not wanted. Of another the `next_call` is journalled as begun.
        """
        args = {
            "owner": owner,
            "now": now,
            "lease_until": lease_until,
            "free": max(0, free),
            "per_project": per_project,
            "urgent": limits.CLAIM_URGENT,
            "waited_since": now - limits.PIN_WAIT_S,
            "alive_since": now - limits.NODE_ALIVE_S,
            "with_lost": with_lost,
            **_END,
        }
        rows = await claimed(self._database, Statement("claim_jobs", args))
        return sorted(claims(rows), key=lambda one: (one.job.due_at, one.job.id))

    async def claim_run(
        self,
        run_id: str,
        *,
        owner: str,
        now: float,
        lease_until: float,
        per_project: int,
    ) -> Claimed | None:
        """Lease one queued run as `claim` would if nothing else waited; None when it is not to be
        had."""
        args = {
            "id": run_id,
            "owner": owner,
            "now": now,
            "lease_until": lease_until,
            "per_project": per_project,
            "waited_since": now - limits.PIN_WAIT_S,
            "alive_since": now - limits.NODE_ALIVE_S,
            **_END,
        }
        [rows] = await self._database.commit([Statement("claim_run", args)])
        return next(claims(rows), None)

    async def claim_ingest(
        self, *, owner: str, now: float, lease_until: float, free: int
    ) -> builtins.list[Claimed]:
        """Lease up to `free` stores whose files are to be indexed, shared between projects."""
        args = {
            "owner": owner,
            "now": now,
            "lease_until": lease_until,
            "free": free,
        }
        return list(claims(await claimed(self._database, Statement("claim_ingest", args))))

    async def next_ingest(self, now: float) -> float | None:
        """When the first ingestion without a live lease wants a look."""
        [(at,)] = await self._database.fetch("next_ingest", {"now": now})
        return None if at is None else float(at)

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

    async def next_due(self) -> float | None:
        """When the first job without a lease wants a look; maybe in the past."""
        [(at,)] = await self._database.fetch("next_due", {})
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

    async def nodes(self, *, since: float) -> builtins.list[NodeRow]:
        """The servers that were alive since then, the longest serving first."""
        rows = await self._database.fetch("nodes", {"since": since})
        return [NodeRow(*row) for row in rows]

    async def pin(self, thread_id: str, now: float) -> str | None:
        """The server that has the session of this thread's code."""
        rows = await self._database.fetch("pin", {"thread_id": thread_id, "now": now})
        return str(rows[0][0]) if rows else None

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

    # Vector stores and their index.

    async def store_facts(self, ids: Sequence[str]) -> dict[str, StoreFacts]:
        """The hot numbers of these vector stores."""
        facts: dict[str, StoreFacts] = {}
        files: dict[str, dict[str, int]] = {}
        for id, last_active_at, size_bytes, model, status, count in await self._database.fetch(
            "store_facts", {"ids": _json(ids)}
        ):
            if status is not None:
                files.setdefault(id, {})[status] = count
            facts[id] = StoreFacts(last_active_at, size_bytes, files.get(id, {}), model)
        return facts

    async def store_counts(self, store_ids: Sequence[str]) -> dict[str, FileCounts]:
        """How many files of these vector stores have which status."""
        facts = await self.store_facts(store_ids)
        return {id: file_counts(one.files) for id, one in facts.items()}

    async def batch_counts(self, record_ids: Sequence[str]) -> FileCounts:
        """How many of these places of files in stores have which status."""
        rows = await self._database.fetch("count_statuses", {"ids": _json(record_ids)})
        return file_counts({str(status): int(count) for status, count in rows})

    async def indexes(self, project: str, store_ids: Sequence[str]) -> builtins.list[IndexRow]:
        """What searches must know of these vector stores, as far as they exist."""
        args = {"ids": _json(store_ids), "project": project}
        return [IndexRow(*row) for row in await self._database.fetch("indexes", args)]

    async def ready_documents(self, store: int) -> builtins.list[ReadyDocument]:
        """The documents of a store that searches may find, by number."""
        rows = await self._database.fetch("ready_documents", {"store": store})
        return [ReadyDocument(*row) for row in rows]

    async def document(self, project: str, store_id: str, file_id: str) -> DocumentRow | None:
        """A file in a store, as the index has it."""
        args = {"project": project, "store_id": store_id, "file_id": file_id}
        rows = await self._database.fetch("document", args)
        return DocumentRow(*rows[0]) if rows else None

    async def file_names(
        self, project: str, store_ids: Sequence[str], *, limit: int
    ) -> tuple[builtins.list[str], int]:
        """Names of files that searches of these stores may find, and how many files there are."""
        args = {"project": project, "ids": _json(store_ids), "limit": limit}
        rows = await self._database.fetch("file_names", args)
        return [row[0] for row in rows], rows[0][1] if rows else 0

    async def store_is_referenced(self, project: str, store_id: str, *, besides: str) -> bool:
        """Whether an assistant or thread other than `besides` names this vector store."""
        args = {"project": project, "store_id": store_id, "besides": besides}
        return bool(await self._database.fetch("store_referenced", args))

    async def postings(
        self, stores: Sequence[int], terms: Sequence[str]
    ) -> builtins.list[tuple[str, int, bytes]]:
        """(term, document, packed postings) of terms, also of documents that are not ready."""
        args = {"stores": _json(stores), "terms": _json(terms)}
        return [(row[0], row[1], row[2]) for row in await self._database.fetch("postings", args)]

    async def count_postings(self, stores: Sequence[int], terms: Sequence[str]) -> dict[str, int]:
        """Term → bytes of its postings."""
        args = {"stores": _json(stores), "terms": _json(terms)}
        return dict(await self._database.fetch("count_postings", args))

    async def vectors(self, documents: Sequence[int]) -> builtins.list[tuple[int, bytes, bytes]]:
        """(document, owners, vectors) of these documents' parts, in order."""
        rows = await self._database.fetch("vectors", {"documents": _json(documents)})
        return [(row[0], row[1], row[2]) for row in rows]

    async def chunk_spans(
        self, places: Sequence[tuple[int, int]]
    ) -> builtins.list[tuple[int, int, int, int]]:
        """(document, ordinal, start, stop) of the chunks at these (document, ordinal)."""
        rows = await self._database.fetch("chunk_spans", {"places": _json(places)})
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def chunk_texts(
        self, stretches: Sequence[tuple[int, int, int]]
    ) -> builtins.list[ChunkRow]:
        """The chunks of these stretches: (document, first ordinal, last ordinal)."""
        rows = await self._database.fetch("chunk_texts", {"stretches": _json(stretches)})
        return [ChunkRow(*row) for row in rows]

    async def text(
        self, document: int, *, start: int, limit: int
    ) -> builtins.list[tuple[int, str]]:
        """(ordinal, text) of a document's chunks from an ordinal on; joined, they are its text."""
        args = {"document": document, "from": start, "limit": limit}
        return [(row[0], row[1]) for row in await self._database.fetch("text", args)]

    async def gone_part(self) -> tuple[int, int, int] | None:
        """(document, store, part) of something that waits to be removed."""
        rows = await self._database.fetch("gone_part", {})
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

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


def newest(kind: str, project: str, parent: str, *, limit: int, most_bytes: int) -> Statement:
    """The newest objects of a parent, for a commit to read along, after its changes: a trip of its
    own would cost more. The rows are for `newest_of`."""
    scope = {"kind": kind, "project": project, "parent": parent}
    return Statement("newest", {**scope, "limit": limit + 1, "most_bytes": most_bytes})


def newest_of(rows: Sequence[Row], limit: int) -> tuple[list[Listed], bool]:
    """What that found, up to the first body of more bytes than were asked for; and whether more
    remain."""
    whole = [listed(row) for row in takewhile(has_body, rows[:limit])]
    return whole, len(whole) < len(rows)


def file_counts(files: Mapping[str, int]) -> FileCounts:
    """Status → how many, as the API shows it."""
    return FileCounts(
        in_progress=files.get("in_progress", 0),
        completed=files.get("completed", 0),
        failed=files.get("failed", 0),
        cancelled=files.get("cancelled", 0),
        total=sum(files.values()),
    )


def _reverse(order: Order) -> Order:
    return "desc" if order == "asc" else "asc"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
