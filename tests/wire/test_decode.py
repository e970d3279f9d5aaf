"""Bodies: what is decoded, and the exact words for what is not (SPEC sections 3 and 6)."""

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from tests.wire.bodies import ANYTHING, BODIES, nearly
from understudy import limits
from understudy.errors import ApiError
from understudy.wire.assistants import CreateAssistant, ModifyAssistant
from understudy.wire.base import Body, ModifyMetadata
from understudy.wire.decode import check, decode
from understudy.wire.messages import CreateMessage
from understudy.wire.models import CreateEmbedding
from understudy.wire.runs import CreateRun, CreateThreadAndRun, SubmitToolOutputs
from understudy.wire.threads import CreateThread

Json = dict[str, Any]


def refused(body: Json | bytes, type: type[Body]) -> ApiError:
    """The error for a body that must be refused."""
    with pytest.raises(ApiError) as caught:
        decode(body if isinstance(body, bytes) else json.dumps(body).encode(), type)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    return caught.value


def function(**definition: Any) -> Json:
    return {"type": "function", "function": definition}


def assistant(**fields: Any) -> Json:
    return {"model": "m", **fields}


def search(**options: Any) -> Json:
    return assistant(tools=[{"type": "file_search", "file_search": options}])


def message(**fields: Any) -> Json:
    return {"role": "user", "content": "Hi", **fields}


def run(**fields: Any) -> Json:
    return {"assistant_id": "asst_1", **fields}


TOO_LONG = "string too long. Expected a string with maximum length"
TAGS = "Supported values are: 'code_interpreter', 'function', and 'file_search'."

