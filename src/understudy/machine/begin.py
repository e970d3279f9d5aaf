"""How a run begins: the effective configuration, taken once as a snapshot (SPEC 7.4)."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from understudy.machine import tokens, toolbox
from understudy.machine.happenings import Move, State, Wait, Write
from understudy.machine.private import RunPrivate
from understudy.wire.assistants import Assistant
from understudy.wire.base import given
from understudy.wire.events import Event
from understudy.wire.rules import normal_response_format, normal_tools
from understudy.wire.runs import CreateRun, CreateThreadAndRun, Run, TruncationStrategy
from understudy.wire.tools import Tool, ToolResources


def begin(
    body: CreateRun | CreateThreadAndRun,
    assistant: Assistant,
    *,
    id: str,
    thread_id: str,
    now: int,
    ttl_s: int,
    include_content: bool = False,
) -> Move:
    """A queued run and its first two events. A value of the body replaces the assistant's for
    this run; null or absent keeps it. `include_content` is for the text of search results."""
    tools = normal_tools(given(body.tools, assistant.tools))
    run = Run(
        id=id,
        created_at=now,
        assistant_id=assistant.id,
        thread_id=thread_id,
        status="queued",
        started_at=None,
        expires_at=now + ttl_s,
        cancelled_at=None,
        failed_at=None,
        completed_at=None,
        required_action=None,
        last_error=None,
        model=given(body.model, assistant.model),
        instructions=_instructions(body, assistant),
        tools=tools,
        tool_resources=_tool_resources(body, assistant),
        metadata=given(body.metadata, {}),
        temperature=given(body.temperature, assistant.temperature),
        top_p=given(body.top_p, assistant.top_p),
        reasoning_effort=given(body.reasoning_effort, assistant.reasoning_effort),
        max_completion_tokens=given(body.max_completion_tokens, None),
        max_prompt_tokens=given(body.max_prompt_tokens, None),
        truncation_strategy=given(body.truncation_strategy, TruncationStrategy(type="auto")),
        incomplete_details=None,
        usage=None,
        response_format=normal_response_format(
            given(body.response_format, assistant.response_format)
        ),
        tool_choice=given(body.tool_choice, "auto"),
        parallel_tool_calls=given(body.parallel_tool_calls, True),
    )
    private = RunPrivate(
        fixed_tokens=_fixed_tokens(run.instructions, run.tools), include_content=include_content
    )
    events = (
        Event(name="thread.run.created", data=run),
        Event(name="thread.run.queued", data=run),
    )
    return Move(State(run, private), (Write(run, private),), events, Wait(until=now))


def _instructions(body: CreateRun | CreateThreadAndRun, assistant: Assistant) -> str:
    """The body's instructions replace the assistant's; additional ones follow after a newline.
    Never null: the SDK's type is a plain string (SPEC 0.2, 3)."""
    base = given(body.instructions, assistant.instructions) or ""
    more = given(body.additional_instructions, "")
    return "\n".join(text for text in (base, more) if text)


def _tool_resources(body: CreateRun | CreateThreadAndRun, assistant: Assistant) -> ToolResources:
    """Only the create-thread-and-run call may give resources of its own, tool by tool."""
    theirs = assistant.tool_resources
    ours = getattr(body, "tool_resources", UNSET)
    if ours is UNSET or ours is None:
        return theirs
    return ToolResources(
        code_interpreter=given(ours.code_interpreter, theirs.code_interpreter),
        file_search=given(ours.file_search, theirs.file_search),
    )


def _fixed_tokens(instructions: str, tools: Sequence[Tool]) -> int:
    """The size of what every turn sends: instructions and tools."""
    offered = toolbox.offered(list(tools), searchable=toolbox.Searchable())
    text = msgspec.json.encode(offered).decode() if offered else ""
    return tokens.count(instructions) + tokens.count(text)
