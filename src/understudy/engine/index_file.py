"""One file into one vector store: read in a child process, embedded, committed part by part.

The document's row says how many parts are in the index, so a worker that takes over reads the file
again and goes on behind them: the same text gives the same parts. Only the commit of the last part
makes anything visible.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import msgspec

from understudy import limits
from understudy.blobs import BlobsUnavailable, NoBlob
from understudy.engine.app import App
from understudy.engine.embedding import Vectors, vectors_of
from understudy.engine.record import decoded, private_of
from understudy.engine.spool import NoRoom, spooled
from understudy.machine import vector_store
from understudy.machine.private import FilePrivate
from understudy.search import EmbedderError
from understudy.search.frames import Part
from understudy.search.unreadable import Unreadable
from understudy.store import Conflict, Row, Statement, index_changes
from understudy.store.records import DocumentRow, IndexRow, Listed
from understudy.wire.vector_stores import (
    ErrorCode,
    StaticChunking,
    StaticChunkingStrategy,
    VectorStoreFile,
)

Statements = tuple[Statement, ...]

MISSING = "The content of the file is missing from the server's storage."
TOO_MANY_DEATHS = "The server was stopped too often while it read the file."


class Moved(Exception):
    """The file is not in_progress any more: somebody detached, deleted or cancelled it."""


class TurnOver(Exception):
    """Another store waits, and this one has had its turn: the file goes on in the next one."""


class Away(Exception):
    """The file's bytes cannot be read now. That is nobody's fault here, and no reason to give the
    file up: it waits, and maybe another server gets at them."""


class Turn(Protocol):
    """One lease on a store's files."""

    # The documents that were taken up: each counts once, however often it has to begin again.
    tried: set[int]
    reading: asyncio.Lock  # Held while a file is read.

    async def commit(self, *statements: Statement | Statements) -> list[list[Row]]:
        """Write under the lease."""
        ...

    async def is_over(self) -> bool:
        """Whether a file has to stop between two parts."""
        ...


