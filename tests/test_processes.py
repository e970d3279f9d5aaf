"""Several server processes: who makes them ends them all."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

# A parent that serves with two processes, and says who they are.
_SERVING = r"""
import os, time
from types import SimpleNamespace
from understudy import processes

def serve(listener, is_silent):
    os.write(1, b"%d\n" % os.getpid())  # At once: both write to the same pipe.
    time.sleep(60)

processes.run(SimpleNamespace(host="127.0.0.1", port=0, workers=2), serve)
"""

# A parent that is told to stop in the moment in which its n-th child is born; it says who was born.
_PARENT = """
import os, signal, sys, time
from types import SimpleNamespace
from understudy import processes

fork, born = os.fork, []

def forked():
    pid = fork()
    if pid:
        born.append(pid)
        print(pid, flush=True)
        if len(born) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGTERM)
    return pid

os.fork = forked
settings = SimpleNamespace(host="127.0.0.1", port=0, workers=2)
processes.run(settings, lambda listener, is_silent: time.sleep(60))
"""


@pytest.mark.parametrize("number", [1, 2])
def test_a_process_that_is_born_when_the_signal_comes_ends_too(tmp_path: Path, number: int) -> None:
    parent = subprocess.run(
        [sys.executable, "-c", _PARENT, str(number)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    )
    born = [int(pid) for pid in parent.stdout.split()]
    assert len(born) == number
    assert not any(psutil.pid_exists(pid) for pid in born)


def test_processes_whose_parent_is_killed_end_too(tmp_path: Path) -> None:
    """Else they would hold the port, and whoever starts it again could not."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVING], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        born = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        parent.kill()
    _, alive = psutil.wait_procs(born, timeout=10)
    assert alive == []
