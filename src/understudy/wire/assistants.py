"""Assistants (SPEC 7.1)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, CreatedAt, GivenMetadata, Id, ObjectMetadata, Wire
from understudy.wire.tools import (
    GivenEffort,
    GivenResponseFormat,
    ReasoningEffort,
    ResponseFormat,
    Tool,
    ToolResources,
    ToolResourcesHelper,
)

Name = Annotated[str, Meta(max_length=limits.NAME_CHARS)]
Description = Annotated[str, Meta(max_length=limits.DESCRIPTION_CHARS)]
Instructions = Annotated[str, Meta(max_length=limits.INSTRUCTIONS_CHARS)]
Tools = Annotated[list[Tool], Meta(max_length=limits.ASSISTANT_TOOLS)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]

# Fields that create and modify share.
GivenName = Annotated[
    Name | None | UnsetType, Meta(description="A name, at most 256 characters; null clears it.")
]
GivenDescription = Annotated[
    Description | None | UnsetType,
    Meta(description="A description, at most 512 characters; null clears it."),
]
GivenInstructions = Annotated[
    Instructions | None | UnsetType,
    Meta(description="The system prompt, at most 256,000 characters; null clears it."),
]
GivenTools = Annotated[
    Tools | None | UnsetType,
    Meta(description="Up to 128 tools; each built-in one and each function name only once."),
]
GivenTemperature = Annotated[
    Temperature | None | UnsetType,
    Meta(description="Randomness of the model, 0 to 2; null stands for the default."),
]
GivenTopP = Annotated[
    TopP | None | UnsetType,
    Meta(
        description="Share of the probability mass that the model samples from, 0 to 1; null "
        "stands for the default."
    ),
]


class Assistant(Wire, frozen=True, kw_only=True):
    """An assistant: a model with its instructions and tools."""

    id: Id
    object: Annotated[Literal["assistant"], Meta(description="Always `assistant`.")] = "assistant"
    created_at: CreatedAt
    name: Annotated[str | None, Meta(description="Its name.")]
    description: Annotated[str | None, Meta(description="Its description.")]
    model: Annotated[str, Meta(description="The model that answers.")]
    instructions: Annotated[str | None, Meta(description="The system prompt.")]
    tools: Annotated[list[Tool], Meta(description="The tools that it may use.")]
    tool_resources: Annotated[
        ToolResources, Meta(description="The files and stores of its built-in tools.")
    ]
    metadata: ObjectMetadata
    temperature: Annotated[float | None, Meta(description="Randomness of the model, 0 to 2.")]
    top_p: Annotated[
        float | None,
        Meta(description="Share of the probability mass that the model samples from, 0 to 1."),
    ]
    response_format: Annotated[
        ResponseFormat, Meta(description="The form of the answers; `auto` is plain text.")
    ]
    reasoning_effort: Annotated[
        ReasoningEffort | None, Meta(description="How long a reasoning model may think.")
    ]


class CreateAssistant(Body, frozen=True, kw_only=True):
    """The body of POST /assistants."""

    model: Annotated[str, Meta(description="The model that answers, as the provider names it.")]
    name: GivenName = UNSET
    description: GivenDescription = UNSET
    instructions: GivenInstructions = UNSET
    tools: GivenTools = UNSET
    tool_resources: Annotated[
        ToolResourcesHelper | None | UnsetType,
        Meta(description="The files and stores of the built-in tools; stores can be made here."),
    ] = UNSET
    metadata: GivenMetadata = UNSET
    temperature: GivenTemperature = UNSET
    top_p: GivenTopP = UNSET
    response_format: GivenResponseFormat = UNSET
    reasoning_effort: GivenEffort = UNSET


class ModifyAssistant(Body, frozen=True, kw_only=True):
    """The body of POST /assistants/{assistant_id}: what is absent stays as it is."""

    model: Annotated[
        str | UnsetType, Meta(description="The model that answers, as the provider names it.")
    ] = UNSET
    name: GivenName = UNSET
    description: GivenDescription = UNSET
    instructions: GivenInstructions = UNSET
    tools: GivenTools = UNSET
    tool_resources: Annotated[
        ToolResources | None | UnsetType,
        Meta(description="A tool's entry replaces that tool's resources; null clears all."),
    ] = UNSET
    metadata: GivenMetadata = UNSET
    temperature: GivenTemperature = UNSET
    top_p: GivenTopP = UNSET
    response_format: GivenResponseFormat = UNSET
    reasoning_effort: GivenEffort = UNSET
