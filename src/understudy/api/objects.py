"""What all nouns do alike: load, list, insert, change and delete objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from understudy import limits
from understudy.api.operation import Call
from understudy.errors import ApiError
from understudy.store import Conflict, Statement, UnknownCursor, changes
from understudy.store.records import Record
from understudy.wire.base import Deleted, ListOf, Wire
from understudy.wire.query import ListQuery
from understudy.wire.rules import check_id

W = TypeVar("W", bound=Wire)

_encoder = msgspec.json.Encoder()

# Kind → the prefix that its ids begin with, for cursors.
CURSOR_PREFIXES = {
    "assistant": "asst",
    "thread": "thread",
    "message": "msg",
    "run": "run",
    "step": "step",
    "file": "file",
    "vector_store": "vs",
}


@dataclass(frozen=True, slots=True)
class Loaded(Generic[W]):
    """An object with its place in the record."""

    record: Record
    object: W

    @property
    def version(self) -> int:
        """The version that a change of it must still find."""
        return self.record.version


@cache
def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type)


def decode_record(record: Record, type: type[W]) -> W:
    """A stored object. Small ones are remembered by their JSON: pages and runs read the same
    objects again and again, and decoding was a fifth of a list's time."""
    is_small = len(record.body) <= limits.DECODED_BYTES
    object: W = _remembered(type, record.body) if is_small else _decoder(type).decode(record.body)
    return object


@lru_cache(limits.DECODED_OBJECTS)
def _remembered(type: Any, body: bytes) -> Any:  # Any: the caller's own type.
    return _decoder(type).decode(body)


async def load(
    call: Call, kind: str, id: str, type: type[W], *, parent: str | None = None
) -> Loaded[W]:
    """The object, or the 404; also when it is another project's or another parent's."""
    record = await call.app.store.get(kind, call.project, id, parent)
    if record is None:
        raise ApiError.not_found(kind, id)
    return Loaded(record, decode_record(record, type))


async def require(call: Call, kind: str, id: str) -> Record:
    """The record of an object that must exist."""
    record = await call.app.store.get(kind, call.project, id)
    if record is None:
        raise ApiError.not_found(kind, id)
    return record


async def page(
    call: Call,
    kind: str,
    type: type[W],
    query: ListQuery,
    *,
    parent: str | None = None,
    run_id: str | None = None,
    where: Mapping[str, str] | None = None,
    render: Callable[[Record], W] | None = None,
) -> ListOf[W]:
    """One page of a list (SPEC section 5)."""
    _check_cursors(kind, query)
    try:
        records, has_more = await call.app.store.list(
            kind,
            call.project,
            parent,
            limit=query.limit,
            order=query.order,
            after=query.after,
            before=query.before,
            run_id=run_id,
            where=where,
        )
    except UnknownCursor as unknown:
        raise ApiError.not_found(kind, unknown.id) from None
    data = [render(record) if render else decode_record(record, type) for record in records]
    return ListOf(
        data=data,
        first_id=records[0].id if records else None,
        last_id=records[-1].id if records else None,
        has_more=has_more,
    )


def _check_cursors(kind: str, query: ListQuery) -> None:
    """A cursor that cannot be an id of this list."""
    prefix = CURSOR_PREFIXES[kind]
    for name, value in (("after", query.after), ("before", query.before)):
        if value is not None:
            check_id(name, value, prefix)


def insert(
    call: Call,
    kind: str,
    object: Any,
    *,
    at: float,
    parent: str | None = None,
    private: Wire | None = None,
) -> Statement:
    """The statement that stores a new object; `at` has the sub-second part that orders lists."""
    return changes.insert_object(
        kind,
        id=object.id,
        project=call.project,
        parent=parent,
        created_at=at,
        body=_encoder.encode(object),
        private=None if private is None else _encoder.encode(private),
    )


def replace(call: Call, loaded: Loaded[W], object: W, *, private: Wire | None = None) -> Statement:
    """The statement that stores a changed object, if nobody changed it meanwhile. What is kept
    beside it stays, unless something else is given."""
    return changes.update_object(
        loaded.record.id,
        project=call.project,
        body=_encoder.encode(object),
        private=None if private is None else _encoder.encode(private),
        version=loaded.version,
    )


async def save(call: Call, loaded: Loaded[W], object: W) -> W:
    """Store a changed object and answer with it. A Conflict runs the whole operation again."""
    await call.commit(replace(call, loaded, object), answer=object)
    return object


def new_metadata(old: dict[str, str], wanted: dict[str, str] | None | UnsetType) -> dict[str, str]:
    """Metadata after a modify call: a given object replaces the whole, null clears (SPEC 6)."""
    return old if wanted is UNSET else (wanted or {})


async def delete(call: Call, kind: str, id: str, object_name: str) -> Deleted:
    """Delete an object that has nothing below it."""
    answer = Deleted(id=id, object=object_name)
    try:
        await call.commit(changes.delete_object(id, kind=kind, project=call.project))
    except Conflict:
        raise ApiError.not_found(kind, id) from None
    return answer
