"""Runs (SPEC 7.4, 8)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.assistants import Instructions, Temperature, TopP
from understudy.wire.base import Body, Metadata, Wire
from understudy.wire.messages import CreateMessage
from understudy.wire.threads import CreateThread
from understudy.wire.tools import (
    ReasoningEffort,
    RequiredToolCall,
    ResponseFormat,
    Tool,
    ToolChoice,
    ToolResources,
)

RunStatus = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
]
RunTools = Annotated[list[Tool], Meta(max_length=limits.RUN_TOOLS)]
TokenBudget = Annotated[int, Meta(ge=limits.MIN_TOKEN_BUDGET)]
RunErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class TruncationStrategy(Body, frozen=True, kw_only=True):
    """How the thread is cut to fit: `auto`, or the newest `last_messages`."""

    type: Literal["auto", "last_messages"]
    last_messages: Annotated[int, Meta(ge=1)] | None = None


class Usage(Wire, frozen=True, kw_only=True):
    """Tokens used."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class SubmitToolOutputsAction(Wire, frozen=True, kw_only=True):
    """The calls that the client must answer."""

    tool_calls: list[RequiredToolCall]


class RequiredAction(Wire, frozen=True, kw_only=True):
    """What the client must do before the run goes on."""

    type: Literal["submit_tool_outputs"] = "submit_tool_outputs"
    submit_tool_outputs: SubmitToolOutputsAction


class LastError(Wire, frozen=True, kw_only=True):
    """Why a run failed, in the server's words."""

    code: RunErrorCode
    message: str


class RunIncompleteDetails(Wire, frozen=True, kw_only=True):
    """Why a run is incomplete."""

    reason: Literal["max_completion_tokens", "max_prompt_tokens"]


class Run(Wire, frozen=True, kw_only=True):
    """A run, with the effective configuration that it started with."""

    id: str
    object: Literal["thread.run"] = "thread.run"
    created_at: int
    assistant_id: str
    thread_id: str
    status: RunStatus
    started_at: int | None
    expires_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    required_action: RequiredAction | None
    last_error: LastError | None
    model: str
    instructions: str
    tools: list[Tool]
    tool_resources: ToolResources
    metadata: dict[str, str]
    temperature: float | None
    top_p: float | None
    reasoning_effort: ReasoningEffort | None
    max_completion_tokens: int | None
    max_prompt_tokens: int | None
    truncation_strategy: TruncationStrategy
    incomplete_details: RunIncompleteDetails | None
    usage: Usage | None
    response_format: ResponseFormat
    tool_choice: ToolChoice
    parallel_tool_calls: bool


class CreateRun(Body, frozen=True, kw_only=True):
    """The body of POST /threads/{thread_id}/runs."""

    assistant_id: str
    model: str | None | UnsetType = UNSET
    reasoning_effort: ReasoningEffort | None | UnsetType = UNSET
    instructions: Instructions | None | UnsetType = UNSET
    additional_instructions: Instructions | None | UnsetType = UNSET
    additional_messages: list[CreateMessage] | None | UnsetType = UNSET
    tools: RunTools | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET
    temperature: Temperature | None | UnsetType = UNSET
    top_p: TopP | None | UnsetType = UNSET
    stream: bool | None | UnsetType = UNSET
    max_prompt_tokens: TokenBudget | None | UnsetType = UNSET
    max_completion_tokens: TokenBudget | None | UnsetType = UNSET
    truncation_strategy: TruncationStrategy | None | UnsetType = UNSET
    tool_choice: ToolChoice | None | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    response_format: ResponseFormat | None | UnsetType = UNSET


class CreateThreadAndRun(Body, frozen=True, kw_only=True):
    """The body of POST /threads/runs."""

    assistant_id: str
    thread: CreateThread | None | UnsetType = UNSET
    tool_resources: ToolResources | None | UnsetType = UNSET
    model: str | None | UnsetType = UNSET
    reasoning_effort: ReasoningEffort | None | UnsetType = UNSET
    instructions: Instructions | None | UnsetType = UNSET
    additional_instructions: Instructions | None | UnsetType = UNSET
    tools: RunTools | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET
    temperature: Temperature | None | UnsetType = UNSET
    top_p: TopP | None | UnsetType = UNSET
    stream: bool | None | UnsetType = UNSET
    max_prompt_tokens: TokenBudget | None | UnsetType = UNSET
    max_completion_tokens: TokenBudget | None | UnsetType = UNSET
    truncation_strategy: TruncationStrategy | None | UnsetType = UNSET
    tool_choice: ToolChoice | None | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    response_format: ResponseFormat | None | UnsetType = UNSET


class ToolOutput(Body, frozen=True, kw_only=True):
    """The answer to one call."""

    tool_call_id: str | UnsetType = UNSET
    output: Annotated[str, Meta(max_length=limits.TOOL_OUTPUT_CHARS)] | None | UnsetType = UNSET


class SubmitToolOutputs(Body, frozen=True, kw_only=True):
    """The body of POST .../submit_tool_outputs."""

    tool_outputs: Annotated[list[ToolOutput], Meta(max_length=limits.TOOL_OUTPUTS)]
    stream: bool | None | UnsetType = UNSET
