"""Runs (SPEC 7.4, 8)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.assistants import (
    GivenTemperature,
    GivenTopP,
    Instructions,
)
from understudy.wire.base import Body, CreatedAt, GivenMetadata, Id, ObjectMetadata, Wire
from understudy.wire.messages import CreateMessage
from understudy.wire.threads import CreateThread
from understudy.wire.tools import (
    GivenEffort,
    GivenResponseFormat,
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
TokenBudget = Annotated[int, Meta(ge=limits.MIN_TOKEN_BUDGET, le=limits.INTEGER_MAX)]
RunErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class TruncationStrategy(Body, frozen=True, kw_only=True):
    """How the thread is cut to fit the model's context."""

    type: Annotated[
        Literal["auto", "last_messages"],
        Meta(description="`auto` drops from the middle; `last_messages` keeps only the newest."),
    ]
    last_messages: Annotated[
        Annotated[int, Meta(ge=1, le=limits.INTEGER_MAX)] | None,
        Meta(description="How many of the newest messages to keep, at least 1."),
    ] = None


class Usage(Wire, frozen=True, kw_only=True):
    """Tokens used."""

    prompt_tokens: Annotated[int, Meta(description="Tokens that the model read.")]
    completion_tokens: Annotated[int, Meta(description="Tokens that the model wrote.")]
    total_tokens: Annotated[int, Meta(description="Both together.")]


class SubmitToolOutputsAction(Wire, frozen=True, kw_only=True):
    """The calls that the client must answer."""

    tool_calls: Annotated[
        list[RequiredToolCall], Meta(description="The calls; all are answered in one request.")
    ]


class RequiredAction(Wire, frozen=True, kw_only=True):
    """What the client must do before the run goes on."""

    type: Annotated[
        Literal["submit_tool_outputs"], Meta(description="Always `submit_tool_outputs`.")
    ] = "submit_tool_outputs"
    submit_tool_outputs: Annotated[
        SubmitToolOutputsAction, Meta(description="The calls to answer.")
    ]


class LastError(Wire, frozen=True, kw_only=True):
    """Why a run failed, in the server's words."""

    code: Annotated[RunErrorCode, Meta(description="The kind of error.")]
    message: Annotated[str, Meta(description="What went wrong, for a human.")]


class RunIncompleteDetails(Wire, frozen=True, kw_only=True):
    """Why a run is incomplete."""

    reason: Annotated[
        Literal["max_completion_tokens", "max_prompt_tokens"],
        Meta(description="The budget that was used up."),
    ]


class Run(Wire, frozen=True, kw_only=True):
    """A run, with the effective configuration that it started with."""

    id: Id
    object: Annotated[Literal["thread.run"], Meta(description="Always `thread.run`.")] = (
        "thread.run"
    )
    created_at: CreatedAt
    assistant_id: Annotated[str, Meta(description="The assistant that runs.")]
    thread_id: Annotated[str, Meta(description="The thread that it runs on.")]
    status: Annotated[RunStatus, Meta(description="Where the run stands.")]
    started_at: Annotated[int | None, Meta(description="When it started, in unix seconds.")]
    expires_at: Annotated[
        int | None, Meta(description="When it will expire, in unix seconds; null once completed.")
    ]
    cancelled_at: Annotated[int | None, Meta(description="When it was cancelled, in unix seconds.")]
    failed_at: Annotated[int | None, Meta(description="When it failed, in unix seconds.")]
    completed_at: Annotated[int | None, Meta(description="When it completed, in unix seconds.")]
    required_action: Annotated[
        RequiredAction | None,
        Meta(description="What the client must do while the status is `requires_action`."),
    ]
    last_error: Annotated[LastError | None, Meta(description="Why it failed.")]
    model: Annotated[str, Meta(description="The model that answers.")]
    instructions: Annotated[str, Meta(description="The system prompt, additions included.")]
    tools: Annotated[list[Tool], Meta(description="The tools that the run may use.")]
    tool_resources: Annotated[
        ToolResources, Meta(description="The files and stores of its built-in tools.")
    ]
    metadata: ObjectMetadata
    temperature: Annotated[float | None, Meta(description="Randomness of the model, 0 to 2.")]
    top_p: Annotated[
        float | None,
        Meta(description="Share of the probability mass that the model samples from, 0 to 1."),
    ]
    reasoning_effort: Annotated[
        ReasoningEffort | None, Meta(description="How long a reasoning model may think.")
    ]
    max_completion_tokens: Annotated[
        int | None, Meta(description="Tokens that the model may write in the whole run.")
    ]
    max_prompt_tokens: Annotated[
        int | None, Meta(description="Tokens that the model may read in the whole run.")
    ]
    truncation_strategy: Annotated[
        TruncationStrategy, Meta(description="How the thread is cut to fit the context.")
    ]
    incomplete_details: Annotated[
        RunIncompleteDetails | None, Meta(description="Why the run is incomplete.")
    ]
    usage: Annotated[
        Usage | None, Meta(description="Tokens used by all turns; null until the run has ended.")
    ]
    response_format: Annotated[
        ResponseFormat, Meta(description="The form of the answers; `auto` is plain text.")
    ]
    tool_choice: Annotated[
        ToolChoice, Meta(description="Which tools the first turn may or must call.")
    ]
    parallel_tool_calls: Annotated[
        bool, Meta(description="Whether one turn may call several functions.")
    ]


