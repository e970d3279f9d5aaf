"""What can happen to a run, what the driver does next, and what a move consists of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from understudy.machine.private import Call, RunPrivate, SandboxFile, StepPrivate
from understudy.wire.base import Wire
from understudy.wire.events import Event
from understudy.wire.messages import Content, Message
from understudy.wire.runs import Run, RunErrorCode, Usage
from understudy.wire.steps import Step, StepToolCall


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that happened. `now` is unix seconds; `spare_id` is a fresh step id that the
    move may use for a step it opens."""

    now: int
    spare_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Interrupted(Happening):
    """Something that cuts a turn short. `partial` is what the open message holds so far,
    `usage` what the cut turn used as far as anyone can tell."""

    partial: list[Content] = field(default_factory=list)
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True)
class Claimed(Happening):
    """A worker took the run."""


@dataclass(frozen=True, kw_only=True)
class Reclaimed(Interrupted):
    """A worker took the run from one that died; `reclaims` counts how often that was."""

    reclaims: int


@dataclass(frozen=True, kw_only=True)
class TextBegan(Happening):
    """The model began to write a message; `spare_id` becomes its step."""

    message_id: str


@dataclass(frozen=True, kw_only=True)
class TextEnded(Happening):
    """The model went on to tool calls after its text."""

    content: list[Content]


@dataclass(frozen=True, kw_only=True)
class CallsBegan(Happening):
    """The model began a call that clients may watch; `spare_id` becomes its step."""


@dataclass(frozen=True, kw_only=True)
class ModelSpoke(Happening):
    """The turn is over. `finish` is the provider's reason; `estimated` says that the provider
    gave no usage and ours was counted."""

    content: list[Content]
    calls: list[Call]
    finish: str
    usage: Usage
    estimated: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelFailed(Interrupted):
    """The model call failed for good; the message is worded by us."""

    code: RunErrorCode
    message: str


@dataclass(frozen=True, kw_only=True)
class ToolRan(Happening):
    """A built-in tool answered; `call` is the step's final record of it.

    `shown_logs` is the start of its logs that clients saw while it ran; `files` are those that
    its code wrote.
    """

    call: StepToolCall
    shown_logs: str = ""
    files: Sequence[SandboxFile] = ()


@dataclass(frozen=True, kw_only=True)
class ToolFailed(Happening):
    """A built-in tool cannot work here; the run cannot go on."""

    message: str


@dataclass(frozen=True, kw_only=True)
class OutputsSubmitted(Happening):
    """The client answered all pending function calls: call id → output."""

    outputs: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class CancelAsked(Interrupted):
    """The client wants the run to stop."""


@dataclass(frozen=True, kw_only=True)
class DeadlinePassed(Interrupted):
    """The run's `expires_at` is over."""


@dataclass(frozen=True, kw_only=True)
class BudgetExhausted(Happening):
    """A token budget of the run leaves no room for another turn."""

    budget: str  # max_prompt_tokens | max_completion_tokens


@dataclass(frozen=True)
class CallModel:
    """Next: one model turn."""


@dataclass(frozen=True)
class RunTool:
    """Next: one call of a built-in tool; its step is open."""

    call: Call


@dataclass(frozen=True)
class Wait:
    """Next: let go of the run; look at it again at `until` (unix seconds)."""

    until: float


@dataclass(frozen=True)
class Rest:
    """Next: nothing, ever; the run is over."""


Next = CallModel | RunTool | Wait | Rest


@dataclass(frozen=True)
class State:
    """A run with what it has open."""

    run: Run
    private: RunPrivate
    step: Step | None = None
    step_private: StepPrivate | None = None
    message: Message | None = None


@dataclass(frozen=True)
class Write:
    """An object to store, with what is kept beside it."""

    object: Run | Step | Message
    private: Wire | None


@dataclass(frozen=True)
class Move:
    """The answer to a happening: the new state, what to store, what to announce, what next."""

    state: State
    writes: tuple[Write, ...]
    events: tuple[Event, ...]
    next: Next
