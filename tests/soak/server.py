"""The server under load as a process: its start, its log, what it holds, and its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.crash.processes import KEY
from tests.soak.watched import FILE, SERVER

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 10.0
_HOLDINGS_S = 30.0
_INFO = ("debug", "info")


class Server:
    """A server on a data folder; its log goes to a file."""

    def __init__(self, folder: Path, provider_url: str) -> None:
        self.data = folder / "data"
        self.log = folder / "serve.log"
        self._holdings = folder / "holdings.json"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("UNDERSTUDY_", "OPENAI_"))
        }
        settings = {
            "UNDERSTUDY_API_KEY": KEY,
            "UNDERSTUDY_UPSTREAM_URL": provider_url,
            "UNDERSTUDY_EMBEDDING_MODEL": "rehearsal-embedding",
            "UNDERSTUDY_SANDBOX": "off",
            "PYTHONPATH": str(ROOT),
            FILE: str(self._holdings),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, "serve", "--port", "0", "--data", str(self.data)],
                cwd=folder,
                env={**kept, **settings},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.url = self._announced()

    def _announced(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "API base URL" in line:
                return line.split()[-1]
        raise AssertionError(f"the server did not start: {self.log.read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """The process that is measured."""
        return self.process.pid

    @property
    def record(self) -> Path:
        """The SQLite file."""
        return self.data / "understudy.db"

    def holdings(self) -> dict[str, Any]:
        """What it says that it holds (watched.py)."""
        self._holdings.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR2)
        give_up_at = time.monotonic() + _HOLDINGS_S
        while not self._holdings.exists():
            assert time.monotonic() < give_up_at, "the server does not react to a signal"
            time.sleep(0.02)
        found: dict[str, Any] = json.loads(self._holdings.read_text())
        return found

    def complaints(self) -> list[str]:
        """Lines of its log that are no plain news: warnings, errors, and what is no log line."""
        return [line for line in self.log.read_text().splitlines() if not _is_news(line)]

    def stop(self) -> tuple[int, float, list[str]]:
        """SIGTERM to the server alone, as a supervisor sends it: its exit code, how long it took,
        and what is left of its processes."""
        children = psutil.Process(self.pid).children(recursive=True)
        started = time.monotonic()
        self.process.terminate()
        code = self.process.wait(2 * STOP_S)
        taken_s = time.monotonic() - started
        _, left = psutil.wait_procs(children, timeout=1)
        return code, taken_s, [repr(one) for one in left]

    def end(self) -> None:
        """Whatever has happened: it is no more."""
        for process in (self.process, *_children(self.pid)):
            process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def _children(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _is_news(line: str) -> bool:
    try:
        return json.loads(line)["level"] in _INFO
    except (ValueError, KeyError, TypeError):
        return False


@contextmanager
def running_server(folder: Path, provider_url: str) -> Iterator[Server]:
    """A server until the end of the block."""
    server = Server(folder, provider_url)
    try:
        yield server
    finally:
        server.end()
