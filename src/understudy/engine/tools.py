"""TOOLS: built-in tool type → how to run one call of it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from understudy.engine import file_search
from understudy.machine.private import Call
from understudy.search import EmbedderError
from understudy.wire.steps import StepToolCall

if TYPE_CHECKING:
    from understudy.engine.drive import Driver

# (driver, call) → the step's final record of the call.
RunCall = Callable[["Driver", Call], Awaitable[StepToolCall]]


class ToolOff(Exception):
    """The tool cannot work on this server; the text says why and what to do."""


async def _code_interpreter(driver: "Driver", call: Call) -> StepToolCall:
    raise ToolOff(
        "code_interpreter is off on this server: it has no sandbox yet. "
        "Remove the tool from the assistant, or answer with functions."
    )


async def _file_search(driver: "Driver", call: Call) -> StepToolCall:
    try:
        within = await driver.reach(driver.state)
        return await file_search.search(
            driver.app, driver.lease.project, driver.state.run, call, within
        )
    except EmbedderError as error:
        raise ToolOff(error.message) from error
    except file_search.StoreExpired as expired:
        raise ToolOff(str(expired)) from expired


TOOLS: dict[str, RunCall] = {
    "code_interpreter": _code_interpreter,
    "file_search": _file_search,
}
