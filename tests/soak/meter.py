"""What the server takes, each second: memory, descriptors, threads; and what a growth is."""

import asyncio
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

GROWTH = 0.05  # What the acceptance allows.
_COLUMNS = ("rss", "pss", "private", "family", "children", "descriptors", "threads")
# Of the server and its writer alone: of the children that read files there are one or two, each
# ended when it was idle for a minute, and replaced when it has grown (READER_RESIDENT_BYTES).
_JUDGED = ("rss", "private")
_SOCKETS_OF_A_CHILD = 2  # uvloop's pipes are pairs of sockets.


@dataclass(frozen=True)
class Sample:
    """One look; sizes in MiB."""

    at_s: float
    rss: float  # The server's and its writer's, with the code and files that they share.
    pss: float  # The same with its share of those: it changes when others come and go.
    private: float  # Anonymous memory alone.
    family: float  # The same with the other children, which read files.
    children: int
    descriptors: int
    threads: int


@dataclass
class Meter:
    """Samples of a process, from its start on."""

    pid: int
    samples: list[Sample] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    async def watch(self) -> None:
        """A sample each second, until cancelled."""
        while True:
            self.samples.append(self.look())
            await asyncio.sleep(1)

    def look(self) -> Sample:
        """One look now."""
        process = psutil.Process(self.pid)
        children = process.children(recursive=True)
        own = [_rollup(one.pid) for one in (process, *filter(_is_writer, children))]
        all = [_rollup(one.pid) for one in (process, *children)]
        return Sample(
            at_s=time.monotonic() - self._started,
            rss=sum(one.get("Rss", 0.0) for one in own),
            pss=sum(one.get("Pss", 0.0) for one in own),
            private=sum(one.get("Pss_Anon", 0.0) for one in own),
            family=sum(one.get("Pss_Anon", 0.0) for one in all),
            children=len(children),
            descriptors=process.num_fds(),
            threads=process.num_threads(),
        )

    def series(self) -> str:
        """A line for each minute: medians of it, sizes in MiB."""
        lines = ["minute " + " ".join(f"{name:>11}" for name in _COLUMNS)]
        for minute in range(int(self.samples[-1].at_s // 60) + 1):
            some = _between(self.samples, 60 * minute, 60 * (minute + 1))
            if some:
                figures = (f"{_median(some, name):11.1f}" for name in _COLUMNS)
                lines.append(f"{minute:6} {' '.join(figures)}")
        return "\n".join(lines)

    def growth(self, minutes: float) -> dict[str, float]:
        """By how much the last sixth is above the second one: minutes 25-30 above 5-10."""
        sixth = 60 * minutes / 6
        early = _between(self.samples, sixth, 2 * sixth)
        late = _between(self.samples, 5 * sixth, 6 * sixth)
        return {name: _median(late, name) / _median(early, name) - 1 for name in _JUDGED}


def _median(samples: Sequence[Sample], column: str) -> float:
    return statistics.median(float(getattr(one, column)) for one in samples)


def _between(samples: Sequence[Sample], start_s: float, end_s: float) -> list[Sample]:
    return [one for one in samples if start_s <= one.at_s < end_s]


def _is_writer(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("sqlite_writer") for word in process.cmdline())
    except psutil.Error:
        return False  # It has just ended.


def _rollup(pid: int) -> dict[str, float]:
    """Its memory by kind, in MiB; nothing of a process that has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return {}
    return {name: int(size) / 1024 for name, size in re.findall(r"(\w+): +(\d+) kB", text)}


def descriptors(pid: int, provider_port: int) -> Counter[str]:
    """Open descriptors by what they are. Those of two pools, which have a bound of their own and
    empty with time, are left out: idle connections to the provider (MODEL_IDLE_S), and the two
    sockets to each child that reads files (INGESTS_AT_ONCE of them, READER_IDLE_S)."""
    process = psutil.Process(pid)
    pooled = [one for one in process.net_connections("inet") if one.raddr]
    pooled = [one for one in pooled if one.raddr.port == provider_port]
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = link.readlink()
        except OSError:
            continue  # It was closed meanwhile.
        found[re.sub(r":\[\d+\]$", "", target.name)] += 1
    found["socket"] -= len(pooled) + _SOCKETS_OF_A_CHILD * len(process.children())
    return found
