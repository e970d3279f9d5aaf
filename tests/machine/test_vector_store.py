"""Vector stores: status and expiry, the life of a file, the status of a batch, and filters."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.machine import vector_store as machine
from understudy.machine.private import BatchPrivate
from understudy.machine.vector_store import BatchBody, StoreBody, matches, predicate
from understudy.wire.vector_stores import (
    FILE_STATUSES,
    AndFilter,
    Attribute,
    AutoChunkingStrategy,
    EqualFilter,
    ExpiresAfter,
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
    VectorStore,
    VectorStoreFile,
)

NOW = 1_700_000_000
DAY = 86_400


def store(*, days: int | None = None) -> StoreBody:
    """A store, maybe with an expiry."""
    policy = None if days is None else ExpiresAfter(anchor="last_active_at", days=days)
    return StoreBody(id="vs_1", created_at=NOW, expires_after=policy)


def shown(body: StoreBody, counts: FileCounts, *, used: float = NOW, now: float) -> VectorStore:
    """The store as the API shows it."""
    return machine.shown_store(body, counts=counts, usage_bytes=7, last_active_at=used, now=now)


# Stores and batches.


def test_a_store_is_completed_when_no_file_is_left_to_process() -> None:
    def status(**counts: int) -> str:
        return shown(store(), FileCounts(**counts), now=NOW).status

    assert status() == "completed"
    assert status(in_progress=1, completed=5, total=6) == "in_progress"
    assert status(failed=2, cancelled=1, total=3) == "completed"


def test_a_store_expires_days_after_its_last_use() -> None:
    body = store(days=2)
    counts = FileCounts(in_progress=1, total=1)
    alive = shown(body, counts, used=NOW + 0.9, now=NOW + 2 * DAY - 0.1)
    assert (alive.status, alive.expires_at) == ("in_progress", NOW + 2 * DAY)
    assert (alive.last_active_at, alive.usage_bytes) == (NOW, 7)
    over = shown(body, counts, used=NOW + 0.9, now=NOW + 2 * DAY)
    assert (over.status, over.usage_bytes, over.file_counts) == ("expired", 0, counts)


def test_a_store_without_a_policy_never_expires() -> None:
    body = shown(store(), FileCounts(), now=NOW + 10_000 * DAY)
    assert (body.status, body.expires_at, body.expires_after) == ("completed", None, None)


@pytest.mark.parametrize(
    ("counts", "is_cancelled", "status"),
    [
        (FileCounts(in_progress=1, failed=1, total=2), False, "in_progress"),
        (FileCounts(completed=1, failed=1, total=2), False, "completed"),
        (FileCounts(failed=2, total=2), False, "failed"),
        (FileCounts(cancelled=1, completed=1, total=2), True, "cancelled"),
        (FileCounts(), False, "completed"),
    ],
)
def test_the_status_of_a_batch(counts: FileCounts, is_cancelled: bool, status: str) -> None:
    body = BatchBody(id="vsfb_1", created_at=NOW, vector_store_id="vs_1")
    private = BatchPrivate(file_ids=["file-1"], is_cancelled=is_cancelled)
    batch = machine.shown_batch(body, private, counts)
    assert (batch.id, batch.status, batch.file_counts) == ("vsfb_1", status, counts)


# The life of a file.


def new_file(**fields: Any) -> VectorStoreFile:
    """A file that was just put into a store."""
    return machine.new_file(file_id="file-1", store_id="vs_1", now=NOW, **fields)


def test_auto_chunking_is_shown_as_its_sizes() -> None:
    auto = StaticChunkingStrategy(
        static=StaticChunking(max_chunk_size_tokens=800, chunk_overlap_tokens=400)
    )
    chosen = StaticChunkingStrategy(
        static=StaticChunking(max_chunk_size_tokens=100, chunk_overlap_tokens=0)
    )
    assert new_file().chunking_strategy == auto
    assert new_file(chunking=AutoChunkingStrategy()).chunking_strategy == auto
    assert new_file(chunking=chosen).chunking_strategy == chosen


def test_a_failed_file_says_why_until_it_is_processed_anew() -> None:
    failed = machine.failed(new_file(), code="invalid_file", message="It is empty.")
    assert failed.last_error == StoreFileError(code="invalid_file", message="It is empty.")
    again = machine.again(failed)
    assert (again.status, again.last_error) == ("in_progress", None)
    done = machine.completed(again, usage_bytes=12)
    assert (done.status, done.usage_bytes) == ("completed", 12)


_TO: Mapping[FileStatus, Any] = {
    "in_progress": machine.again,
    "completed": lambda file: machine.completed(file, usage_bytes=1),
    "failed": lambda file: machine.failed(file, code="server_error", message="x"),
    "cancelled": machine.cancelled,
}


@given(st.lists(st.sampled_from(FILE_STATUSES)))
def test_a_completed_file_stays_so_and_an_error_is_there_exactly_when_it_failed(
    statuses: list[FileStatus],
) -> None:
    file = new_file()
    for status in statuses:
        if not machine.may_move(file.status, status):
            with pytest.raises(AssertionError):
                _TO[status](file)
            continue
        assert file.status != "completed"
        file = _TO[status](file)
        assert file.status == status
        assert (file.last_error is not None) == (status == "failed")
        assert (file.usage_bytes > 0) == (status == "completed")


# Filters.

FILE: dict[str, Attribute] = {"year": 2024, "price": 1.5, "lang": "de", "draft": False}


@pytest.mark.assertion(197)
@pytest.mark.parametrize(
    ("filter", "is_kept"),
    [
        (EqualFilter(key="lang", value="de"), True),
        (EqualFilter(key="lang", value="DE"), False),
        (EqualFilter(key="year", value=2024.0), True),
        (EqualFilter(key="year", value="2024"), False),
        (EqualFilter(key="draft", value=False), True),
        (EqualFilter(key="draft", value=0), False),
        (EqualFilter(key="nothing", value=""), False),
        (NotEqualFilter(key="lang", value="en"), True),
        (NotEqualFilter(key="lang", value="de"), False),
        (NotEqualFilter(key="draft", value=0), True),
        (NotEqualFilter(key="nothing", value=1), True),
        (GreaterFilter(key="year", value=2023.5), True),
        (GreaterFilter(key="year", value=2024), False),
        (GreaterFilter(key="year", value="2"), False),
        (GreaterFilter(key="nothing", value=-1), False),
        (GreaterFilter(key="lang", value="da"), True),
        (GreaterOrEqualFilter(key="year", value=2024), True),
        (GreaterOrEqualFilter(key="draft", value=False), False),
        (LessFilter(key="price", value=2), True),
        (LessFilter(key="draft", value=1), False),
        (LessOrEqualFilter(key="price", value=1.5), True),
        (LessOrEqualFilter(key="price", value=True), False),
        (InFilter(key="year", value=["2024", 2024]), True),
        (InFilter(key="year", value=[]), False),
        (InFilter(key="draft", value=[0]), False),
        (InFilter(key="nothing", value=[1]), False),
        (NotInFilter(key="year", value=[2023, 2025]), True),
        (NotInFilter(key="year", value=[2024]), False),
        (NotInFilter(key="nothing", value=[1]), True),
        (AndFilter(filters=[]), True),
        (OrFilter(filters=[]), False),
    ],
)
def test_what_a_comparison_keeps(filter: Filter, is_kept: bool) -> None:
    assert matches(filter, FILE) is is_kept


_KEYS = st.sampled_from(["a", "b"])
_NUMBERS = st.one_of(st.integers(-2, 2), st.sampled_from([-0.5, 0.0, 1.0, 10.0**30, 10**30]))
_TEXTS = st.sampled_from(["", "0", "1", "A", "a", "é"])
_VALUES = st.one_of(_NUMBERS, _TEXTS, st.booleans())
_ATTRIBUTES = st.dictionaries(_KEYS, _VALUES)
_ONE = [
    EqualFilter,
    NotEqualFilter,
    GreaterFilter,
    GreaterOrEqualFilter,
    LessFilter,
    LessOrEqualFilter,
]
_COMPARISONS: st.SearchStrategy[Filter] = st.one_of(
    *(st.builds(kind, key=_KEYS, value=_VALUES) for kind in _ONE),
    *(
        st.builds(kind, key=_KEYS, value=st.lists(st.one_of(_NUMBERS, _TEXTS), max_size=3))
        for kind in (InFilter, NotInFilter)
    ),
)
_FILTERS: st.SearchStrategy[Filter] = st.recursive(
    _COMPARISONS,
    lambda inner: st.one_of(
        st.builds(AndFilter, filters=st.lists(inner, max_size=3)),
        st.builds(OrFilter, filters=st.lists(inner, max_size=3)),
    ),
    max_leaves=8,
)


@pytest.mark.assertion(197)
@given(_FILTERS, _ATTRIBUTES)
def test_filters_keep_what_their_words_say(
    filter: Filter, attributes: dict[str, Attribute]
) -> None:
    assert predicate(filter)(attributes) is _said(filter, attributes)


def _said(filter: Filter, attributes: dict[str, Attribute]) -> bool:
    """The same, spelt out case by case."""
    if isinstance(filter, AndFilter):
        return not any(not _said(one, attributes) for one in filter.filters)
    if isinstance(filter, OrFilter):
        return any(_said(one, attributes) for one in filter.filters)
    value = attributes.get(filter.key)
    match filter:
        case NotEqualFilter():
            return not (_like(value, filter.value) and value == filter.value)
        case NotInFilter():
            return not any(_like(value, one) and value == one for one in filter.value)
        case InFilter():
            return any(_like(value, one) and value == one for one in filter.value)
        case EqualFilter():
            return _like(value, filter.value) and value == filter.value
    if not _like(value, filter.value) or isinstance(value, bool):
        return False
    order = (value > filter.value) - (value < filter.value)  # type: ignore[operator]
    wanted: dict[type, set[int]] = {
        GreaterFilter: {1},
        GreaterOrEqualFilter: {0, 1},
        LessFilter: {-1},
        LessOrEqualFilter: {-1, 0},
    }
    return order in wanted[type(filter)]


def _like(one: Attribute | None, other: Attribute) -> bool:
    """Whether two values are of a kind: text, boolean or number."""
    for kind in (str, bool, int | float):
        if isinstance(one, kind) or isinstance(other, kind):
            return isinstance(one, kind) and isinstance(other, kind)
    return False
