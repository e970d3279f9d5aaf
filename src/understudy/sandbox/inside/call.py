"""One call, watched by the supervisor from its code to its end.

Nothing that the worker does or says can keep a call from ending: time, memory and the worker's
life are looked at from here, and each wait has a bound.
"""

import os
import select
import socket
import time
from collections.abc import Callable

from understudy.sandbox.inside.bounds import (
    BEGIN_S,
    DRAINED_READS,
    FLUSH_BYTES,
    FLUSH_S,
    INTERRUPT_AGAIN_S,
    READ_BYTES,
    WATCH_S,
    WORKER_HEAD_BYTES,
    WRITABLE,
    Bounds,
)
from understudy.sandbox.inside.frames import BadFrame, Head, Parser, packed
from understudy.sandbox.inside.processes import Worker

_PNG = b"\x89PNG\r\n\x1a\n"
Say = Callable[[Head, bytes], None]


class Call:
    """A call under way."""

    def __init__(
        self,
        worker: Worker,
        bounds: Bounds,
        say: Say,
        *,
        number: int,
        timeout_s: float,
        is_second_try: bool,
        is_loss_untold: bool,
    ) -> None:
        self._worker = worker
        self._bounds = bounds
        self._say = say
        self._number = number
        self._heard = Parser(head_bytes=WORKER_HEAD_BYTES, blob_bytes=bounds.image_bytes)
        self._output = _Output(bounds.logs_bytes, say)
        self._images = 0
        self._dropped_images = 0
        self._reason: str | None = None
        self._is_second_try = is_second_try
        self._is_loss_untold = is_loss_untold
        self._is_over = False
        self._is_lost = False
        self._has_begun = False
        self.is_served = True
        self.is_given_up = False  # Nobody hears how it ends.
        now = time.monotonic()
        self._begin_at = now + BEGIN_S
        self._interrupt_at = now + timeout_s
        self._kill_at = float("inf")
        self._watch_at = now + WATCH_S

    def run(self, code: bytes, server: socket.socket, is_interrupted: Callable[[], bool]) -> bool:
        """Run code to its end and report it; whether the worker is still of use.

        A worker that an earlier call has broken does not begin. Then nothing is reported, and the
        call is not `is_served`: it gets another worker.

        `is_interrupted` reads what the server says meanwhile.
        """
        worker = self._worker
        rest = memoryview(packed({"number": self._number}, code))
        worker.thaw()
        poll = select.poll()
        for descriptor in (server.fileno(), worker.results, worker.output):
            poll.register(descriptor, select.POLLIN)
        poll.register(worker.commands, select.POLLOUT)
        while not self._is_over:
            ready = dict(poll.poll(max(0.0, self._next_look() - time.monotonic()) * 1000))
            if worker.commands in ready and rest:
                rest = rest[self._give(rest) :]
            if worker.commands in ready and not rest:
                poll.unregister(worker.commands)
            if worker.output in ready and not self._output.read(worker.output):
                poll.unregister(worker.output)
            if server.fileno() in ready and is_interrupted():
                self.is_given_up = True
                self._stop("interrupted", self._bounds.interrupt_s)
            if worker.results in ready:
                self._hear()
            self._look()
        return self._end()

    def _give(self, code: memoryview) -> int:
        """Hand over a piece of the code; a worker that is gone takes all of it."""
        try:
            return os.write(self._worker.commands, code)
        except BlockingIOError:
            return 0
        except OSError:
            return len(code)

    def _next_look(self) -> float:
        looks = (self._interrupt_at, self._kill_at, self._watch_at, self._begin_at)
        return min(*looks, self._output.flush_at)

    def _look(self) -> None:
        """Whether it is time for something."""
        now = time.monotonic()
        if now >= self._output.flush_at:
            self._output.flush()
        if self._is_over:
            return
        if now >= self._kill_at:
            self._lose(self._reason or "timeout")
        elif now >= self._interrupt_at and self._kill_at < float("inf"):
            self._interrupt_at = float("inf")
            self._worker.interrupt()
        elif now >= self._interrupt_at:
            self._stop("timeout", self._bounds.grace_s)
        elif now >= self._begin_at:
            self._lose("protocol")
        elif now >= self._watch_at:
            self._watch_at = now + WATCH_S
            self._watch()

    def _watch(self) -> None:
        self._worker.reap()
        if not self._worker.is_alive:
            self._hear()  # It may have died after its last word.
            if not self._is_over:
                self._lose("died")
        elif self._is_memory_full():
            self._lose("memory")
        elif self._bounds.is_jailed and any(map(self._has_too_many_files, WRITABLE)):
            os._exit(0)  # The files are the trouble: the session goes, and they with it.

    def _is_memory_full(self) -> bool:
        return self._worker.memory_bytes(self._bounds) > self._bounds.session_bytes

    def _has_too_many_files(self, folder: str) -> bool:
        """Whether there are more than the bounds allow, where no option of the mount says it."""
        status = os.statvfs(folder)
        return status.f_files - status.f_ffree > self._bounds.folder_files

    def _stop(self, reason: str, grace_s: float) -> None:
        """Ask the code to stop; it is killed when it does not. The first reason is the one."""
        now = time.monotonic()
        self._reason = self._reason or reason
        self._kill_at = min(self._kill_at, now + grace_s)
        self._interrupt_at = now + INTERRUPT_AGAIN_S
        self._worker.interrupt()

    def _lose(self, reason: str) -> None:
        # A call that was to stop anyway is not tried again.
        self.is_served = self._has_begun or self._is_second_try or self._reason is not None
        self._reason = reason
        self._is_lost = True
        self._is_over = True

    def _hear(self) -> None:
        """What the worker says; of no weight but for its own call."""
        try:
            data = os.read(self._worker.results, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._lose("died")
            return
        self._heard.feed(data)
        try:
            while not self._is_over and (frame := self._heard.next()):
                self._take(*frame)
        except BadFrame:
            self._lose("protocol")

    def _take(self, head: Head, blob: bytes) -> None:
        if head.get("number") != self._number:
            raise BadFrame("of another call")
        match head.get("type"):
            case "begun" if not self._has_begun:
                self._has_begun = True
                self._begin_at = float("inf")
            case _ if not self._has_begun:
                raise BadFrame("not begun")
            case "image" if blob.startswith(_PNG):
                self._image(blob)
            case "dropped" if isinstance(images := head.get("images"), int) and images > 0:
                self._dropped_images = min(self._dropped_images + images, 1_000_000)
            case "ended":
                self._is_over = True
                if head.get("is_out_of_memory") is True and self._worker.is_full(self._bounds):
                    self._lose("memory")
            case _:
                raise BadFrame("unknown")

    def _image(self, image: bytes) -> None:
        if self._images >= self._bounds.images:
            self._dropped_images += 1
            return
        self._images += 1
        self._output.read_rest(self._worker.output)
        self._output.flush()
        self._say({"type": "image"}, image)

    def _end(self) -> bool:
        worker = self._worker
        if not self.is_served:
            return False
        if not self._is_lost:
            worker.freeze()
            if self._reason:
                worker.kill_others()
        self._output.read_rest(worker.output)
        self._output.flush()
        worker.reap()
        if not worker.is_alive and not self._is_lost:
            self._lose("died")
        self._say(
            {
                "type": "ended",
                "reason": self._reason,
                "is_state_lost": self._is_lost or self._is_second_try or self._is_loss_untold,
                "dropped_bytes": self._output.dropped_bytes,
                "dropped_images": self._dropped_images,
            },
            b"",
        )
        return not self._is_lost


class _Output:
    """What the code prints: so much is passed on, the rest is counted."""

    def __init__(self, most: int, say: Say) -> None:
        self._room = most
        self._say = say
        self._waiting = bytearray()
        self.dropped_bytes = 0
        self.flush_at = float("inf")

    def read(self, output: int) -> bool:
        """Take what is there; whether there may be more later."""
        try:
            data = os.read(output, READ_BYTES)
        except BlockingIOError:
            return True
        kept = data[: self._room]
        self._room -= len(kept)
        self.dropped_bytes += len(data) - len(kept)
        if kept and not self._waiting:
            self.flush_at = time.monotonic() + FLUSH_S
        self._waiting += kept
        if len(self._waiting) >= FLUSH_BYTES:
            self.flush()
        return bool(data)

    def read_rest(self, output: int) -> None:
        """Take what was there, as far as it is no endless stream."""
        poll = select.poll()
        poll.register(output, select.POLLIN)
        for _ in range(DRAINED_READS):
            if not poll.poll(0) or not self.read(output):
                return

    def flush(self) -> None:
        """Pass on what waits."""
        if self._waiting:
            self._say({"type": "output"}, bytes(self._waiting))
        self._waiting.clear()
        self.flush_at = float("inf")
