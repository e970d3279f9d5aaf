"""Draft: a run being moved. It assigns statuses and notes every write and event on the way.

One draft lives for one `apply`. Its methods are the small verbs that `run.py` speaks in.
"""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from understudy.machine import message as messages
from understudy.machine.happenings import Happening, Interrupted, Move, Next, State, Write
from understudy.machine.introduce import images_of, introduction, output_deltas, without_content
from understudy.machine.private import NO_USAGE, Call, SandboxFile, StepPrivate
from understudy.wire.base import Wire
from understudy.wire.events import Event
from understudy.wire.messages import (
    Content,
    IncompleteReason,
    Message,
    MessageIncompleteDetails,
)
from understudy.wire.runs import (
    LastError,
    RequiredAction,
    RunErrorCode,
    RunIncompleteDetails,
    RunStatus,
    SubmitToolOutputsAction,
    Usage,
)
from understudy.wire.steps import (
    FunctionCallDetails,
    MessageCreation,
    MessageCreationDetails,
    Step,
    StepDelta,
    StepDeltaBody,
    StepFunctionCall,
    StepLastError,
    StepStatus,
    StepToolCall,
    ToolCallsDetails,
)
from understudy.wire.tools import FunctionCall, RequiredToolCall


class Draft:
    """The state being changed, and what must be written and announced for it."""

    def __init__(self, state: State, happening: Happening) -> None:
        self.run = state.run
        self.private = state.private
        self.step = state.step
        self.step_private = state.step_private
        self.message = state.message
        self.happening = happening
        self.now = happening.now
        self._writes: dict[str, Write] = {}
        self._events: list[Event] = []
        self._before = (state.run, state.private)
        if isinstance(happening, Interrupted) and happening.usage is not None:
            self.count_turn(happening.usage, estimated=True)

    def move(self, next: Next) -> Move:
        """Everything together; the run is written only when it changed."""
        self.private = replace(
            self.private,
            open_step=self.step.id if self.step else None,
            open_message=self.message.id if self.message else None,
        )
        if (self.run, self.private) != self._before:
            self._writes[self.run.id] = Write(self.run, self.private)
        state = State(self.run, self.private, self.step, self.step_private, self.message)
        return Move(state, tuple(self._writes.values()), tuple(self._events), next)

    # The run.

    def start(self) -> None:
        """A driver works on it; after a submit `started_at` is set again (SPEC 8.1)."""
        self.run = replace(self.run, started_at=self.now)
        self.set_status("in_progress")

    def set_status(self, status: RunStatus) -> None:
        """A status and its event, always together."""
        self.run = replace(self.run, status=status)
        if status != "requires_action":
            self.run = replace(self.run, required_action=None)
        self._announce(f"thread.run.{status}", self.run)

    def end(self, status: RunStatus) -> None:
        """A terminal status: its time, the usage, no deadline, nothing pending."""
        assert self.step is None and self.message is None, "a run ends with nothing open"
        times: dict[str, dict[str, int | None]] = {
            "completed": {"completed_at": self.now, "expires_at": None},
            "incomplete": {"completed_at": self.now, "expires_at": None},
            "failed": {"failed_at": self.now, "expires_at": None},
            "cancelled": {"cancelled_at": self.now, "expires_at": None},
            "expired": {},
        }
        prompt, completion = self.private.prompt_tokens, self.private.completion_tokens
        usage = Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
        )
        self.private = replace(self.private, pending=[], turn_usage=None)
        # The values are those of the table above, which the checker cannot see through `**`.
        self.run = replace(self.run, usage=usage, **times[status])
        self.set_status(status)

    def set_error(self, code: RunErrorCode, message: str) -> None:
        """Why the run fails."""
        self.run = replace(self.run, last_error=LastError(code=code, message=message))

    def set_incomplete(self, reason: Any) -> None:
        """Why the run is incomplete: max_prompt_tokens or max_completion_tokens."""
        self.run = replace(self.run, incomplete_details=RunIncompleteDetails(reason=reason))

    def require_action(self, calls: list[Call]) -> None:
        """The client must answer these calls."""
        required = [
            RequiredToolCall(
                id=call.id, function=FunctionCall(name=call.name, arguments=call.arguments)
            )
            for call in calls
        ]
        action = RequiredAction(submit_tool_outputs=SubmitToolOutputsAction(tool_calls=required))
        self.run = replace(self.run, required_action=action)
        self.set_status("requires_action")

    def count_turn(self, usage: Usage, estimated: bool) -> None:
        """A turn is over, well or not."""
        self.private = replace(
            self.private,
            turn=self.private.turn + 1,
            prompt_tokens=self.private.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self.private.completion_tokens + usage.completion_tokens,
            turn_usage=_add(self.private.turn_usage, usage),
            estimated=self.private.estimated or estimated,
        )

    def count_lost_call(self) -> None:
        """An outside call whose outcome nobody knows; the journal has its line."""
        self.private = replace(self.private, lost_calls=self.private.lost_calls + 1)

    def set_pending(self, calls: list[Call]) -> None:
        """The calls of the turn that are not answered."""
        self.private = replace(self.private, pending=calls)

    # Messages.

    def open_message(self, message_id: str) -> None:
        """A message and the step that makes it."""
        self._open_step(
            MessageCreationDetails(message_creation=MessageCreation(message_id=message_id)), []
        )
        self.message = Message(
            id=message_id,
            created_at=self.now,
            assistant_id=self.run.assistant_id,
            thread_id=self.run.thread_id,
            run_id=self.run.id,
            status="in_progress",
            incomplete_details=None,
            incomplete_at=None,
            completed_at=None,
            role="assistant",
            content=[],
            attachments=[messages.code_attachment(one.file_id) for one in self.private.written],
            metadata={},
        )
        self._announce("thread.message.created", self.message)
        self._announce("thread.message.in_progress", self.message)
        self._put_message()

    def complete_message(self, content: list[Content]) -> None:
        """The message is whole, and so is its step."""
        assert self.message is not None, "a message is open"
        self.message = replace(
            self.message, status="completed", completed_at=self.now, content=content
        )
        # What code made is in this message now. One that was cut short is written again.
        self.private = replace(self.private, drawn=[], written=[])
        self._announce("thread.message.completed", self.message)
        self._put_message()
        self.message = None
        self.close_step("completed")

    def close_message(self, reason: IncompleteReason, content: list[Content]) -> None:
        """The message, if one is open, stays as far as it came. It never ends without a part: the
        Python SDK looks for the part that it saw last, even of an earlier message (SPEC 9.4, 7)."""
        if self.message is None:
            return
        self.message = replace(
            self.message,
            status="incomplete",
            incomplete_at=self.now,
            incomplete_details=MessageIncompleteDetails(reason=reason),
            content=content or [messages.text_content("")],
        )
        self._announce("thread.message.incomplete", self.message)
        self._put_message()
        self.message = None

    def close_open(
        self,
        reason: IncompleteReason,
        status: Literal["cancelled", "failed", "expired"],
        message: str = "",
        code: RunErrorCode = "server_error",
    ) -> None:
        """Whatever is open ends unfinished: the message first, then the step."""
        partial = self.happening.partial if isinstance(self.happening, Interrupted) else []
        self.close_message(reason, partial)
        if self.step is not None:
            self.close_step(status, message, code)

    # Steps.

    def open_tool_step(self, calls: list[Call]) -> None:
        """A step for tool calls; deltas introduce them (SPEC 9.4, 6)."""
        self._open_step(ToolCallsDetails(tool_calls=[]), calls)

    def begin_call(self, call: Call, type: str) -> None:
        """The step of one built-in call, introduced whole, unless clients watched it begin."""
        opened = self.step is None
        if opened:
            self.open_tool_step([call])
        self.step_private = StepPrivate(turn=self.private.turn, calls=[call])
        deltas, record = introduction([call], {call.name: type})
        if opened:
            self._announce_deltas(deltas)
        self._set_calls(record)

    def answer_call(
        self, answer: StepToolCall, shown_logs: str, files: Sequence[SandboxFile]
    ) -> None:
        """A built-in call is answered: its step is complete, it is pending no more."""
        assert self.step is not None and self.step_private is not None, "a call's step is open"
        done = {call.id for call in self.step_private.calls}
        self.set_pending([call for call in self.private.pending if call.id not in done])
        self._announce_deltas(output_deltas(answer, shown_logs))
        self.step_private = replace(self.step_private, files=list(files))
        self._keep_for_message(answer, files)
        self._set_calls([answer])
        self.close_step("completed")

    def _keep_for_message(self, answer: StepToolCall, files: Sequence[SandboxFile]) -> None:
        """What code drew and wrote waits for the next message; a file that was written again is
        there once."""
        again = {one.path for one in files}
        written = [one for one in self.private.written if one.path not in again]
        self.private = replace(
            self.private,
            drawn=[*self.private.drawn, *images_of(answer)],
            written=[*written, *files],
        )

    def open_functions(self, calls: list[Call], errors: dict[str, str]) -> None:
        """The one step of all function calls of a turn, with the answers that are ours."""
        opened = self.step is None
        if opened:
            self.open_tool_step(calls)
        self.step_private = StepPrivate(turn=self.private.turn, calls=calls)
        deltas, record = introduction(calls, {})
        if opened:
            self._announce_deltas(deltas)
        self._set_calls(record)
        self._fill_outputs(errors)
        for index, call in enumerate(calls):
            if call.id in errors:
                output = FunctionCallDetails(output=errors[call.id])
                self._announce_deltas([StepFunctionCall(index=index, function=output)])

    def submit(self, outputs: dict[str, str]) -> None:
        """Every function call has its output: the step is complete."""
        self._fill_outputs(outputs)
        self.set_pending([])
        self.close_step("completed")

    def close_step(
        self, status: StepStatus, message: str = "", code: RunErrorCode = "server_error"
    ) -> None:
        """The open step ends; it takes the turn's usage that no step has taken yet."""
        assert self.step is not None, "a step is open"
        step = replace(self.step, status=status, usage=self.private.turn_usage or NO_USAGE)
        self.private = replace(self.private, turn_usage=None)
        match status:
            case "completed":
                step = replace(step, completed_at=self.now)
            case "cancelled":
                step = replace(step, cancelled_at=self.now)
            case "expired":
                step = replace(step, expired_at=self.now)
            case _:
                assert status == "failed", "a step ends in one of these"
                error_code: Literal["server_error", "rate_limit_exceeded"] = (
                    "rate_limit_exceeded" if code == "rate_limit_exceeded" else "server_error"
                )
                error = StepLastError(code=error_code, message=message)
                step = replace(step, failed_at=self.now, last_error=error)
        self.step = step
        shown = step if self.private.include_content else without_content(step)
        self._announce(f"thread.run.step.{status}", shown)
        self._put_step()
        self.step = self.step_private = None

    def _open_step(
        self, details: MessageCreationDetails | ToolCallsDetails, calls: list[Call]
    ) -> None:
        assert self.step is None, "one open step at a time (SPEC 9.4, 3)"
        is_message = isinstance(details, MessageCreationDetails)
        self.step = Step(
            id=self.happening.spare_id,
            created_at=self.now,
            run_id=self.run.id,
            assistant_id=self.run.assistant_id,
            thread_id=self.run.thread_id,
            type="message_creation" if is_message else "tool_calls",
            status="in_progress",
            cancelled_at=None,
            completed_at=None,
            expires_at=self.run.expires_at,
            expired_at=None,
            failed_at=None,
            last_error=None,
            step_details=details,
            usage=None,
            metadata={},
        )
        # While the model speaks its turn is not counted yet.
        during = 0 if self.private.pending else 1
        self.step_private = StepPrivate(turn=self.private.turn + during, calls=calls)
        self._announce("thread.run.step.created", self.step)
        self._announce("thread.run.step.in_progress", self.step)
        self._put_step()

    def _set_calls(self, calls: list[StepToolCall]) -> None:
        assert self.step is not None, "a step is open"
        self.step = replace(self.step, step_details=ToolCallsDetails(tool_calls=calls))
        self._put_step()

    def _fill_outputs(self, outputs: dict[str, str]) -> None:
        """Outputs by call id; a call without one keeps what it has."""
        assert self.step is not None, "a step is open"
        details = self.step.step_details
        assert isinstance(details, ToolCallsDetails), "function calls live in a tool step"
        calls: list[StepToolCall] = []
        for call in details.tool_calls:
            if isinstance(call, StepFunctionCall) and call.id in outputs:
                function = replace(call.function, output=outputs[str(call.id)])
                calls.append(replace(call, function=function))
            else:
                calls.append(call)
        self._set_calls(calls)

    # Notes.

    def _announce(self, name: Any, data: Wire) -> None:
        # Names are put together from a noun and a status; EVENTS lists every one.
        self._events.append(Event(name=name, data=data))

    def _announce_deltas(self, calls: list[StepToolCall]) -> None:
        assert self.step is not None, "a step is open"
        for call in calls:
            body = StepDeltaBody(step_details=ToolCallsDetails(tool_calls=[call]))
            self._announce("thread.run.step.delta", StepDelta(id=self.step.id, delta=body))

    def _put_message(self) -> None:
        assert self.message is not None, "a message is open"
        assert self.step_private is not None, "a message is made by a step"
        private = messages.message_private(self.message, self.step_private.turn)
        self._writes[self.message.id] = Write(self.message, private)

    def _put_step(self) -> None:
        assert self.step is not None, "a step is open"
        self._writes[self.step.id] = Write(self.step, self.step_private)


def _add(one: Usage | None, other: Usage) -> Usage:
    """The sum of two usages."""
    if one is None:
        return other
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        total_tokens=one.total_tokens + other.total_tokens,
    )
