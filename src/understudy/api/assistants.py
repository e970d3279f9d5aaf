"""Assistants (SPEC 7.1)."""

from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from understudy.api import file_ids, objects, recent, stores, tool_resources
from understudy.api.operation import Call, operation
from understudy.wire import rules
from understudy.wire.assistants import Assistant, CreateAssistant, ModifyAssistant
from understudy.wire.base import Deleted, ListOf, given
from understudy.wire.query import ListQuery

TAG = "Assistants"

# What an absent field is on create, and what null makes of it on modify (SPEC section 6).
_DEFAULTS: dict[str, Any] = {
    "name": None,
    "description": None,
    "instructions": None,
    "tools": [],
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
    "response_format": "auto",
    "reasoning_effort": None,
}


@operation("POST", "/assistants", tag=TAG, beta=True)
async def create_assistant(call: Call, body: CreateAssistant) -> Assistant:
    """Create an assistant with a model and instructions."""
    fields = {**_DEFAULTS, **modified(body)}
    prepared = await tool_resources.from_helper(call, body.tool_resources)
    now = call.app.world.now()
    assistant = Assistant(
        id=call.app.world.new_id("assistant"),
        created_at=int(now),
        tool_resources=tool_resources.settled(prepared.resources, fields["tools"]),
        **fields,
    )
    insert = objects.insert(call, "assistant", assistant, at=now)
    await call.commit(*prepared.statements, insert, answer=assistant)
    stores.ring(call)
    return assistant


@operation("GET", "/assistants", tag=TAG, beta=True)
async def list_assistants(call: Call, page: ListQuery) -> ListOf[Assistant]:
    """List assistants, newest first."""
    return await objects.shown_page(call, "assistant", Assistant, page, amend=file_ids.without_gone)


@operation("GET", "/assistants/{assistant_id}", tag=TAG, beta=True)
async def get_assistant(call: Call, assistant_id: str) -> Assistant:
    """Retrieve an assistant."""
    loaded = await objects.load(call, "assistant", assistant_id, Assistant)
    [shown] = await file_ids.without_gone(call, [loaded.object])
    return shown


@operation("POST", "/assistants/{assistant_id}", tag=TAG, beta=True)
async def modify_assistant(call: Call, assistant_id: str, body: ModifyAssistant) -> Assistant:
    """Modify an assistant.

    What is absent stays, null resets a field to its default, and a given metadata object
    replaces the whole metadata. Runs that are active keep what they started with.
    """
    loaded = await objects.load(call, "assistant", assistant_id, Assistant)
    [old] = await file_ids.without_gone(call, [loaded.object])
    changed = modified(body)
    resources = tool_resources.replaced(old.tool_resources, body.tool_resources)
    await tool_resources.check_references(
        call, given(body.tool_resources, tool_resources.NO_RESOURCES)
    )
    tools = changed.get("tools", old.tools)
    changed["tool_resources"] = tool_resources.settled(resources, tools)
    saved = await objects.save(call, loaded, replace(old, **changed))
    recent.forget(call, assistant_id)
    return saved


def modified(body: CreateAssistant | ModifyAssistant) -> dict[str, Any]:
    """The fields that a body sets, null being the default."""
    changed: dict[str, Any] = {} if body.model is UNSET else {"model": body.model}
    for name, default in _DEFAULTS.items():
        value = getattr(body, name)
        if value is not UNSET:
            changed[name] = default if value is None else value
    if "response_format" in changed:
        changed["response_format"] = rules.normal_response_format(changed["response_format"])
    if "tools" in changed:
        changed["tools"] = rules.normal_tools(changed["tools"])
    return changed


@operation("DELETE", "/assistants/{assistant_id}", tag=TAG, beta=True)
async def delete_assistant(call: Call, assistant_id: str) -> Deleted:
    """Delete an assistant.

    Threads, messages, runs and files stay; a run that is active goes on.
    """
    deleted = await objects.delete(call, "assistant", assistant_id, "assistant.deleted")
    recent.forget(call, assistant_id)
    return deleted
