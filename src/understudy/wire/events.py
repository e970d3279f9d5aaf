"""The SSE vocabulary: event name → type of its data (SPEC 9.2)."""

from typing import Annotated, Literal, get_args

from msgspec import Meta

from understudy.wire.base import Wire
from understudy.wire.messages import Message, MessageDelta
from understudy.wire.runs import Run
from understudy.wire.steps import Step, StepDelta
from understudy.wire.threads import Thread

EventName = Literal[
    "thread.created",
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.requires_action",
    "thread.run.completed",
    "thread.run.incomplete",
    "thread.run.failed",
    "thread.run.cancelling",
    "thread.run.cancelled",
    "thread.run.expired",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.run.step.delta",
    "thread.run.step.completed",
    "thread.run.step.failed",
    "thread.run.step.cancelled",
    "thread.run.step.expired",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.message.incomplete",
]


def _data_type(name: str) -> type[Wire]:
    """The type of an event's data, told by its name."""
    if name == "thread.created":
        return Thread
    noun, _, what = name.removeprefix("thread.").rpartition(".")
    plain: dict[str, type[Wire]] = {"run": Run, "run.step": Step, "message": Message}
    deltas: dict[str, type[Wire]] = {"run.step": StepDelta, "message": MessageDelta}
    return deltas[noun] if what == "delta" else plain[noun]


EVENTS: dict[str, type[Wire]] = {name: _data_type(name) for name in get_args(EventName)}

# The events after which a stream has nothing more to say (SPEC 9.1).
STREAM_ENDS = frozenset(
    f"thread.run.{status}"
    for status in ("requires_action", "completed", "incomplete", "failed", "cancelled", "expired")
)


class Event(Wire, frozen=True, kw_only=True):
    """One line in a run's log."""

    name: Annotated[EventName, Meta(description="What happened.")]
    data: Annotated[Wire, Meta(description="The object that it happened to, or a delta.")]
