"""Targets of a move whose copier dies at one change, before it or after."""

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from understudy.blobs import Blobs
from understudy.store import Row
from understudy.store.tables import Progress, Table, Tables

T = TypeVar("T")


class Dead(BaseException):
    """What a copier meets that was killed."""


def die() -> None:
    """Die as far as a test can without ending."""
    raise Dead


def kill() -> None:
    """Die: kill -9 of this process."""
    os.kill(os.getpid(), signal.SIGKILL)


class Fate:
    """Decides when a copier dies: at its n-th change, or its n-th of one name (`of`). Changes that
    are `spared` do not count."""

    def __init__(
        self,
        at: int,
        *,
        of: str = "",
        is_applied: bool = True,
        spared: str = "",
        die: Callable[[], None] = die,
    ) -> None:
        self._left = at
        self._of = of
        self._is_applied = is_applied
        self._spared = spared
        self._die = die
        self.last = ""  # The name of the change that was met last.

    async def meet(self, name: str, change: Coroutine[Any, Any, T]) -> T:
        """One change."""
        self.last = name
        if name != self._spared and self._of in ("", name):
            self._left -= 1
        is_now = not self._left and name != self._spared
        if is_now and not self._is_applied:
            change.close()
            self._die()
        done = await change
        if is_now:
            self._die()
        return done


def mortal(inner: Tables, fate: Fate) -> Tables:
    """A record whose copier has this fate."""
    return cast("Tables", _MortalTables(inner, fate))


class _MortalTables:
    def __init__(self, inner: Tables, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def begin(self, source: str) -> None:
        await self._fate.meet("begin", self._inner.begin(source))

    async def write(self, table: Table, rows: Sequence[Row], progress: Progress) -> None:
        await self._fate.meet("write", self._inner.write(table, rows, progress))

    async def settle(self, last_numbers: Mapping[str, int]) -> None:
        await self._fate.meet("settle", self._inner.settle(last_numbers))

    async def finish(self) -> None:
        await self._fate.meet("finish", self._inner.finish())


def mortal_blobs(inner: Blobs, fate: Fate) -> Blobs:
    """A place for blobs whose copier has this fate; `puts` are the keys that it wrote."""
    return cast("Blobs", MortalBlobs(inner, fate))


class MortalBlobs:
    """A place for blobs; its copier may die in the middle of one."""

    def __init__(self, inner: Blobs, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate
        self.puts: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Two changes: half of the bytes are there, and all of them are."""
        self.puts.append(key)
        return await self._fate.meet("put", self._inner.put(key, self._cut(pieces)))

    async def _cut(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        async for piece in pieces:
            yield piece[: len(piece) // 2]
            await self._fate.meet("half", _nothing())
            yield piece[len(piece) // 2 :]


async def _nothing() -> None:
    pass
