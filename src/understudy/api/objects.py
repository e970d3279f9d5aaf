"""What all nouns do alike: load, list, insert, change and delete objects."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from understudy import limits
from understudy.api.operation import Call
from understudy.errors import ApiError
from understudy.store import Conflict, Statement, UnknownCursor, changes
from understudy.store.records import Listed, Record
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


def decode_record(record: Listed, type: type[W]) -> W:
    """A stored object."""
    is_small = len(record.body) <= limits.DECODED_BYTES
    body = record.body
    object: W = _remembered(type, body).object if is_small else _decoder(type).decode(body)
    return object


class _Known(NamedTuple):
    """An object and the JSON that clients get."""

    object: Any  # Of the caller's own type.
    json: msgspec.Raw


def _known(type: Any, body: bytes) -> _Known:
    """A stored object. Small ones are remembered by what is stored: pages and runs read the same
    objects again and again, and decoding and encoding them was a third of a list's time."""
    return _remembered(type, body) if len(body) <= limits.DECODED_BYTES else _read(type, body)


def _read(type: Any, body: bytes) -> _Known:
    object = _decoder(type).decode(body)
    # Encoded anew: what an older version stored may lack a field.
    return _Known(object, msgspec.Raw(_encoder.encode(object)))


_remembered = lru_cache(limits.DECODED_OBJECTS)(_read)


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
    where: Mapping[str, str] | None = None,
    render: Callable[[Listed], W] | None = None,
) -> ListOf[W]:
    """One page of a list (SPEC section 5), to be looked at before it goes out."""
    records, has_more = await _records(call, kind, query, parent=parent, where=where)
    data = [render(record) if render else decode_record(record, type) for record in records]
    return _list_of(records, data, has_more)


async def shown_page(
    call: Call,
    kind: str,
    type: type[W],
    query: ListQuery,
    *,
    parent: str | None = None,
    run_id: str | None = None,
    amend: Callable[[Call, list[W]], Awaitable[list[W]]] | None = None,
) -> ListOf[W]:
    """One page of objects that go out as they are stored, in JSON; `amend` may replace some."""
    records, has_more = await _records(call, kind, query, parent=parent, run_id=run_id)
    known = [_known(type, record.body) for record in records]
    if amend is None:
        return _list_of(records, [one.json for one in known], has_more)
    amended = await amend(call, [one.object for one in known])
    data = [
        one.json if one.object is left else left for one, left in zip(known, amended, strict=True)
    ]
    return _list_of(records, data, has_more)


async def _records(
    call: Call,
    kind: str,
    query: ListQuery,
    *,
    parent: str | None,
    run_id: str | None = None,
    where: Mapping[str, str] | None = None,
) -> tuple[list[Listed], bool]:
    _check_cursors(kind, query)
    try:
        return await call.app.store.list(
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


def _list_of(records: list[Listed], data: list[Any], has_more: bool) -> ListOf[Any]:
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
    children: int = 0,
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
        children=children,
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
