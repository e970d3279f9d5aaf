"""Reading files in child processes, seen from the server: a pool of children that are kept warm.

A hostile file may make its reader hang, grow or crash. So files are read in a process that may be
lost: it bears its own limits, has no secret and no network, and what it says is decoded as
typed data or not at all. A child is lost with the file that broke it; the next file gets another.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import assert_never

import msgspec
import structlog

import understudy
from understudy import limits
from understudy.search import unreadable
from understudy.search.frames import HEAD, Begun, Ended, Heard, Made, Part, Read, packed
from understudy.search.unreadable import OutOfMemory, Unreadable

__all__ = ["Readers", "Unreadable"]

_log = structlog.get_logger()

# The system kills when its own memory runs out; a library in C++ aborts when it gets no more.
_OUT_OF_MEMORY = frozenset({-signal.SIGKILL, -signal.SIGABRT})


class Readers:
    """At most `count` children at once, started when they are needed."""

    def __init__(self, count: int, *, cpu_s: int = limits.READER_CPU_S) -> None:
        self._cpu_s = cpu_s
        self._count = count
        self._slots = asyncio.Semaphore(count)
        self._alone = asyncio.Lock()
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._is_closed = False

    async def read(
        self,
        path: Path,
        filename: str,
        *,
        size_tokens: int,
        overlap_tokens: int,
        skip_parts: int = 0,
        more_types: bool = False,
    ) -> AsyncGenerator[Part]:
        """The parts of a file (an absolute path), as they are made; raises Unreadable.

        The child waits when the caller does. A caller that stops early should close the generator;
        the child is then ended, as nobody knows how far it has come.
        """
        assert path.is_absolute(), "a child has a folder of its own"
        request = Read(
            path=str(path),
            filename=filename,
            size_tokens=size_tokens,
            overlap_tokens=overlap_tokens,
            skip_parts=skip_parts,
            more_types=more_types,
            cpu_s=self._cpu_s,
            address_bytes=limits.READER_SHARED_BYTES,
        )
        try:
            async with self._slots, contextlib.aclosing(self._parts(request)) as parts:
                async for part in parts:
                    request = msgspec.structs.replace(request, skip_parts=part.number + 1)
                    yield part
            return
        except OutOfMemory:
            request = msgspec.structs.replace(request, address_bytes=limits.READER_ADDRESS_BYTES)
        async with self._no_others(), contextlib.aclosing(self._parts(request)) as parts:
            async for part in parts:
                yield part

    @contextlib.asynccontextmanager
    async def _no_others(self) -> AsyncGenerator[None]:
        """All of the memory for one file that needs it: no other child is at work, or waits."""
        async with self._alone, contextlib.AsyncExitStack() as stack:
            for _ in range(self._count):
                await stack.enter_async_context(self._slots)
            while self._idle:
                await self._end(self._idle.pop())
            yield

    async def _parts(self, request: Read) -> AsyncGenerator[Part]:
        """The parts that one child makes."""
        child = await self._begun(request)
        try:
            expected = request.skip_parts
            async for part in child.parts():
                if part.number != expected or not _is_sound(part):
                    raise _Nonsense
                expected += 1
                yield part
        except Unreadable as why:
            raise (unreadable.reader_unavailable() if self._is_closed else why) from None
        except _Nonsense:
            _log.warning("reader_said_nonsense", pid=child.pid)
            raise unreadable.crashed() from None
        finally:
            await self._give_back(child)

    async def close(self) -> None:
        """End all children. A reading under way fails; who reads should be cancelled before."""
        self._is_closed = True
        for child in self._all:
            child.kill()
        while self._idle:
            await self._end(self._idle.pop())
        for child in list(self._all):
            await child.gone()

    async def _begun(self, request: Read) -> "_Child":
        """A child that has taken the request."""
        for _ in range(limits.READER_STARTS):
            child = await self._take()
            try:
                if await child.begin(request):
                    return child
            except BaseException:
                await self._end(child)
                raise
            await self._end(child)
        raise unreadable.reader_unavailable()

    async def _take(self) -> "_Child":
        while self._idle:
            child = self._idle.pop()
            child.stay()
            if child.is_alive:
                return child
            await self._end(child)
        if self._is_closed:
            raise unreadable.reader_unavailable()
        try:
            child = await _start()
        except OSError as refused:
            _log.warning("reader_not_started", reason=str(refused))
            raise unreadable.reader_unavailable() from refused
        self._all.add(child)
        return child

    async def _give_back(self, child: "_Child") -> None:
        if self._is_closed or not child.is_fit:
            await self._end(child)
            return
        self._idle.append(child)
        child.leave_in(limits.READER_IDLE_S, self._retire)

    def _retire(self, child: "_Child") -> None:
        """An idle child has waited for long enough."""
        if child in self._idle:
            self._idle.remove(child)
            self._all.discard(child)
            child.kill()

    async def _end(self, child: "_Child") -> None:
        self._all.discard(child)
        child.kill()
        await child.drain()
        await child.gone()


class _Nonsense(Exception):
    """A child broke the protocol: it is no longer our program that runs there."""


class _Child:
    """One process and what it has been used for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout
        self._process = process
        self._in = process.stdin
        self._out = process.stdout
        self._decoder = msgspec.msgpack.Decoder(Heard)
        self._files = 0
        self._resident_bytes = 0
        self._is_idle = True
        self._cpu_s = 0
        self._leaving: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """For the log."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, as far as we have heard."""
        return self._process.returncode is None

    @property
    def is_fit(self) -> bool:
        """Whether the next file may go to it."""
        return (
            self.is_alive
            and self._is_idle
            and self._files < limits.READER_FILES
            and self._resident_bytes < limits.READER_RESIDENT_BYTES
        )

    async def begin(self, request: Read) -> bool:
        """Hand the request over; whether the child took it."""
        self._is_idle = False
        self._cpu_s = request.cpu_s
        self._files += 1
        with contextlib.suppress(OSError):
            self._in.write(packed(request))
            await self._in.drain()
        try:
            return isinstance(await self._hear(limits.READER_START_S), Begun)
        except (asyncio.IncompleteReadError, TimeoutError, _Nonsense):
            _log.warning("reader_did_not_begin", pid=self.pid)
            return False

    async def parts(self) -> AsyncGenerator[Part]:
        """What the child makes of the file; raises Unreadable, or _Nonsense."""
        while True:
            try:
                frame = await self._hear(limits.READER_SILENCE_S)
            except TimeoutError:
                raise unreadable.took_too_long(int(limits.READER_SILENCE_S)) from None
            except asyncio.IncompleteReadError:
                raise await self._death() from None
            match frame:
                case Begun():
                    raise _Nonsense
                case Made(part=part):
                    yield part
                case Ended():
                    self._is_idle = True
                    self._resident_bytes = frame.resident_bytes
                    if frame.detail:
                        _log.info("file_unreadable", code=frame.code, where=frame.detail)
                    if frame.is_out_of_memory:
                        raise unreadable.needed_memory(limits.READER_ADDRESS_BYTES)
                    if frame.code:
                        raise Unreadable(frame.code, frame.message)
                    return
                case _:
                    assert_never(frame)

    async def _hear(self, patience_s: float) -> Heard:
        async with asyncio.timeout(patience_s):
            (length,) = HEAD.unpack(await self._out.readexactly(HEAD.size))
            if length > limits.READER_FRAME_BYTES:
                raise _Nonsense
            body = await self._out.readexactly(length)
        try:
            heard: Heard = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _Nonsense from None
        return heard

    async def _death(self) -> Unreadable:
        """Why the child died, in words."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.READER_DYING_S):
                await self.gone()
        self.kill()
        await self.gone()
        status = self._process.returncode or 0
        _log.warning("reader_died", pid=self.pid, status=status)
        if status == -signal.SIGXCPU:
            return unreadable.took_too_long(self._cpu_s)
        if status in _OUT_OF_MEMORY:
            return unreadable.needed_memory(limits.READER_ADDRESS_BYTES)
        return unreadable.crashed()

    def leave_in(self, seconds: float, leave: Callable[["_Child"], None]) -> None:
        """Say when an idle child shall end."""
        self._leaving = asyncio.get_running_loop().call_later(seconds, leave, self)

    def stay(self) -> None:
        """There is work again."""
        if self._leaving:
            self._leaving.cancel()
            self._leaving = None

    def kill(self) -> None:
        """End the process, if it has not ended by itself."""
        self.stay()
        self._in.close()
        # Not process.kill(): it would look whether it is dead, and take its status from asyncio.
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def drain(self) -> None:
        """Read what a killed child had said still, so that its pipe is closed."""
        while await self._out.read(limits.SNIFFED_BYTES):
            pass

    async def gone(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()


async def _start() -> _Child:
    """A new child: our own program, and nothing of this process but two pipes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-s",
        "-m",
        "understudy.search.reading",
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd="/",
        env=_environment(),
        close_fds=True,
        start_new_session=True,  # A Ctrl-C at the terminal is for the server, which ends it.
    )
    return _Child(process)


def _environment() -> dict[str, str]:
    """Where our program is; one thread for numpy, whose others would each claim address space."""
    return {
        "PYTHONPATH": str(Path(understudy.__file__).parent.parent),
        "PYTHONSAFEPATH": "1",
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }


def _is_sound(part: Part) -> bool:
    """Whether the lists of a part fit together: what is stored relies on it."""
    count = len(part.starts)
    lists = (part.stops, part.words, part.strides, part.texts)
    return (
        0 < count <= limits.PART_CHUNKS
        and all(len(values) == count for values in lists)
        and len(part.terms) == len(part.postings)
        and part.first == part.number * limits.PART_CHUNKS
    )
