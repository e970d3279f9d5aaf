"""The sandbox that is none, for those who ask for it by name: code runs as the server's own user.

The same supervisor and worker as in the jail, as plain child processes in a temporary folder, with
limits of memory and time, and without any wall: code may read what the server may read.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from understudy.sandbox import FOLDER, Result, SandboxLost, SandboxUnavailable, Session
from understudy.sandbox.channel import Channel, NotStarted, connected, pair
from understudy.sandbox.package import package
from understudy.sandbox.pool import Pool, Sizes
from understudy.sandbox.session import ChannelSession, bounds

_DETAIL = "unsafe-local: code runs WITHOUT a sandbox, as this server's own user"
_PREFIX = "understudy-unsafe-"


class Local:
    """Sessions without a jail. `python` runs them, with whatever packages it has."""

    def __init__(self, python: str = sys.executable, sizes: Sizes | None = None) -> None:
        self._python = python
        self._folder: Path | None = None
        self._sessions = 0
        self._pool = Pool(self._make, sizes or Sizes(spare=0))

    @property
    def state(self) -> Literal["up", "starting", "off"]:
        """Nothing has to be tested first."""
        return "up"

    @property
    def detail(self) -> str:
        """A warning."""
        return _DETAIL

    async def started(self) -> None:
        """It always is."""

    async def session(self, key: str) -> Session:
        """The living session of a key, or a new one. Raises SandboxUnavailable."""
        self._pool.open()
        return await self._pool.session(key)

    async def forget(self, key: str) -> None:
        """Close the key's session, if there is one."""
        await self._pool.forget(key)

    async def close(self) -> None:
        """End all of them and remove their files."""
        await self._pool.close()
        if self._folder:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None

    async def _make(self, slots: asyncio.Semaphore) -> ChannelSession:
        try:
            child = self._child()
        except OSError as error:
            raise _unavailable(str(error)) from error
        try:
            channel, _ = await connected(child.socket)
            session = _LocalSession(channel, child, slots)
            await session.begin(bounds(str(child.folder), is_jailed=False))
        except BaseException as why:
            child.kill()
            await child.gone()
            if isinstance(why, NotStarted | SandboxLost):
                raise _unavailable(str(why)) from why
            raise
        return session

    def _child(self) -> "_Child":
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            (self._folder / "understudy.pyz").write_bytes(package())
        self._sessions += 1
        return _Child(self._python, self._folder, self._sessions)


def _unavailable(why: str) -> SandboxUnavailable:
    return SandboxUnavailable(f"Python does not start: {why}", "See the server's log.")


class _Child:
    """The supervisor of one session, with the folder that is its /mnt/data."""

    def __init__(self, python: str, folder: Path, number: int) -> None:
        own = folder / str(number)
        self.folder = own / "data"
        self.folder.mkdir(parents=True)
        self._own = own
        self.socket, its = pair()
        with its, contextlib.ExitStack() as stack:
            stack.callback(self.socket.close)
            self._process = subprocess.Popen(  # noqa: S603 - our own program.
                [python, "-I", str(folder / "understudy.pyz"), "plain", str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=_environment(own),
                start_new_session=True,
            )
            stack.pop_all()

    def kill(self) -> None:
        """End it. Its worker is bound to it."""
        self._process.kill()

    async def gone(self) -> None:
        """Wait for its end, and remove its files."""
        while self._process.poll() is None:  # noqa: ASYNC110 - Popen has no event.
            await asyncio.sleep(0.01)
        await asyncio.to_thread(shutil.rmtree, self._own, ignore_errors=True)


def _environment(own: Path) -> dict[str, str]:
    """Nothing of the server's own."""
    return {
        "PATH": os.defpath,
        "HOME": str(own),
        "TMPDIR": str(own),
        "MPLCONFIGDIR": str(own),
        "MPLBACKEND": "Agg",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


class _LocalSession(ChannelSession):
    """A session for which another folder stands for /mnt/data, in code and in what it prints."""

    def __init__(self, channel: Channel, child: _Child, slots: asyncio.Semaphore) -> None:
        super().__init__(channel, child, slots)
        self._folder = str(child.folder)

    async def run(self, code: str, *, timeout_s: float, on_logs: Callable[[str], None]) -> Result:
        """Run code, when it is its turn."""
        logs = _Renamed(self._folder, FOLDER, on_logs)
        code = code.replace(FOLDER, self._folder)
        result = await super().run(code, timeout_s=timeout_s, on_logs=logs.hear)
        logs.end()
        return result


class _Renamed:
    """A text with another name for something in it, also where the name comes in two pieces."""

    def __init__(self, old: str, new: str, pass_on: Callable[[str], None]) -> None:
        self._old = old
        self._new = new
        self._pass_on = pass_on
        self._held = ""

    def hear(self, text: str) -> None:
        """Pass on all but an end that may be the start of the name."""
        text = (self._held + text).replace(self._old, self._new)
        held = next(
            size
            for size in range(min(len(self._old) - 1, len(text)), -1, -1)
            if text.endswith(self._old[:size])
        )
        self._held = text[len(text) - held :]
        if text := text[: len(text) - held]:
            self._pass_on(text)

    def end(self) -> None:
        """Nothing more comes."""
        if self._held:
            self._pass_on(self._held)
        self._held = ""