# Body, type, param, code, message.
VIOLATIONS: list[tuple[Json, type[Body], str, str, str]] = [
    # Unknown and missing.
    ({}, CreateRun, "assistant_id", "missing_required_parameter",
     "Missing required parameter: 'assistant_id'."),
    (assistant(foo=1), CreateAssistant, "foo", "unknown_parameter", "Unknown parameter: 'foo'."),
    (assistant(file_ids=[]), CreateAssistant, "file_ids", "unknown_parameter",
     "Unknown parameter: 'file_ids'."),
    (run(thread={"foo": 1}), CreateThreadAndRun, "thread.foo", "unknown_parameter",
     "Unknown parameter: 'thread.foo'."),
    (run(thread={"user": 1}), CreateThreadAndRun, "thread.user", "unknown_parameter",
     "Unknown parameter: 'thread.user'."),
    (assistant(tools=[{"type": "code_interpreter", "foo": 1}]), CreateAssistant, "tools[0].foo",
     "unknown_parameter", "Unknown parameter: 'tools[0].foo'."),
    (assistant(tools=[{}]), CreateAssistant, "tools[0].type", "missing_required_parameter",
     "Missing required parameter: 'tools[0].type'."),
    (assistant(tools=[function()]), CreateAssistant, "tools[0].function.name",
     "missing_required_parameter", "Missing required parameter: 'tools[0].function.name'."),
    (search(ranking_options={}), CreateAssistant,
     "tools[0].file_search.ranking_options.score_threshold", "missing_required_parameter",
     "Missing required parameter: 'tools[0].file_search.ranking_options.score_threshold'."),
    # Types.
    (assistant(tools="x"), CreateAssistant, "tools", "invalid_type",
     "Invalid type for 'tools': expected an array of objects, but got a string instead."),
    (assistant(tools=["x"]), CreateAssistant, "tools[0]", "invalid_type",
     "Invalid type for 'tools[0]': expected an object, but got a string instead."),
    (assistant(tools=[{"type": 5}]), CreateAssistant, "tools[0].type", "invalid_type",
     "Invalid type for 'tools[0].type': expected a string, but got an integer instead."),
    (assistant(temperature="1"), CreateAssistant, "temperature", "invalid_type",
     "Invalid type for 'temperature': expected a decimal, but got a string instead."),
    (assistant(temperature=True), CreateAssistant, "temperature", "invalid_type",
     "Invalid type for 'temperature': expected a decimal, but got a boolean instead."),
    (assistant(metadata={"k": 1}), CreateAssistant, "metadata.k", "invalid_type",
     "Invalid type for 'metadata.k': expected a string, but got an integer instead."),
    (assistant(metadata={"k": None}), CreateAssistant, "metadata.k", "invalid_type",
     "Invalid type for 'metadata.k': expected a string, but got null instead."),
    (assistant(metadata=[]), CreateAssistant, "metadata", "invalid_type",
     "Invalid type for 'metadata': expected an object, but got an array instead."),
    ({"model": None}, ModifyAssistant, "model", "invalid_type",
     "Invalid type for 'model': expected a string, but got null instead."),
    (assistant(response_format=5), CreateAssistant, "response_format", "invalid_type",
     "Invalid type for 'response_format': expected one of a string or object, "
     "but got an integer instead."),
    (message(content=5), CreateMessage, "content", "invalid_type",
     "Invalid type for 'content': expected one of a string or array of objects, "
     "but got an integer instead."),
    (message(role={}), CreateMessage, "role", "invalid_type",
     "Invalid type for 'role': expected a string, but got an object instead."),
    (run(max_prompt_tokens=256.0), CreateRun, "max_prompt_tokens", "invalid_type",
     "Invalid type for 'max_prompt_tokens': expected an integer, but got a decimal instead."),
    (run(max_prompt_tokens=True), CreateRun, "max_prompt_tokens", "invalid_type",
     "Invalid type for 'max_prompt_tokens': expected an integer, but got a boolean instead."),
    (run(stream="true"), CreateRun, "stream", "invalid_type",
     "Invalid type for 'stream': expected a boolean, but got a string instead."),
    (assistant(tool_resources={"code_interpreter": {"file_ids": "f"}}), CreateAssistant,
     "tool_resources.code_interpreter.file_ids", "invalid_type",
     "Invalid type for 'tool_resources.code_interpreter.file_ids': expected an array of strings, "
     "but got a string instead."),
    ({"input": {}}, CreateEmbedding, "input", "invalid_type",
     "Invalid type for 'input': expected one of a string or array, but got an object instead."),
    ({"input": [["x"]]}, CreateEmbedding, "input[0][0]", "invalid_type",
     "Invalid type for 'input[0][0]': expected an integer, but got a string instead."),
    # Values.
    (assistant(tools=[{"type": "retrieval"}]), CreateAssistant, "tools[0].type", "invalid_value",
     f"Invalid value: 'retrieval'. {TAGS}"),
    (message(role="system"), CreateMessage, "role", "invalid_value",
     "Invalid value: 'system'. Supported values are: 'user' and 'assistant'."),
    (assistant(response_format="json"), CreateAssistant, "response_format", "invalid_value",
     "Invalid value: 'json'. Supported values are: 'auto' and 'none'."),
    (assistant(response_format={"type": "x"}), CreateAssistant, "response_format.type",
     "invalid_value",
     "Invalid value: 'x'. Supported values are: 'text', 'json_object', and 'json_schema'."),
    (assistant(reasoning_effort="ultra"), CreateAssistant, "reasoning_effort", "invalid_value",
     "Invalid value: 'ultra'. Supported values are: 'none', 'minimal', 'low', 'medium', 'high', "
     "'xhigh', and 'max'."),
    (run(tool_choice="x"), CreateRun, "tool_choice", "invalid_value",
     "Invalid value: 'x'. Supported values are: 'none', 'auto', and 'required'."),
    (assistant(tools=[function(name="a b")]), CreateAssistant, "tools[0].function.name",
     "invalid_value",
     "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that "
     "matches the pattern '^[a-zA-Z0-9_-]+$'."),
    # Lengths.
    (message(content="é" * 256_001), CreateMessage, "content", "string_above_max_length",
     f"Invalid 'content': {TOO_LONG} 256000, but got a string with length 256001 instead."),
    (message(content=""), CreateMessage, "content", "empty_string",
     "Invalid 'content': empty string. Expected a string with minimum length 1, but got an empty "
     "string instead."),
    (message(content=[{"type": "text", "text": ""}]), CreateMessage, "content[0].text",
     "empty_string",
     "Invalid 'content[0].text': empty string. Expected a string with minimum length 1, but got "
     "an empty string instead."),
    (message(content=[]), CreateMessage, "content", "array_below_min_length",
     "Invalid 'content': array too short. Expected an array with minimum length 1, but got an "
     "empty array instead."),
    (run(thread={"messages": [message(), message(content="")]}), CreateThreadAndRun,
     "thread.messages[1].content", "empty_string",
     "Invalid 'thread.messages[1].content': empty string. Expected a string with minimum length "
     "1, but got an empty string instead."),
    (assistant(name="😀" * 257), CreateAssistant, "name", "string_above_max_length",
     f"Invalid 'name': {TOO_LONG} 256, but got a string with length 257 instead."),
    (assistant(description="d" * 513), CreateAssistant, "description", "string_above_max_length",
     f"Invalid 'description': {TOO_LONG} 512, but got a string with length 513 instead."),
    (assistant(instructions="i" * 256_001), CreateAssistant, "instructions",
     "string_above_max_length",
     f"Invalid 'instructions': {TOO_LONG} 256000, but got a string with length 256001 instead."),
    (assistant(tools=[function(name="a" * 65)]), CreateAssistant, "tools[0].function.name",
     "string_above_max_length",
     f"Invalid 'tools[0].function.name': {TOO_LONG} 64, but got a string with length 65 instead."),
    (message(attachments=[{"file_id": "f"}] * 12), CreateMessage, "attachments",
     "array_above_max_length",
     "Invalid 'attachments': array too long. Expected an array with maximum length 10, but got "
     "an array with length 12 instead."),
    (assistant(tools=[function(name="a")] * 129), CreateAssistant, "tools",
     "array_above_max_length",
     "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an "
     "array with length 129 instead."),
    (run(tools=[function(name="a")] * 21), CreateRun, "tools", "array_above_max_length",
     "Invalid 'tools': array too long. Expected an array with maximum length 20, but got an "
     "array with length 21 instead."),
    (assistant(tool_resources={"code_interpreter": {"file_ids": ["f"] * 21}}), CreateAssistant,
     "tool_resources.code_interpreter.file_ids", "array_above_max_length",
     "Invalid 'tool_resources.code_interpreter.file_ids': array too long. Expected an array with "
     "maximum length 20, but got an array with length 21 instead."),
    ({"metadata": {f"k{i}": "" for i in range(17)}}, ModifyMetadata, "metadata",
     "object_above_max_properties",
     "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
     "but got an object with 17 properties instead."),
    ({"metadata": {"k" * 65: ""}}, ModifyMetadata, "metadata", "property_name_above_max_length",
     f"Invalid property name in 'metadata': '{'k' * 65}' is too long. Expected a string with "
     "maximum length 64, but got a string with length 65 instead."),
    ({"metadata": {"k": "v" * 600}}, ModifyMetadata, "metadata.k", "string_above_max_length",
     f"Invalid 'metadata.k': {TOO_LONG} 512, but got a string with length 600 instead."),
    # Numbers.
    (assistant(temperature=3), CreateAssistant, "temperature", "decimal_above_max_value",
     "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 "
     "instead."),
    (assistant(top_p=-0.1), CreateAssistant, "top_p", "decimal_below_min_value",
     "Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -0.1 instead."),
    (search(max_num_results=51), CreateAssistant, "tools[0].file_search.max_num_results",
     "integer_above_max_value",
     "Invalid 'tools[0].file_search.max_num_results': integer above maximum value. Expected a "
     "value <= 50, but got 51 instead."),
    (run(max_completion_tokens=255), CreateRun, "max_completion_tokens",
     "integer_below_min_value",
     "Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 256, but "
     "got 255 instead."),
    (run(max_prompt_tokens=10**30), CreateRun, "max_prompt_tokens", "integer_above_max_value",
     "Invalid 'max_prompt_tokens': integer above maximum value. Expected a value <= 2147483647, "
     f"but got {10**30} instead."),
    (run(truncation_strategy={"type": "last_messages", "last_messages": 0}), CreateRun,
     "truncation_strategy.last_messages", "integer_below_min_value",
     "Invalid 'truncation_strategy.last_messages': integer below minimum value. Expected a value "
     ">= 1, but got 0 instead."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "type", "param", "code", "text"),
    VIOLATIONS,
    ids=[f"{param}-{code}" for _, _, param, code, _ in VIOLATIONS],
)
def test_a_violation_has_its_exact_words(
    body: Json, type: type[Body], param: str, code: str, text: str
) -> None:
    error = refused(body, type)
    assert (error.param, error.code, error.message) == (param, code, text)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"   ", b"null", b"[]", b'"x"', b"5", b"{", b'{"model": "m"', b'{"model": "m"} x',
        b"{}{}", b"{'model': 'm'}", b'{"model": "m",}', b'{"model": NaN}', b'{"model": Infinity}',
        b'{"model": 01}', b'{"model": 1e999}', b'{"model": ' + b"1" * 5_000 + b"}",
        b'\xef\xbb\xbf{"model": "m"}', b'{"model": "\xff"}', b'{"model": "\xed\xa0\x80"}',
        b'{"model": "\\ud800"}', b'{"\\udc00": "m"}', b'{"model": "a\x00b"}',
        b'{"model": "a\nb"}', b'{"model": "\\x41"}', b"\x00", b"{" * 100_000, b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    error = refused(body, CreateAssistant)
    assert error.message.startswith("We could not parse the JSON body of your request.")
    assert (error.param, error.code) == (None, None)


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"{}"])
def test_a_body_that_may_be_absent_is_an_empty_object(body: bytes) -> None:
    assert decode(body, CreateThread, may_be_empty=True) == CreateThread()


