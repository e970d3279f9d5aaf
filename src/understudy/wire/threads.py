"""Threads (SPEC 7.2)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy.wire.base import Body, CreatedAt, GivenMetadata, Id, ObjectMetadata, Wire
from understudy.wire.messages import CreateMessage
from understudy.wire.tools import ToolResources, ToolResourcesHelper


class Thread(Wire, frozen=True, kw_only=True):
    """A thread: a conversation that any assistant may join."""

    id: Id
    object: Annotated[Literal["thread"], Meta(description="Always `thread`.")] = "thread"
    created_at: CreatedAt
    metadata: ObjectMetadata
    tool_resources: Annotated[
        ToolResources, Meta(description="The files and stores that belong to this thread.")
    ]


class CreateThread(Body, frozen=True, kw_only=True):
    """The body of POST /threads; it may be absent."""

    messages: Annotated[
        list[CreateMessage] | None | UnsetType,
        Meta(description="Messages to start with, oldest first."),
    ] = UNSET
    tool_resources: Annotated[
        ToolResourcesHelper | None | UnsetType,
        Meta(
            description="Files and stores for this thread; a store that is made here expires 7 "
            "days after its last use."
        ),
    ] = UNSET
    metadata: GivenMetadata = UNSET


class ModifyThread(Body, frozen=True, kw_only=True):
    """The body of POST /threads/{thread_id}: what is absent stays as it is."""

    tool_resources: Annotated[
        ToolResources | None | UnsetType,
        Meta(description="A tool's entry replaces that tool's resources; null clears all."),
    ] = UNSET
    metadata: GivenMetadata = UNSET