# Fields that the two ways to start a run share. Null and absent both mean: as the assistant.
RunAssistantId = Annotated[str, Meta(description="The assistant that runs.")]
RunModel = Annotated[
    str | None | UnsetType, Meta(description="A model for this run, instead of the assistant's.")
]
RunInstructions = Annotated[
    Instructions | None | UnsetType,
    Meta(description="Replaces the assistant's instructions, at most 256,000 characters."),
]
AdditionalInstructions = Annotated[
    Instructions | None | UnsetType,
    Meta(description="Added after the instructions, at most 256,000 characters."),
]
GivenRunTools = Annotated[
    RunTools | None | UnsetType,
    Meta(description="Up to 20 tools for this run, instead of the assistant's."),
]
GivenStream = Annotated[
    bool | None | UnsetType,
    Meta(description="Whether to answer with the run's events as they happen."),
]
MaxPromptTokens = Annotated[
    TokenBudget | None | UnsetType,
    Meta(description="Tokens that the model may read in the whole run, at least 256."),
]
MaxCompletionTokens = Annotated[
    TokenBudget | None | UnsetType,
    Meta(description="Tokens that the model may write in the whole run, at least 256."),
]
GivenTruncation = Annotated[
    TruncationStrategy | None | UnsetType,
    Meta(description="How the thread is cut to fit the context; null stands for `auto`."),
]
GivenToolChoice = Annotated[
    ToolChoice | None | UnsetType,
    Meta(description="Which tools the first turn may or must call; null stands for `auto`."),
]
ParallelToolCalls = Annotated[
    bool | None | UnsetType,
    Meta(description="Whether one turn may call several functions; null stands for true."),
]


class CreateRun(Body, frozen=True, kw_only=True):
    """The body of POST /threads/{thread_id}/runs."""

    assistant_id: RunAssistantId
    model: RunModel = UNSET
    reasoning_effort: GivenEffort = UNSET
    instructions: RunInstructions = UNSET
    additional_instructions: AdditionalInstructions = UNSET
    additional_messages: Annotated[
        list[CreateMessage] | None | UnsetType,
        Meta(description="Messages to add to the thread before the run, oldest first."),
    ] = UNSET
    tools: GivenRunTools = UNSET
    metadata: GivenMetadata = UNSET
    temperature: GivenTemperature = UNSET
    top_p: GivenTopP = UNSET
    stream: GivenStream = UNSET
    max_prompt_tokens: MaxPromptTokens = UNSET
    max_completion_tokens: MaxCompletionTokens = UNSET
    truncation_strategy: GivenTruncation = UNSET
    tool_choice: GivenToolChoice = UNSET
    parallel_tool_calls: ParallelToolCalls = UNSET
    response_format: GivenResponseFormat = UNSET


class CreateThreadAndRun(Body, frozen=True, kw_only=True):
    """The body of POST /threads/runs."""

    assistant_id: RunAssistantId
    thread: Annotated[
        CreateThread | None | UnsetType,
        Meta(description="The thread to make; absent means an empty one."),
    ] = UNSET
    tool_resources: Annotated[
        ToolResources | None | UnsetType,
        Meta(description="Files and stores for this run, instead of the assistant's."),
    ] = UNSET
    model: RunModel = UNSET
    reasoning_effort: GivenEffort = UNSET
    instructions: RunInstructions = UNSET
    additional_instructions: AdditionalInstructions = UNSET
    tools: GivenRunTools = UNSET
    metadata: GivenMetadata = UNSET
    temperature: GivenTemperature = UNSET
    top_p: GivenTopP = UNSET
    stream: GivenStream = UNSET
    max_prompt_tokens: MaxPromptTokens = UNSET
    max_completion_tokens: MaxCompletionTokens = UNSET
    truncation_strategy: GivenTruncation = UNSET
    tool_choice: GivenToolChoice = UNSET
    parallel_tool_calls: ParallelToolCalls = UNSET
    response_format: GivenResponseFormat = UNSET


class ToolOutput(Body, frozen=True, kw_only=True):
    """The answer to one call."""

    tool_call_id: Annotated[
        str | UnsetType, Meta(description="The id of the call in `required_action`.")
    ] = UNSET
    output: Annotated[
        Annotated[str, Meta(max_length=limits.TOOL_OUTPUT_CHARS)] | None | UnsetType,
        Meta(description="What the function gave, at most 524,288 characters."),
    ] = UNSET


class SubmitToolOutputs(Body, frozen=True, kw_only=True):
    """The body of POST .../submit_tool_outputs."""

    tool_outputs: Annotated[
        Annotated[list[ToolOutput], Meta(max_length=limits.TOOL_OUTPUTS)],
        Meta(description="One answer for each pending call, at most 128."),
    ]
    stream: GivenStream = UNSET