def test_a_required_field_is_missing_from_an_absent_body() -> None:
    with pytest.raises(ApiError) as caught:
        decode(b"", CreateMessage, may_be_empty=True)
    assert caught.value.param == "role"


ORDERED: list[tuple[Json, type[Body], str]] = [
    ({"foo": 1, "tools": 5}, CreateAssistant, "foo"),  # Unknown before missing and type.
    ({"tools": 5}, CreateAssistant, "model"),  # Missing before type.
    ({"model": 5, "temperature": 3}, CreateAssistant, "model"),
    ({"model": "m", "temperature": 3, "top_p": "x"}, CreateAssistant, "top_p"),  # Before bounds.
    (assistant(tools=[{"type": "x"}], temperature=3), CreateAssistant, "temperature"),  # Level 1.
    (assistant(tools=[{"type": "code_interpreter"}, 5]), CreateAssistant, "tools[1]"),
    (assistant(metadata={"a": 1, "b" * 65: "x"}), CreateAssistant, "metadata"),
    (
        assistant(tools=[function(name="a", x=1)], response_format={"type": "x"}),
        CreateAssistant,
        "tools[0].function.x",  # Depth first, in field order.
    ),
]


@pytest.mark.parametrize(("body", "type", "param"), ORDERED)
def test_the_first_violation_is_told(body: Json, type: type[Body], param: str) -> None:
    assert refused(body, type).param == param


