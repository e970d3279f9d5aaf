"""TOOLS: built-in tool type → how to run one call of it."""

from collections.abc import Awaitable, Callable

from understudy.engine import file_search
from understudy.engine.app import App
from understudy.machine.private import Call
from understudy.search import EmbedderError
from understudy.wire.runs import Run
from understudy.wire.steps import StepToolCall

# (app, project, run, call) → the step's final record of the call.
RunCall = Callable[[App, str, Run, Call], Awaitable[StepToolCall]]


class ToolOff(Exception):
    """The tool cannot work on this server; the text says why and what to do."""


async def _code_interpreter(app: App, project: str, run: Run, call: Call) -> StepToolCall:
    raise ToolOff(
        "code_interpreter is off on this server: it has no sandbox yet. "
        "Remove the tool from the assistant, or answer with functions."
    )


async def _file_search(app: App, project: str, run: Run, call: Call) -> StepToolCall:
    try:
        return await file_search.search(app, project, run, call)
    except EmbedderError as error:
        raise ToolOff(error.message) from error
    except file_search.StoreExpired as expired:
        raise ToolOff(str(expired)) from expired


TOOLS: dict[str, RunCall] = {
    "code_interpreter": _code_interpreter,
    "file_search": _file_search,
}
