"""The processes of a session, seen by its supervisor: the worker, and what its code started."""

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from understudy.sandbox.inside import kernel, seccomp, worker
from understudy.sandbox.inside.bounds import REAP_S, Bounds

_NICENESS = 5
_FIRST_TO_GO = "900"
_ADDRESSES = 4  # Times the memory: libraries reserve far more addresses than they use.


class Worker:
    """One worker: its process, and the three pipes that lead there."""

    def __init__(self, bounds: Bounds, server: int) -> None:
        commands, self.commands = os.pipe()
        self.results, results = os.pipe()
        self.output, output = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _last(lambda: _become_worker(bounds, server, self, (commands, results, output)))
        for descriptor in (commands, results, output):
            os.close(descriptor)
        for descriptor in (self.commands, self.results, self.output):
            os.set_blocking(descriptor, False)
        self.is_alive = True
        self._is_frozen = False

    def interrupt(self) -> None:
        """What Ctrl-C does at a terminal: to the worker, and to the programs that it runs."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGINT)

    def freeze(self) -> None:
        """No processor time for anybody until the next call."""
        _signal_all(self.pid, signal.SIGSTOP)
        self._is_frozen = True

    def kill_others(self) -> None:
        """End what the code has started, and wait until it has ended; all are frozen."""
        if os.getpid() != 1:
            return
        until = time.monotonic() + REAP_S
        while others := [pid for pid in _pids() if pid != self.pid and _is_alive(pid)]:
            for pid in others:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > until:
                return
            time.sleep(0.001)

    def thaw(self) -> None:
        """The next call is there."""
        if self._is_frozen:
            _signal_all(self.pid, signal.SIGCONT)
        self._is_frozen = False

    def reap(self) -> None:
        """Take the status of what has died, and notice if it was the worker."""
        with contextlib.suppress(ChildProcessError):
            while (dead := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                if dead == self.pid:
                    self.is_alive = False

    def kill(self) -> None:
        """End all processes of the session, and wait until they have ended."""
        _signal_all(self.pid, signal.SIGKILL)
        until = time.monotonic() + REAP_S
        while time.monotonic() < until and _is_somebody_left():
            time.sleep(0.001)
        for descriptor in (self.commands, self.results, self.output):
            os.close(descriptor)

    def is_full(self, bounds: Bounds) -> bool:
        """Whether so much of the worker's memory is used that it can hardly do anything."""
        _, most = _data_limit(self.pid)
        return most > 0 and _status(self.pid).get("VmData", 0) > most - bounds.process_bytes // 8

    def memory_bytes(self, bounds: Bounds) -> int:
        """What all of them use together, or less when that is within the bounds anyway.

        What forked processes share is counted for each of them in the cheap figure, so that many
        small ones look large. Only when it is over the bound is the exact one looked at; and that
        twice, since a process that ends between two others' figures leaves its share to the second.
        """
        pids = _pids() if os.getpid() == 1 else [self.pid]
        cheap = {pid: _status(pid) for pid in pids}
        used = {
            pid: said.get("RssAnon", 0) + said.get("RssShmem", 0) for pid, said in cheap.items()
        }
        if sum(used.values()) <= bounds.session_bytes:
            return 0
        return min(sum(_exact_bytes(pid, used[pid]) for pid in pids) for _ in range(2))


def _signal_all(worker_pid: int, number: signal.Signals) -> None:
    """A signal to every process of the session. Only pid 1 of a jail may say `all`."""
    with contextlib.suppress(OSError):
        if os.getpid() == 1:
            os.kill(-1, number)
        else:
            os.killpg(worker_pid, number)


def _is_somebody_left() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _last(do: Callable[[], None]) -> None:
    """Do it as the last thing in this process: a forked child must never return to its caller."""
    try:
        do()
    except BaseException as error:  # noqa: BLE001 - there is nobody above.
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"{error!r}\n")
    finally:
        os._exit(1)


def _become_worker(bounds: Bounds, server: int, own: Worker, pipes: tuple[int, int, int]) -> None:
    commands, results, output = pipes
    for descriptor in (server, own.commands, own.results, own.output):
        os.close(descriptor)
    for number in (signal.SIGTERM, signal.SIGHUP):  # The supervisor ignores them.
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    _limit(bounds)
    sys.path[:] = ["", *(entry for entry in sys.path if not entry.endswith(".pyz"))]
    sys.argv[:] = [""]
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # The standard library does this by itself after a fork.
    if bounds.is_jailed:
        kernel.set_dumpable(True)  # Or /proc/self would not be readable.
        kernel.filter_calls(seccomp.program())
    else:
        kernel.die_with_parent()
    worker.work(commands, results, bounds)


def _limit(bounds: Bounds) -> None:
    start = _status(os.getpid())
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: bounds.open_files,
        # Holes count here, not in the folder. A little more than the folder has, so that code
        # which fills it is told that there is no room, and not that a file is too long.
        resource.RLIMIT_FSIZE: bounds.folder_bytes + bounds.frame_bytes,
        resource.RLIMIT_DATA: start.get("VmData", 0) + bounds.process_bytes,
        resource.RLIMIT_AS: start.get("VmSize", 0) + _ADDRESSES * bounds.process_bytes,
    }
    if bounds.is_jailed:  # Elsewhere the processes of the whole user count.
        limits[resource.RLIMIT_NPROC] = bounds.processes
        limits[resource.RLIMIT_MSGQUEUE] = 0
        limits[resource.RLIMIT_MEMLOCK] = 0
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        new = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (new, new))
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)


def _pids() -> list[int]:
    with contextlib.suppress(OSError):
        names = [path.name for path in Path("/proc").iterdir()]
        return [int(name) for name in names if name.isdigit() and name != "1"]
    return []


def _data_limit(pid: int) -> tuple[int, int]:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return resource.prlimit(pid, resource.RLIMIT_DATA)
    return 0, 0


def _status(pid: int) -> dict[str, int]:
    """The figures of /proc/<pid>/status, in bytes; nothing when there are none."""
    with contextlib.suppress(OSError):
        return _figures(f"/proc/{pid}/status")
    return {}


def _is_alive(pid: int) -> bool:
    """Whether it has not ended; who has ended may wait for its parent to notice."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _exact_bytes(pid: int, otherwise: int) -> int:
    """Nothing for a process that has ended; `otherwise` for one that hides its figures."""
    try:
        said = _figures(f"/proc/{pid}/smaps_rollup")
    except PermissionError:
        return otherwise
    except OSError:
        return 0
    return said.get("Pss_Anon", 0) + said.get("Pss_Shmem", 0)


def _figures(path: str) -> dict[str, int]:
    lines = Path(path).read_text(errors="replace").splitlines()
    fields = (line.split() for line in lines)
    return {field[0][:-1]: int(field[1]) * 1024 for field in fields if field[-1:] == ["kB"]}