ACCEPTED: list[tuple[Json, type[Body]]] = [
    (assistant(name="😀" * 256, description="d" * 512), CreateAssistant),
    (assistant(instructions="i" * 256_000), CreateAssistant),
    (assistant(tools=[function(name="a" * 64, strict=None)] * 128), CreateAssistant),
    (assistant(temperature=0, top_p=1, metadata=None), CreateAssistant),
    (assistant(temperature=2, top_p=0.0, metadata={}), CreateAssistant),
    (assistant(name="\x00\x1f", reasoning_effort="xhigh"), CreateAssistant),
    (assistant(response_format="none"), CreateAssistant),
    (assistant(tools=[{"type": "file_search", "file_search": None}]), CreateAssistant),
    (search(max_num_results=None, ranking_options=None), CreateAssistant),
    (search(ranking_options={"ranker": "default-2024-08-21", "score_threshold": 0}),
     CreateAssistant),
    (search(ranking_options={"score_threshold": 1, "hybrid_search": None}), CreateAssistant),
    (search(ranking_options={"score_threshold": 1, "hybrid_search": {"a": 1}}), CreateAssistant),
    (message(content=" ", attachments=[{"file_id": "f", "tools": []}] * 10), CreateMessage),
    (message(content="c" * 256_000), CreateMessage),
    (run(max_prompt_tokens=256, stream=None, tool_choice={"type": "file_search"}), CreateRun),
    (run(thread=None, additional_instructions="x"), CreateThreadAndRun),
    ({"tool_outputs": [{}], "stream": True}, SubmitToolOutputs),
    ({"input": [1, 2], "user": "u"}, CreateEmbedding),
    ({"input": ["a", "b"], "encoding_format": "base64"}, CreateEmbedding),
    ({"input": [[1, 2], [3]], "dimensions": 8}, CreateEmbedding),
]  # fmt: skip


