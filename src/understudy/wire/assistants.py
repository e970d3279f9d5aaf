"""Assistants (SPEC 7.1)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, Metadata, Wire
from understudy.wire.tools import (
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


class Assistant(Wire, frozen=True, kw_only=True):
    """An assistant."""

    id: str
    object: Literal["assistant"] = "assistant"
    created_at: int
    name: str | None
    description: str | None
    model: str
    instructions: str | None
    tools: list[Tool]
    tool_resources: ToolResources
    metadata: dict[str, str]
    temperature: float | None
    top_p: float | None
    response_format: ResponseFormat
    reasoning_effort: ReasoningEffort | None


class CreateAssistant(Body, frozen=True, kw_only=True):
    """The body of POST /assistants."""

    model: str
    name: Name | None | UnsetType = UNSET
    description: Description | None | UnsetType = UNSET
    instructions: Instructions | None | UnsetType = UNSET
    tools: Tools | None | UnsetType = UNSET
    tool_resources: ToolResourcesHelper | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET
    temperature: Temperature | None | UnsetType = UNSET
    top_p: TopP | None | UnsetType = UNSET
    response_format: ResponseFormat | None | UnsetType = UNSET
    reasoning_effort: ReasoningEffort | None | UnsetType = UNSET


class ModifyAssistant(Body, frozen=True, kw_only=True):
    """The body of POST /assistants/{assistant_id}."""

    model: str | UnsetType = UNSET
    name: Name | None | UnsetType = UNSET
    description: Description | None | UnsetType = UNSET
    instructions: Instructions | None | UnsetType = UNSET
    tools: Tools | None | UnsetType = UNSET
    tool_resources: ToolResources | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET
    temperature: Temperature | None | UnsetType = UNSET
    top_p: TopP | None | UnsetType = UNSET
    response_format: ResponseFormat | None | UnsetType = UNSET
    reasoning_effort: ReasoningEffort | None | UnsetType = UNSET
