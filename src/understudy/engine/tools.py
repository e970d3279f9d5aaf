"""TOOLS: built-in tool type → how to run one call of it."""

from collections.abc import Awaitable, Callable

from understudy.engine.app import App
from understudy.machine.private import Call
from understudy.wire.runs import Run
from understudy.wire.steps import StepToolCall

RunCall = Callable[[App, Run, Call], Awaitable[StepToolCall]]


class ToolOff(Exception):
    """The tool cannot work on this server; the text says why and what to do."""


async def _code_interpreter(app: App, run: Run, call: Call) -> StepToolCall:
    raise ToolOff(
        "code_interpreter is off on this server: it has no sandbox yet. "
        "Remove the tool from the assistant, or answer with functions."
    )


async def _file_search(app: App, run: Run, call: Call) -> StepToolCall:
    raise ToolOff(
        "file_search is off on this server: it has no vector stores yet. "
        "Remove the tool from the assistant, or answer with functions."
    )


TOOLS: dict[str, RunCall] = {
    "code_interpreter": _code_interpreter,
    "file_search": _file_search,
}
