"""Runs that call functions: rounds, outputs, odd providers (SPEC 8.2, 8.4, 10.3)."""

from typing import Any

import openai
import pytest

from tests.api.conversation import (
    SILENCE,
    Json,
    Talk,
    call,
    call_ids,
    calls_of,
    error_of,
    function,
    names,
    path_of,
    text,
)

TOOLS = [function("f"), function("g")]


def waiting(talk: Talk, *steps: Json, **fields: Any) -> Json:
    """A run that waits for the outputs of the calls that these steps make, then says done."""
    talk.plays(steps, [text("done")])
    assistant = talk.assistant(tools=TOOLS)
    run = talk.rested(talk.start(assistant, talk.thread("hi"), **fields))
    assert run["status"] == "requires_action", run["last_error"]
    return run


def made(run: Json) -> list[tuple[str, str]]:
    """The name and arguments of the calls that a run waits for."""
    return [(one["function"]["name"], one["function"]["arguments"]) for one in calls_of(run)]


@pytest.mark.assertion(111, 84)
def test_a_function_call_waits_for_its_client(talk: Talk) -> None:
    run = waiting(talk, call("f", {"city": "Oslo"}))
    (one,) = calls_of(run)
    assert run["required_action"] == {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {
            "tool_calls": [
                {
                    "id": one["id"],
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"city":"Oslo"}'},
                }
            ]
        },
    }
    assert one["id"].startswith("call_")
    assert (run["usage"], run["completed_at"]) == (None, None)
    message = {"role": "user", "content": "more"}
    error = error_of(talk.http.post(f"/threads/{run['thread_id']}/messages", json=message))
    assert error["message"] == (
        f"Can't add messages to {run['thread_id']} while a run {run['id']} is active."
    )


@pytest.mark.assertion(112, 116)
def test_outputs_let_the_run_go_on(talk: Talk, sdk: openai.OpenAI) -> None:
    run = waiting(talk, call("f", {"a": 1}), call("g"))
    (before,) = talk.steps(run)
    assert before["status"] == "in_progress"
    assert [one["function"]["output"] for one in before["step_details"]["tool_calls"]] == [None] * 2
    first, second = call_ids(run)
    submitted = sdk.beta.threads.runs.submit_tool_outputs(
        run["id"],
        thread_id=run["thread_id"],
        tool_outputs=[  # In any order.
            {"tool_call_id": second, "output": "two"},
            {"tool_call_id": first, "output": "one"},
        ],
    )
    assert (submitted.status, submitted.required_action) == ("queued", None)
    assert talk.rested(run)["status"] == "completed"
    step = talk.steps(run)[0]
    assert (step["id"], step["status"]) == (before["id"], "completed")
    calls = step["step_details"]["tool_calls"]
    assert [one["function"]["output"] for one in calls] == ["one", "two"]
    assert talk.texts(run["thread_id"]) == ["hi", "done"]
    answers = [one for one in talk.asked()[1]["messages"] if one["role"] == "tool"]
    assert answers == [
        {"role": "tool", "content": "one", "tool_call_id": first},
        {"role": "tool", "content": "two", "tool_call_id": second},
    ]


@pytest.mark.assertion(113)
def test_all_outputs_come_at_once(talk: Talk, sdk: openai.OpenAI) -> None:
    run = waiting(talk, call("f"), call("g"))
    first, second = call_ids(run)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.beta.threads.runs.submit_tool_outputs(
            run["id"],
            thread_id=run["thread_id"],
            tool_outputs=[{"tool_call_id": first, "output": "one"}],
        )
    assert refused.value.body == {
        "message": f"Expected tool outputs for call_ids ['{first}', '{second}'], got ['{first}']",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    for ids in ([], [first, second, "call_other"], [first, first], [first, second, second]):
        outputs = [{"tool_call_id": id, "output": "x"} for id in ids]
        error = error_of(
            talk.http.post(f"{path_of(run)}/submit_tool_outputs", json={"tool_outputs": outputs})
        )
        assert error["message"].startswith("Expected tool outputs for call_ids ["), ids
    assert talk.again(run) == run
    assert talk.submit(run, "one", "two").status_code == 200


@pytest.mark.assertion(114)
def test_a_run_that_is_over_takes_no_outputs(talk: Talk) -> None:
    run = waiting(talk, call("f"))
    assert talk.submit(run, "one").status_code == 200
    talk.rested(run)
    error = error_of(talk.submit(run, "one"))
    assert error["message"] == 'Runs in status "completed" do not accept tool outputs.'
    error = error_of(talk.submit(run, "one", stream=True))
    assert error["message"] == 'Runs in status "completed" do not accept tool outputs.'


def test_a_missing_output_is_an_empty_one(talk: Talk) -> None:
    run = waiting(talk, call("f"), call("g"))
    first, second = call_ids(run)
    outputs = [{"tool_call_id": first}, {"tool_call_id": second, "output": None}]
    talk.ok(f"{path_of(run)}/submit_tool_outputs", {"tool_outputs": outputs})
    assert talk.rested(run)["status"] == "completed"
    details = talk.steps(run)[0]["step_details"]["tool_calls"]
    assert [one["function"]["output"] for one in details] == ["", ""]


def test_an_output_is_text(talk: Talk) -> None:
    run = waiting(talk, call("f"))
    outputs = [{"tool_call_id": call_ids(run)[0], "output": {"a": 1}}]
    path = f"{path_of(run)}/submit_tool_outputs"
    error = error_of(talk.http.post(path, json={"tool_outputs": outputs}))
    assert (error["param"], error["code"]) == ("tool_outputs[0].output", "invalid_type")
    assert talk.again(run) == run


@pytest.mark.assertion(117)
def test_a_run_may_need_its_client_twice(talk: Talk) -> None:
    talk.plays([call("f")], [call("g"), call("f")], [text("done")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    first = call_ids(run)
    assert talk.submit(run, "1").json()["expires_at"] == run["expires_at"]
    again = talk.rested(run)
    assert (again["status"], again["expires_at"]) == ("requires_action", run["expires_at"])
    assert not set(first) & set(call_ids(again))
    talk.submit(again, "2", "3")
    assert talk.rested(run)["status"] == "completed"
    assert [step["type"] for step in talk.steps(run)] == [
        "tool_calls",
        "tool_calls",
        "message_creation",
    ]
    said = talk.asked()[2]["messages"]
    assert [one["role"] for one in said] == [
        *("user", "assistant", "tool"),
        *("assistant", "tool", "tool"),
    ]


@pytest.mark.assertion(97, 98)
def test_the_usage_of_a_run_is_that_of_its_steps(talk: Talk) -> None:
    def turn(prompt: int, completion: int) -> Json:
        sum = prompt + completion
        return {
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": sum,
            }
        }

    talk.plays(
        [text("let me see"), call("f"), turn(10, 5)],
        [call("g"), call("f"), turn(100, 7)],
        [text("done"), turn(1000, 11)],
    )
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    talk.submit(run, "1")
    run = talk.rested(run)
    talk.submit(run, "2", "3")
    run = talk.rested(run)
    assert run["usage"] == turn(1110, 23)["usage"]
    assert run["completed_at"] is not None
    assert (run["expires_at"], run["required_action"]) == (None, None)
    steps = talk.steps(run)
    assert len(steps) == 4
    for name, total in run["usage"].items():
        assert sum(step["usage"][name] for step in steps) == total


def test_usage_is_counted_where_the_provider_has_none(talk: Talk) -> None:
    talk.plays([text("one two three"), {"usage": None}])
    run = talk.ran("hello there")
    assert run["usage"]["completion_tokens"] == 3
    assert run["usage"]["prompt_tokens"] > 0
    assert talk.steps(run)[0]["usage"] == run["usage"]


@pytest.mark.assertion(110)
def test_without_parallel_calls_one_call_waits(talk: Talk) -> None:
    run = waiting(talk, call("f", {"a": 1}), call("g"), parallel_tool_calls=False)
    assert made(run) == [("f", '{"a":1}')]
    assert talk.asked()[0]["parallel_tool_calls"] is False
    assert len(talk.steps(run)[0]["step_details"]["tool_calls"]) == 1
    talk.submit(run, "1")
    assert talk.rested(run)["status"] == "completed"


@pytest.mark.assertion(108)
def test_no_tools_are_offered_when_none_may_be_used(talk: Talk) -> None:
    run = talk.start(talk.assistant(tools=TOOLS), talk.thread("call f"), tool_choice="none")
    assert talk.rested(run)["status"] == "completed"
    (asked,) = talk.asked()
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(asked)


@pytest.mark.assertion(108)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "g"}}])
def test_a_choice_is_forced_in_the_first_turn_only(talk: Talk, choice: Any) -> None:
    run = waiting(talk, call("g"), tool_choice=choice)
    talk.submit(run, "1")
    assert talk.rested(run)["status"] == "completed"
    first, second = talk.asked()
    assert first["tool_choice"] == choice
    assert second.get("tool_choice", "auto") == "auto"
    assert len(second["tools"]) == 2


