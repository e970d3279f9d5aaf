"""tool_resources: what may be named in them, and how a change replaces them (SPEC 6, 7.1)."""

from collections.abc import Sequence
from typing import TypeVar

from msgspec import UNSET, UnsetType

from understudy import limits
from understudy.api.operation import Call
from understudy.errors import ApiError
from understudy.wire.base import given
from understudy.wire.tools import (
    CodeInterpreterResources,
    CodeInterpreterTool,
    FileSearchResources,
    FileSearchResourcesHelper,
    FileSearchTool,
    Tool,
    ToolResources,
    ToolResourcesHelper,
)

_Resource = TypeVar("_Resource", CodeInterpreterResources, FileSearchResources)

NO_RESOURCES = ToolResources()
_FILE_IDS = "tool_resources.code_interpreter.file_ids"
_HELPER = "tool_resources.file_search.vector_stores"


async def from_helper(
    call: Call, resources: ToolResourcesHelper | ToolResources | None | UnsetType
) -> ToolResources:
    """What a create call asks for, once everything that it names is known to exist."""
    if resources is UNSET or resources is None:
        return NO_RESOURCES
    search = resources.file_search or FileSearchResources()
    found = ToolResources(
        code_interpreter=resources.code_interpreter or UNSET,
        file_search=FileSearchResources(vector_store_ids=given(search.vector_store_ids, []))
        if resources.file_search
        else UNSET,
    )
    await check_references(call, found)
    if isinstance(search, FileSearchResourcesHelper) and given(search.vector_stores, []):
        raise no_vector_stores(_HELPER)
    return found


def no_vector_stores(param: str) -> ApiError:
    """The answer where a vector store would have to be made."""
    return ApiError.invalid(
        param, f"Invalid '{param}': vector stores are not available on this server yet."
    )


async def check_references(call: Call, resources: ToolResources) -> None:
    """Everything named must exist in this project."""
    if resources.code_interpreter:
        await require_files(call, resources.code_interpreter.file_ids)
    if resources.file_search:
        await _require_all(call, "vector_store", resources.file_search.vector_store_ids)


async def require_files(call: Call, file_ids: Sequence[str]) -> None:
    """Files that must exist."""
    await _require_all(call, "file", file_ids)


async def _require_all(call: Call, kind: str, ids: Sequence[str]) -> None:
    if not ids:
        return
    found = {record.id for record in await call.app.store.get_many(kind, call.project, ids)}
    for id in ids:
        if id not in found:
            raise ApiError.not_found(kind, id)


def replaced(old: ToolResources, new: ToolResources | None | UnsetType) -> ToolResources:
    """A modify call's effect: a tool that is named is replaced as a whole, others stay."""
    if new is UNSET:
        return old
    if new is None:
        return NO_RESOURCES
    return ToolResources(
        code_interpreter=_one(old.code_interpreter, new.code_interpreter),
        file_search=_one(old.file_search, new.file_search),
    )


def _one(
    old: _Resource | None | UnsetType, new: _Resource | None | UnsetType
) -> _Resource | None | UnsetType:
    """One tool's resources; null takes them away."""
    if new is UNSET:
        return old
    return UNSET if new is None else new


def settled(resources: ToolResources, tools: Sequence[Tool]) -> ToolResources:
    """How an assistant shows them: an entry for each enabled tool and for what is not empty."""
    code = resources.code_interpreter or CodeInterpreterResources()
    search = resources.file_search or FileSearchResources()
    has_code = any(isinstance(tool, CodeInterpreterTool) for tool in tools)
    has_search = any(isinstance(tool, FileSearchTool) for tool in tools)
    return ToolResources(
        code_interpreter=code if has_code or code.file_ids else UNSET,
        file_search=search if has_search or search.vector_store_ids else UNSET,
    )


def with_files(resources: ToolResources, file_ids: Sequence[str]) -> ToolResources:
    """A thread's resources after files were attached for code_interpreter."""
    code = resources.code_interpreter or CodeInterpreterResources()
    together = list(dict.fromkeys([*code.file_ids, *file_ids]))
    if len(together) > limits.CODE_INTERPRETER_FILES:
        raise ApiError.array_too_long(_FILE_IDS, limits.CODE_INTERPRETER_FILES, len(together))
    return ToolResources(
        code_interpreter=CodeInterpreterResources(file_ids=together),
        file_search=resources.file_search,
    )
