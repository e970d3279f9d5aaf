"""The sandbox that is none: why code cannot run, and what to do about it."""

from typing import Literal

from understudy.sandbox import SandboxUnavailable, Session


class Off:
    """No code runs here."""

    def __init__(self, cause: str, remedy: str) -> None:
        self._why = SandboxUnavailable(cause, remedy)

    @property
    def state(self) -> Literal["up", "starting", "off"]:
        """It is off, and stays so."""
        return "off"

    @property
    def detail(self) -> str:
        """Cause and remedy."""
        return str(self._why)

    async def started(self) -> None:
        """Raises SandboxUnavailable."""
        raise self._unavailable()

    async def session(self, key: str) -> Session:
        """Raises SandboxUnavailable."""
        raise self._unavailable()

    async def forget(self, key: str) -> None:
        """There is none to forget."""

    async def close(self) -> None:
        """There is nothing to leave behind."""

    def _unavailable(self) -> SandboxUnavailable:
        """A new one each time: an exception that is raised collects where it was raised."""
        return SandboxUnavailable(self._why.cause, self._why.remedy)
