"""tool_resources: what may be named in them, and how a change replaces them (SPEC 6, 7.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from understudy import limits
from understudy.api import stores
from understudy.api.operation import Call
from understudy.errors import ApiError
from understudy.store import Statement
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
from understudy.wire.vector_stores import ExpiresAfter

_Resource = TypeVar("_Resource", CodeInterpreterResources, FileSearchResources)

NO_RESOURCES = ToolResources()
# When a store expires that was made for a thread.
OF_A_THREAD = ExpiresAfter(anchor="last_active_at", days=limits.VECTOR_STORE_THREAD_DAYS)
_FILE_IDS = "tool_resources.code_interpreter.file_ids"


@dataclass(frozen=True, slots=True)
class Attachments:
    """The files that messages bring along, by the tool that they are for."""

    for_code: Sequence[str] = ()
    for_search: Sequence[str] = ()


NO_ATTACHMENTS = Attachments()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Resources with the statements that make what they name, and the stores made on the way."""

    resources: ToolResources
    statements: tuple[Statement, ...] = ()
    made: tuple[str, ...] = ()


async def from_helper(
    call: Call,
    resources: ToolResourcesHelper | ToolResources | None | UnsetType,
    attachments: Attachments = NO_ATTACHMENTS,
    *,
    expires_after: ExpiresAfter | None = None,
) -> Prepared:
    """What a create call asks for, once everything that it names is known to exist.

    `expires_after` is for a store that is made here.
    """
    if resources is UNSET or resources is None:
        resources = NO_RESOURCES
    search = resources.file_search or FileSearchResources()
    found = ToolResources(
        code_interpreter=resources.code_interpreter or UNSET,
        file_search=FileSearchResources(vector_store_ids=given(search.vector_store_ids, []))
        if resources.file_search
        else UNSET,
    )
    await check_references(call, found)
    helpers = (
        given(search.vector_stores, []) if isinstance(search, FileSearchResourcesHelper) else []
    )
    if not helpers:
        return await with_attachments(call, found, attachments)
    [helper] = helpers
    chunking = given(helper.chunking_strategy, None)
    wanted = [stores.Wanted(id, chunking=chunking) for id in given(helper.file_ids, [])]
    wanted += [stores.Wanted(id) for id in attachments.for_search]
    made = await stores.make(
        call, wanted, expires_after=expires_after, metadata=given(helper.metadata, {})
    )
    return _with_store(_with_code(found, attachments.for_code), made)


async def with_attachments(
    call: Call, resources: ToolResources, attachments: Attachments
) -> Prepared:
    """A thread's resources after files were attached: those for file_search are put into its
    vector store, or into a new one."""
    resources = _with_code(resources, attachments.for_code)
    if not attachments.for_search:
        return Prepared(resources)
    wanted = [stores.Wanted(id) for id in attachments.for_search]
    named = resources.file_search.vector_store_ids if resources.file_search else []
    for store_id in named:
        # A store that was deleted is still named, and counts as none.
        if await call.app.store.get(stores.KIND, call.project, store_id) is not None:
            _, facts = await stores.load_usable(call, store_id)
            attached = await stores.attach(call, store_id, wanted, facts=facts)
            return Prepared(resources, tuple(attached.statements))
    return _with_store(resources, await stores.make(call, wanted, expires_after=OF_A_THREAD))


def _with_store(resources: ToolResources, made: stores.Made) -> Prepared:
    search = FileSearchResources(vector_store_ids=[made.store.id])
    return Prepared(
        msgspec.structs.replace(resources, file_search=search),
        tuple(made.statements),
        (made.store.id,),
    )


async def check_references(call: Call, resources: ToolResources) -> None:
    """Everything named must exist in this project."""
    if resources.code_interpreter:
        await stores.require_files(call, resources.code_interpreter.file_ids)
    if resources.file_search:
        await _require_stores(call, resources.file_search.vector_store_ids)


async def _require_stores(call: Call, ids: Sequence[str]) -> None:
    found = await call.app.store.get_many(stores.KIND, call.project, ids) if ids else []
    known = {record.id for record in found}
    for id in ids:
        if id not in known:
            raise ApiError.not_found(stores.KIND, id)


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


def _with_code(resources: ToolResources, file_ids: Sequence[str]) -> ToolResources:
    """The resources after files were attached for code_interpreter."""
    if not file_ids:
        return resources
    code = resources.code_interpreter or CodeInterpreterResources()
    together = list(dict.fromkeys([*code.file_ids, *file_ids]))
    if len(together) > limits.CODE_INTERPRETER_FILES:
        raise ApiError.array_too_long(_FILE_IDS, limits.CODE_INTERPRETER_FILES, len(together))
    return msgspec.structs.replace(
        resources, code_interpreter=CodeInterpreterResources(file_ids=together)
    )
