"""The run machine: the table of states and happenings, and `apply`.

Rules of this file
- Only this file and `draft.py` below it assign a status of a run, step or message.
- `apply` is pure: the same state and happening give the same move. Time and ids arrive in the
  happening.
- A happening that the table does not allow raises `Illegal`. To a door that means the documented
  400; to a driver it means that somebody else moved the run, so it reloads.

How to think about it
A driver claims a run and asks the model. What the model does arrives as happenings: `TextBegan`,
`TextEnded` and `CallsBegan` while it speaks, `ModelSpoke` when the turn is over. The calls of a
turn wait in `RunPrivate.pending`: built-in tools run first, one step each; then all functions
share one step and the run waits in requires_action. `_go_on` looks only at the state, so a worker
that takes over after a crash comes to the same next action as the one that died.

`CancelAsked` announces cancelling and cancelled in one move; nobody can come between (SPEC 8.5).
Events of parts (message, step) always precede the event of the run, so that a client that stops
reading at the run's end has seen all (SPEC 9.3 H-K).

Keep in step with: the state diagram in docs/run-states.md (generated from TRANSITIONS), and
tests/machine (the properties).
"""

from collections.abc import Callable
from typing import Any, Literal

from understudy import limits
from understudy.machine import toolbox
from understudy.machine.draft import Draft
from understudy.machine.happenings import (
    BudgetExhausted,
    CallModel,
    CallsBegan,
    CancelAsked,
    Claimed,
    DeadlinePassed,
    Happening,
    ModelFailed,
    ModelSpoke,
    Move,
    Next,
    OutputsSubmitted,
    Reclaimed,
    Rest,
    RunTool,
    State,
    TextBegan,
    TextEnded,
    ToolFailed,
    ToolRan,
    Wait,
)
from understudy.machine.private import Call
from understudy.wire.runs import RunStatus

TERMINAL = frozenset({"completed", "failed", "cancelled", "expired", "incomplete"})
ACTIVE = frozenset({"queued", "in_progress", "requires_action", "cancelling"})

# State → happening → the states that may follow. What is not here is illegal.
TRANSITIONS: dict[RunStatus, dict[type[Happening], frozenset[str]]] = {
    "queued": {
        Claimed: frozenset({"in_progress", "failed"}),
        Reclaimed: frozenset({"in_progress", "failed"}),
        CancelAsked: frozenset({"cancelled"}),
        DeadlinePassed: frozenset({"expired"}),
    },
    "in_progress": {
        Reclaimed: frozenset({"in_progress", "requires_action", "failed"}),
        TextBegan: frozenset({"in_progress"}),
        TextEnded: frozenset({"in_progress"}),
        CallsBegan: frozenset({"in_progress"}),
        ModelSpoke: frozenset(
            {"in_progress", "requires_action", "completed", "incomplete", "failed"}
        ),
        ModelFailed: frozenset({"failed"}),
        ToolRan: frozenset({"in_progress", "requires_action", "failed"}),
        ToolFailed: frozenset({"failed"}),
        BudgetExhausted: frozenset({"incomplete"}),
        CancelAsked: frozenset({"cancelled"}),
        DeadlinePassed: frozenset({"expired"}),
    },
    "requires_action": {
        OutputsSubmitted: frozenset({"queued"}),
        CancelAsked: frozenset({"cancelled"}),
        DeadlinePassed: frozenset({"expired"}),
    },
    # Only an imported run can rest here: our own cancel is one move.
    "cancelling": {
        Claimed: frozenset({"cancelled"}),
        Reclaimed: frozenset({"cancelled"}),
        CancelAsked: frozenset({"cancelled"}),
        DeadlinePassed: frozenset({"expired"}),
    },
    "completed": {},
    "failed": {},
    "cancelled": {},
    "expired": {},
    "incomplete": {},
}

UNKNOWN_FUNCTION = "Error: there is no function named '{name}'. Use only the functions offered."
TURNS_EXHAUSTED = f"The run reached its maximum number of steps ({limits.MODEL_TURNS})."
POISONED = "The run was taken over too often after its worker died."


class Illegal(Exception):
    """This cannot happen in this state."""

    def __init__(self, status: str, happening: Happening) -> None:
        super().__init__(f"{type(happening).__name__} cannot happen to a run that is {status}")
        self.status = status


def apply(state: State, happening: Happening) -> Move:
    """What the happening makes of the run."""
    before = state.run.status
    allowed = TRANSITIONS[before].get(type(happening))
    if allowed is None:
        raise Illegal(before, happening)
    draft = Draft(state, happening)
    if before == "cancelling" and not isinstance(happening, DeadlinePassed):
        next: Next = _stop(draft, "cancelled")
    else:
        next = _HANDLERS[type(happening)](draft, happening)
    move = draft.move(next)
    after = move.state.run.status
    assert after in allowed, f"{before} → {after} on {type(happening).__name__} is not in the table"
    return move


def _claimed(draft: Draft, happening: Claimed) -> Next:
    draft.start()
    return _go_on(draft)


