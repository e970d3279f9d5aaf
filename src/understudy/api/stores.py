"""Vector stores as all nouns use them: load and show one, make one, put files into one.

Nothing here is stored by itself: what makes a change gives its statements, so that a message, its
thread and the thread's new store with its files are one commit.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from understudy import limits
from understudy.api import objects
from understudy.api.operation import Call
from understudy.engine import files
from understudy.errors import ApiError
from understudy.errors.vector_stores import store_expired, store_full
from understudy.machine import vector_store as machine
from understudy.machine.vector_store import StoreBody
from understudy.store import Statement, changes, index_changes
from understudy.store.records import Record, StoreFacts
from understudy.store.store import file_counts
from understudy.wire.base import given
from understudy.wire.files import File
from understudy.wire.vector_stores import (
    Attribute,
    ChunkingStrategyInput,
    ExpiresAfter,
    FileCounts,
    VectorStore,
    VectorStoreFile,
)

KIND = "vector_store"
FILE_KIND = "vector_store_file"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to be in a store. Attributes that are None stay as they are."""

    file_id: str
    attributes: dict[str, Attribute] | None = None
    chunking: ChunkingStrategyInput | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """Files in a store, in the order asked for, and the statements that put them there."""

    files: list[VectorStoreFile]
    statements: list[Statement]

    @property
    def counts(self) -> FileCounts:
        """How many of them are in which state."""
        return counts_of(self.files)


@dataclass(frozen=True, slots=True)
class Made:
    """A new store, and the statements that store it with its files."""

    store: VectorStore
    statements: list[Statement]


# Reading.


async def load(call: Call, store_id: str) -> tuple[objects.Loaded[StoreBody], StoreFacts]:
    """A store and its hot numbers, or the 404."""
    loaded = await objects.load(call, KIND, store_id, StoreBody)
    facts = await call.app.store.store_facts([store_id])
    return loaded, facts.get(store_id) or _no_facts(loaded.object)


async def load_usable(call: Call, store_id: str) -> tuple[objects.Loaded[StoreBody], StoreFacts]:
    """The same, but a store that has expired is refused."""
    loaded, facts = await load(call, store_id)
    if machine.is_expired(loaded.object, facts.last_active_at, call.app.world.now()):
        raise store_expired(store_id)
    return loaded, facts


async def shown(call: Call, bodies: Sequence[StoreBody]) -> list[VectorStore]:
    """Stores as the API shows them."""
    facts = await call.app.store.store_facts([body.id for body in bodies])
    return [show(call, body, facts.get(body.id) or _no_facts(body)) for body in bodies]


def show(call: Call, body: StoreBody, facts: StoreFacts) -> VectorStore:
    """A store as the API shows it."""
    return machine.shown_store(
        body,
        counts=file_counts(facts.files),
        usage_bytes=facts.size_bytes,
        last_active_at=facts.last_active_at,
        now=call.app.world.now(),
    )


def _no_facts(body: StoreBody) -> StoreFacts:
    """Of a store that goes between two reads."""
    return StoreFacts(last_active_at=body.created_at, size_bytes=0, files={})


def touched(facts: StoreFacts, now: float) -> StoreFacts:
    """The numbers of a store that was just used."""
    return dataclasses.replace(facts, last_active_at=now)


def counts_of(files: Sequence[VectorStoreFile]) -> FileCounts:
    """How many of these files are in which state."""
    statuses = [file.status for file in files]
    return file_counts({status: statuses.count(status) for status in set(statuses)})


async def require_files(call: Call, file_ids: Sequence[str]) -> dict[str, File]:
    """These files, all of which must be there and not have expired."""
    records = await files.present(call.app, call.project, list(dict.fromkeys(file_ids)))
    found = {record.id: objects.decode_record(record, File) for record in records}
    for id in file_ids:
        if id not in found:
            raise ApiError.not_found("file", id)
    return found


# Making one, and putting files into it.


async def make(
    call: Call,
    wanted: Sequence[Wanted],
    *,
    name: str | None = None,
    description: str | None = None,
    expires_after: ExpiresAfter | None = None,
    metadata: dict[str, str] | None = None,
) -> Made:
    """A new store with these files."""
    now = call.app.world.now()
    body = StoreBody(
        id=call.app.world.new_id(KIND),
        created_at=int(now),
        name=name,
        description=description,
        expires_after=expires_after,
        metadata=metadata or {},
    )
    attached = await attach(call, body.id, wanted, facts=None)
    facts = StoreFacts(last_active_at=now, size_bytes=0, files={})
    return Made(
        store=replace(show(call, body, facts), **_status_with(attached.counts)),
        statements=[
            objects.insert(call, KIND, body, at=now),
            index_changes.insert_store(body.id, project=call.project, now=now),
            *attached.statements,
        ],
    )


