"""Real processes for tests: servers that are killed or frozen, and a provider that survives."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx2
import psutil

KEY = "sk-key-of-the-crash-tests"
_COMMAND = str(Path(sys.executable).with_name("understudy"))
URL = re.compile(r"http://\S+/v1")
_START_S = 30.0


class Process:
    """A command in a process group of its own; `url` is what it prints when it is ready, which
    may be some other text for a command that has no URL."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        ready: re.Pattern[str] = URL,
        **environment: str,
    ) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("UNDERSTUDY_", "OPENAI_", "AWS_"))
        }
        self.log = folder / f"{arguments[0]}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_COMMAND, *arguments],
                cwd=folder,
                env={
                    **inherited,
                    "PYTHONUNBUFFERED": "1",
                    "UNDERSTUDY_SANDBOX": "off",
                    **environment,
                },
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        watchdog = threading.Timer(_START_S, self.kill)
        watchdog.start()
        try:
            self.url = announced(self._process.stdout, ready)
        finally:
            watchdog.cancel()
        if not self.url:
            self.kill()
            raise AssertionError(f"{arguments} did not start: {self.log.read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """The leader of the group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; one that is paused runs."""
        return self._process.poll() is None

    def pause(self) -> None:
        """Stop it and all that it has started, as a machine stops that is frozen or swaps."""
        leader = psutil.Process(self.pid)
        leader.suspend()  # First, or it would start more.
        for child in leader.children(recursive=True):
            child.suspend()

    def resume(self) -> None:
        """Let it go on where it was stopped."""
        leader = psutil.Process(self.pid)
        for process in (*leader.children(recursive=True), leader):
            process.resume()

    def kill(self, *, writer: bool = True) -> None:
        """End the whole group, and its record's writer as well, as a power cut does to their
        memory; or leave the writer to finish what it was asked for, as when the group is killed."""
        children = psutil.Process(self.pid).children() if self.is_running else []
        self._end(signal.SIGKILL)
        for child in children if writer else []:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.is_running:
            os.killpg(self._process.pid, number)
        code = self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


def announced(output: IO[str], ready: re.Pattern[str]) -> str:
    """What is searched for, where it stands in the output; empty when that ends without it."""
    for line in output:
        found = ready.search(line)
        if found:
            return found[0]
    return ""


class Provider:
    """The rehearsal provider in its own process; what it lists is the truth about calls."""

    def __init__(self, process: Process) -> None:
        self.url = process.url
        self._root = process.url.removesuffix("/v1")
        self._http = httpx2.Client(timeout=10)
        self._heard = 0

    def fresh_calls(self) -> list[dict[str, Any]]:
        """The model calls that came since this was asked last; it forgets all but the newest."""
        answer = self._http.get(f"{self._root}/rehearsal/calls").raise_for_status().json()
        fresh = answer["total"] - self._heard
        assert fresh <= len(answer["data"]), "the list of calls overflowed"
        self._heard = answer["total"]
        new = answer["data"][len(answer["data"]) - fresh :]
        return [call for call in new if call["path"] == "/v1/chat/completions"]

    def calls(self) -> list[dict[str, Any]]:
        """The model calls that came since the last `forget`, oldest first."""
        answer = self._http.get(f"{self._root}/rehearsal/calls").raise_for_status().json()
        assert answer["total"] == len(answer["data"]), "the list of calls overflowed"
        return [call for call in answer["data"] if call["path"] == "/v1/chat/completions"]

    def forget(self) -> None:
        """Begin a new list."""
        self._http.post(f"{self._root}/rehearsal/reset").raise_for_status()

    def close(self) -> None:
        """Close the control connection."""
        self._http.close()


@contextmanager
def running_provider(folder: Path) -> Iterator[Provider]:
    """A rehearsal provider until the end of the block."""
    process = Process(["rehearsal", "--port", "0"], folder)
    provider = Provider(process)
    try:
        yield provider
    finally:
        provider.close()
        process.kill()


def start_server(folder: Path, provider_url: str) -> Process:
    """A server on `folder`/data."""
    return Process(
        ["serve", "--port", "0", "--data", str(folder / "data")],
        folder,
        UNDERSTUDY_API_KEY=KEY,
        UNDERSTUDY_UPSTREAM_URL=provider_url,
    )
