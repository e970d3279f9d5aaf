"""Name → a room of each kind of bell: what makes bells that hear each other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from tests.bell.servers import NatsServer, schema
from understudy.bell import Bell, open_bell

Room: TypeAlias = Callable[[], Awaitable[Bell]]
Nats: TypeAlias = Callable[[], NatsServer]  # Started when it is asked for.


@asynccontextmanager
async def local(_nats: Nats) -> AsyncIterator[Room]:
    """A room of one process: everybody has the same bell."""
    bell = await open_bell("sqlite:///:memory:", None)

    async def enter() -> Bell:
        return bell

    yield enter


@asynccontextmanager
async def postgres(_nats: Nats) -> AsyncIterator[Room]:
    """A schema of the PostgreSQL on this machine."""
    async with schema() as url:
        yield lambda: open_bell(url)


@asynccontextmanager
async def nats(server: Nats) -> AsyncIterator[Room]:
    """The same, with NATS on top."""
    async with schema() as url:
        yield lambda: open_bell(url, server().url)


ROOMS: dict[str, Callable[[Nats], AbstractAsyncContextManager[Room]]] = {
    "local": local,
    "postgres": postgres,
    "nats": nats,
}
