"""A session in a kernel of a Jupyter server: code and files in, what it printed and made out.

How to think about it: the kernel is trusted with nothing. What ends a call is what the kernel says
or else the clock here; after each call an answer to a harmless question proves that the code has
ended, and whether the variables are still there. A call that does not end is interrupted, then the
kernel gets a new process (`_renew`); what cannot be mended ends the session.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from understudy import limits
from understudy.sandbox import (
    FOLDER,
    FileInfo,
    FileRefused,
    Note,
    Reason,
    Result,
    SandboxLost,
    SandboxUnavailable,
)
from understudy.sandbox.jupyter.code import Head, answer_of, asking, beginning
from understudy.sandbox.jupyter.http import KernelGone
from understudy.sandbox.jupyter.kernel import Cut, Ending, Foul, Kernel, Request, Unheard
from understudy.sandbox.jupyter.messages import Dying, Reply
from understudy.sandbox.jupyter.outputs import Outputs
from understudy.sandbox.session import bounds

_log = structlog.get_logger()
_WORD_CHARS = 300  # Of a refusal: an error of the system, with a path.
_IMAGE_PIECES = -(-limits.CODE_IMAGE_BYTES // limits.CODE_FRAME_BYTES)
_INTERRUPTS = 2  # `os.system` swallows one.


class _Failed(Exception):
    """The kernel has not answered as a session does."""


class _Silent(_Failed):
    """It has not answered at all."""


class _Refused(_Failed):
    """It does not do what it was asked for; the text says why."""


_FAILURES = (_Failed, SandboxUnavailable, KernelGone, TimeoutError)


class JupyterSession:
    """A kernel as a session. `wanted` is where it would like to have its files."""

    def __init__(self, kernel: Kernel, wanted: str) -> None:
        self.notes: dict[str, Note] = {}
        self.born_at = time.monotonic()
        self.used_at = self.born_at
        self.python = ""
        self._kernel = kernel
        self._wanted = wanted
        self._folder: str | None = None
        self._lock = asyncio.Lock()
        self._settling: asyncio.Task[None] | None = None
        self._is_loss_untold = False  # Of variables, by a call that nobody waited for.
        self._ended: asyncio.Task[None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it is of no more use."""
        return self._ended is not None

    @property
    def is_busy(self) -> bool:
        """Whether somebody uses it just now."""
        return self._lock.locked()

    async def begin(self) -> None:
        """Get a new kernel ready. Raises SandboxUnavailable."""
        try:
            if not await self._begun(limits.CODE_START_S):
                raise _Failed
        except _Silent:
            raise SandboxUnavailable(
                "The Jupyter server's Python kernel does not answer.",
                "See the log of the Jupyter server.",
            ) from None
        except (_Failed, KernelGone):
            raise SandboxUnavailable(
                "The Jupyter server's Python kernel cannot be used.",
                "It has to be ipykernel 6 or newer, with Python 3.10 or newer, on Linux or macOS.",
            ) from None

    async def put(self, path: str, data: AsyncIterable[bytes]) -> FileInfo:
        """Write a file below FOLDER, folders included. Raises FileRefused and SandboxLost."""
        more: Head = {"op": "write", "is_last": False}
        async with self._turn():
            try:
                await self._asked({**more, "path": path})
                async for part in _filled(data):
                    await self._asked(more, part)
                head, _ = await self._asked({**more, "is_last": True})
            except BaseException:
                self._let_go()
                raise
        if (file := _file(head.get("file"))) is None:
            raise self._lost()
        return file

    async def link(self, path: str, target: str) -> None:
        """Make `path` another name of `target`. Raises FileRefused and SandboxLost."""
        async with self._turn():
            await self._asked({"op": "link", "path": path, "target": target})

    async def files(self) -> list[FileInfo]:
        """The regular files below FOLDER, nearest first, as far as the limits go."""
        async with self._turn():
            try:
                head, _ = await self._helped({"op": "list"}, limits.CODE_ANSWER_S)
            except _FAILURES:
                raise self._lost() from None
        files = head.get("files")
        if not isinstance(files, list):
            raise self._lost()
        said = [_file(file) for file in files[: limits.CODE_FILES_SEEN]]
        return [file for file in said if file is not None]

    async def get(self, path: str) -> AsyncGenerator[bytes]:
        """A file's bytes, a piece at a time. Raises FileRefused and SandboxLost."""
        question: Head = {"op": "read", "path": path}
        room = limits.CODE_FILE_BYTES
        async with self._turn():
            try:
                while piece := (await self._asked(question))[1]:
                    room -= len(piece)
                    if room < 0:
                        raise FileRefused(f"{path} has more than {limits.CODE_FILE_BYTES} bytes.")
                    question = {"op": "read"}
                    yield piece
            except BaseException:
                self._let_go()
                raise

    async def run(self, code: str, *, timeout_s: float, on_logs: Callable[[str], None]) -> Result:
        """Run code, when it is its turn."""
        async with self._turn():
            assert self._folder
            try:
                code.encode()
            except UnicodeEncodeError as error:  # What Python says of such code, too.
                on_logs(f"UnicodeEncodeError: {error}\n")
                return Result()
            outputs = Outputs(on_logs, self._folder)
            try:
                result = await self._ran(code.replace(FOLDER, self._folder), timeout_s, outputs)
            except SandboxLost:
                raise
            except BaseException:
                # The caller was cancelled. What it asks next waits until the code has ended.
                outputs.mute()
                self._settle(self._stop)
                raise
            is_state_lost = result.is_state_lost or self._is_loss_untold
            self._is_loss_untold = False
            return replace(result, is_state_lost=is_state_lost)

    async def close(self) -> None:
        """End it; what runs is killed. Returns when nothing of it is left."""
        self.hang_up()
        assert self._ended
        await asyncio.shield(self._ended)

    def hang_up(self) -> None:
        """Begin to end it."""
        self._ended = self._ended or asyncio.create_task(self._end())

    async def _ran(self, code: str, timeout_s: float, outputs: Outputs) -> Result:
        request = await self._taken_up(code, outputs)
        reason: Reason | None = None
        ending = await request.ended(timeout_s)
        if ending is None:
            reason = "timeout"
            ending = await self._interrupted()
        match ending:
            case Unheard(error):
                raise error
            case Cut():
                raise self._lost()
            case Dying():
                return await self._renewed(outputs, reason or "died", is_restarting=True)
            case Foul():
                reason = reason or "protocol"
                self._kernel.hang_up()
                await self._interrupt()
            case None:
                return await self._renewed(outputs, reason or "timeout")
        try:
            await self._collect(outputs)
        except _Silent:  # The code only said that it had ended.
            return await self._renewed(outputs, reason or "protocol")
        except _FAILURES:
            return await self._renewed(outputs, reason or "died")
        return outputs.result(reason, is_state_lost=False)

    async def _taken_up(self, code: str, outputs: Outputs) -> Request:
        """The request to run code, as far as the kernel's first word."""
        try:
            request = await self._kernel.ask(code, hear=outputs.hear)
        except _FAILURES:
            raise self._lost() from None
        if not await request.begun(limits.CODE_WATCH_S):
            raise self._lost()
        return request

    async def _collect(self, outputs: Outputs) -> None:
        """The rest of what a call has to say, which only an unharmed kernel can. Raises _Failed."""
        head, piece = await self._helped({"op": "ended"}, limits.CODE_WATCH_S)
        outputs.count(head.get("dropped_bytes"), head.get("dropped_images"))
        image = bytearray()
        async with asyncio.timeout(limits.CODE_ANSWER_S):
            for _ in range(limits.CODE_IMAGES * _IMAGE_PIECES):
                image += piece
                if len(image) > limits.CODE_IMAGE_BYTES:
                    raise _Failed
                if image and head.get("is_last") is True:
                    outputs.show(bytes(image))
                    image.clear()
                if head.get("has_more") is not True:
                    return
                head, piece = await self._helped({"op": "image"}, limits.CODE_ANSWER_S)

    async def _interrupted(self) -> Ending | None:
        """Interrupt the code; how it ended, or None if it does not."""
        request = self._kernel.request
        assert request
        for _ in range(_INTERRUPTS):
            await self._interrupt()
            if ending := await request.ended(limits.CODE_GRACE_S / _INTERRUPTS):
                return ending
        return None

    async def _interrupt(self) -> None:
        with contextlib.suppress(*_FAILURES):  # Then what comes next fails, too.
            await self._kernel.interrupt()

    async def _stop(self) -> None:
        """End code that nobody waits for."""
        if self._kernel.request is not None:
            ending = await self._interrupted()
            if isinstance(ending, Reply):
                with contextlib.suppress(_Failed):
                    await self._helped({"op": "forget"}, limits.CODE_WATCH_S)
                    return
        self._is_loss_untold = True
        await self._renew(is_restarting=False)

    async def _renewed(
        self, outputs: Outputs, reason: Reason, *, is_restarting: bool = False
    ) -> Result:
        """A result whose call cost the variables. Later calls wait until there is a new Python."""
        renewing = self._settle(partial(self._renew, is_restarting=is_restarting))
        await asyncio.wait([renewing], timeout=limits.CODE_WATCH_S)
        if self.is_lost:
            raise SandboxLost
        return outputs.result(reason, is_state_lost=True)

    async def _renew(self, *, is_restarting: bool) -> None:
        """A new process for the kernel, which may be getting one by itself. The files stay."""
        self._kernel.hang_up()
        if is_restarting:
            with contextlib.suppress(*_FAILURES):
                if await self._begun(limits.CODE_WATCH_S):
                    return
        async with asyncio.timeout(limits.CODE_START_S):
            await self._kernel.restart()
            if not await self._begun(limits.CODE_START_S):
                raise _Failed

    async def _begun(self, patience_s: float) -> bool:
        """Make a Python a session; whether it was a new one. Raises _Failed."""
        limits_said = bounds(self._wanted, is_jailed=False).said()
        asked = {"wanted": self._wanted, "earlier": self._folder, "bounds": limits_said}
        head, _ = await self._answered(beginning(asked), patience_s, patience_s)
        if head.get("is_fresh") is not True:
            return False
        match head:
            case {"folder": str(folder), "python": str(python)} if _is_folder(folder):
                if self._folder not in (None, folder):
                    raise _Failed  # The files are gone.
                self._folder = folder
                self.python = python[:_WORD_CHARS]
                await self._heard(patience_s)
                return True
        raise _Failed

    async def _heard(self, patience_s: float) -> None:
        """Until outputs come, too. Answers go another way, and of a kernel whose last process was
        killed while busy a Jupyter server does not wait until its outputs are subscribed: the first
        ones were lost."""
        async with asyncio.timeout(patience_s):
            while True:
                request = await self._kernel.ask(expression="0", hear=lambda _: None)
                ending = await request.ended(limits.CODE_WATCH_S)
                if request.is_heard:
                    return
                if ending is not None and not isinstance(ending, Reply):
                    raise _Failed

    def _let_go(self) -> None:
        """Nobody wants the rest of a file."""
        self._settle(self._discard)

    def _settle(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do something that has to be done before the next turn; if it fails, the session ends."""
        self._settling = asyncio.create_task(self._settled(work, self._settling))
        return self._settling

    async def _settled(
        self, work: Callable[[], Awaitable[None]], before: asyncio.Task[None] | None
    ) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            if not self.is_lost:
                await work()
        except _FAILURES:
            self.hang_up()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        async with self._lock:
            if self._settling is not None:
                await asyncio.wait([self._settling])
                self._settling = None
            if self.is_lost:
                raise SandboxLost
            try:
                yield
            finally:
                self.used_at = time.monotonic()

    async def _asked(self, head: Head, blob: bytes = b"") -> tuple[Head, bytes]:
        """Ask the session for something. Raises FileRefused, and SandboxLost when it is no more."""
        try:
            return await self._helped(head, limits.CODE_ANSWER_S, blob)
        except _Refused as why:
            raise FileRefused(str(why)) from None
        except _FAILURES:
            raise self._lost() from None

    async def _discard(self) -> None:
        with contextlib.suppress(_Refused):
            await self._helped({"op": "discard"}, limits.CODE_ANSWER_S)

    async def _helped(self, head: Head, patience_s: float, blob: bytes = b"") -> tuple[Head, bytes]:
        """The session's answer. Raises one of _FAILURES."""
        question = asking(head, blob)
        answer, piece = await self._answered(question, limits.CODE_WATCH_S, patience_s)
        if "refused" in answer:
            raise _Refused(str(answer["refused"])[:_WORD_CHARS])
        return answer, piece

    async def _answered(
        self, expression: str, begin_s: float, patience_s: float
    ) -> tuple[Head, bytes]:
        request = await self._kernel.ask(expression=expression)
        if not await request.begun(begin_s):
            raise _Silent
        ending = await request.ended(patience_s)
        if ending is None:
            raise _Silent
        answer = ending.answer if isinstance(ending, Reply) else None
        if answer is None or (said := answer_of(answer)) is None:
            raise _Failed
        return said

    def _lost(self) -> SandboxLost:
        """What cannot be: it is no longer our kernel, or no longer able to work."""
        self.hang_up()
        return SandboxLost()

    async def _end(self) -> None:
        is_used = self.is_busy or self._settling is not None
        self._kernel.hang_up()
        if self._settling is not None and self._settling is not asyncio.current_task():
            self._settling.cancel()
            await asyncio.wait([self._settling])
        if self._folder is not None:
            await self._clear(is_used=is_used)
        try:
            await self._kernel.delete()
        except KernelGone:
            pass
        except SandboxUnavailable as why:
            _log.warning("jupyter_kernel_left", kernel=self._kernel.id, reason=why.cause)

    async def _clear(self, *, is_used: bool) -> None:
        """Remove the files: the disk may be that of all kernels. A kernel that does not obey gets
        a new process for that."""
        clear: Head = {"op": "clear"}
        try:
            if is_used:
                await self._interrupt()
            async with asyncio.timeout(limits.CODE_CLOSE_S):
                await self._helped(clear, limits.CODE_CLOSE_S)
            return
        except _FAILURES:
            pass
        try:
            async with asyncio.timeout(limits.CODE_WATCH_S):
                await self._renew(is_restarting=False)
                await self._helped(clear, limits.CODE_CLOSE_S)
        except KernelGone:
            pass
        except _FAILURES:
            _log.warning("jupyter_files_left", kernel=self._kernel.id, folder=self._folder)


async def _filled(data: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """In pieces as large as fit into a message: each costs the way there and back."""
    size = limits.CODE_FRAME_BYTES
    waiting = bytearray()
    async for piece in data:
        view = memoryview(piece)
        while view:
            room = size - len(waiting)
            waiting += view[:room]
            view = view[room:]
            if len(waiting) == size:
                yield bytes(waiting)
                waiting.clear()
    if waiting:
        yield bytes(waiting)


def _file(said: Any) -> FileInfo | None:  # Any: it is looked at here.
    """A file as a listing has it; None when it is none that could be."""
    match said:
        case [str(path), int(size), str(stamp)] if size >= 0 and _is_below(path):
            return FileInfo(path, size, stamp[:_WORD_CHARS])
    return None


def _is_folder(path: str) -> bool:
    """Whether a path can stand for FOLDER."""
    return path.startswith("/") and len(path) < _WORD_CHARS and path.isprintable()


def _is_below(path: str) -> bool:
    """Whether a path is one that stays below the folder."""
    parts = path.split("/")
    return "\0" not in path and not any(part in ("", ".", "..") for part in parts)
