"""An event loop in a thread of its own, so that proxies serve synchronous and async tests alike."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

_CALL_S = 20.0  # What a test asks of a proxy takes milliseconds; more is a hang.


class LoopThread:
    """Runs coroutines until it is closed; callers wait for them in their own thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Perform this in the loop; its result, or what it raised."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        self.call(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        assert not self._thread.is_alive(), f"{self._thread.name} does not end"
        self._loop.close()


async def listen(serve: Serve, port: int, limit_bytes: int) -> asyncio.Server:
    """Accept clients on 127.0.0.1. Each is a task of ours: asyncio's own, when it is cancelled,
    is reported as an error by some versions of Python."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return await asyncio.start_server(accept, "127.0.0.1", port, limit=limit_bytes)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait; what it ended with is known, or no matter any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _cancel_all() -> None:
    """All tasks but this one end before their loop does; none is left to be collected."""
    await cancel(*(asyncio.all_tasks() - {asyncio.current_task()}))
    await asyncio.get_running_loop().shutdown_asyncgens()
