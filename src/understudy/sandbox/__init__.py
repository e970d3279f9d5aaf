"""Sandbox: where code_interpreter's Python runs, one session per thread.

`bubblewrap` jails it on this machine, `jupyter` runs it on another one, `local` runs it unjailed
for those who ask for that by name, and `off` says why it cannot run. All behave as the protocols
below say and pass the same suite (tests/conformance/test_sandbox.py).
"""

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

# Where code finds its files, on every backend.
FOLDER = "/mnt/data"

Reason = Literal["timeout", "memory", "died", "protocol", "interrupted"]


class SandboxUnavailable(Exception):
    """There is no sandbox: `cause` is why, `remedy` what the operator can do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy


class SandboxLost(Exception):
    """The session is gone, with its variables and files. The next `session` is a new one."""


class FileRefused(Exception):
    """A file cannot be put or read; the text says why, and may be shown."""


@dataclass(frozen=True)
class FileInfo:
    """A regular file below FOLDER. `path` is relative; `stamp` changes when the file may have."""

    path: str
    size_bytes: int
    stamp: str


@dataclass(frozen=True)
class Result:
    """How a call ended, whatever its code did. What it printed went to `on_logs`, a traceback
    included.

    `images` are PNG files in the order they were shown; `dropped_bytes` and `dropped_images` were
    over the limits; `reason` says what ended the call when it was not the code itself;
    `is_state_lost` that all variables are gone (the files are not).
    """

    images: list[bytes] = field(default_factory=list)
    dropped_bytes: int = 0
    dropped_images: int = 0
    reason: Reason | None = None
    is_state_lost: bool = False


@dataclass(frozen=True)
class Note:
    """What the engine knows of a file in a session: its stamp then, and the file object that
    holds the same bytes."""

    stamp: str
    file_id: str


class Session(Protocol):
    """One Python that remembers. One call at a time; the others wait. Every method may raise
    SandboxLost."""

    # The engine's own notes, path → Note: a new session starts without any.
    notes: dict[str, Note]

    async def put(self, path: str, data: AsyncIterable[bytes]) -> FileInfo:
        """Write a file below FOLDER, folders included. Raises FileRefused (no room, bad path)."""

    async def link(self, path: str, target: str) -> None:
        """Make `path` another name of `target`, both below FOLDER. Raises FileRefused."""

    async def run(self, code: str, *, timeout_s: float, on_logs: Callable[[str], None]) -> Result:
        """Run code; `on_logs` hears what it prints, in order, while it runs. Cancelling the
        task stops the code at once and leaves the session usable."""

    async def files(self) -> list[FileInfo]:
        """The regular files below FOLDER, nearest first, as far as the limits go."""

    def get(self, path: str) -> AsyncGenerator[bytes]:
        """A file's bytes, a piece at a time. Raises FileRefused."""

    async def close(self) -> None:
        """End it; what runs is killed."""


class Sandbox(Protocol):
    """All sessions of this process."""

    @property
    def state(self) -> Literal["up", "starting", "off"]:
        """Whether code can run; `starting` while the self-test is not over."""

    @property
    def detail(self) -> str:
        """Which sandbox it is; or, when off, cause and remedy."""

    async def started(self) -> None:
        """Waits for the self-test. Raises SandboxUnavailable when it failed."""

    async def session(self, key: str) -> Session:
        """The living session of a key (a thread's id), or a new one. Raises SandboxUnavailable."""

    async def forget(self, key: str) -> None:
        """Close the key's session, if there is one."""

    async def close(self) -> None:
        """End all of them and leave nothing behind."""
