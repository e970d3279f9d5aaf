"""What the store gives back: one frozen record per table.

Record and Statement are structs and not dataclasses: a page makes a hundred of them, and a frozen
dataclass costs 1.5 us to make.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec


class Listed(msgspec.Struct, frozen=True, gc=False):
    """An object on a page: its wire JSON, and what the API never shows. Of its place whoever asked
    for the page knows enough, and columns are half of what reading a page costs."""

    id: str
    version: int
    body: bytes
    private: bytes | None


class Record(Listed, frozen=True, gc=False):
    """An object with its place."""

    kind: str
    project: str
    parent: str | None
    created_at: float
    seq: int
    children: int


@dataclass(frozen=True, slots=True)
class Job:
    """A promise to look at an object at a time, and who is at it.

    `was_leased` is told by a claim: the holder before it never gave its lease back. `next_call` is
    the model call that a queued run begins with.
    """

    id: str
    kind: str
    project: str
    thread_id: str | None
    due_at: float
    expires_at: float | None
    lease_owner: str | None
    lease_until: float | None
    fence: int
    reclaims: int
    cancel_asked_at: float | None
    was_leased: bool
    next_call: str | None = None

    @property
    def is_journalled(self) -> bool:
        """Of a claim: whether the first model call was journalled with it."""
        return self.next_call is not None and not self.was_leased


@dataclass(frozen=True, slots=True)
class Begun:
    """What the driver of a claimed run begins with: the run (None: it is gone), and how its thread
    ends, for `newest_of`. What cannot be read is its driver's trouble, and none of who claims."""

    run: Listed | None
    newest: Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job as it was leased, with what the claim has read along; None: it has to be read."""

    job: Job
    begun: Begun | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """A stretch of a run's log, its frames already encoded."""

    run_id: str
    fence: int
    seq_from: int
    seq_to: int
    kind: Literal["life", "delta"]
    created_at: float
    frames: bytes


@dataclass(frozen=True, slots=True)
class JournalRow:
    """An outside call that was started, and how it ended if that is known."""

    run_id: str
    key: str
    attempt: int
    fence: int
    started_at: float
    ended_at: float | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A server that shares the record."""

    id: str
    role: str
    version: str
    started_at: float
    seen_at: float
    live_runs: int


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key; the key itself is only known by its hash."""

    id: str
    project: str
    hash: str
    prefix: str
    name: str
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What was answered to a request with an idempotency key; `hash` is the request's. `run_id`
    is where the stream of its run begins: the id, a dot and the fence."""

    project: str
    key: str
    hash: str
    created_at: float
    answer: bytes
    run_id: str | None


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The hot numbers of a vector store; `files` is how many have which status. The model of its
    vectors is as in IndexRow."""

    last_active_at: float
    size_bytes: int
    files: Mapping[str, int]
    embedding_model: str | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What a search must know of a vector store. `embedding_model` is None before the first file
    was indexed, and '' where there are no vectors."""

    number: int
    id: str
    project: str
    version: int
    last_active_at: float
    chunks: int
    words: int
    trust: float
    size_bytes: int
    embedding_model: str | None
    dimensions: int | None


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A file in a store, as the index has it."""

    number: int
    store: int
    file_id: str
    state: Literal["building", "ready"]
    attempts: int
    parts: int
    chunks: int
    words: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReadyDocument:
    """A document that searches may find; `attributes` is JSON."""

    number: int
    file_id: str
    filename: str
    attributes: str
    parts: int


class NearRow(NamedTuple):
    """A vector that is like a query, at half precision: its place in its part, and its chunk."""

    document: int
    part: int
    place: int
    ordinal: int
    score: float


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk: where it is in its document, and its text to the start of the next one."""

    document: int
    ordinal: int
    start: int
    stop: int
    text: str