def _status_with(counts: FileCounts) -> dict[str, Any]:
    return {
        "file_counts": counts,
        "status": "in_progress" if counts.in_progress else "completed",
    }


async def attach(
    call: Call, store_id: str, wanted: Sequence[Wanted], *, facts: StoreFacts | None
) -> Attached:
    """Put files into a store; `facts` is None for one that is made in the same commit.

    A file that is there already stays as it is, but takes the attributes that are given, and is
    processed anew if it had failed or was cancelled. One unknown file refuses all.
    """
    once: dict[str, Wanted] = {}
    for one in wanted:
        once.setdefault(one.file_id, one)
    await require_files(call, list(once))
    there = {} if facts is None else await _there(call, store_id, once)
    total = len(once) - len(there) + (0 if facts is None else sum(facts.files.values()))
    if total > limits.VECTOR_STORE_FILES:
        raise store_full(store_id, limits.VECTOR_STORE_FILES)
    now = call.app.world.now()
    placed, places = [], list[Statement]()
    for one in once.values():
        record = there.get(one.file_id)
        file, more = _place(call, store_id, one, record, now)
        placed.append(file)
        places += more
    # In the order of what indexing commits, or each could wait for the other: the store's job, its
    # files, its hot numbers.
    statements: list[Statement] = []
    if any(file.status == "in_progress" for file in placed):
        statements.append(index_changes.wake_ingest(store_id, project=call.project, now=now))
        call.wakes_ingest = True
    if facts is not None:
        # The store may go meanwhile: then this is refused, and done again.
        statements.append(changes.require_object(store_id, kind=KIND, project=call.project))
    statements += places
    if facts is not None:
        statements.append(index_changes.touch_store(store_id, now=now))
    return Attached(placed, statements)


async def _there(call: Call, store_id: str, file_ids: Iterable[str]) -> dict[str, Record]:
    """File id → its place in the store, of those that are in it already."""
    ids = [index_changes.record_id(store_id, file_id) for file_id in file_ids]
    records = await call.app.store.get_many(FILE_KIND, call.project, ids)
    return {record.id.partition("/")[2]: record for record in records}


def _place(
    call: Call, store_id: str, wanted: Wanted, record: Record | None, now: float
) -> tuple[VectorStoreFile, list[Statement]]:
    """One file's place in a store: new, as it was, or to be processed anew."""
    if record is None:
        return _new_place(call, store_id, wanted, now)
    file = old = objects.decode_record(record, VectorStoreFile)
    if wanted.attributes is not None:
        file = replace(file, attributes=wanted.attributes)
    is_anew = machine.may_move(file.status, "in_progress")
    if is_anew:
        file = machine.again(file, chunking=wanted.chunking)
    if file == old:
        return file, []
    statements = [stored(call, record, file)]
    if is_anew:
        statements += index_changes.drop_document(store_id, file.id, project=call.project, now=now)
    else:
        statements += attributes_set(file)
    return file, statements


def _new_place(
    call: Call, store_id: str, wanted: Wanted, now: float
) -> tuple[VectorStoreFile, list[Statement]]:
    file = machine.new_file(
        file_id=wanted.file_id,
        store_id=store_id,
        now=int(now),
        chunking=wanted.chunking,
        attributes=wanted.attributes,
    )
    insert = changes.insert_object(
        FILE_KIND,
        id=index_changes.record_id(store_id, file.id),
        project=call.project,
        parent=store_id,
        created_at=now,
        body=msgspec.json.encode(file),
    )
    # The file may go meanwhile, and with it its places in stores.
    return file, [changes.require_object(file.id, kind="file", project=call.project), insert]


def stored(call: Call, record: Record, file: VectorStoreFile) -> Statement:
    """The statement that stores a changed place, if nobody changed it meanwhile."""
    return changes.update_object(
        record.id,
        project=call.project,
        body=msgspec.json.encode(file),
        private=None,
        version=record.version,
    )


def attributes_set(file: VectorStoreFile) -> tuple[Statement, ...]:
    """The statements that tell the index a file's attributes."""
    encoded = msgspec.json.encode(file.attributes)
    return index_changes.set_attributes(file.vector_store_id, file.id, attributes=encoded)


def wanted_attributes(
    value: dict[str, Attribute] | None | UnsetType,
) -> dict[str, Attribute] | None:
    """What a body says of attributes: absent leaves them, null clears them."""
    return None if value is UNSET else given(value, {})


def ring(call: Call) -> None:
    """Tell the workers that files wait to be indexed, if this call has attached any."""
    if call.wakes_ingest:
        call.app.bell.ring("ingest")
