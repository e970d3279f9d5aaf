"""What is learnt from refused parameters, over a real socket and from recorded texts."""

import msgspec
import pytest

from tests.model.asking import TOOL, ask, fail, refusal, stream, text
from tests.model.conftest import Rehearsal
from understudy import limits
from understudy.model.chat import ChatModel
from understudy.model.failures import read_error
from understudy.model.parameters import NEW_CAP, OLD_CAP, Lessons, refused_parameters
from understudy.wire.chat import ChatRequest


async def test_the_token_parameter_is_learnt(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "max_tokens"}, {"text": "Hi"})
    error = await fail(model, ask(max_completion_tokens=9))
    assert (error.learned, error.retryable, error.status) == (True, True, 400)
    await stream(model, ask(max_completion_tokens=9))
    first, second = (call["body"] for call in rehearsal.calls())
    assert (first["max_tokens"], second["max_completion_tokens"]) == (9, 9)
    assert "max_tokens" not in second


async def test_lessons_are_per_model(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "temperature"}, {"text": "Hi"}, model="a")
    assert (await fail(model, ask(temperature=0.5, model="a"))).learned
    await stream(model, ask(temperature=0.5, model="a"))
    await stream(model, ask(temperature=0.5, model="b"))
    bodies = [call["body"] for call in rehearsal.calls()]
    assert ["temperature" in body for body in bodies] == [True, False, True]


async def test_stream_options_are_learnt(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "stream_options"}, {"text": "Hi"})
    assert (await fail(model)).learned
    assert text(await stream(model)) == "Hi"


async def test_a_response_format_is_never_dropped(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "response_format"}, {"text": "Hi"})
    for _ in range(2):
        error = await fail(model, ask(response_format={"type": "json_object"}))
        assert (error.learned, error.retryable) == (False, False)
        assert "'response_format' is not supported" in error.message


async def test_strict_tools_are_learnt(model: ChatModel, rehearsal: Rehearsal) -> None:
    message = "Invalid JSON payload received. Unknown name \"strict\" at 'tools[0].function'"
    rehearsal.script({**refusal(400, message), "times": 1}, {"text": "Hi"})
    assert (await fail(model, ask(tools=[TOOL]))).learned
    await stream(model, ask(tools=[TOOL]))
    functions = [call["body"]["tools"][0]["function"] for call in rehearsal.calls()]
    assert ["strict" in function for function in functions] == [True, False]


# Recorded texts.

FULL = ask(
    stream_options={"include_usage": True},
    parallel_tool_calls=True,
    reasoning_effort="low",
    temperature=0.5,
    top_p=0.5,
    max_completion_tokens=9,
    tools=[TOOL],
)


def refused(message: str, sent: ChatRequest = FULL, **error: object) -> set[str]:
    """What an error in OpenAI's envelope refuses."""
    found = read_error(msgspec.json.encode({"error": {"message": message, **error}}))
    assert found is not None
    return set(refused_parameters(sent, found))


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("Unrecognized request argument supplied: parallel_tool_calls", {"parallel_tool_calls"}),
        (
            "Unrecognized request arguments supplied: parallel_tool_calls, stream_options",
            {"parallel_tool_calls", "stream_options"},
        ),
        (
            "Unsupported value: 'temperature' does not support 0.5 with this model. "
            "Only the default (1) value is supported.",
            {"temperature"},
        ),
        (
            "Unsupported parameter: 'max_completion_tokens' is not supported with this model. "
            "Use 'max_tokens' instead.",
            {"max_completion_tokens"},
        ),
        ("property 'stream_options' is unsupported", {"stream_options"}),
        ("json: unknown field `parallel_tool_calls`", {"parallel_tool_calls"}),
        ("Model grok does not support parameter reasoningEffort.", {"reasoning_effort"}),
        ('"gemma" does not support thinking', {"reasoning_effort"}),
        ("1 validation error\ntop_p\n  Extra inputs are not permitted", {"top_p"}),
        ("Invalid 'temperature': decimal above maximum value. Expected a value <= 2", set()),
        ("Your message about temperature is fine", set()),
        ("max_tokens is too large: this model supports at most 4096 completion tokens", set()),
        ("'response_format' of type json_schema is not supported, nor is temperature", set()),
        ("gemma:2b does not support tools", set()),
    ],
)
def test_refusals_are_understood(message: str, names: set[str]) -> None:
    assert refused(message) == names


def test_the_named_parameter_counts_more_than_the_text() -> None:
    text = "Unsupported parameter: 'top_p' is not supported when temperature is set."
    assert refused(text, param="top_p", code="unsupported_parameter") == {"top_p"}
    assert refused(text, param="messages[0].content") == set()


def test_only_what_was_sent_can_be_refused() -> None:
    assert refused("'temperature' is not supported", ask()) == set()


def test_a_cap_that_is_refused_under_both_names_is_not_dropped() -> None:
    lessons = Lessons(NEW_CAP)
    for name, is_learnt in ((NEW_CAP, True), (OLD_CAP, False)):
        sent = lessons.outgoing(ask(max_completion_tokens=9))
        found = read_error(f'{{"error": "{name} is not supported"}}'.encode())
        assert found is not None
        assert lessons.learn(sent, found) is is_learnt
    assert lessons.outgoing(ask(max_completion_tokens=9)).max_tokens == 9


def test_two_calls_can_learn_the_same_lesson() -> None:
    lessons = Lessons(OLD_CAP)
    sent = lessons.outgoing(ask(temperature=0.5))
    found = read_error(b'{"error": "temperature is not supported"}')
    assert found is not None
    assert lessons.learn(sent, found)
    assert lessons.learn(sent, found)


def test_what_needs_tools_is_not_sent_without_them() -> None:
    sent = Lessons(OLD_CAP).outgoing(ask(tools=[], tool_choice="auto", parallel_tool_calls=True))
    assert {sent.tools, sent.tool_choice, sent.parallel_tool_calls} == {msgspec.UNSET}


def test_lessons_are_bounded() -> None:
    lessons = Lessons(OLD_CAP)
    found = read_error(b'{"error": "temperature is not supported"}')
    assert found is not None
    for number in range(limits.MODELS_LEARNT + 10):
        lessons.learn(ask(temperature=0.5, model=f"m{number}"), found)
    assert lessons.outgoing(ask(temperature=0.5, model="m0")).temperature == 0.5
    assert lessons.outgoing(ask(temperature=0.5, model="m20")).temperature is msgspec.UNSET


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://corp.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:11434/v1", "max_tokens"),
    ],
)
async def test_the_first_name_of_the_cap_depends_on_the_host(url: str, name: str) -> None:
    sent = ChatModel(url)._lessons.outgoing(ask(max_completion_tokens=9))
    assert getattr(sent, name) == 9
