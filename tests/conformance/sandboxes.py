"""Every Sandbox that the conformance suite runs against, and short ways to use one."""

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.jupyter_server import gateway
from understudy.sandbox import FileInfo, Result, Sandbox, Session
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.environment import Environment, installed
from understudy.sandbox.jupyter import Jupyter
from understudy.sandbox.local import Local
from understudy.settings import Settings, sandbox_folder_of


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


async def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; not for ever."""
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to be")


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
async def opened(sandbox: Sandbox) -> AsyncGenerator[Sandbox]:
    """A sandbox, closed in the end."""
    try:
        yield sandbox
    finally:
        await sandbox.close()


def environment() -> Environment:
    """The Python of the jail. `make test` installs it."""
    found = installed(sandbox_folder_of(Settings()))
    assert found, "run `understudy sandbox install` first"
    return found


@contextlib.asynccontextmanager
async def _cold() -> AsyncGenerator[Sandbox]:
    """Without packages: each session would import them for itself, which is slow."""
    with tempfile.TemporaryDirectory() as site:
        Path(site).chmod(0o755)
        bare = dataclasses.replace(environment(), site=Path(site))
        async with opened(Bubblewrap(bare, way="cold")) as sandbox:
            yield sandbox


@contextlib.asynccontextmanager
async def _jupyter() -> AsyncGenerator[Sandbox]:
    """Its first session has the folder that it wants, the others have temporary ones."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            gateway(Path(folder)) as server,
            opened(Jupyter(server.url, folder=str(server.folder))) as sandbox,
        ):
            yield sandbox


SANDBOXES: dict[str, Callable[[], AbstractAsyncContextManager[Sandbox]]] = {
    "jupyter": _jupyter,
    "local": lambda: opened(Local()),
    "nested": lambda: opened(Bubblewrap(environment(), way="nested")),
    "cold": _cold,
}