def _reclaimed(draft: Draft, happening: Reclaimed) -> Next:
    """What the dead worker had open is closed; its partial text stays visible, but never
    enters a transcript."""
    if happening.reclaims > limits.RECLAIMS:
        return _fail(draft, "server_error", POISONED)
    draft.count_lost_call()
    draft.close_open("run_failed", "failed", "The step was interrupted and is tried again.")
    if draft.run.status == "queued":
        draft.start()
    return _go_on(draft)


def _text_began(draft: Draft, happening: TextBegan) -> Next:
    draft.open_message(happening.message_id)
    return CallModel()


def _text_ended(draft: Draft, happening: TextEnded) -> Next:
    draft.complete_message(happening.content)
    return CallModel()


def _calls_began(draft: Draft, happening: CallsBegan) -> Next:
    draft.open_tool_step([])
    return CallModel()


def _model_spoke(draft: Draft, happening: ModelSpoke) -> Next:
    draft.count_turn(happening.usage, happening.estimated)
    if happening.finish in ("length", "content_filter"):
        return _cut_short(draft, happening)
    if draft.message is not None:
        draft.complete_message(happening.content)
    if not happening.calls:
        return _end(draft, "completed")
    calls = happening.calls if draft.run.parallel_tool_calls else happening.calls[:1]
    draft.set_pending(calls)
    return _go_on(draft)


def _cut_short(draft: Draft, happening: ModelSpoke) -> Next:
    """The answer was cut by the token cap, or by the provider's filter. The API has no
    incomplete reason for a filter; the message carries it (SPEC 8.1)."""
    if happening.finish == "length":
        draft.close_message("max_tokens", happening.content)
        draft.set_incomplete("max_completion_tokens")
    else:
        draft.close_message("content_filter", happening.content)
    if draft.step is not None:
        is_message = draft.step.type == "message_creation"
        draft.close_step("completed" if is_message else "cancelled")
    return _end(draft, "incomplete")


def _model_failed(draft: Draft, happening: ModelFailed) -> Next:
    return _fail(draft, happening.code, happening.message)


def _tool_ran(draft: Draft, happening: ToolRan) -> Next:
    draft.answer_call(happening.call, happening.shown_logs, happening.files)
    return _go_on(draft)


def _tool_failed(draft: Draft, happening: ToolFailed) -> Next:
    return _fail(draft, "server_error", happening.message)


def _outputs_submitted(draft: Draft, happening: OutputsSubmitted) -> Next:
    draft.submit(happening.outputs)
    draft.set_status("queued")
    return Wait(until=happening.now)


def _cancel_asked(draft: Draft, happening: CancelAsked) -> Next:
    draft.set_status("cancelling")
    return _stop(draft, "cancelled")


def _deadline_passed(draft: Draft, happening: DeadlinePassed) -> Next:
    return _stop(draft, "expired")


def _budget_exhausted(draft: Draft, happening: BudgetExhausted) -> Next:
    draft.set_incomplete(happening.budget)
    return _end(draft, "incomplete")


_HANDLERS: dict[type[Happening], Callable[[Draft, Any], Next]] = {
    Claimed: _claimed,
    Reclaimed: _reclaimed,
    TextBegan: _text_began,
    TextEnded: _text_ended,
    CallsBegan: _calls_began,
    ModelSpoke: _model_spoke,
    ModelFailed: _model_failed,
    ToolRan: _tool_ran,
    ToolFailed: _tool_failed,
    OutputsSubmitted: _outputs_submitted,
    CancelAsked: _cancel_asked,
    DeadlinePassed: _deadline_passed,
    BudgetExhausted: _budget_exhausted,
}


def _go_on(draft: Draft) -> Next:
    """The next action, from the state alone: pending built-in calls, then pending functions,
    then the model."""
    pending = draft.private.pending
    if not pending:
        if draft.private.turn >= limits.MODEL_TURNS:
            return _fail(draft, "server_error", TURNS_EXHAUSTED)
        return CallModel()
    names = toolbox.built_in(draft.run.tools)
    server = [call for call in pending if call.name in names]
    if server:
        draft.begin_call(server[0], names[server[0].name])
        return RunTool(server[0])
    return _ask_client(draft, pending)


def _ask_client(draft: Draft, calls: list[Call]) -> Next:
    """All function calls of the turn share one step. A function that does not exist is answered
    by us, in the step, and never shown as required."""
    known = toolbox.functions(draft.run.tools)
    errors = {
        call.id: UNKNOWN_FUNCTION.format(name=call.name) for call in calls if call.name not in known
    }
    draft.open_functions(calls, errors)
    if len(errors) == len(calls):
        draft.submit(errors)
        return _go_on(draft)
    draft.require_action([call for call in calls if call.id not in errors])
    expires_at = draft.run.expires_at
    assert expires_at is not None, "an active run has a deadline"
    return Wait(until=expires_at)


def _fail(draft: Draft, code: Any, message: str) -> Next:
    draft.close_open("run_failed", "failed", message, code)
    draft.set_error(code, message)
    return _end(draft, "failed")


def _stop(draft: Draft, status: Literal["cancelled", "expired"]) -> Next:
    if status == "cancelled":
        draft.close_open("run_cancelled", "cancelled")
    else:
        draft.close_open("run_expired", "expired")
    return _end(draft, status)


def _end(draft: Draft, status: RunStatus) -> Next:
    draft.end(status)
    return Rest()
