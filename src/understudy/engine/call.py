"""Call: one model turn against the provider, journalled, retried before its first byte, and
shown while it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from understudy import limits
from understudy.machine.annotations import Annotations
from understudy.machine.calls import TooMuch
from understudy.machine.citations import Citations
from understudy.machine.deltas import Pieces, Turn
from understudy.machine.file_paths import FilePaths
from understudy.machine.happenings import Happening, ModelFailed, Move
from understudy.model import SORRY, ModelError
from understudy.store import Statement, changes
from understudy.wire.chat import ChatRequest, Chunk
from understudy.wire.events import Event
from understudy.wire.messages import Content
from understudy.wire.runs import Usage

if TYPE_CHECKING:
    from understudy.engine.drive import Driver
    from understudy.engine.history import Question


class Shrink(Exception):
    """The provider named a smaller context window: make a shorter request."""


def journal_key(turn: int) -> str:
    """The journal's name for the model call of a turn (0 is the first)."""
    return f"llm:{turn + 1}"


async def make(driver: Driver, pending: Move | None, question: Question) -> Move:
    """Call the model and show what it says; the move that the turn ends in.

    `pending` led here and is not committed yet: it is, together with the journal's line, before
    the call. After a launch the record has both already; after a claim it has the line, and what
    led here is committed beside the call. Raises Shrink and Interrupted; what was shown by then is
    in the turn.
    """
    state = driver.state if pending is None else pending.state
    key = journal_key(state.private.turn)
    first = driver.attempts.get(key, 0) + 1
    for attempt in range(first, first + limits.MODEL_ATTEMPTS):
        driver.attempts[key] = attempt
        driver.turn = Turn(
            state.run,
            prompt_tokens=question.prompt_tokens,
            new_id=driver.new_id,
            annotations=_annotations(question),
            images=state.private.drawn,
        )
        if not driver.is_journalled:
            await _start(driver, pending, key, attempt)
        elif pending is not None:
            driver.arrive(pending)
        driver.is_journalled = False
        pending = None
        try:
            await _stream(driver, question.request, f"{driver.lease.id}:{key}:{attempt}")
        except ModelError as error:
            await driver.begun()  # Of a run that was refused there is nothing to tell.
            driver.ending.append(_end(driver, key, attempt, error.message))
            _learn(driver, error)
            if not _may_retry(error) or attempt == first + limits.MODEL_ATTEMPTS - 1:
                return _failed(driver, error)
            await _pause(driver, error, attempt - first)
            continue
        except TooMuch as much:
            driver.ending.append(_end(driver, key, attempt, str(much)))
            return _failed(driver, ModelError("server_error", f"{SORRY} The model sent {much}."))
        driver.ending.append(_end(driver, key, attempt, "done"))
        # The turn stays with the driver until the move is committed: a cancel may come first.
        return driver.apply(driver.turn.spoke(driver.now, driver.new_id("step")))
    raise AssertionError("every attempt returns, raises or goes on to the next")


def _annotations(question: Question) -> Annotations:
    """What the answer's text goes through."""
    return Annotations(
        None if question.sources is None else Citations(question.sources),
        None if question.links is None else FilePaths(question.links),
    )


async def _start(driver: Driver, pending: Move | None, key: str, attempt: int) -> None:
    """The journal's line, with the move that led here or alone."""
    line = changes.start_call(
        driver.lease.id,
        key=key,
        attempt=attempt,
        fence=driver.lease.fence,
        started_at=driver.app.world.now(),
    )
    await driver.commit(pending, line)


def _end(driver: Driver, key: str, attempt: int, outcome: str) -> Statement:
    return changes.end_call(
        driver.lease.id,
        key=key,
        attempt=attempt,
        ended_at=driver.app.world.now(),
        outcome=outcome[:200],
    )


async def _stream(driver: Driver, request: ChatRequest, call_id: str) -> None:
    """One attempt, from the request to the end of its stream."""
    when = None if driver.is_arriving else driver.begun
    chunks = driver.app.model.stream(request, call_id=call_id, when=when)
    try:
        async with driver.lease.interruptible(driver.time_left_s):
            async for batch in chunks:
                await driver.begun()
                try:
                    _hear(driver, batch)
                finally:  # Of a turn that becomes too much, what came before it is said.
                    _show(driver)
                    if driver.unsaid:
                        await _commit_unsaid(driver)
            await driver.begun()
            assert driver.turn is not None, "a turn is heard"
            driver.unsaid = driver.turn.finish(driver.now)
            _show(driver)
            await _commit_unsaid(driver)
    finally:
        await chunks.aclose()


# Deltas are shown at once; happenings are committed first. Never out of order. What an interruption
# leaves unsaid is in the driver; the turn knows it already (so_far).


def _hear(driver: Driver, batch: Sequence[Chunk]) -> None:
    """What one network read says, together: a provider that is quick costs one send, not many."""
    assert driver.turn is not None, "a turn is heard"
    driver.unsaid = said = []
    for one in driver.turn.hear(batch, driver.now):
        said.append(one)  # noqa: PERF402 (it may raise, and then what came is there)


async def _commit_unsaid(driver: Driver) -> None:
    """The happenings, each with the deltas that follow it."""
    while driver.unsaid:
        happening = driver.unsaid.pop(0)
        assert isinstance(happening, Happening), "the deltas before it were shown"
        await driver.commit(driver.apply(happening))
        _show(driver)
        await asyncio.sleep(0)  # Who listens is told before what came meanwhile is worked on.


def _show(driver: Driver) -> None:
    """The deltas up to the next happening."""
    shown: list[Event | Pieces] = []
    for one in driver.unsaid:
        if isinstance(one, Happening):
            break
        shown.append(one)
    if shown:
        del driver.unsaid[: len(shown)]
        driver.show(shown)


def _learn(driver: Driver, error: ModelError) -> None:
    """A context window that the provider named holds for every run of the model."""
    if error.context_tokens is not None:
        windows = driver.app.worker.context_tokens
        asked = driver.state.run.model
        if error.context_tokens < windows.get(asked, limits.CONTEXT_TOKENS_MAX):
            if len(windows) >= limits.MODELS_LEARNT:
                windows.clear()  # Clients choose the names; the next refusal teaches it again.
            windows[asked] = error.context_tokens
            raise Shrink from error


def _may_retry(error: ModelError) -> bool:
    """Only before the first byte, and only while the provider's own delay is bearable."""
    if error.learned:
        return True
    too_late = (error.retry_after_s or 0.0) > limits.MODEL_RETRY_AFTER_S
    return error.retryable and not too_late


async def _pause(driver: Driver, error: ModelError, retry: int) -> None:
    """Waits as long as the provider asks, else twice as long each time."""
    if error.learned:
        return
    delay_s = error.retry_after_s or limits.MODEL_BACKOFF_S * 2**retry
    async with driver.lease.interruptible(driver.time_left_s):
        await asyncio.sleep(delay_s)


def _failed(driver: Driver, error: ModelError) -> Move:
    partial, usage = so_far(driver)
    return driver.apply(
        ModelFailed(
            now=driver.now,
            code=error.code,
            message=error.message,
            partial=partial,
            usage=usage,
        )
    )


def so_far(driver: Driver) -> tuple[list[Content], Usage | None]:
    """What the turn being heard has said and used; nothing when none is, or it was silent."""
    if driver.turn is None or not driver.turn.has_spoken:
        return [], None
    if driver.state.message is not None:
        _show(driver)  # The interruption came just when the message had begun.
    return driver.turn.content(), driver.turn.usage_so_far()
