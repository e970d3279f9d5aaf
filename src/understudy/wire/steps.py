"""Run steps and their deltas (SPEC 7.5, 9.3)."""

from typing import Literal

from msgspec import UNSET, UnsetType

from understudy.wire.base import Wire
from understudy.wire.runs import Usage

StepStatus = Literal["in_progress", "cancelled", "failed", "completed", "expired"]


class MessageCreation(Wire, frozen=True, kw_only=True):
    """The message that a step made."""

    message_id: str


class MessageCreationDetails(
    Wire, frozen=True, kw_only=True, tag_field="type", tag="message_creation"
):
    """The step made a message."""

    message_creation: MessageCreation


class LogsOutput(Wire, frozen=True, kw_only=True, tag_field="type", tag="logs"):
    """Text that the code printed; `index` only in deltas."""

    index: int | UnsetType = UNSET
    logs: str


class OutputImage(Wire, frozen=True, kw_only=True):
    """An image that the code made."""

    file_id: str


class ImageOutput(Wire, frozen=True, kw_only=True, tag_field="type", tag="image"):
    """An image that the code made; `index` only in deltas."""

    index: int | UnsetType = UNSET
    image: OutputImage


CodeOutput = LogsOutput | ImageOutput


class CodeInterpreterInput(Wire, frozen=True, kw_only=True):
    """Code and what it gave; in deltas either may be absent."""

    input: str | UnsetType = UNSET
    outputs: list[CodeOutput] | UnsetType = UNSET


class ResultText(Wire, frozen=True, kw_only=True):
    """The text of a search result."""

    type: Literal["text"] = "text"
    text: str


class SearchResult(Wire, frozen=True, kw_only=True):
    """One search result; `content` only when the client includes it."""

    file_id: str
    file_name: str
    score: float
    content: list[ResultText] | UnsetType = UNSET


class StepRankingOptions(Wire, frozen=True, kw_only=True):
    """How the results were ranked."""

    ranker: str
    score_threshold: float


class FileSearchCallDetails(Wire, frozen=True, kw_only=True):
    """What a search found; empty while it runs."""

    ranking_options: StepRankingOptions | UnsetType = UNSET
    results: list[SearchResult] | UnsetType = UNSET


class FunctionCallDetails(Wire, frozen=True, kw_only=True):
    """A function call and, once submitted, its output. In deltas only what is new is there."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    output: str | None | UnsetType = UNSET


class CodeInterpreterCall(
    Wire, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """A code_interpreter call; `index` only in deltas, `id` only in the first delta."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    code_interpreter: CodeInterpreterInput


class FileSearchCall(Wire, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """A file_search call; `index` only in deltas, `id` only in the first delta."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    file_search: FileSearchCallDetails


class StepFunctionCall(Wire, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function call; `index` only in deltas, `id` only in the first delta."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    function: FunctionCallDetails


StepToolCall = CodeInterpreterCall | FileSearchCall | StepFunctionCall


class ToolCallsDetails(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool_calls"):
    """The step called tools."""

    tool_calls: list[StepToolCall]


StepDetails = MessageCreationDetails | ToolCallsDetails


class StepLastError(Wire, frozen=True, kw_only=True):
    """Why a step failed."""

    code: Literal["server_error", "rate_limit_exceeded"]
    message: str


class Step(Wire, frozen=True, kw_only=True):
    """A run step. Both `expires_at` and `expired_at` are sent (SPEC 0.2, 4)."""

    id: str
    object: Literal["thread.run.step"] = "thread.run.step"
    created_at: int
    run_id: str
    assistant_id: str
    thread_id: str
    type: Literal["message_creation", "tool_calls"]
    status: StepStatus
    cancelled_at: int | None
    completed_at: int | None
    expires_at: int | None
    expired_at: int | None
    failed_at: int | None
    last_error: StepLastError | None
    step_details: StepDetails
    usage: Usage | None
    metadata: dict[str, str]


class StepDeltaBody(Wire, frozen=True, kw_only=True):
    """What a delta adds to its step."""

    step_details: StepDetails


class StepDelta(Wire, frozen=True, kw_only=True):
    """A step delta; `id` is the step's, and `delta` never holds one (SPEC 9.4, 5)."""

    id: str
    object: Literal["thread.run.step.delta"] = "thread.run.step.delta"
    delta: StepDeltaBody
