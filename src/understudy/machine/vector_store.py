"""Vector stores: what their status is, how a file in one lives, and which files a filter keeps.

A store's own object holds only what never moves by itself (`StoreBody`); its counts, its size
and its last use are numbers of the record, and everything that depends on them is decided here,
on reading. The same is true of batches.

A file in a store is processed once it is put there: in_progress → completed, failed or cancelled.
Only one that failed or was cancelled may be processed anew.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, assert_never

from msgspec.structs import replace

from understudy import limits
from understudy.machine.private import BatchPrivate
from understudy.wire.base import Wire
from understudy.wire.vector_stores import (
    AndFilter,
    Attribute,
    BatchStatus,
    ChunkingStrategy,
    ChunkingStrategyInput,
    EqualFilter,
    ErrorCode,
    ExpiresAfter,
    FileBatch,
    FileCounts,
    FileStatus,
    Filter,
    GreaterFilter,
    GreaterOrEqualFilter,
    InFilter,
    LessFilter,
    LessOrEqualFilter,
    NotEqualFilter,
    NotInFilter,
    OrFilter,
    StaticChunking,
    StaticChunkingStrategy,
    StoreFileError,
    StoreStatus,
    VectorStore,
    VectorStoreFile,
)

Attributes: TypeAlias = Mapping[str, Attribute]
Predicate: TypeAlias = Callable[[Attributes], bool]

DAY_S: Final = 86_400


# Stores.


class StoreBody(Wire, frozen=True, kw_only=True):
    """What is stored of a vector store's object."""

    id: str
    created_at: int
    name: str | None = None
    description: str | None = None
    expires_after: ExpiresAfter | None = None
    metadata: dict[str, str] = {}


def expires_at(body: StoreBody, last_active_at: float) -> int | None:
    """When the store expires, counted from its last use."""
    policy = body.expires_after
    return None if policy is None else int(last_active_at) + policy.days * DAY_S


def is_expired(body: StoreBody, last_active_at: float, now: float) -> bool:
    """Whether the store can no longer be used."""
    end = expires_at(body, last_active_at)
    return end is not None and now >= end


def shown_store(
    body: StoreBody, *, counts: FileCounts, usage_bytes: int, last_active_at: float, now: float
) -> VectorStore:
    """A store as the API shows it. An expired one keeps its files, but takes no space any more."""
    expired = is_expired(body, last_active_at, now)
    status: StoreStatus
    status = "in_progress" if counts.in_progress else "completed"
    return VectorStore(
        id=body.id,
        created_at=body.created_at,
        name=body.name,
        description=body.description,
        usage_bytes=0 if expired else usage_bytes,
        file_counts=counts,
        status="expired" if expired else status,
        expires_after=body.expires_after,
        expires_at=expires_at(body, last_active_at),
        last_active_at=int(last_active_at),
        metadata=body.metadata,
    )


# Files in a store. A status is assigned only by `_moved`.

