"""Mirrors: runs that are driven on another server, as their frames arrive through a bell that
carries bytes.

A mirror is a LiveLog that is filled from there. It is a hint as the bell is: what does not follow
what came before begins another one, and one that hears nothing for a while is over, so that its
readers look into the record. Nothing is lost either way: the record has every frame a tick later.
"""

import asyncio
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from understudy import limits
from understudy.bell import Bell
from understudy.engine import frames
from understudy.engine.live_log import LiveLog
from understudy.wire.events import STREAM_ENDS

_HEAD = struct.Struct("!QQ")  # The fence, and the sequence of the first frame.


def tell(bell: Bell, run_id: str, fence: int, first: int, shown: Sequence[bytes]) -> None:
    """Show frames, which end in an empty line each, to the readers on other servers."""
    bell.tell(_topic(run_id), _HEAD.pack(fence, first) + b"".join(shown))


class Mirrors:
    """The mirrors of one server: of the runs that are watched here and driven elsewhere."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._mirrors: dict[str, _Mirror] = {}

    def get(self, run_id: str) -> LiveLog | None:
        """What is known of a run just now."""
        mirror = self._mirrors.get(run_id)
        return None if mirror is None else mirror.live

    @contextmanager
    def watching(self, run_id: str) -> Iterator[None]:
        """Hear of the run until the end of the block."""
        if not self._bell.carries_bytes:
            yield
            return
        mirror = self._mirrors.get(run_id)
        if mirror is None:
            mirror = self._mirrors[run_id] = _Mirror(self._bell, run_id)
        mirror.watchers += 1
        try:
            yield
        finally:
            mirror.watchers -= 1
            if not mirror.watchers:
                del self._mirrors[run_id]
                mirror.close()


class _Mirror:
    """One run, heard for as long as somebody watches it."""

    def __init__(self, bell: Bell, run_id: str) -> None:
        self.live: LiveLog | None = None
        self.watchers = 0
        self._bell = bell
        self._run_id = run_id
        self._timer: asyncio.TimerHandle | None = None
        self._hearing = bell.hear(_topic(run_id), self._heard)

    def _heard(self, data: bytes) -> None:
        fence, first = _HEAD.unpack_from(data)
        shown = [frame + b"\n\n" for frame in data[_HEAD.size :].split(b"\n\n") if frame]
        if self.live is None or (self.live.fence, self.live.next_seq) != (fence, first):
            self._end()
            self.live = LiveLog(self._run_id, fence, first=first)
        ends = bool(shown) and frames.name_of(shown[-1]) in STREAM_ENDS
        self.live.show(shown, ends=ends)
        self._bell.ring_here(_topic(self._run_id))  # Who reads from the record may come over.
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(limits.POLL_JOBS_S, self._end)

    def _end(self) -> None:
        live, self.live = self.live, None
        if live is not None:
            live.close()

    def close(self) -> None:
        """Nobody watches it any more."""
        self._hearing.close()
        if self._timer is not None:
            self._timer.cancel()
        self._end()


def _topic(run_id: str) -> str:
    return f"run:{run_id}"
