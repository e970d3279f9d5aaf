"""Documented examples go through our types and come out the same.

The examples beside this file are our own. Where the specification lies next to the repository,
its golden objects are checked too, and what we emit is checked against the original's schema.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from understudy.errors import ApiError
from understudy.wire.assistants import Assistant
from understudy.wire.base import Deleted, ListOf, Wire
from understudy.wire.files import File
from understudy.wire.messages import (
    Message,
    MessageDelta,
    MessageDeltaBody,
    TextContentDelta,
    TextDelta,
)
from understudy.wire.models import EmbeddingList, Model, ModelList
from understudy.wire.runs import Run
from understudy.wire.steps import (
    CodeInterpreterCall,
    CodeInterpreterInput,
    Step,
    StepDelta,
    StepDeltaBody,
    ToolCallsDetails,
)
from understudy.wire.threads import Thread
from understudy.wire.uploads import Upload, UploadPart

Json = Any  # Examples are free JSON.

SPEC = Path(__file__).resolve().parents[3] / "shared" / "spec"
SCHEMAS = SPEC / "openapi-assistants.json"

# Schema of the original → our type. What is not here is not covered yet.
TYPES: dict[str, Any] = {
    "AssistantObject": Assistant,
    "DeleteAssistantResponse": Deleted,
    "DeleteThreadResponse": Deleted,
    "ThreadObject": Thread,
    "MessageObject": Message,
    "MessageDeltaObject": MessageDelta,
    "RunObject": Run,
    "RunStepObject": Step,
    "RunStepDeltaObject": StepDelta,
    "ListMessagesResponse": ListOf[Message],
    "ListRunsResponse": ListOf[Run],
    "OpenAIFile": File,
    "Upload": Upload,
    "UploadPart": UploadPart,
    "Model": Model,
    "ListModelsResponse": ModelList,
    "CreateEmbeddingResponse": EmbeddingList,
}

RUN_KEYS = [
    "id",
    "object",
    "created_at",
    "assistant_id",
    "thread_id",
    "status",
    "started_at",
    "expires_at",
    "cancelled_at",
    "failed_at",
    "completed_at",
    "required_action",
    "last_error",
    "model",
    "instructions",
    "tools",
    "tool_resources",
    "metadata",
    "temperature",
    "top_p",
    "reasoning_effort",
    "max_completion_tokens",
    "max_prompt_tokens",
    "truncation_strategy",
    "incomplete_details",
    "usage",
    "response_format",
    "tool_choice",
    "parallel_tool_calls",
]


def _examples() -> list[tuple[str, Json]]:
    """Schema name and object of every example that there is."""
    examples = json.loads(Path(__file__).with_name("examples.json").read_text())
    golden = SPEC / "golden.json"
    if golden.exists():
        examples += json.loads(golden.read_text())
    return [(example["schema"], example["object"]) for example in examples]


EXAMPLES = [(schema, object) for schema, object in _examples() if schema in TYPES]
IDS = [f"{schema}-{number}" for number, (schema, _) in enumerate(EXAMPLES)]


def round_trip(schema: str, object: Json) -> Json:
    """The object as we would send it, after reading it."""
    decoded = msgspec.json.decode(json.dumps(object).encode(), type=TYPES[schema])
    return json.loads(msgspec.json.encode(decoded))


@pytest.mark.parametrize(("schema", "object"), EXAMPLES, ids=IDS)
def test_an_example_comes_out_as_it_went_in(schema: str, object: Json) -> None:
    assert round_trip(schema, object) == object


def _nullable_ids(schemas: Json) -> Json:
    """The first waiver (SPEC appendix A): empty lists have null ids."""
    for schema in schemas.values():
        for name in ("first_id", "last_id"):
            if name in schema.get("properties", {}):
                schema["properties"][name] = {"type": ["string", "null"]}
    return schemas


@pytest.fixture(scope="module")
def schemas() -> Json:
    """The original's schemas."""
    if not SCHEMAS.exists():
        pytest.skip("the original's schema does not lie next to the repository")
    return _nullable_ids(json.loads(SCHEMAS.read_text())["components"]["schemas"])


@pytest.mark.parametrize(("schema", "object"), EXAMPLES, ids=IDS)
def test_an_example_fits_the_schema_of_the_original(
    schema: str, object: Json, schemas: Json
) -> None:
    validator = jsonschema_rs.validator_for(
        {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas}}
    )
    assert [error.message for error in validator.iter_errors(round_trip(schema, object))] == []


def test_a_run_is_sent_with_all_its_keys_in_the_original_order() -> None:
    for schema, object in EXAMPLES:
        if schema == "RunObject":
            assert list(round_trip(schema, object)) == RUN_KEYS


@pytest.mark.parametrize("type", [Assistant, Thread, Message, Run, Step])
def test_no_key_of_an_object_can_be_left_out(type: type[Wire]) -> None:
    fields = msgspec.structs.fields(type)
    assert [field.name for field in fields if field.default is msgspec.UNSET] == []
    assert [field.name for field in fields if not field.required] == ["object"]


def test_deltas_leave_out_what_is_not_new() -> None:
    text = MessageDelta(
        id="msg_1",
        delta=MessageDeltaBody(content=[TextContentDelta(index=0, text=TextDelta(value="Hi"))]),
    )
    assert json.loads(msgspec.json.encode(text)) == {
        "id": "msg_1",
        "object": "thread.message.delta",
        "delta": {"content": [{"type": "text", "index": 0, "text": {"value": "Hi"}}]},
    }
    code = CodeInterpreterCall(index=0, code_interpreter=CodeInterpreterInput(input="2+"))
    step = StepDelta(
        id="step_1", delta=StepDeltaBody(step_details=ToolCallsDetails(tool_calls=[code]))
    )
    call = {"type": "code_interpreter", "index": 0, "code_interpreter": {"input": "2+"}}
    assert json.loads(msgspec.json.encode(step)) == {
        "id": "step_1",
        "object": "thread.run.step.delta",
        "delta": {"step_details": {"type": "tool_calls", "tool_calls": [call]}},
    }


def test_an_error_is_sent_like_the_golden_one() -> None:
    assert ApiError.not_found("assistant", "asst_x").envelope() == {
        "error": {
            "message": "No assistant found with id 'asst_x'.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
