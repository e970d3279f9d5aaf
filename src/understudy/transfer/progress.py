"""How far it is, on standard error: a bar for who watches, else a line a second at most."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from understudy import limits


class Tell(Protocol):
    """Takes how far a step is; it may be called as often as one likes."""

    def __call__(self, step: str, done: int, total: int, size_bytes: int) -> None: ...


@contextmanager
def told() -> Iterator[Tell]:
    """Where to tell it until the end of the block."""
    if sys.stderr.isatty():
        with _bar() as tell:
            yield tell
    else:
        yield Lines()


class Lines:
    """A line now and then."""

    def __init__(self) -> None:
        self._next_at = time.monotonic() + limits.COPY_TOLD_S

    def __call__(self, step: str, done: int, total: int, size_bytes: int) -> None:
        """Say it, unless something was said a moment ago."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + limits.COPY_TOLD_S
            share = f"{done:,} of {total:,}"
            line = f"understudy: {step}: {share}, {in_words(size_bytes)}\n"
            sys.stderr.write(line)
            sys.stderr.flush()


@contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(30),
        TextColumn("{task.completed:,} of {task.total:,}, {task.fields[size]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1, visible=False, size="")

        def tell(step: str, done: int, total: int, size_bytes: int) -> None:
            size = in_words(size_bytes)
            bar.update(task, description=step, completed=done, total=total, size=size, visible=True)

        yield tell


def in_words(size_bytes: int) -> str:
    """A number of bytes for people."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size_bytes >= one:
            return f"{size_bytes / one:.1f} {unit}"
    return f"{size_bytes} B"
