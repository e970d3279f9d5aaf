"""Polls: a GET by an SDK's poll helper is held until what it waits for has come.

The helpers (`create_and_poll` and the like) ask again and again, sleep in between, and say who
they are with a header. Such a request is answered when its wait is over, so that the helper returns
at once and asks seldom; anybody else's GET is answered at once. It is never held for longer than
half of the time that the client says it waits for an answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from understudy import limits
from understudy.api.operation import Call

T = TypeVar("T")

_HELPER = "x-stainless-poll-helper"
# What the SDKs' own time-out is, in seconds: of Python, and of Node.
_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")


async def settled(
    call: Call, topic: str, look: Callable[[], Awaitable[T]], is_waiting: Callable[[T], bool]
) -> T:
    """What `look` finds now or, for a poll helper, once the wait is over; `topic` rings when it may
    be. While it is not, the answer tells the helper when to look again."""
    clock = call.app.world.monotonic
    give_up_at = clock() + _hold_s(call.headers)
    with call.app.bell.subscribe(topic) as rings:
        found = await look()
        while is_waiting(found) and not call.app.worker.is_draining:
            left_s = give_up_at - clock()
            if left_s <= 0:
                break
            await rings.wait(min(left_s, limits.POLL_JOBS_S))
            found = await look()
    if is_waiting(found):
        call.response_headers["openai-poll-after-ms"] = str(limits.POLL_AFTER_MS)
    return found


def _hold_s(headers: Mapping[str, str]) -> float:
    """How long a request may be held."""
    if headers.get(_HELPER) != "true":
        return 0.0
    patience_s = [_seconds(headers[name]) for name in _TIMEOUTS if name in headers]
    return min([limits.POLL_HOLD_S, *(seconds / 2 for seconds in patience_s)])


def _seconds(value: str) -> float:
    """A number of seconds; what is none asks for no patience."""
    try:
        return max(0.0, float(value))
    except ValueError:
        return 0.0
