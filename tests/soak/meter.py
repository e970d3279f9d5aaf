"""What the server takes, each second: memory, descriptors, threads; and what a growth is."""

import asyncio
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

GROWTH = 0.05  # What the acceptance allows.
_MIB = 1024 * 1024
_SOCKETS_OF_A_CHILD = 2  # uvloop's pipes are pairs of sockets.


@dataclass(frozen=True)
class Sample:
    """One look; sizes in MiB."""

    at_s: float
    rss: float  # The server's own.
    pss: float
    family_pss: float  # With its children, which read files.
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
        own = _pss(self.pid)
        return Sample(
            at_s=time.monotonic() - self._started,
            rss=process.memory_info().rss / _MIB,
            pss=own,
            family_pss=own + sum(_pss(child.pid) for child in children),
            children=len(children),
            descriptors=process.num_fds(),
            threads=process.num_threads(),
        )

    def series(self) -> str:
        """A line for each minute: medians of it."""
        lines = ["minute     rss     pss  with children  children  descriptors  threads"]
        for minute in range(int(self.samples[-1].at_s // 60) + 1):
            some = _between(self.samples, 60 * minute, 60 * (minute + 1))
            if some:
                lines.append(
                    f"{minute:6} {_of(some, _rss):7.1f} {_of(some, _pss_of):7.1f} "
                    f"{_of(some, _family):14.1f} {_of(some, lambda one: one.children):9.0f} "
                    f"{_of(some, lambda one: one.descriptors):12.0f} "
                    f"{_of(some, lambda one: one.threads):8.0f}"
                )
        return "\n".join(lines)

    def growth(self, minutes: float) -> dict[str, float]:
        """By how much the last sixth is above the second one: minutes 25-30 above 5-10."""
        sixth = 60 * minutes / 6
        early = _between(self.samples, sixth, 2 * sixth)
        late = _between(self.samples, 5 * sixth, 6 * sixth)
        reads = {"rss": _rss, "pss": _pss_of, "pss with children": _family}
        return {name: _of(late, read) / _of(early, read) - 1 for name, read in reads.items()}


def _rss(sample: Sample) -> float:
    return sample.rss


def _pss_of(sample: Sample) -> float:
    return sample.pss


def _family(sample: Sample) -> float:
    return sample.family_pss


def _of(samples: Iterable[Sample], read: Callable[[Sample], float]) -> float:
    return statistics.median(map(read, samples))


def _between(samples: Sequence[Sample], start_s: float, end_s: float) -> list[Sample]:
    return [one for one in samples if start_s <= one.at_s < end_s]


def _pss(pid: int) -> float:
    """Its share of memory that is resident; nothing of a process that has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


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
