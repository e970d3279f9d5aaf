"""Apart: the lane to a writer in a process of its own.

A thread that writes takes the interpreter from the loop and gives it back with each step of each
statement: of what a run cost, a third went into that (decision 0005). In a process of its own the
writer has an interpreter of its own, and a server uses two cores.

The writer holds the file's lock together with the server, so that no other server begins while it
finishes what a killed one had asked for.
"""

import asyncio
import marshal
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import understudy
from understudy.store import OnFatal, Row, Statement
from understudy.store.frames import END, TOLD, Frames, framed
from understudy.store.lane import Asked, Lane

_OURS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass(frozen=True)
class Started:
    """A writer's process that has begun to start, and our end of the socket to it."""

    process: "subprocess.Popen[bytes]"
    socket: socket.socket

    def kill(self) -> None:
        """It is not needed."""
        self.process.kill()
        self.process.wait()
        self.socket.close()


def start(module: str, path: str, lock: IO[str]) -> Started:
    """Start the writer; it takes 50 ms, so this comes before what else there is to do."""
    ours, theirs = socket.socketpair()
    program = [sys.executable, "-P", "-s", "-m", module]
    # A signal to the whole group is for the server. A blocked one stays so in what is started.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    try:
        process = subprocess.Popen(  # noqa: S603 (this Python, this package)
            [*program, str(theirs.fileno()), str(Path(path).absolute())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # The server's is its own to close.
            cwd="/",
            # Neither the server's secrets nor the modules of the folder it was started in.
            env={"PYTHONPATH": str(Path(understudy.__file__).parent.parent)},
            pass_fds=(theirs.fileno(), lock.fileno()),
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        theirs.close()
    return Started(process, ours)


class Apart(Lane[Sequence[Statement]], asyncio.Protocol):
    """The server's side; made by `opened`."""

    def __init__(self, started: Started, *, bound: int, on_fatal: OnFatal) -> None:
        super().__init__("writer", bound=bound, on_fatal=on_fatal)
        self._process = started.process
        self._transport: asyncio.Transport | None = None
        self._sent: deque[Asked[Sequence[Statement]]] = deque()
        self._frames = Frames()
        self._gone = asyncio.Event()

    # The lane.

    def _begin(self, calls: list[Asked[Sequence[Statement]]]) -> None:
        assert self._transport is not None, "opened"
        messages: list[bytes] = []
        for call in calls:
            try:
                messages.append(_message(call.payload, is_told=call.told is not None))
            except TypeError as bug:  # Its caller's; the others go on.
                self._answered([call], [bug])
            else:
                self._sent.append(call)
        self._transport.write(b"".join(messages))

    def _end(self) -> None:
        assert self._transport is not None, "opened"
        self._transport.write(END)

    async def _ended(self) -> None:
        await self._gone.wait()
        await asyncio.to_thread(self._process.wait)

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours. asyncio says BaseTransport; uvloop's derive from none."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The outcomes of one or several transactions."""
        for answer in self._frames.take(data):
            if answer.startswith(TOLD):
                for place, rows in marshal.loads(answer[len(TOLD) :]):  # noqa: S302 (the same)
                    self._tell(self._sent[place], rows)
                continue
            outcomes = pickle.loads(answer)  # noqa: S301 (our own program)
            calls = [self._sent.popleft() for _ in outcomes]
            self._answered(calls, outcomes)

    def _tell(self, call: Asked[Sequence[Statement]], rows: list[list[Row]]) -> None:
        assert call.told is not None, "it asked for it"
        call.told(rows)

    def connection_lost(self, exc: Exception | None) -> None:
        """The writer is gone: as it should, or not."""
        self._gone.set()
        if self._closed is None or self._sent:
            self._die(list(self._sent))
            self._on_fatal(self._died())


async def opened(started: Started, *, bound: int, on_fatal: OnFatal) -> Apart:
    """The lane to this writer."""
    loop = asyncio.get_running_loop()
    lane = Apart(started, bound=bound, on_fatal=on_fatal)
    await loop.create_unix_connection(lambda: lane, sock=started.socket)
    return lane


def _message(statements: Sequence[Statement], *, is_told: bool) -> bytes:
    plain = [(one.query, one.args, one.rows, one.many) for one in statements]
    try:
        return framed(marshal.dumps((is_told, plain)))
    except ValueError as error:
        raise TypeError(f"an argument that is no plain value: {error}") from None
