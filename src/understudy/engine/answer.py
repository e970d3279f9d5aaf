"""Answer: what a built-in tool gives, and what is committed together with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from understudy.machine.private import SandboxFile
from understudy.store import Statement
from understudy.wire.steps import StepToolCall


class ToolOff(Exception):
    """The tool cannot work on this server; the text says why and what to do."""


def _nothing() -> None:
    """Nothing is left to note."""


@dataclass(frozen=True)
class Answer:
    """A call's final record.

    `shown_logs` is the start of its logs that clients saw already; `files` are what its code
    wrote. `statements` store the files and are committed with the answer or not at all; they keep
    the promised blobs `keys`. `committed` is called once that is done.
    """

    call: StepToolCall
    shown_logs: str = ""
    files: Sequence[SandboxFile] = ()
    statements: Sequence[Statement] = ()
    keys: Sequence[str] = ()
    committed: Callable[[], None] = _nothing