class _Failed(Exception):
    """The file cannot be indexed."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message


class _Named(msgspec.Struct, frozen=True):
    """What is needed of a file object here."""

    filename: str


class FileIndexing:
    """The work on one file, in its store's turn."""

    def __init__(self, app: App, index: IndexRow, record: Listed, turn: Turn) -> None:
        self.app = app
        self.index = index
        self.record = record
        self.project = index.project
        self.turn = turn
        self.commit = turn.commit
        self.tried = turn.tried
        self.file_id = decoded(record, VectorStoreFile).id
        self.parts = 0
        self.size_bytes = 0

    async def run(self) -> None:
        """Until the file is completed or failed. Raises Moved, TurnOver and Away; whatever else is
        raised leaves the file in_progress for the next worker."""
        try:
            await self._tried()
        except _Failed as failure:
            code, message = failure.code, failure.message
            await self._settle(
                lambda file: vector_store.failed(file, code=code, message=message),
                index_changes.drop_document(
                    self.index.id, self.file_id, project=self.project, now=self.app.world.now()
                ),
            )
            self.app.bell.ring("jobs")

    async def _tried(self) -> None:
        """Index the file; again when the embedder or the disk fails for a moment, which each part
        of a file may meet anew."""
        failures, parts = 0, 0
        while True:  # Bounded for each part.
            try:
                await self._indexed()
            except Unreadable as unreadable:
                raise _Failed(unreadable.code, unreadable.message) from None
            except NoBlob:
                raise _Failed("server_error", MISSING) from None
            except EmbedderError as error:
                if not error.retryable:
                    raise _Failed("server_error", error.message) from None
                reason = error.message
            except NoRoom as full:
                reason = str(full)
            except BlobsUnavailable as away:
                raise Away(str(away)) from away
            else:
                return
            failures, parts = (failures if self.parts == parts else 0) + 1, self.parts
            if failures == limits.INGEST_ATTEMPTS:
                raise _Failed("server_error", reason)
            await asyncio.sleep(limits.INGEST_BACKOFF_S * 2 ** (failures - 1))

    async def _indexed(self) -> None:
        """One reading of the file, from the first part that is not stored yet."""
        file = await self.app.store.get("file", self.project, self.file_id)
        found = await self.app.store.indexes(self.project, [self.index.id])
        if file is None or not found:
            raise Moved
        [self.index] = found  # Its embedding model may be known by now.
        filename = decoded(file, _Named).filename
        document = await self._document(filename)
        await self._look_again()
        self.parts, self.size_bytes = document.parts, document.size_bytes
        made = _Made(self.app.world.monotonic)
        async with (
            spooled(self.app, private_of(file, FilePrivate)) as path,
            aclosing(ahead(self._parts(path, filename, document.parts))) as parts,
        ):
            await self._take_up(document)
            part = await anext(parts, None)
            while part is not None:
                following = await anext(parts, None)
                try:
                    vectors = await vectors_of(self.app, self.index, part.texts)
                except EmbedderError:
                    await self._commit_parts(made)  # What is made is made.
                    raise
                made.add(part, self._part(document, part, vectors))
                if following is not None and made.is_enough:
                    await self._commit_parts(made)
                    if await self.turn.is_over():
                        raise TurnOver
                part = following
        await self._settle(
            lambda file: vector_store.completed(file, usage_bytes=self.size_bytes),
            tuple(made.statements),
            ready=document.number,
        )

    async def _document(self, filename: str) -> DocumentRow:
        """The document to add to: what an earlier worker left, or a new one."""
        found = await self.app.store.document(self.project, self.index.id, self.file_id)
        if found is not None:
            assert found.state == "building", "a file that is ready is not in progress"
            if found.number not in self.tried and found.attempts >= limits.INGEST_TAKEOVERS:
                raise _Failed("server_error", TOO_MANY_DEATHS)
            return found
        attributes = decoded(self.record, VectorStoreFile).attributes
        insert = index_changes.insert_document(
            self.index.number,
            self.file_id,
            project=self.project,
            attributes=msgspec.json.encode(attributes),
            filename=filename,
        )
        try:
            [_, [(number,)]] = await self.commit(self._still_there(), insert)
        except Conflict as conflict:
            raise self._meaning(conflict) from conflict
        self.tried.add(number)
        return DocumentRow(number, self.index.number, self.file_id, "building", 0, 0, 0, 0, 0)

    async def _take_up(self, document: DocumentRow) -> None:
        """From now on the file itself may be what ends a worker, and its taking up counts. Before,
        its bytes were only copied: a store of blobs that is away for hours costs no attempt."""
        if document.number not in self.tried:
            self.tried.add(document.number)
            await self.commit(index_changes.try_document(document.number))

    async def _look_again(self) -> None:
        """The place as it is now that there is a document: a client who has it processed anew from
        now on, maybe cut in another way, also drops this document."""
        record = await self.app.store.get("vector_store_file", self.project, self.record.id)
        if record is None or decoded(record, VectorStoreFile).status != "in_progress":
            raise Moved
        self.record = record

    def _still_there(self) -> Statement:
        return index_changes.require_store_file(self.record.id, project=self.project)

    async def _parts(self, path: Path, filename: str, skip: int) -> AsyncGenerator[Part]:
        """The file's parts. A store reads one file at a time, so that each has a reader."""
        sizes = _sizes(decoded(self.record, VectorStoreFile))
        reading = self.app.readers.read(
            path,
            filename,
            size_tokens=sizes.max_chunk_size_tokens,
            overlap_tokens=sizes.chunk_overlap_tokens,
            skip_parts=skip,
            more_types=self.app.settings.search_more_types,
        )
        async with self.turn.reading, aclosing(reading) as parts:
            async for part in parts:
                yield part

    async def _commit_parts(self, made: "_Made") -> None:
        if not made.statements:
            return
        try:
            await self.commit(self._still_there(), *made.statements)
        except Conflict as conflict:
            raise self._meaning(conflict) from conflict
        self.parts = made.next_part
        made.clear()

    def _part(self, document: DocumentRow, part: Part, vectors: Vectors) -> Statements:
        """The statements that add a part; from now on it counts."""
        ordinals = range(part.first, part.first + len(part.starts))
        chunks = list(zip(ordinals, part.starts, part.stops, part.strides, strict=True))
        size_bytes = sum(len(stride.encode()) for stride in part.strides) + len(vectors.data or b"")
        self.size_bytes += size_bytes
        statements = index_changes.insert_part(
            self.index.number,
            document.number,
            part.number,
            chunks=chunks,
            words=sum(part.words),
            trust=vectors.trust,
            terms=part.terms,
            terms_json=msgspec.json.encode(part.terms),
            postings=part.postings,
            owners=vectors.owners(part.first),
            vectors=vectors.data,
            size_bytes=size_bytes,
        )
        claimed = index_changes.claim_embedder(
            self.index.number, model=vectors.model, dimensions=vectors.dimensions
        )
        return (*statements, claimed)

    def _meaning(self, conflict: Conflict) -> Exception:
        """Why a commit was refused, when it was not the lease."""
        if conflict.what == "claim_embedder":  # The next attempt goes by that model.
            return EmbedderError(
                "Another embedding model was used for other files of the vector store meanwhile.",
                retryable=True,
            )
        return Moved()

    async def _settle(
        self,
        move: Callable[[VectorStoreFile], VectorStoreFile],
        statements: Statements,
        *,
        ready: int | None = None,
    ) -> None:
        """The file's last commit. A client that changes its attributes meanwhile is not lost."""
        for _ in range(limits.MERGE_RETRIES):
            record = await self.app.store.get("vector_store_file", self.project, self.record.id)
            if record is None:
                raise Moved
            file = decoded(record, VectorStoreFile)
            if file.status != "in_progress":
                raise Moved
            more: Statements = ()
            if ready is not None:
                attributes = msgspec.json.encode(file.attributes)
                more = index_changes.ready_document(ready, attributes=attributes)
            update = index_changes.update_store_file(
                record.id,
                project=self.project,
                body=msgspec.json.encode(move(file)),
                version=record.version,
            )
            try:
                await self.commit(update, *statements, *more)
            except Conflict as conflict:
                if conflict.what == "update_object":
                    continue
                raise self._meaning(conflict) from conflict
            self.app.bell.ring(f"store:{self.index.id}")
            return
        raise Moved


