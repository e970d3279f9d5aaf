"""The rehearsal provider: what it says by itself, and the scripts it plays."""

import json
from typing import Any

import jsonschema_rs
import pytest

from tests.model.asking import ask, calls, fail, finish, stream, text, whole
from tests.model.conftest import Rehearsal
from understudy.model import Model, ModelError, open_model
from understudy.model.chat import ChatModel
from understudy.model.rehearsal import INTRODUCTION, vector
from understudy.model.samples import sample
from understudy.wire.chat import (
    ChatChunk,
    ChatFunction,
    ChatFunctionCall,
    ChatMessage,
    ChatRequest,
    ChatTool,
    ChatToolCall,
)

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
WEATHER = ChatTool(function=ChatFunction(name="get_weather", parameters=CITY))
NEWS = ChatTool(function=ChatFunction(name="get_news"))


@pytest.fixture(params=["http", "in process"])
async def either(request: pytest.FixtureRequest, model: ChatModel) -> Model:
    """The rehearsal model behind HTTP, and in the same process."""
    return model if request.param == "http" else open_model("rehearsal:")


async def listen(model: Model, request: ChatRequest) -> list[ChatChunk]:
    """Every chunk of an answer."""
    lists = [chunks async for chunks in model.stream(request, call_id="call_1")]
    return whole(chunk for chunks in lists for chunk in chunks)


def called(chunks: list[ChatChunk]) -> dict[str, Any]:
    """Function → its arguments, joined by index."""
    names: dict[int | None, str] = {}
    arguments: dict[int | None, str] = {}
    for call in calls(chunks):
        assert call.function is not None
        names.setdefault(call.index, call.function.name or "")
        arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    return {name: json.loads(arguments[index]) for index, name in names.items()}


def script(*turns: list[dict[str, Any]], **fields: Any) -> ChatRequest:
    """A request whose prompt is a script."""
    return ask(f"Please.\nrehearse: {json.dumps({'turns': turns})}\nThank you.", **fields)


async def test_it_says_what_it_is_and_echoes(either: Model) -> None:
    chunks = await listen(either, ask("What is 2+2?"))
    assert text(chunks) == f"{INTRODUCTION} You said: What is 2+2?"
    assert finish(chunks) == ["stop"]


async def test_it_calls_the_function_that_the_user_names(either: Model) -> None:
    chunks = await listen(
        either, ask('Please call get_weather with {"city": "Oslo"}.', tools=[NEWS, WEATHER])
    )
    assert called(chunks) == {"get_weather": {"city": "Oslo"}}
    assert finish(chunks) == ["tool_calls"]


async def test_it_makes_up_arguments_and_calls_several(either: Model) -> None:
    request = ask("call get_weather and call get_news", tools=[NEWS, WEATHER])
    assert called(await listen(either, request)) == {
        "get_weather": {"city": "text", "days": 2},
        "get_news": {},
    }


async def test_parallel_calls_can_be_forbidden(either: Model) -> None:
    request = ask(
        "call get_weather and call get_news", tools=[NEWS, WEATHER], parallel_tool_calls=False
    )
    assert list(called(await listen(either, request))) == ["get_weather"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "get_news"),
        ({"type": "function", "function": {"name": "get_weather"}}, "get_weather"),
    ],
)
async def test_a_forced_call_is_made(either: Model, choice: object, name: str) -> None:
    request = ask("Hello", tools=[NEWS, WEATHER], tool_choice=choice)
    assert list(called(await listen(either, request))) == [name]


async def test_functions_that_are_not_offered_or_allowed_are_not_called(either: Model) -> None:
    for request in (
        ask("call get_stocks", tools=[NEWS]),
        ask("call get_news", tools=[NEWS], tool_choice="none"),
        ask("call get_news"),
    ):
        assert calls(await listen(either, request)) == []


async def test_it_repeats_what_tools_answered(either: Model) -> None:
    call = ChatToolCall(id="1", function=ChatFunctionCall(name="get_news", arguments="{}"))
    request = ChatRequest(
        model="m",
        messages=[
            ChatMessage(role="user", content="call get_news"),
            ChatMessage(role="assistant", tool_calls=[call]),
            ChatMessage(role="tool", tool_call_id="1", content="Rain."),
        ],
        tools=[NEWS],
        tool_choice="required",
    )
    assert text(await listen(either, request)) == "The get_news call answered: Rain."


async def test_it_obeys_a_json_schema(either: Model) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": CITY}}
    answer = text(await listen(either, ask("Hi", response_format=wanted)))
    jsonschema_rs.validate(CITY, json.loads(answer))


async def test_it_obeys_json_object(either: Model) -> None:
    answer = text(await listen(either, ask("Hi", response_format={"type": "json_object"})))
    assert isinstance(json.loads(answer), dict)


async def test_it_stops_at_the_token_limit(either: Model) -> None:
    chunks = await listen(either, ask("one two three", max_completion_tokens=5))
    assert len(text(chunks).split()) == 5
    assert finish(chunks) == ["length"]
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [5]


async def test_it_counts_words(either: Model) -> None:
    chunks = await listen(either, script([{"text": "two words"}]))
    [usage] = [chunk.usage for chunk in chunks if chunk.usage]
    assert usage.completion_tokens == 2
    assert usage.prompt_tokens is not None
    assert usage.prompt_tokens > 5


# Scripts.