@pytest.mark.parametrize(("body", "type"), ACCEPTED)
def test_what_is_allowed_is_decoded(body: Json, type: type[Body]) -> None:
    decoded = decode(json.dumps(body).encode(), type)
    echoed = json.loads(msgspec.json.encode(decoded))
    assert {key: echoed[key] for key in body} == body


def test_keys_of_other_eras_are_dropped() -> None:
    extra = {"stream_options": {}, "user": "u", "store": True, "service_tier": "x", "extra_body": 1}
    body = json.dumps(assistant(**extra)).encode()
    assert decode(body, CreateAssistant) == CreateAssistant(model="m")
    with pytest.raises(ApiError) as caught:
        decode(body, CreateAssistant, ignore=frozenset())
    assert caught.value.param == "stream_options"


def test_a_body_with_ignored_keys_is_still_checked() -> None:
    assert refused(assistant(user="u", temperature=3), CreateAssistant).param == "temperature"


def test_the_last_of_a_repeated_key_counts() -> None:
    for body in (b'{"model": 5, "model": "m"}', b'{"model": "a", "model": "m"}'):
        assert decode(body, CreateAssistant) == CreateAssistant(model="m")
    assert refused(b'{"model": "m", "model": 5}', CreateAssistant).param == "model"


def nested(depth: int) -> bytes:
    """A body with this many levels; brackets and quotes inside strings do not count."""
    filler = '[{"\\"[{\\\\' * 50
    inner: Any = [filler, {filler: []}]
    for _ in range(depth - 8):
        inner = [inner]
    return json.dumps(assistant(tools=[function(name="a", parameters={"x": inner})])).encode()


def test_nesting_is_limited() -> None:
    assert decode(nested(limits.JSON_DEPTH), CreateAssistant).model == "m"
    deeper = nested(limits.JSON_DEPTH + 1)
    assert refused(deeper, CreateAssistant).message.startswith("We could not parse")
    with_ignored = deeper[:-1] + b', "user": 1}'
    assert refused(with_ignored, CreateAssistant).message.startswith("We could not parse")


def test_flat_bodies_may_be_long() -> None:
    body = json.dumps({"messages": [message() for _ in range(1_000)]}).encode()
    decoded = decode(body, CreateThread)
    assert isinstance(decoded.messages, list)
    assert len(decoded.messages) == 1_000


def test_free_json_keeps_what_it_was_given() -> None:
    parameters = {"type": "object", "maximum": 2**70, "x": [1.5, None, True, {"é\x00": "\n"}]}
    body = json.dumps(assistant(tools=[function(name="a", parameters=parameters)])).encode()
    echoed = json.loads(msgspec.json.encode(decode(body, CreateAssistant)))
    assert echoed["tools"][0]["function"]["parameters"] == parameters


def test_free_json_is_not_checked() -> None:
    parameters = {"a": 1, "b": [0.5], "c": {"d": -1, "k" * 65: ""}}
    body = assistant(tools=[function(name="a", parameters=parameters)], user="u")
    assert decode(json.dumps(body).encode(), CreateAssistant).model == "m"


def test_a_disagreement_of_walker_and_decoder_is_no_crash() -> None:
    class Odd(Body, frozen=True):
        """The walker knows nothing of multiples."""

        number: Annotated[int, Meta(multiple_of=2)]

    error = refused({"number": 3}, Odd)
    assert error.message == "Invalid request body: a value does not have the expected form."


def fits(value: Json, type: type[Body]) -> bool:
    """Whether msgspec takes it."""
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=type)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("type", BODIES, ids=lambda body: body.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_walker_and_the_decoder_agree(type: type[Body], data: st.DataObject) -> None:
    value = data.draw(nearly(type))
    try:
        check(value, type)
    except ApiError as error:
        assert not fits(value, type), error.message
        assert refused(msgspec.json.encode(value), type).message == error.message
    else:
        assert fits(value, type)
        decoded = decode(msgspec.json.encode(value), type)
        assert msgspec.convert(value, type) == decoded


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(), ANYTHING.map(msgspec.json.encode)), st.sampled_from(BODIES))
def test_no_bytes_crash_the_decoder(body: bytes, type: type[Body]) -> None:
    try:
        decode(body, type, may_be_empty=True)
    except ApiError as error:
        assert error.status == 400