class _End:
    """Nothing more is read; `error` is why, when it was not the end."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


async def ahead(parts: AsyncGenerator[Part]) -> AsyncGenerator[Part]:
    """The same parts, some of them read before they are asked for: the reader works on while
    others are stored, and that of a short file is free before its vectors are made."""
    queue: asyncio.Queue[Part | _End] = asyncio.Queue(limits.INGEST_PARTS_AHEAD)

    async def read() -> None:
        end = _End(None)
        try:
            async with aclosing(parts):
                async for part in parts:
                    await queue.put(part)
        except Exception as error:  # noqa: BLE001 (raised where the parts are asked for)
            end = _End(error)
        await queue.put(end)

    reading = asyncio.create_task(read())
    try:
        while isinstance(part := await queue.get(), Part):
            yield part
        if part.error is not None:
            raise part.error
    finally:
        reading.cancel()
        await asyncio.wait([reading])


class _Made:
    """Parts that are made and not stored yet. Several share a commit, since neighbours of a file
    touch the same pages of the index: of a long text that saves a third of the time. A slow
    embedder's parts do not wait for others, because a death would cost them."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.next_part = 0
        self.clear()

    def clear(self) -> None:
        """They are stored."""
        self.statements: list[Statement] = []
        self._parts = 0
        self._since = self._monotonic()

    def add(self, part: Part, statements: Statements) -> None:
        """One more."""
        self.statements += statements
        self._parts += 1
        self.next_part = part.number + 1

    @property
    def is_enough(self) -> bool:
        """Whether they should be stored now."""
        waited_s = self._monotonic() - self._since
        return self._parts >= limits.INGEST_PARTS_TOGETHER or waited_s >= limits.INGEST_COMMIT_S


def _sizes(file: VectorStoreFile) -> StaticChunking:
    """How the file is cut."""
    strategy = file.chunking_strategy
    if isinstance(strategy, StaticChunkingStrategy):
        return strategy.static
    return StaticChunking(
        max_chunk_size_tokens=limits.CHUNK_TOKENS,
        chunk_overlap_tokens=limits.CHUNK_OVERLAP_TOKENS,
    )
