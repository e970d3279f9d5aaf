"""Run steps and their deltas (SPEC 7.5, 9.3)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy.wire.base import CreatedAt, Id, Index, ObjectMetadata, Wire
from understudy.wire.runs import Usage

StepStatus = Literal["in_progress", "cancelled", "failed", "completed", "expired"]
CallId = Annotated[
    str | UnsetType, Meta(description="The id of the call; in deltas only on the first piece.")
]


class MessageCreation(Wire, frozen=True, kw_only=True):
    """The message that a step made."""

    message_id: Annotated[str, Meta(description="The id of the message.")]


class MessageCreationDetails(
    Wire, frozen=True, kw_only=True, tag_field="type", tag="message_creation"
):
    """The step made a message."""

    message_creation: Annotated[MessageCreation, Meta(description="The message.")]


class LogsOutput(Wire, frozen=True, kw_only=True, tag_field="type", tag="logs"):
    """Text that the code printed."""

    index: Index = UNSET
    logs: Annotated[str, Meta(description="What the code printed.")]


class OutputImage(Wire, frozen=True, kw_only=True):
    """An image that the code made."""

    file_id: Annotated[str, Meta(description="The id of the image file.")]


class ImageOutput(Wire, frozen=True, kw_only=True, tag_field="type", tag="image"):
    """An image that the code made."""

    index: Index = UNSET
    image: Annotated[OutputImage, Meta(description="The image.")]


CodeOutput = LogsOutput | ImageOutput


class CodeInterpreterInput(Wire, frozen=True, kw_only=True):
    """Code and what it gave; in deltas either may be absent."""

    input: Annotated[
        str | UnsetType, Meta(description="The code; in deltas the next piece of it.")
    ] = UNSET
    outputs: Annotated[
        list[CodeOutput] | UnsetType, Meta(description="What it printed and drew, in order.")
    ] = UNSET


class ResultText(Wire, frozen=True, kw_only=True):
    """The text of a search result."""

    type: Annotated[Literal["text"], Meta(description="Always `text`.")] = "text"
    text: Annotated[str, Meta(description="The text.")]


class SearchResult(Wire, frozen=True, kw_only=True):
    """One search result."""

    file_id: Annotated[str, Meta(description="The id of the file that was found.")]
    file_name: Annotated[str, Meta(description="The name of the file.")]
    score: Annotated[float, Meta(description="How well it fits, 0 to 1.")]
    content: Annotated[
        list[ResultText] | UnsetType,
        Meta(description="The text that was found; only when the client includes it."),
    ] = UNSET


class StepRankingOptions(Wire, frozen=True, kw_only=True):
    """How the results were ranked."""

    ranker: Annotated[str, Meta(description="The ranker that was used.")]
    score_threshold: Annotated[float, Meta(description="Results that score less were left out.")]


class FileSearchCallDetails(Wire, frozen=True, kw_only=True):
    """What a search found; empty while it runs."""

    ranking_options: Annotated[
        StepRankingOptions | UnsetType, Meta(description="How the results were ranked.")
    ] = UNSET
    results: Annotated[
        list[SearchResult] | UnsetType, Meta(description="What was found, best first.")
    ] = UNSET


class FunctionCallDetails(Wire, frozen=True, kw_only=True):
    """A function call and, once submitted, its output. In deltas only what is new is there."""

    name: Annotated[str | UnsetType, Meta(description="The function's name.")] = UNSET
    arguments: Annotated[
        str | UnsetType, Meta(description="The model's own text; in deltas the next piece of it.")
    ] = UNSET
    output: Annotated[
        str | None | UnsetType, Meta(description="What the client answered; null until then.")
    ] = UNSET


class CodeInterpreterCall(
    Wire, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """A code_interpreter call."""

    index: Index = UNSET
    id: CallId = UNSET
    code_interpreter: Annotated[
        CodeInterpreterInput, Meta(description="The code and what it gave.")
    ]


class FileSearchCall(Wire, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """A file_search call."""

    index: Index = UNSET
    id: CallId = UNSET
    file_search: Annotated[
        FileSearchCallDetails, Meta(description="How it searched and what it found.")
    ]


class StepFunctionCall(Wire, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function call."""

    index: Index = UNSET
    id: CallId = UNSET
    function: Annotated[FunctionCallDetails, Meta(description="The call and its output.")]


StepToolCall = CodeInterpreterCall | FileSearchCall | StepFunctionCall


class ToolCallsDetails(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool_calls"):
    """The step called tools."""

    tool_calls: Annotated[
        list[StepToolCall],
        Meta(description="The calls, in the order in which the model made them."),
    ]


StepDetails = MessageCreationDetails | ToolCallsDetails


class StepLastError(Wire, frozen=True, kw_only=True):
    """Why a step failed."""

    code: Annotated[
        Literal["server_error", "rate_limit_exceeded"], Meta(description="The kind of error.")
    ]
    message: Annotated[str, Meta(description="What went wrong, for a human.")]


class Step(Wire, frozen=True, kw_only=True):
    """A run step. Both `expires_at` and `expired_at` are sent (SPEC 0.2, 4)."""

    id: Id
    object: Annotated[Literal["thread.run.step"], Meta(description="Always `thread.run.step`.")] = (
        "thread.run.step"
    )
    created_at: CreatedAt
    run_id: Annotated[str, Meta(description="The run that it belongs to.")]
    assistant_id: Annotated[str, Meta(description="The assistant that runs.")]
    thread_id: Annotated[str, Meta(description="The thread that it runs on.")]
    type: Annotated[
        Literal["message_creation", "tool_calls"], Meta(description="What the step did.")
    ]
    status: Annotated[StepStatus, Meta(description="Where the step stands.")]
    cancelled_at: Annotated[int | None, Meta(description="When it was cancelled, in unix seconds.")]
    completed_at: Annotated[int | None, Meta(description="When it completed, in unix seconds.")]
    expires_at: Annotated[int | None, Meta(description="The run's deadline, in unix seconds.")]
    expired_at: Annotated[int | None, Meta(description="When it expired, in unix seconds.")]
    failed_at: Annotated[int | None, Meta(description="When it failed, in unix seconds.")]
    last_error: Annotated[StepLastError | None, Meta(description="Why it failed.")]
    step_details: Annotated[StepDetails, Meta(description="What the step did, in full.")]
    usage: Annotated[
        Usage | None, Meta(description="Tokens used by the step; null while it is in progress.")
    ]
    metadata: ObjectMetadata


class StepDeltaBody(Wire, frozen=True, kw_only=True):
    """What a delta adds to its step."""

    step_details: Annotated[StepDetails, Meta(description="The message, or pieces of calls.")]


class StepDelta(Wire, frozen=True, kw_only=True):
    """A step delta; `delta` itself never holds an id (SPEC 9.4, 5)."""

    id: Annotated[str, Meta(description="The id of the step.")]
    object: Annotated[
        Literal["thread.run.step.delta"], Meta(description="Always `thread.run.step.delta`.")
    ] = "thread.run.step.delta"
    delta: Annotated[StepDeltaBody, Meta(description="What is new.")]
