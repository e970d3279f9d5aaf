"""Meter: the memory of a server with its writer, watched while something else goes on."""

import threading
from dataclasses import dataclass

import psutil

from benchmarks.stage import Part

_LOOK_S = 0.1


@dataclass(frozen=True)
class Memory:
    """Kilobytes: resident, and with shared pages divided among those that share them."""

    resident_kb: float = 0.0
    proportional_kb: float = 0.0


def memory(pid: int) -> Memory:
    """What a process has now, with the ones that it started."""
    process = psutil.Process(pid)
    found = [one.memory_full_info() for one in (process, *process.children(recursive=True))]
    return Memory(sum(one.rss for one in found) / 1000, sum(one.pss for one in found) / 1000)


class Meter:
    """A thread that looks again and again, as a context; `most` is the most it saw."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = Memory()

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_S):
            seen = memory(self._part.process.pid)
            self.most = Memory(
                max(self.most.resident_kb, seen.resident_kb),
                max(self.most.proportional_kb, seen.proportional_kb),
            )
