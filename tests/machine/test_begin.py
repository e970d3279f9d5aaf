"""The effective configuration of a run, and how calls that did not stream are told."""

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from tests.machine.play import ALL_TOOLS, FUNCTIONS, NOW, assistant
from understudy.machine.begin import begin
from understudy.machine.happenings import Move
from understudy.machine.introduce import introduction
from understudy.machine.private import Call
from understudy.wire.assistants import Assistant
from understudy.wire.runs import CreateRun, CreateThreadAndRun, Run, TruncationStrategy
from understudy.wire.steps import FileSearchCall
from understudy.wire.tools import (
    CodeInterpreterResources,
    FileSearchResources,
    JsonObjectFormat,
    ToolResources,
)

FULL = replace(
    assistant(FUNCTIONS),
    model="theirs",
    temperature=0.3,
    top_p=0.4,
    response_format=JsonObjectFormat(),
    reasoning_effort="low",
    tool_resources=ToolResources(
        code_interpreter=CodeInterpreterResources(file_ids=["file-1"]),
        file_search=FileSearchResources(vector_store_ids=["vs_1"]),
    ),
)


def begun(body: CreateRun | CreateThreadAndRun, of: Assistant = FULL) -> Move:
    return begin(body, of, id="run_1", thread_id="thread_1", now=NOW, ttl_s=600)


def run_of(**fields: Any) -> Run:
    return begun(CreateRun(assistant_id="asst_1", **fields)).state.run


def test_without_overrides_the_assistant_decides() -> None:
    run = run_of()
    assert (run.model, run.temperature, run.top_p) == ("theirs", 0.3, 0.4)
    assert run.response_format == JsonObjectFormat()
    assert run.reasoning_effort == "low"
    assert run.tools == FUNCTIONS
    assert run.tool_resources == FULL.tool_resources
    assert (run.status, run.started_at, run.expires_at) == ("queued", None, NOW + 600)
    assert (run.tool_choice, run.parallel_tool_calls) == ("auto", True)
    assert run.truncation_strategy == TruncationStrategy(type="auto")


def test_null_is_the_assistants_value_too() -> None:
    run = run_of(model=None, instructions=None, tools=None, response_format=None)
    assert (run.model, run.instructions, run.tools) == ("theirs", "Be brief.", FUNCTIONS)


def test_overrides_hold_for_the_run() -> None:
    run = run_of(model="ours", temperature=0.0, top_p=0.9, tools=ALL_TOOLS, response_format="none")
    assert (run.model, run.temperature, run.top_p) == ("ours", 0.0, 0.9)
    assert (run.tools, run.response_format) == (ALL_TOOLS, "auto")


@pytest.mark.parametrize(
    ("instructions", "additional", "effective"),
    [
        (UNSET, UNSET, "Be brief."),
        ("Be long.", UNSET, "Be long."),
        (UNSET, "And kind.", "Be brief.\nAnd kind."),
        ("Be long.", "And kind.", "Be long.\nAnd kind."),
    ],
)
def test_additional_instructions_follow_what_applies(
    instructions: Any, additional: Any, effective: str
) -> None:
    run = run_of(instructions=instructions, additional_instructions=additional)
    assert run.instructions == effective


def test_instructions_are_never_null() -> None:
    body = CreateRun(assistant_id="asst_1")
    assert begun(body, replace(FULL, instructions=None)).state.run.instructions == ""


def test_the_create_thread_and_run_call_replaces_resources_tool_by_tool() -> None:
    ours = ToolResources(code_interpreter=CodeInterpreterResources(file_ids=["file-2"]))
    run = begun(CreateThreadAndRun(assistant_id="asst_1", tool_resources=ours)).state.run
    assert run.tool_resources == ToolResources(
        code_interpreter=CodeInterpreterResources(file_ids=["file-2"]),
        file_search=FileSearchResources(vector_store_ids=["vs_1"]),
    )


def test_the_fixed_part_of_every_turn_is_counted_once() -> None:
    bare = begun(CreateRun(assistant_id="asst_1"), replace(FULL, instructions=None, tools=[]))
    assert bare.state.private.fixed_tokens == 0
    assert begun(CreateRun(assistant_id="asst_1")).state.private.fixed_tokens > 10


def test_the_first_events_show_a_queued_run() -> None:
    move = begun(CreateRun(assistant_id="asst_1"))
    assert [event.name for event in move.events] == ["thread.run.created", "thread.run.queued"]
    assert all(event.data == move.state.run for event in move.events)


def test_a_search_is_told_in_one_delta() -> None:
    call = Call(id="call_1", name="builtin_file_search", arguments='{"queries":["x"]}')
    deltas, records = introduction([call], {"builtin_file_search": "file_search"})
    [delta], [record] = deltas, records
    assert isinstance(delta, FileSearchCall) and isinstance(record, FileSearchCall)
    assert (delta.index, delta.id) == (0, "call_1")
    assert (record.index, record.id) == (UNSET, "call_1")
