"""Idempotency keys: a POST that is sent twice with the same key happens once (SPEC 2.2).

The answer is remembered in the commit that makes the change, so that there is no moment in
which one exists without the other. Inside a process a second call waits for the first; across
processes the unique index refuses it, and the retry finds the answer.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from understudy import limits
from understudy.errors import ApiError
from understudy.store import changes
from understudy.store.records import AnswerRow
from understudy.store.store import Store
from understudy.world import World

HEADER = "idempotency-key"


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A request's key, and what the request must equal to be the same."""

    key: str
    hash: str


def idempotency_of(
    method: str, segments: tuple[str, ...], headers: Mapping[str, str], body: bytes
) -> Idempotency | None:
    """The key of a POST, if it has one. Other methods repeat harmlessly anyway."""
    key = headers.get(HEADER, "").strip()
    if method != "POST" or not key:
        return None
    if len(key) > limits.HEADER_VALUE_CHARS:
        raise ApiError.string_too_long("Idempotency-Key", limits.HEADER_VALUE_CHARS, len(key))
    digest = hashlib.sha256("/".join(segments).encode("utf-8", "surrogateescape"))
    digest.update(b"\n")
    digest.update(body)
    return Idempotency(key, digest.hexdigest())


async def earlier_answer(
    store: Store, world: World, project: str, idempotency: Idempotency
) -> AnswerRow | None:
    """What the same request was answered before; another request with its key is refused."""
    row = await store.answer(project, idempotency.key)
    if row is None:
        return None
    horizon = world.now() - limits.IDEMPOTENCY_S
    if row.created_at <= horizon:
        await store.commit(changes.forget_answers(before=horizon))
        return None
    if row.hash != idempotency.hash:
        raise ApiError.idempotency_mismatch()
    return row


class Turns:
    """One request at a time per key, inside this process."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    def is_busy(self, project: str, key: str) -> bool:
        """Whether somebody has the turn, or waits for it."""
        return (project, key) in self._locks

    @asynccontextmanager
    async def turn(self, project: str, key: str) -> AsyncIterator[None]:
        """Wait for the requests before this one, but not for ever."""
        place = (project, key)
        lock, waiting = self._locks.get(place, (asyncio.Lock(), 0))
        self._locks[place] = (lock, waiting + 1)
        try:
            async with _bounded(lock):
                yield
        finally:
            lock, waiting = self._locks.pop(place)
            if waiting > 1:
                self._locks[place] = (lock, waiting - 1)


@asynccontextmanager
async def _bounded(lock: asyncio.Lock) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limits.IDEMPOTENCY_WAIT_S):
            await lock.acquire()
    except TimeoutError:
        raise ApiError.unavailable() from None
    try:
        yield
    finally:
        lock.release()
