"""Every Sandbox that the conformance suite runs against, and short ways to use one."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from understudy.sandbox import FileInfo, Result, Sandbox, Session
from understudy.sandbox.local import Local


@dataclass(frozen=True)
class Run:
    """A call and all that it printed."""

    result: Result
    logs: str


async def running(session: Session, code: str, *, timeout_s: float = 20) -> Run:
    """Run code to its end."""
    logs: list[str] = []
    result = await session.run(code, timeout_s=timeout_s, on_logs=logs.append)
    return Run(result, "".join(logs))


async def pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """Bytes as they come from a store."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(session: Session, path: str, data: bytes) -> FileInfo:
    """Write a file."""
    return await session.put(path, pieces(data))


async def contents(session: Session, path: str) -> bytes:
    """All of a file."""
    async with contextlib.aclosing(session.get(path)) as data:
        return b"".join([piece async for piece in data])


@contextlib.asynccontextmanager
async def _local() -> AsyncGenerator[Sandbox]:
    sandbox = Local()
    try:
        yield sandbox
    finally:
        await sandbox.close()


SANDBOXES: dict[str, Callable[[], AbstractAsyncContextManager[Sandbox]]] = {
    "local": _local,
}
