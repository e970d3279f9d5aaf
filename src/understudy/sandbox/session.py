"""A session, seen from the server: files in and out, code in, what it printed and drew out.

One question at a time on one channel. Every answer has a bound in time and in size, and is looked
at before it is used: a supervisor that an attacker took over can lie about its own session only.
"""

import asyncio
import codecs
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Any, Protocol, get_args

from understudy import limits
from understudy.sandbox import FileInfo, FileRefused, Note, Reason, Result, SandboxLost
from understudy.sandbox.channel import Channel
from understudy.sandbox.inside.bounds import Bounds
from understudy.sandbox.inside.frames import Head

_PNG = b"\x89PNG\r\n\x1a\n"
_REASONS: tuple[Reason, ...] = get_args(Reason)
_WORD_CHARS = 300  # Of a refusal: an error of the system, with a path.


class Life(Protocol):
    """The processes of a session, as far as the server can reach them."""

    def kill(self) -> None:
        """End them now. Harmless when they have ended."""

    async def gone(self) -> None:
        """Wait until they have ended, and let go of what was held for them."""


class ChannelSession:
    """A session whose supervisor is at the other end of a channel."""

    def __init__(self, channel: Channel, life: Life, slots: asyncio.Semaphore) -> None:
        self.notes: dict[str, Note] = {}
        self.born_at = time.monotonic()
        self.used_at = self.born_at
        self._channel = channel
        self._life = life
        self._slots = slots
        self._lock = asyncio.Lock()
        self._ended: asyncio.Task[None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it is of no more use."""
        return self._ended is not None or self._channel.is_lost

    @property
    def is_busy(self) -> bool:
        """Whether somebody uses it just now."""
        return self._lock.locked()

    async def begin(self, bounds: Bounds) -> None:
        """Tell a new session what it may use. Raises SandboxLost."""
        async with self._turn():
            await self._asked({"op": "begin", "bounds": bounds.said()}, limits.CODE_START_S)

    async def put(self, path: str, data: AsyncIterable[bytes]) -> FileInfo:
        """Write a file below FOLDER, folders included. Raises FileRefused and SandboxLost."""
        start: Head = {"op": "write", "path": path, "is_last": False}
        more: Head = {"op": "write", "is_last": False}
        async with self._turn():
            await self._asked(start)
            try:
                async for piece in data:
                    for part in _cut(piece):
                        await self._asked(more, blob=part)
                head, _ = await self._asked({**more, "is_last": True})
            except BaseException:
                self._give_up("discard")
                raise
        return self._file(head.get("file"))

    async def link(self, path: str, target: str) -> None:
        """Make `path` another name of `target`. Raises FileRefused and SandboxLost."""
        async with self._turn():
            await self._asked({"op": "link", "path": path, "target": target})

    async def files(self) -> list[FileInfo]:
        """The regular files below FOLDER, nearest first, as far as the limits go."""
        async with self._turn():
            head, _ = await self._asked({"op": "list"})
        files = head.get("files")
        if not isinstance(files, list):
            raise self._nonsense()
        return [self._file(said) for said in files[: limits.CODE_FILES_SEEN]]

    async def get(self, path: str) -> AsyncGenerator[bytes]:
        """A file's bytes, a piece at a time. Raises FileRefused and SandboxLost."""
        question: Head = {"op": "read", "path": path}
        async with self._turn():
            try:
                while piece := (await self._asked(question))[1]:
                    question = {"op": "read"}
                    yield piece
            except BaseException:
                self._give_up("discard")
                raise

    async def run(self, code: str, *, timeout_s: float, on_logs: Callable[[str], None]) -> Result:
        """Run code, when it is its turn."""
        async with self._turn(), self._slots:
            heard = _Heard(on_logs)
            await self._channel.ask(
                {"op": "run", "timeout_s": timeout_s}, code.encode("utf-8", "surrogatepass")
            )
            patience_s = timeout_s + limits.CODE_GRACE_S + limits.CODE_WATCH_S
            try:
                async with asyncio.timeout(patience_s):
                    while (result := heard.take(*await self._channel.answer())) is None:
                        pass
            except (TimeoutError, _Nonsense):
                raise self._nonsense() from None
            except BaseException:
                # The caller was cancelled. What it asked for next waits until the code has ended.
                self._give_up("interrupt")
                raise
            return result

    def _give_up(self, op: str) -> None:
        """Nobody waits for what was asked last; the supervisor is told so."""
        self._channel.tell({"op": op})
        self._channel.abandon()

    async def close(self) -> None:
        """End it; what runs is killed. Returns when nothing of it is left."""
        self._ended = self._ended or asyncio.create_task(self._end())
        await asyncio.shield(self._ended)

    def hang_up(self) -> None:
        """Begin to end it."""
        self._ended = self._ended or asyncio.create_task(self._end())

    async def _end(self) -> None:
        self._channel.close()
        await self._channel.closed()
        gone = asyncio.create_task(self._life.gone())
        await asyncio.wait([gone], timeout=limits.CODE_CLOSE_S)
        if not gone.done():
            self._life.kill()
        await gone

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        async with self._lock:
            if self.is_lost:
                raise SandboxLost
            try:
                yield
            finally:
                self.used_at = time.monotonic()

    async def _asked(
        self,
        head: Head,
        timeout_s: float = limits.CODE_ANSWER_S,
        blob: bytes | memoryview = b"",
    ) -> tuple[Head, bytes]:
        """Ask, and hear the one answer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._channel.ask(head, blob)
                answer, piece = await self._channel.answer()
        except TimeoutError:
            raise self._nonsense() from None
        if answer.get("type") == "refused":
            raise FileRefused(str(answer.get("why"))[:_WORD_CHARS])
        return answer, piece

    def _file(self, said: Any) -> FileInfo:  # Any: it is looked at here.
        match said:
            case [str(path), int(size), str(stamp)] if size >= 0:
                return FileInfo(path, size, stamp[:_WORD_CHARS])
        raise self._nonsense()

    def _nonsense(self) -> SandboxLost:
        """What cannot be: it is no longer our supervisor, or no longer able to work."""
        self._life.kill()
        self.hang_up()
        return SandboxLost()


class _Nonsense(Exception):
    """An answer that no supervisor gives."""


class _Heard:
    """What a call has said so far."""

    def __init__(self, on_logs: Callable[[str], None]) -> None:
        self._on_logs = on_logs
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._room = limits.CODE_LOGS_BYTES
        self._images: list[bytes] = []

    def take(self, head: Head, blob: bytes) -> Result | None:
        """One more frame; the result when it was the last."""
        match head.get("type"):
            case "output" if len(blob) <= self._room:
                self._room -= len(blob)
                self._print(blob)
            case "image" if blob.startswith(_PNG) and len(self._images) < limits.CODE_IMAGES:
                self._images.append(blob)
            case "ended":
                self._print(b"", is_last=True)
                return self._result(head)
            case _:
                raise _Nonsense
        return None

    def _print(self, data: bytes, *, is_last: bool = False) -> None:
        if text := self._decoder.decode(data, is_last):
            self._on_logs(text)

    def _result(self, head: Head) -> Result:
        said = head.get("reason")
        reason = next((known for known in _REASONS if known == said), None)
        if reason is None and said is not None:
            raise _Nonsense
        counts = [head.get("dropped_bytes"), head.get("dropped_images")]
        dropped = [count for count in counts if isinstance(count, int) and count >= 0]
        if len(dropped) != len(counts):
            raise _Nonsense
        return Result(
            images=self._images,
            dropped_bytes=dropped[0],
            dropped_images=dropped[1],
            reason=reason,
            is_state_lost=head.get("is_state_lost") is True,
        )


def _cut(piece: bytes) -> list[memoryview]:
    """In pieces that fit into a frame."""
    view = memoryview(piece)
    size = limits.CODE_FRAME_BYTES
    return [view[start : start + size] for start in range(0, len(view), size)]


def bounds(folder: str, *, is_jailed: bool) -> Bounds:
    """What every session may use."""
    return Bounds(
        folder=folder,
        is_jailed=is_jailed,
        grace_s=limits.CODE_GRACE_S,
        interrupt_s=limits.CODE_INTERRUPT_S,
        logs_bytes=limits.CODE_LOGS_BYTES,
        images=limits.CODE_IMAGES,
        image_bytes=limits.CODE_IMAGE_BYTES,
        image_pixels=limits.CODE_IMAGE_PIXELS,
        files_seen=limits.CODE_FILES_SEEN,
        folder_depth=limits.CODE_FOLDER_DEPTH,
        folder_files=limits.CODE_FOLDER_FILES,
        folder_bytes=limits.CODE_FOLDER_BYTES,
        process_bytes=limits.CODE_PROCESS_BYTES,
        session_bytes=limits.CODE_SESSION_BYTES,
        processes=limits.CODE_PROCESSES,
        open_files=limits.CODE_OPEN_FILES,
        frame_bytes=limits.CODE_FRAME_BYTES,
    )
