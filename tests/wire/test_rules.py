"""Rules about several fields at once, and about what a type cannot say."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from understudy.errors import ApiError
from understudy.wire.assistants import CreateAssistant, ModifyAssistant
from understudy.wire.base import Body, ModifyMetadata
from understudy.wire.decode import decode
from understudy.wire.messages import CreateMessage
from understudy.wire.rules import (
    check_body,
    check_id,
    check_reference,
    check_tool_choice,
    normal_response_format,
    normal_tools,
)
from understudy.wire.runs import CreateRun, CreateThreadAndRun, SubmitToolOutputs
from understudy.wire.threads import CreateThread, ModifyThread
from understudy.wire.tools import (
    ChooseCodeInterpreter,
    ChooseFileSearch,
    ChooseFunction,
    CodeInterpreterTool,
    FileSearchOptions,
    FileSearchTool,
    FunctionDefinition,
    FunctionName,
    FunctionTool,
    RankingOptions,
    TextFormat,
    Tool,
    ToolChoice,
)

Json = dict[str, Any]


def function(name: str) -> Json:
    return {"type": "function", "function": {"name": name}}


def image(url: str = "https://example.com/a.png") -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def image_file(id: str) -> Json:
    return {"type": "image_file", "image_file": {"file_id": id}}


def message(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def schema(**fields: Any) -> Json:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", **fields}}}


def stores(*ids: str, helpers: int = 0) -> Json:
    file_search: Json = {"vector_store_ids": list(ids)}
    if helpers:
        file_search["vector_stores"] = [{"file_ids": ["file-1"]}] * helpers
    return {"tool_resources": {"file_search": file_search}}


def files(*ids: str) -> Json:
    return {"tool_resources": {"code_interpreter": {"file_ids": list(ids)}}}


ATTACHED = {"role": "user", "content": "x", "attachments": [{"file_id": "f\x7f"}]}
STRICT = {"strict": True, "schema": {"type": "object"}}
CLOSED = {"strict": True, "schema": {"additionalProperties": False}}
NOT_STRICT = (
    "Invalid schema for response_format 'x': In context=(), 'additionalProperties' is required "
    "to be supplied and to be false."
)
PATTERN = (
    "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
)
CONTROL = "an ID must not contain control characters."

M: Json = {"model": "m"}
R: Json = {"assistant_id": "asst_1"}
LAST: Json = {"truncation_strategy": {"type": "last_messages"}}

# Body, type, param, text.
BROKEN: list[tuple[Json, type[Body], str | None, str]] = [
    (M | {"tools": [{"type": "file_search"}] * 2}, CreateAssistant, "tools",
     "Invalid 'tools': duplicate tool 'file_search'."),
    ({"tools": [{"type": "code_interpreter"}] * 2}, ModifyAssistant, "tools",
     "Invalid 'tools': duplicate tool 'code_interpreter'."),
    (R | {"tools": [function("a"), function("b"), function("a")]}, CreateRun, "tools",
     "Invalid 'tools': duplicate tool 'a'."),
    (R | {"tools": [function("a\n")]}, CreateThreadAndRun, "tools[0].function.name",
     f"Invalid 'tools[0].function.name': {PATTERN}"),
    (R | LAST, CreateRun, "truncation_strategy.last_messages",
     "Missing required parameter: 'truncation_strategy.last_messages'."),
    (M | schema(**STRICT), CreateAssistant, "response_format", NOT_STRICT),
    (R | schema(strict=True, schema={}), CreateRun, "response_format", NOT_STRICT),
    (M | schema(strict=True), CreateAssistant, "response_format.json_schema.schema",
     "Missing required parameter: 'response_format.json_schema.schema'."),
    (M | schema(name="x\n"), CreateAssistant, "response_format.json_schema.name",
     f"Invalid 'response_format.json_schema.name': {PATTERN}"),
    (M | stores("vs_1", helpers=1), CreateAssistant,
     "tool_resources.file_search.vector_store_ids",
     "Invalid 'tool_resources.file_search.vector_store_ids': array too long. Expected an array "
     "with maximum length 1, but got an array with length 2 instead."),
    (stores("vs_\n"), ModifyThread, "tool_resources.file_search.vector_store_ids[0]",
     f"Invalid 'tool_resources.file_search.vector_store_ids[0]': {CONTROL}"),
    (files("file-1", "\x00"), ModifyAssistant, "tool_resources.code_interpreter.file_ids[1]",
     f"Invalid 'tool_resources.code_interpreter.file_ids[1]': {CONTROL}"),
    (R | files("\t"), CreateThreadAndRun, "tool_resources.code_interpreter.file_ids[0]",
     f"Invalid 'tool_resources.code_interpreter.file_ids[0]': {CONTROL}"),
    ({"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["\n"]}]}}}, CreateThread,
     "tool_resources.file_search.vector_stores[0].file_ids[0]",
     f"Invalid 'tool_resources.file_search.vector_stores[0].file_ids[0]': {CONTROL}"),
    (message(*[image()] * 11), CreateMessage, "content",
     "Invalid 'content': too many images. Expected at most 10 images, but got 11 instead."),
    (message(image("file:///etc/passwd")), CreateMessage, "content[0].image_url.url",
     "Invalid 'content[0].image_url.url'. Expected a valid URL that begins with 'http://', "
     "'https://' or 'data:image/'."),
    ({"messages": [message(image()), message(image_file("f\n"))]}, CreateThread,
     "messages[1].content[0].image_file.file_id",
     f"Invalid 'messages[1].content[0].image_file.file_id': {CONTROL}"),
    (ATTACHED, CreateMessage, "attachments[0].file_id",
     f"Invalid 'attachments[0].file_id': {CONTROL}"),
    (R | {"additional_messages": [ATTACHED]}, CreateRun,
     "additional_messages[0].attachments[0].file_id",
     f"Invalid 'additional_messages[0].attachments[0].file_id': {CONTROL}"),
    (R | {"thread": {"messages": [ATTACHED]}}, CreateThreadAndRun,
     "thread.messages[0].attachments[0].file_id",
     f"Invalid 'thread.messages[0].attachments[0].file_id': {CONTROL}"),
    ({"assistant_id": "wf_69"}, CreateRun, "assistant_id",
     "Invalid 'assistant_id': 'wf_69'. Expected an ID that begins with 'asst'."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "type", "param", "text"),
    BROKEN,
    ids=[f"{type.__name__}-{param}" for _, type, param, _ in BROKEN],
)
def test_a_broken_rule_has_its_exact_words(
    body: Json, type: type[Body], param: str, text: str
) -> None:
    decoded = decode(json.dumps(body).encode(), type)
    with pytest.raises(ApiError) as caught:
        check_body(decoded)
    assert (caught.value.status, caught.value.param, caught.value.message) == (400, param, text)


KEPT: list[tuple[Json, type[Body]]] = [
    (M | {"tools": [function("a"), function("file_search"), {"type": "file_search"}]},
     CreateAssistant),
    (M | stores("vs_1"), CreateAssistant),
    (M | stores(helpers=1), CreateAssistant),
    (M | {"tool_resources": {"code_interpreter": None, "file_search": None}}, CreateAssistant),
    (M | {"tool_resources": None} | schema(**CLOSED), CreateAssistant),
    (M | schema(schema={"type": "object"}), CreateAssistant),
    ({"tool_resources": {"file_search": {}}}, CreateThread),
    ({"tool_resources": {}}, ModifyThread),
    (stores("vs_1"), ModifyThread),
    (message(*[image(), image("HTTP://x/y"), image("data:image/png;base64,AA")] * 3,
             image_file("any id"), {"type": "text", "text": "x"}), CreateMessage),
    ({"role": "user", "content": "x", "attachments": [{"file_id": "file-1"}]}, CreateMessage),
    (R | {"truncation_strategy": {"type": "last_messages", "last_messages": 1}}, CreateRun),
    (R | {"truncation_strategy": {"type": "auto"}, "response_format": "none"}, CreateRun),
    (R | {"thread": None}, CreateThreadAndRun),
    ({"metadata": {}}, ModifyMetadata),
    ({"tool_outputs": []}, SubmitToolOutputs),
]  # fmt: skip


@pytest.mark.parametrize(("body", "type"), KEPT)
def test_a_body_that_keeps_the_rules_passes(body: Json, type: type[Body]) -> None:
    check_body(decode(json.dumps(body).encode(), type))


@pytest.mark.parametrize(
    ("value", "prefix"),
    [("asst_x", "asst"), ("asst", "asst"), ("file-1", "file"), ("assistant-1", "file")],
)
def test_an_id_with_its_prefix_goes_on_to_the_lookup(value: str, prefix: str) -> None:
    check_id("id", value, prefix)


@pytest.mark.parametrize("value", ["undefined", "", "ASST_1", "thread_1", "asst_\x00", "asst_\n"])
def test_an_id_of_another_kind_is_refused(value: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_id("assistant_id", value, "asst")
    assert caught.value.message == (
        f"Invalid 'assistant_id': '{value}'. Expected an ID that begins with 'asst'."
    )
    assert (caught.value.param, caught.value.code) == ("assistant_id", "invalid_value")


def test_a_reference_may_look_like_anything_printable() -> None:
    check_reference("file_id", "ünï cödé 😀")


FUNCTION = FunctionTool(function=FunctionDefinition(name="a"))
SEARCH = FileSearchTool()
CODE = CodeInterpreterTool()
CHOOSE_A = ChooseFunction(function=FunctionName(name="a"))


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        (None, []),
        (UNSET, []),
        ("required", []),
        (CHOOSE_A, [SEARCH, FUNCTION]),
        (ChooseFileSearch(), [SEARCH]),
        (ChooseCodeInterpreter(), [FUNCTION, CODE]),
    ],
)
def test_a_choice_of_a_present_tool_passes(choice: ToolChoice, tools: list[Tool]) -> None:
    check_tool_choice(choice, tools)


@pytest.mark.parametrize(
    ("choice", "tools", "name"),
    [
        (CHOOSE_A, [SEARCH, CODE], "a"),
        (ChooseFunction(function=FunctionName(name="file_search")), [SEARCH], "file_search"),
        (ChooseFileSearch(), [FUNCTION], "file_search"),
        (ChooseCodeInterpreter(), [], "code_interpreter"),
    ],
)
def test_a_choice_of_a_missing_tool_is_refused(
    choice: ToolChoice, tools: list[Tool], name: str
) -> None:
    with pytest.raises(ApiError) as caught:
        check_tool_choice(choice, tools)
    assert caught.value.param == "tool_choice"
    assert f"no tool named '{name}'" in caught.value.message


def test_response_formats_are_normalised() -> None:
    assert [normal_response_format(format) for format in (UNSET, None, "none", "auto")] == (
        ["auto"] * 4
    )
    assert normal_response_format(TextFormat()) == TextFormat()


def test_tools_are_normalised() -> None:
    unset = FunctionTool(function=FunctionDefinition(name="a", strict=None))
    strict = FunctionTool(function=FunctionDefinition(name="b", strict=True))
    assert normal_tools([unset, strict, FileSearchTool(file_search=None), CODE]) == (
        [FUNCTION, strict, SEARCH, CODE]
    )
    nulls = FunctionDefinition(name="a", description=None, parameters=None)
    options = FileSearchOptions(
        max_num_results=None, ranking_options=RankingOptions(ranker=None, score_threshold=0.5)
    )
    found = msgspec.to_builtins(
        normal_tools([FunctionTool(function=nulls), FileSearchTool(file_search=options)])
    )
    assert found == [
        {"type": "function", "function": {"name": "a", "strict": False}},
        {"type": "file_search", "file_search": {"ranking_options": {"score_threshold": 0.5}}},
    ]
    assert normal_tools(None) == normal_tools(UNSET) == []
