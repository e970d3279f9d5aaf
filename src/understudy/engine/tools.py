"""TOOLS: built-in tool type → how to run one call of it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from understudy.engine import code_interpreter, file_search
from understudy.engine.answer import Answer, ToolOff
from understudy.machine.private import Call
from understudy.search import EmbedderError

if TYPE_CHECKING:
    from understudy.engine.drive import Driver

# (driver, call) → the answer to the call. Raises ToolOff.
RunCall = Callable[["Driver", Call], Awaitable[Answer]]


async def _file_search(driver: "Driver", call: Call) -> Answer:
    try:
        within = await driver.reach(driver.state)
        found = await file_search.search(
            driver.app, driver.lease.project, driver.state.run, call, within
        )
        return Answer(call=found)
    except EmbedderError as error:
        raise ToolOff(error.message) from error
    except file_search.StoreExpired as expired:
        raise ToolOff(str(expired)) from expired


TOOLS: dict[str, RunCall] = {
    "code_interpreter": code_interpreter.run_code,
    "file_search": _file_search,
}