MOVES: Final[Mapping[FileStatus, frozenset[FileStatus]]] = {
    "in_progress": frozenset({"completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset({"in_progress"}),
    "cancelled": frozenset({"in_progress"}),
}


def may_move(old: FileStatus, new: FileStatus) -> bool:
    """Whether a file can go from one status to another."""
    return new in MOVES[old]


def new_file(
    *,
    file_id: str,
    store_id: str,
    now: int,
    chunking: ChunkingStrategyInput | None = None,
    attributes: Attributes | None = None,
) -> VectorStoreFile:
    """A file that was just put into a store."""
    return VectorStoreFile(
        id=file_id,
        usage_bytes=0,
        created_at=now,
        vector_store_id=store_id,
        status="in_progress",
        last_error=None,
        chunking_strategy=effective_chunking(chunking),
        attributes=dict(attributes or {}),
    )


def completed(file: VectorStoreFile, *, usage_bytes: int) -> VectorStoreFile:
    """The file can be searched."""
    return _moved(file, "completed", usage_bytes=usage_bytes)


def failed(file: VectorStoreFile, *, code: ErrorCode, message: str) -> VectorStoreFile:
    """The file cannot be processed."""
    error = StoreFileError(code=code, message=message)
    return _moved(file, "failed", last_error=error, usage_bytes=0)


def cancelled(file: VectorStoreFile) -> VectorStoreFile:
    """The client does not want the file to be processed any more."""
    return _moved(file, "cancelled", usage_bytes=0)


def again(
    file: VectorStoreFile, *, chunking: ChunkingStrategyInput | None = None
) -> VectorStoreFile:
    """A file that failed or was cancelled is processed anew, maybe cut in another way."""
    strategy = file.chunking_strategy if chunking is None else effective_chunking(chunking)
    return _moved(file, "in_progress", last_error=None, chunking_strategy=strategy)


def _moved(file: VectorStoreFile, status: FileStatus, **changed: Any) -> VectorStoreFile:
    assert may_move(file.status, status), f"a file that is {file.status} cannot be {status}"
    return replace(file, status=status, **changed)


def effective_chunking(chunking: ChunkingStrategyInput | None) -> ChunkingStrategy:
    """How files are cut: `auto` is shown as the sizes that it stands for."""
    if isinstance(chunking, StaticChunkingStrategy):
        return chunking
    return StaticChunkingStrategy(
        static=StaticChunking(
            max_chunk_size_tokens=limits.CHUNK_TOKENS,
            chunk_overlap_tokens=limits.CHUNK_OVERLAP_TOKENS,
        )
    )


# Batches.


class BatchBody(Wire, frozen=True, kw_only=True):
    """What is stored of a batch's object."""

    id: str
    created_at: int
    vector_store_id: str


def shown_batch(body: BatchBody, private: BatchPrivate, counts: FileCounts) -> FileBatch:
    """A batch as the API shows it."""
    return FileBatch(
        id=body.id,
        created_at=body.created_at,
        vector_store_id=body.vector_store_id,
        status=batch_status(counts, is_cancelled=private.is_cancelled),
        file_counts=counts,
    )


def batch_status(counts: FileCounts, *, is_cancelled: bool) -> BatchStatus:
    """A batch's status. One bad file fails no batch: only all of them do."""
    if is_cancelled:
        return "cancelled"
    if counts.in_progress:
        return "in_progress"
    return "failed" if counts.total and counts.failed == counts.total else "completed"


# Filters (SPEC 7.8). An attribute that is missing, or of another type than the value, matches
# only `ne` and `nin`. Strings are compared by code points; true and false are never numbers.


def predicate(filter: Filter) -> Predicate:
    """Whether a file with these attributes is kept; made once for many files."""
    match filter:
        case EqualFilter():
            return _equal(filter.key, [filter.value])
        case NotEqualFilter():
            return _not(_equal(filter.key, [filter.value]))
        case InFilter():
            return _equal(filter.key, filter.value)
        case NotInFilter():
            return _not(_equal(filter.key, filter.value))
        case GreaterFilter():
            return _ordered(filter.key, operator.gt, filter.value)
        case GreaterOrEqualFilter():
            return _ordered(filter.key, operator.ge, filter.value)
        case LessFilter():
            return _ordered(filter.key, operator.lt, filter.value)
        case LessOrEqualFilter():
            return _ordered(filter.key, operator.le, filter.value)
        case AndFilter() | OrFilter():
            return _joined(all if isinstance(filter, AndFilter) else any, filter.filters)
        case _:
            assert_never(filter)


def matches(filter: Filter, attributes: Attributes) -> bool:
    """Whether a file with these attributes is kept."""
    return predicate(filter)(attributes)


def _joined(join: Callable[[Iterable[bool]], bool], filters: Iterable[Filter]) -> Predicate:
    parts = [predicate(filter) for filter in filters]
    return lambda attributes: join(part(attributes) for part in parts)


def _equal(key: str, values: list[Any]) -> Predicate:
    wanted = {(_kind(value), value) for value in values}

    def equal(attributes: Attributes) -> bool:
        value = attributes.get(key)
        return (_kind(value), value) in wanted

    return equal


def _ordered(key: str, compare: Callable[[Any, Any], bool], wanted: Attribute) -> Predicate:
    kind = _kind(wanted)

    def ordered(attributes: Attributes) -> bool:
        value = attributes.get(key)
        # There is no order between true and false.
        return kind is not bool and _kind(value) is kind and compare(value, wanted)

    return ordered


def _not(part: Predicate) -> Predicate:
    return lambda attributes: not part(attributes)


def _kind(value: Attribute | None) -> type:
    """What compares with what: numbers with numbers, and never with booleans."""
    return float if type(value) is int else type(value)
