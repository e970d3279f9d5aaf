"""Several server processes on one port: `--workers N`, which needs PostgreSQL.

The parent opens the socket, makes the processes, and does nothing else: no loop, no thread, no
connection, so that a fork copies nothing that is in use. A process that dies is made anew; a signal
to end goes on to all of them, and the kernel sends it when the parent is killed.
"""

import ctypes
import os
import signal
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import structlog

from understudy import limits

if TYPE_CHECKING:
    from understudy.settings import Settings


class Serve(Protocol):
    """What a process does: it serves on the socket until it is told to stop."""

    def __call__(self, listener: socket.socket, *, is_silent: bool) -> None: ...


_log = structlog.get_logger()

_ENDS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1  # prctl(2): a signal for when the parent has died.


class _Told(Exception):
    """A signal to end has come."""


def run(settings: "Settings", serve: Serve) -> None:
    """Serve with as many processes as the settings say, until told to stop."""
    from understudy.server import listen

    listener = listen(settings.host, settings.port)
    for name in _ENDS:
        signal.signal(name, _tell)
    born: dict[int, float] = {}
    try:
        # The first one makes the first key, if one is needed, and shows it.
        _bear(born, listener, serve, is_silent=False)
        while len(born) < settings.workers:
            _bear(born, listener, serve, is_silent=True)
        while True:
            pid, status = os.wait()
            lived_s = time.monotonic() - born.pop(pid)
            _log.error("server process ended", pid=pid, status=os.waitstatus_to_exitcode(status))
            if lived_s < limits.PROCESS_PAUSE_S:
                if not born:
                    raise SystemExit(os.waitstatus_to_exitcode(status) or 1)
                time.sleep(limits.PROCESS_PAUSE_S)
            _bear(born, listener, serve, is_silent=True)
    except _Told:
        pass
    finally:
        _end(list(born))


def _bear(
    born: dict[int, float], listener: socket.socket, serve: Serve, *, is_silent: bool
) -> None:
    """A new process. A signal waits until it is known: else it would not be told, and serve on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        born[_forked(listener, serve, is_silent=is_silent)] = time.monotonic()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)


def _forked(listener: socket.socket, serve: Serve, *, is_silent: bool) -> int:
    """A new process; its id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for name in _ENDS:
            signal.signal(name, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)  # It died before that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
        serve(listener, is_silent=is_silent)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)  # Not into the parent's frames.


def _end(pids: list[int]) -> None:
    """Tell all to end, and wait for them as long as an end may take."""
    for name in _ENDS:
        signal.signal(name, signal.SIG_IGN)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + limits.DRAIN_S + limits.SHUTDOWN_S
    while pids and time.monotonic() < give_up_at:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid:
            pids.remove(pid)
        else:
            time.sleep(limits.PROCESS_LOOK_S)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _tell(_number: int, _frame: FrameType | None) -> None:
    raise _Told
