"""The supervisor of a session: pid 1 of its jail. It serves the server and never runs any code.

It is the only process of a session that holds the socket to the server. Its worker may die, hang
or lie: then everything in the session is killed and there is a new worker. The files stay.
"""

import errno
import os
import signal
import socket
from collections import deque
from typing import NoReturn

from understudy.sandbox.inside import folder
from understudy.sandbox.inside.bounds import CODE_BYTES, HEAD_BYTES, READ_BYTES, Bounds
from understudy.sandbox.inside.call import Call
from understudy.sandbox.inside.folder import Reading, Refused, Writing
from understudy.sandbox.inside.frames import Head, Parser, packed
from understudy.sandbox.inside.processes import Worker


def serve(server: socket.socket) -> NoReturn:
    """Say hello, hear the bounds, and serve until the server hangs up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    server.setblocking(True)
    server.sendall(b"!")  # The kernel writes our pid beside it, as the server sees it.
    supervisor = None
    parser = Parser(head_bytes=HEAD_BYTES, blob_bytes=CODE_BYTES)
    try:
        while data := server.recv(READ_BYTES):
            parser.feed(data)
            while frame := parser.next():
                if supervisor is None:
                    supervisor = Supervisor(server, parser, Bounds(**frame[0]["bounds"]))
                    supervisor.say(frame[0], {"type": "done"})
                else:
                    supervisor.obey(*frame)
                    supervisor.catch_up()
    finally:
        if supervisor:
            supervisor.end()
        os._exit(0)


class Supervisor:
    """A worker, and at most one file on its way in or out."""

    def __init__(self, server: socket.socket, parser: Parser, bounds: Bounds) -> None:
        self._server = server
        self._parser = parser
        self._bounds = bounds
        self._reading: Reading | None = None
        self._writing: Writing | None = None
        self._calls = 0
        self._is_loss_untold = False
        self._waiting: deque[tuple[Head, bytes]] = deque()
        self._worker = Worker(bounds, server.fileno())

    def catch_up(self) -> None:
        """Do what the server asked for while code ran: it waits for the code no more."""
        while self._waiting:
            self.obey(*self._waiting.popleft())

    def end(self) -> None:
        """The server has hung up."""
        self._worker.kill()

    def say(self, asked: Head, head: Head, blob: bytes = b"") -> None:
        """Answer what was asked."""
        self._server.sendall(packed({**head, "id": asked["id"]}, blob))

    def obey(self, asked: Head, blob: bytes) -> None:
        """Do what the server asks for."""
        try:
            self._obey(asked, blob)
        except Refused as why:
            self.say(asked, {"type": "refused", "why": str(why)})
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                raise
            self.say(asked, {"type": "refused", "why": f"{os.strerror(error.errno or 0)}."})

    def _obey(self, asked: Head, blob: bytes) -> None:
        match asked["op"]:
            case "run":
                self._run(asked, blob)
            case "list":
                files = [found.said() for found in folder.listed(self._bounds)]
                self.say(asked, {"type": "files", "files": files})
            case "read":
                self._read(asked)
            case "write":
                self._write(asked, blob)
            case "link":
                folder.link(self._bounds.folder, asked["path"], asked["target"])
                self.say(asked, {"type": "done"})
            case "discard":
                self._close()
            case "interrupt":
                pass  # What it was for has ended meanwhile.
            case op:
                raise Refused(f"{op} is unknown.")

    def _run(self, asked: Head, code: bytes) -> None:
        for is_second_try in (False, True):
            self._calls += 1
            call = Call(
                self._worker,
                self._bounds,
                lambda head, blob: self.say(asked, head, blob),
                number=self._calls,
                timeout_s=asked["timeout_s"],
                is_second_try=is_second_try,
                is_loss_untold=self._is_loss_untold,
            )
            is_lost = not call.run(code, self._server, self._overheard)
            if is_lost:
                self._worker.kill()
                self._worker = Worker(self._bounds, self._server.fileno())
            if call.is_served:
                is_loss = is_lost or self._is_loss_untold
                self._is_loss_untold = is_loss and call.is_given_up
                return

    def _overheard(self) -> bool:
        """What the server says during a call: whether to interrupt it. When it has hung up, that
        is the end."""
        data = self._server.recv(READ_BYTES)
        if not data:
            self.end()
            os._exit(0)
        self._parser.feed(data)
        is_interrupt = False
        while frame := self._parser.next():
            if frame[0]["op"] == "interrupt":
                is_interrupt = True
            else:
                self._waiting.append(frame)
        return is_interrupt

    def _read(self, asked: Head) -> None:
        """A file, piece by piece: the first question has its path, an empty answer is its end."""
        if "path" in asked:
            self._close()
            self._reading = Reading(self._bounds.folder, asked["path"])
        if self._reading is None:
            raise Refused("No file is being read.")
        data = self._reading.read(self._bounds.frame_bytes)
        if not data:
            self._close()
        self.say(asked, {"type": "data"}, data)

    def _write(self, asked: Head, data: bytes) -> None:
        """A file, piece by piece: the first has its path, the last says so."""
        if "path" in asked:
            self._close()
            self._writing = Writing(self._bounds.folder, asked["path"])
        if self._writing is None:
            raise Refused("No file is being written.")
        try:
            self._writing.write(data)
        except Refused:
            self._close()
            raise
        if not asked["is_last"]:
            self.say(asked, {"type": "done"})
            return
        found = self._writing.keep()
        self._writing = None
        self.say(asked, {"type": "file", "file": found.said()})

    def _close(self) -> None:
        """Whatever was begun and not ended."""
        if self._reading:
            self._reading.close()
        if self._writing:
            self._writing.discard()
        self._reading = self._writing = None
