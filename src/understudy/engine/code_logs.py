"""Code logs: what a call's code prints, shown while it runs, and every line that we add to it.

What was shown is always the start of the whole. A tick's worth of text is one delta, however often
the code prints.
"""

import asyncio
from collections.abc import Callable, Sequence

from understudy import limits
from understudy.sandbox import FOLDER, Reason, Result

_RESTARTED = "The session was restarted: variables of earlier calls are lost, files were put back."
_LOST = "The session was lost while the code ran. It runs again in a new one, without variables."
_LOST_AGAIN = "The session was lost again while the code ran. The code was given up."
_STATE_LOST = "All variables are lost; the files under {folder} are kept."
_STATE_KEPT = "Variables and files are kept."
_REASONS: dict[Reason, str] = {
    "timeout": "The code was stopped: it ran longer than {seconds} seconds.",
    "memory": "The code was stopped: it used more memory than a session may have.",
    "died": "The Python process ended while the code ran.",
    "protocol": "The code was stopped: it disturbed the sandbox that it runs in.",
    "interrupted": "The code was interrupted.",
}


def restarted() -> str:
    """A new session, in a thread where code ran before."""
    return _RESTARTED


def lost(is_last: bool) -> str:
    """The session went away under the code."""
    return _LOST_AGAIN if is_last else _LOST


def ended(result: Result, seconds: float) -> list[str]:
    """How the code ended, where that was not by itself, and what it lost."""
    lines: list[str] = []
    if result.reason is not None:
        lines.append(_REASONS[result.reason].format(seconds=f"{seconds:.0f}"))
    if result.is_state_lost:
        lines.append(_STATE_LOST.format(folder=FOLDER))
    elif result.reason is not None:
        lines.append(_STATE_KEPT)
    return [" ".join(lines)] if lines else []


def dropped(dropped_bytes: int, images: int) -> list[str]:
    """What was more than a call may print or show."""
    lines: list[str] = []
    if dropped_bytes:
        lines.append(f"{dropped_bytes} bytes of output were dropped: print less.")
    if images:
        megabytes = limits.CODE_IMAGE_BYTES // 2**20
        lines.append(
            f"{images} images were dropped: at most {limits.CODE_IMAGES} of a call are shown, "
            f"each of at most {megabytes} MB."
        )
    return lines


def not_put(path: str, why: str) -> str:
    """A file of the user that code will not find."""
    return f"{FOLDER}/{path} could not be made available: {why}"


def not_saved(name: str, why: str) -> str:
    """A file or image of the code that the user will not get."""
    return f"{name} was not saved: {why}"


def too_large(size_bytes: int) -> str:
    """Why a file is not saved."""
    return f"it has {size_bytes} bytes, and {limits.CODE_FILE_BYTES} are allowed."


def too_many(files: int) -> str:
    """More files than one call may leave."""
    return (
        f"{files} more files were not saved: at most {limits.CODE_FILES} are with one call. "
        "The next call saves more."
    )


def written(paths: Sequence[str]) -> list[str]:
    """The files that were saved, so that those which no answer links are known, too."""
    if not paths:
        return []
    return ["Files written: " + ", ".join(f"{FOLDER}/{path}" for path in paths)]


class Logs:
    """The logs of one call; `show` makes clients see the next piece."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._pieces: list[str] = []
        self._shown = 0  # Pieces.
        self._ends_line = True
        self._room = limits.CODE_LOGS_BYTES  # For what the code prints.
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        self.dropped_bytes = 0

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    @property
    def shown(self) -> str:
        """The start that clients saw."""
        return "".join(self._pieces[: self._shown])

    def hear(self, text: str) -> None:
        """What the code prints. A sandbox bounds it; this does, too, whoever the sandbox is."""
        encoded = text.encode("utf-8", "replace")
        kept = encoded[: self._room]
        self._room -= len(kept)
        self.dropped_bytes += len(encoded) - len(kept)
        self._add(kept.decode(errors="ignore"))

    def say(self, *lines: str) -> None:
        """Lines of ours, each a line of its own."""
        for line in lines:
            gap = "" if self._ends_line else "\n"
            self._add(f"{gap}[{line}]\n")

    def stop(self) -> None:
        """Nothing is shown any more: what follows, the answer's own events tell."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def _add(self, piece: str) -> None:
        if not piece:
            return
        self._pieces.append(piece)
        self._ends_line = piece.endswith("\n")
        if self._timer is None and not self._is_over:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.DELTA_TICK_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        fresh = "".join(self._pieces[self._shown :])
        self._shown = len(self._pieces)
        self._show(fresh)