async def test_a_script_in_the_prompt_is_played_turn_by_turn(either: Model) -> None:
    request = script([{"call": {"name": "f"}}], [{"text": "Done."}])
    assert list(called(await listen(either, request))) == ["f"]
    call = ChatToolCall(id="1", function=ChatFunctionCall(name="f", arguments="{}"))
    later = [
        *request.messages,
        ChatMessage(role="assistant", tool_calls=[call]),
        ChatMessage(role="tool", tool_call_id="1", content="out"),
    ]
    assert text(await listen(either, ChatRequest(model="m", messages=later))) == "Done."
    over = [*later, ChatMessage(role="assistant", content="Done."), later[-1]]
    assert "answered: out" in text(await listen(either, ChatRequest(model="m", messages=over)))


async def test_a_script_may_be_in_the_instructions(either: Model) -> None:
    system = ChatMessage(role="system", content='rehearse: {"steps": [{"text": "Aye."}]}')
    user = ChatMessage(role="user", content="Hello")
    request = ChatRequest(model="m", messages=[system, user])
    assert text(await listen(either, request)) == "Aye."


async def test_words_are_counted_out(either: Model) -> None:
    assert text(await listen(either, script([{"words": 3, "every_ms": 1}]))) == "word1 word2 word3"


async def test_finish_and_usage_can_be_set(either: Model) -> None:
    chunks = await listen(
        either,
        script([{"usage": {"prompt_tokens": 7, "completion_tokens": 9}}, {"finish": "length"}]),
    )
    assert finish(chunks) == ["length"]
    assert [c.usage.prompt_tokens for c in chunks if c.usage] == [7]


async def test_a_refusal_is_no_content(either: Model) -> None:
    chunks = await listen(either, script([{"refusal": "I cannot."}]))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices or ()]
    assert "".join(delta.refusal or "" for delta in deltas if delta) == "I cannot."


async def test_a_status_can_be_played_some_times_only(either: Model) -> None:
    body = {"error": {"message": "Please try again in 2s."}}
    request = script([{"status": 429, "body": body, "times": 1}, {"text": "Hi"}])
    with pytest.raises(ModelError) as caught:
        await listen(either, request)
    assert (caught.value.code, caught.value.retry_after_s) == ("rate_limit_exceeded", 2.0)
    assert text(await listen(either, request)) == "Hi"


async def test_a_late_status_is_an_error_in_the_stream(either: Model) -> None:
    body = {"error": {"message": "slow down", "code": 429}}
    with pytest.raises(ModelError) as caught:
        await listen(
            either, script([{"text": "Hi"}, {"delay_ms": 50}, {"status": 429, "body": body}])
        )
    assert (caught.value.code, caught.value.retryable) == ("rate_limit_exceeded", False)


@pytest.mark.parametrize(
    "steps",
    [[{"drop": True}], [{"text": "x"}, {"drop": True}], [{"html": True}], [{"eof": True}]],
)
async def test_failures_can_be_played(either: Model, steps: list[dict[str, Any]]) -> None:
    with pytest.raises(ModelError):
        await listen(either, script(steps))


async def test_a_script_that_cannot_be_played_is_refused(either: Model) -> None:
    for bad in ('{"steps": [{"sing": "la"}]}', "oops"):
        with pytest.raises(ModelError, match=r"script|JSON") as caught:
            await listen(either, ask(f"rehearse: {bad}"))
        assert caught.value.status == 400


async def test_a_script_can_be_set_by_model(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"text": "For a."}, model="a")
    rehearsal.script({"text": "For all."})
    assert text(await stream(model, ask(model="a"))) == "For a."
    assert text(await stream(model, ask(model="b"))) == "For all."
    rehearsal.reset()
    assert "rehearsal model" in text(await stream(model, ask(model="a")))


async def test_calls_are_listed_with_how_they_ended(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"status": 418}, model="a")
    await fail(model, ask(model="a"))
    await stream(model)
    found = [(c["number"], c["model"], c["status"], c["left_early"]) for c in rehearsal.calls()]
    assert found == [(1, "a", 418, False), (2, "m", 200, False)]


def test_it_answers_in_one_piece_when_not_asked_to_stream(rehearsal: Rehearsal) -> None:
    rehearsal.script({"text": "Hi you"}, {"call": {"name": "f", "id": "1", "arguments": {"x": 1}}})
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    answer = rehearsal.post("/v1/chat/completions", body).json()
    message = answer["choices"][0]["message"]
    assert (answer["object"], message["content"]) == ("chat.completion", "Hi you")
    assert message["tool_calls"] == [
        {"type": "function", "id": "1", "function": {"name": "f", "arguments": '{"x":1}'}}
    ]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_a_body_that_is_no_object_is_refused(rehearsal: Rehearsal) -> None:
    assert rehearsal.post("/v1/chat/completions", [1]).status_code == 400
    assert rehearsal.post("/rehearsal/script", {"script": {"x": 1}}).status_code == 400


# Its parts.


@pytest.mark.parametrize(
    "schema",
    [
        CITY,
        {"type": "string", "minLength": 10},
        {"type": "string", "maxLength": 2},
        {"enum": ["b", "a"]},
        {"type": ["null", "integer"], "maximum": -5},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
        {"type": "number", "exclusiveMinimum": 3},
        {"anyOf": [{"const": 7}, {"type": "null"}]},
        {"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}, CITY]},
        {"properties": {"at": {"type": "string", "format": "date-time"}}, "required": ["at"]},
        {
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                    "required": ["next"],
                }
            },
            "$ref": "#/$defs/node",
        },
    ],
)
def test_samples_match_their_schema(schema: dict[str, Any]) -> None:
    jsonschema_rs.validate(schema, sample(schema))


def test_texts_that_share_words_are_near_each_other() -> None:
    def nearness(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(vector(one), vector(other), strict=True))

    near = nearness("the cat sat on the mat", "the cat lay on the mat")
    assert near > nearness("the cat sat on the mat", "stocks fell sharply today")
    assert nearness("same words", "Same, words!") == pytest.approx(1.0)
