"""Threads (SPEC 7.2)."""

from typing import Literal

from msgspec import UNSET, UnsetType

from understudy.wire.base import Body, Metadata, Wire
from understudy.wire.messages import CreateMessage
from understudy.wire.tools import ToolResources, ToolResourcesHelper


class Thread(Wire, frozen=True, kw_only=True):
    """A thread."""

    id: str
    object: Literal["thread"] = "thread"
    created_at: int
    metadata: dict[str, str]
    tool_resources: ToolResources


class CreateThread(Body, frozen=True, kw_only=True):
    """The body of POST /threads; it may be absent."""

    messages: list[CreateMessage] | None | UnsetType = UNSET
    tool_resources: ToolResourcesHelper | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET


class ModifyThread(Body, frozen=True, kw_only=True):
    """The body of POST /threads/{thread_id}."""

    tool_resources: ToolResources | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET
