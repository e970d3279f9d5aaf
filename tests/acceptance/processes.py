"""Real processes: a server on its own data folder, and the scripted provider behind it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from understudy.settings import Settings, sandbox_folder_of

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = str(Path(sys.executable).parent / "understudy")
KEY = "sk-acceptance-tests-0123456789"
STOP_S = 15.0


@dataclass(frozen=True)
class Running:
    """A server that answers; `url` ends in /v1, `provider` does not."""

    url: str
    provider: str
    data: Path
    process: subprocess.Popen[str]


@contextmanager
def serving(data: Path, sandbox: str = "off") -> Iterator[Running]:
    """A provider and a server that uses it; both end with the block."""
    with provider() as address, serving_with(address, data, sandbox) as server:
        yield server


@contextmanager
def serving_with(address: str, data: Path, sandbox: str = "off") -> Iterator[Running]:
    """A server that uses this provider."""
    with process("serve", *flags(data), upstream=address, sandbox=sandbox) as server:
        yield Running(announced(server, "API base URL"), address, data, server)


@contextmanager
def provider() -> Iterator[str]:
    """`understudy rehearsal`; its address without /v1."""
    with process("rehearsal", "--port", "0") as rehearsal:
        yield announced(rehearsal, "Rehearsal model at").removesuffix("/v1")


def flags(data: Path, port: int = 0) -> Sequence[str]:
    """What `understudy serve` is started with."""
    return "--port", str(port), "--data", str(data)


@contextmanager
def process(
    *arguments: str, upstream: str | None = None, sandbox: str = "off"
) -> Iterator[subprocess.Popen[str]]:
    """One `understudy` process; its errors go to the test's own stderr."""
    with subprocess.Popen(
        [COMMAND, *arguments],
        cwd=ROOT,
        env=environment(upstream, sandbox),
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            stop(started)


def environment(upstream: str | None, sandbox: str = "off") -> dict[str, str]:
    """The caller's, without its own settings of servers and SDKs. Code runs only where it is asked
    for, with the packages that scripts/bootstrap has installed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UNDERSTUDY_", "OPENAI_", "AZURE_"))
    }
    installed = sandbox_folder_of(Settings(data=str(ROOT / "understudy-data")))
    kept |= {"UNDERSTUDY_SANDBOX": sandbox, "UNDERSTUDY_SANDBOX_FOLDER": str(installed)}
    if upstream is not None:
        kept |= {"UNDERSTUDY_UPSTREAM_URL": f"{upstream}/v1", "UNDERSTUDY_API_KEY": KEY}
    return kept


def announced(started: subprocess.Popen[str], label: str) -> str:
    """The word after this label on the process's standard output."""
    assert started.stdout is not None
    for line in started.stdout:
        if label in line:
            return line.split(label)[1].split()[0]
    raise AssertionError(f"the process ended with {started.wait()} and never said: {label}")


def stop(started: subprocess.Popen[str]) -> None:
    """As an operator would; what does not stop is killed, and that is a failure."""
    if started.poll() is not None:
        return
    started.terminate()
    try:
        started.wait(STOP_S)
    except subprocess.TimeoutExpired:
        started.kill()
        raise