@pytest.mark.assertion(135)
def test_arguments_pass_through_as_they_are(talk: Talk) -> None:
    odd = '{"a": 1,\n  "b": NaN, "c": "\\ud83d\\ude00 \u00e4" '
    run = waiting(talk, call("f", odd))
    assert made(run) == [("f", odd)]
    talk.submit(run, "1")
    talk.rested(run)
    said = talk.asked()[1]["messages"][1]
    assert said["tool_calls"][0]["function"]["arguments"] == odd


def test_a_function_that_does_not_exist_is_told_to_the_model(talk: Talk) -> None:
    talk.plays([call("unknown", {"a": 1})], [text("sorry")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    assert run["status"] == "completed"
    assert talk.texts(run["thread_id"]) == ["hi", "sorry"]
    *_, said, answer = talk.asked()[1]["messages"]
    assert said["tool_calls"][0]["function"]["name"] == "unknown"
    assert answer["role"] == "tool"
    assert "no function named 'unknown'" in answer["content"]


def test_a_known_function_beside_an_unknown_one_waits_alone(talk: Talk) -> None:
    run = waiting(talk, call("unknown"), call("f"))
    assert made(run) == [("f", "{}")]
    talk.submit(run, "1")
    assert talk.rested(run)["status"] == "completed"
    *_, said, unknown, known = talk.asked()[1]["messages"]
    assert [one["id"] for one in said["tool_calls"]] == [
        unknown["tool_call_id"],
        known["tool_call_id"],
    ]
    assert known["content"] == "1"


def test_the_parallel_wrapper_does_not_leak(talk: Talk) -> None:
    uses = [
        {"recipient_name": "functions.f", "parameters": {"a": 1}},
        {"recipient_name": "functions.g", "parameters": {}},
    ]
    run = waiting(talk, call("multi_tool_use.parallel", {"tool_uses": uses}))
    assert made(run) == [("f", '{"a":1}'), ("g", "{}")]
    talk.submit(run, "1", "2")
    assert talk.rested(run)["status"] == "completed"
    assert "multi_tool_use" not in str(talk.steps(run)) + str(talk.asked()[1]["messages"])


def chunk(*fragments: Json) -> Json:
    """A script's step: a chunk with these fragments of calls."""
    return {"raw_chunk": {"choices": [{"index": 0, "delta": {"tool_calls": fragments}}]}}


def fragment(arguments: str, name: str | None = None, **fields: Any) -> Json:
    """A fragment of a call."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {**fields, "function": function}


@pytest.mark.parametrize(
    "chunks",
    [
        # A seen id is that call, whatever the index says.
        [
            chunk(fragment('{"a"', "f", id="x", index=0)),
            chunk(fragment("{}", "g", id="y", index=1)),
            chunk(fragment(":1}", id="x", index=1)),
        ],
        # A new id is a new call, even on a used index.
        [
            chunk(fragment('{"a":1}', "f", id="x", index=0)),
            chunk(fragment("{}", "g", id="y", index=0)),
        ],
        # An index without id is the call at that index.
        [
            chunk(fragment("", "f", id="x", index=0), fragment("", "g", id="y", index=1)),
            chunk(fragment('{"a"', index=0), fragment("{", index=1)),
            chunk(fragment("}", index=1), fragment(":1}", index=0)),
        ],
        # Neither: the call that is being streamed.
        [
            chunk(fragment('{"a"', "f", id="x")),
            chunk(fragment(":1}")),
            chunk(fragment("{}", "g", id="y")),
        ],
        # No ids at all.
        [
            chunk(fragment('{"a":1}', "f", index=0)),
            chunk(fragment("{", "g", index=1)),
            chunk(fragment("}", index=1)),
        ],
    ],
    ids=["seen id", "new id", "index", "neither", "no ids"],
)
def test_fragments_find_their_call(talk: Talk, chunks: list[Json]) -> None:
    talk.plays([*chunks, {"finish": "tool_calls"}], [text("done")])
    assistant = talk.assistant(tools=TOOLS)
    heard = talk.stream(assistant, talk.thread("hi"))
    run = heard[-2].data
    assert made(run) == [("f", '{"a":1}'), ("g", "{}")]
    assert len(set(call_ids(run))) == 2
    deltas = [one.data["delta"] for one in heard if one.name == "thread.run.step.delta"]
    calls = [one for delta in deltas for one in delta["step_details"]["tool_calls"]]
    assert [one["index"] for one in calls] == sorted(one["index"] for one in calls)
    told = {0: "", 1: ""}
    for one in calls:
        told[one["index"]] += one["function"].get("arguments", "")
    assert told == {0: '{"a":1}', 1: "{}"}
    talk.submit(run, "1", "2")
    assert talk.rested(run)["status"] == "completed"


def test_ids_that_a_provider_repeats_are_ours_and_new(talk: Talk) -> None:
    talk.plays([call("f", id="call_1")], [call("f", id="call_1")], [text("done")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    (first,) = call_ids(run)
    talk.submit(run, "1")
    run = talk.rested(run)
    (second,) = call_ids(run)
    assert "call_1" not in (first, second)
    assert first != second
    talk.submit(run, "2")
    assert talk.rested(run)["status"] == "completed"


def test_a_providers_extra_content_comes_back_to_it(talk: Talk) -> None:
    extra = {"google": {"thought_signature": "abc"}}
    run = waiting(talk, call("f", extra_content=extra))
    assert "thought_signature" not in str(run) + str(talk.steps(run))
    talk.submit(run, "1")
    talk.rested(run)
    said = talk.asked()[1]["messages"][1]
    assert said["tool_calls"][0]["extra_content"] == extra


def test_text_before_calls_is_a_message_of_its_own(talk: Talk) -> None:
    run = waiting(talk, text("let me see"), call("f"))
    assert talk.texts(run["thread_id"]) == ["hi", "let me see"]
    assert [step["type"] for step in talk.steps(run)] == ["message_creation", "tool_calls"]
    talk.submit(run, "1")
    assert talk.rested(run)["status"] == "completed"
    said = talk.asked()[1]["messages"][1]
    assert said["content"] == "let me see"
    assert len(said["tool_calls"]) == 1
    assert talk.texts(run["thread_id"]) == ["hi", "let me see", "done"]


def test_a_stop_with_calls_is_a_call_turn(talk: Talk) -> None:
    assert made(waiting(talk, call("f"), {"finish": "stop"})) == [("f", "{}")]


def test_reasoning_is_nobodys_text(talk: Talk) -> None:
    talk.plays([{"reasoning": "secret thoughts"}, text("the answer")])
    run = talk.ran("hi")
    assert talk.texts(run["thread_id"]) == ["hi", "the answer"]
    assert "secret" not in str(names(talk.replay(run))) + str(talk.replay(run))


def test_a_cancelled_call_leaves_a_thread_that_providers_accept(talk: Talk) -> None:
    run = waiting(talk, text("let me see"), call("f"))
    assert talk.cancel(run).status_code == 200
    assert talk.again(run)["status"] == "cancelled"
    talk.ok(f"/threads/{run['thread_id']}/messages", {"role": "user", "content": "again"})
    talk.plays([text("fine")])
    assert talk.rested(talk.start(run["assistant_id"], run["thread_id"]))["status"] == "completed"
    said = talk.asked()[-1]["messages"]
    assert [(one["role"], one["content"]) for one in said] == [
        ("user", "hi"),
        ("assistant", "let me see"),
        ("user", "again"),
    ]
    assert not any("tool_calls" in one for one in said)


def test_outputs_may_be_large_but_not_endless(talk: Talk) -> None:
    run = waiting(talk, call("f"))
    error = error_of(talk.submit(run, "x" * 524_289))
    assert (error["param"], error["code"]) == ("tool_outputs[0].output", "string_above_max_length")
    assert talk.again(run) == run
    assert talk.submit(run, "x" * 524_288).status_code == 200
    assert talk.rested(run)["status"] == "completed"


def test_a_cancelled_run_takes_no_outputs(talk: Talk) -> None:
    run = waiting(talk, call("f"))
    talk.cancel(run)
    error = error_of(talk.submit(run, "1"))
    assert error["message"] == 'Runs in status "cancelled" do not accept tool outputs.'


def test_a_run_that_works_takes_no_outputs(talk: Talk) -> None:
    talk.plays([SILENCE])
    run = talk.start(talk.assistant(tools=TOOLS), talk.thread("hi"))
    talk.once(run, lambda now: now["status"] == "in_progress")
    outputs = {"tool_outputs": [{"tool_call_id": "call_1", "output": "x"}]}
    error = error_of(talk.http.post(f"{path_of(run)}/submit_tool_outputs", json=outputs))
    assert error["message"] == 'Runs in status "in_progress" do not accept tool outputs.'
