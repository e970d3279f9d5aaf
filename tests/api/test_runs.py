"""Runs: what creating one takes, gives and refuses (SPEC 7.4, assertions 90-102, 107-109, ...)."""

import re
from typing import Any

import httpx2
import openai
import pytest

from tests.api.conversation import SILENCE, Json, Talk, error_of, function, path_of, text

KEYS = [
    *("id", "object", "created_at", "assistant_id", "thread_id", "status", "started_at"),
    *("expires_at", "cancelled_at", "failed_at", "completed_at", "required_action", "last_error"),
    *("model", "instructions", "tools", "tool_resources", "metadata", "temperature", "top_p"),
    *("reasoning_effort", "max_completion_tokens", "max_prompt_tokens", "truncation_strategy"),
    *("incomplete_details", "usage", "response_format", "tool_choice", "parallel_tool_calls"),
]


def refused(talk: Talk, **fields: Any) -> Json:
    """The error of a run that cannot be created with these fields; nothing is left of it."""
    assistant, thread = talk.assistant(tools=[function("known")]), talk.thread("hi")
    body = {"assistant_id": assistant, **fields}
    error = error_of(talk.http.post(f"/threads/{thread}/runs", json=body))
    assert talk.get(f"/threads/{thread}/runs")["data"] == []
    return error


@pytest.mark.assertion(90, 91)
def test_a_new_run_is_queued_and_has_every_key(talk: Talk) -> None:
    assistant, thread = talk.assistant(), talk.thread("hi")
    run = talk.start(assistant, thread)
    assert list(run) == KEYS
    assert re.fullmatch(r"run_[A-Za-z0-9]{24}", run["id"])
    assert run == {
        **dict.fromkeys(KEYS),
        "id": run["id"],
        "object": "thread.run",
        "created_at": run["created_at"],
        "assistant_id": assistant,
        "thread_id": thread,
        "status": "queued",
        "expires_at": run["created_at"] + 600,
        "model": talk.model,
        "instructions": "",
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }


@pytest.mark.assertion(90, 91)
def test_the_sdk_reads_a_new_run(talk: Talk, sdk: openai.OpenAI) -> None:
    run = sdk.beta.threads.runs.create(thread_id=talk.thread("hi"), assistant_id=talk.assistant())
    assert (run.status, run.started_at, run.object) == ("queued", None, "thread.run")
    assert run.expires_at == run.created_at + 600
    assert run.instructions == ""


@pytest.mark.assertion(92)
def test_the_assistant_must_be_named(talk: Talk) -> None:
    thread = talk.thread()
    error = error_of(talk.http.post(f"/threads/{thread}/runs", json={}))
    assert error == {
        "message": "Missing required parameter: 'assistant_id'.",
        "type": "invalid_request_error",
        "param": "assistant_id",
        "code": "missing_required_parameter",
    }


@pytest.mark.assertion(93)
def test_the_assistant_must_exist(talk: Talk, sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"No assistant found with id 'asst_nobody'\."):
        sdk.beta.threads.runs.create(thread_id=talk.thread(), assistant_id="asst_nobody")


def test_the_thread_must_exist(talk: Talk) -> None:
    assistant = talk.assistant()
    attached = {"file_id": "file-nowhere", "tools": [{"type": "file_search"}]}
    message = {"role": "user", "content": "hi", "attachments": [attached]}
    for body in (
        {"assistant_id": assistant},
        {"assistant_id": assistant, "additional_messages": [message]},
        {"assistant_id": "asst_nobody"},
    ):
        error = error_of(talk.http.post("/threads/thread_nowhere/runs", json=body), 404)
        assert error["message"] == "No thread found with id 'thread_nowhere'."


@pytest.mark.assertion(94, 24)
def test_a_thread_has_one_active_run(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([SILENCE])
    assistant, thread = talk.assistant(), talk.thread("hi")
    run = talk.start(assistant, thread)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.beta.threads.runs.create(thread_id=thread, assistant_id=assistant)
    assert refused.value.body == {
        "message": f"Thread {thread} already has an active run {run['id']}.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.assertion(83, 84)
def test_no_message_is_added_while_a_run_is_active(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([SILENCE])
    thread = talk.thread("hi")
    run = talk.start(talk.assistant(), thread)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.beta.threads.messages.create(thread_id=thread, role="user", content="more")
    assert refused.value.body == {
        "message": f"Can't add messages to {thread} while a run {run['id']} is active.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert talk.texts(thread) == ["hi"]


@pytest.mark.assertion(96)
def test_a_refused_run_adds_no_messages(talk: Talk) -> None:
    talk.plays([SILENCE])
    assistant, thread = talk.assistant(), talk.thread("hi")
    talk.start(assistant, thread)
    body = {
        "assistant_id": assistant,
        "additional_messages": [{"role": "user", "content": "never"}],
    }
    error_of(talk.http.post(f"/threads/{thread}/runs", json=body))
    error_of(talk.http.post(f"/threads/{thread}/runs", json={**body, "stream": True}))
    assert talk.texts(thread) == ["hi"]


@pytest.mark.assertion(99)
def test_values_of_the_run_replace_the_assistants(talk: Talk) -> None:
    assistant = talk.assistant(
        temperature=0.5,
        top_p=0.6,
        tools=[function("theirs")],
        response_format={"type": "json_object"},
        reasoning_effort="low",
    )
    before = talk.get(f"/assistants/{assistant}")
    other = Talk(talk.server, talk.http)
    other.plays([text("from the other model")])
    ours = {
        "model": other.model,
        "temperature": 1.5,
        "top_p": 0.25,
        "tools": [function("ours", description="d", parameters={"type": "object"}, strict=False)],
        "response_format": {"type": "text"},
        "reasoning_effort": "high",
        "metadata": {"k": "v"},
    }
    run = talk.rested(talk.start(assistant, talk.thread("hi"), **ours))
    assert {name: run[name] for name in ours} == ours
    assert talk.get(f"/assistants/{assistant}") == before
    (asked,) = other.asked()
    assert (asked["temperature"], asked["top_p"]) == (1.5, 0.25)
    assert asked["reasoning_effort"] == "high"
    offered = {"name": "ours", "description": "d", "parameters": {"type": "object"}}
    assert asked["tools"] == [{"type": "function", "function": offered}]
    assert "response_format" not in asked


@pytest.mark.assertion(99)
def test_null_means_as_the_assistant_has_it(talk: Talk) -> None:
    names = ["model", "temperature", "top_p", "tools", "response_format", "instructions"]
    defaults = ["tool_choice", "truncation_strategy", "parallel_tool_calls", "metadata"]
    talk.plays([text("ok")])
    assistant = talk.assistant(
        temperature=0.5, tools=[function("f")], instructions="Be brief.", top_p=0.75
    )
    run = talk.start(assistant, talk.thread("hi"), **dict.fromkeys([*names, *defaults]))
    made = talk.get(f"/assistants/{assistant}")
    assert {name: run[name] for name in names} == {name: made[name] for name in names}
    truncation = {"type": "auto", "last_messages": None}
    assert [run[name] for name in defaults] == ["auto", truncation, True, {}]
    assert talk.rested(run)["status"] == "completed"


@pytest.mark.assertion(100)
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "Theirs."),
        ({"instructions": "Ours."}, "Ours."),
        ({"additional_instructions": "More."}, "Theirs.\nMore."),
        ({"instructions": "Ours.", "additional_instructions": "More."}, "Ours.\nMore."),
        ({"instructions": None, "additional_instructions": None}, "Theirs."),
    ],
)
def test_instructions_are_replaced_and_appended(talk: Talk, fields: Json, expected: str) -> None:
    run = talk.rested(
        talk.start(talk.assistant(instructions="Theirs."), talk.thread("hi"), **fields)
    )
    assert run["instructions"] == expected
    assert talk.asked()[0]["messages"][0] == {"role": "system", "content": expected}


@pytest.mark.assertion(101)
def test_additional_messages_come_before_the_answer(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([text("the answer")])
    thread = talk.thread("one")
    sdk.beta.threads.runs.create_and_poll(
        thread_id=thread,
        assistant_id=talk.assistant(),
        additional_messages=[
            {"role": "user", "content": "two"},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "four", "metadata": {"k": "v"}},
        ],
    )
    assert talk.texts(thread) == ["one", "two", "three", "four", "the answer"]
    found = talk.messages(thread)
    assert [one["run_id"] is None for one in found] == [True, True, True, True, False]
    assert found[3]["metadata"] == {"k": "v"}
    asked = talk.asked()[0]["messages"]
    assert [one["content"] for one in asked] == ["one", "two", "three", "four"]


@pytest.mark.assertion(102)
@pytest.mark.parametrize("name", ["max_prompt_tokens", "max_completion_tokens"])
def test_a_token_budget_is_at_least_256(talk: Talk, name: str) -> None:
    error = refused(talk, **{name: 255})
    assert error["code"] == "integer_below_min_value"
    assert error["param"] == name
    assert error["message"] == (
        f"Invalid '{name}': integer below minimum value. "
        "Expected a value >= 256, but got 255 instead."
    )
    assert talk.start(talk.assistant(), talk.thread("hi"), **{name: 256})[name] == 256


@pytest.mark.assertion(107)
def test_last_messages_is_at_least_1(talk: Talk) -> None:
    error = refused(talk, truncation_strategy={"type": "last_messages", "last_messages": 0})
    assert error["param"] == "truncation_strategy.last_messages"
    assert error["code"] == "integer_below_min_value"
    missing = refused(talk, truncation_strategy={"type": "last_messages"})
    assert missing["param"] == "truncation_strategy.last_messages"


@pytest.mark.assertion(109)
@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "unknown"}},
        {"type": "file_search"},
        {"type": "code_interpreter"},
    ],
)
def test_a_forced_tool_must_be_one_of_the_runs(talk: Talk, choice: Json) -> None:
    error = refused(talk, tool_choice=choice)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "tool_choice"


@pytest.mark.parametrize("choice", ["always", {"type": "function"}, 3, {"type": "retrieval"}])
def test_a_tool_choice_has_a_known_form(talk: Talk, choice: Any) -> None:
    assert refused(talk, tool_choice=choice)["param"].startswith("tool_choice")


@pytest.mark.assertion(127)
def test_metadata_is_modified_in_any_state(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([SILENCE])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    talk.once(run, lambda now: now["status"] == "in_progress")
    changed = sdk.beta.threads.runs.update(
        run["id"], thread_id=run["thread_id"], metadata={"a": "1"}
    )
    assert (changed.status, changed.metadata) == ("in_progress", {"a": "1"})
    talk.cancel(run)
    ended = talk.rested(run)
    assert (ended["status"], ended["metadata"]) == ("cancelled", {"a": "1"})
    assert talk.ok(path_of(run), {"metadata": {}}) == {**ended, "metadata": {}}


@pytest.mark.assertion(127)
def test_nothing_but_metadata_is_modified(talk: Talk) -> None:
    run = talk.ran("hi")
    error = error_of(talk.http.post(path_of(run), json={"model": "other"}))
    assert (error["code"], error["param"]) == ("unknown_parameter", "model")
    assert talk.again(run) == run


@pytest.mark.assertion(130)
def test_create_and_run_makes_its_thread(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([text("here")])
    run = sdk.beta.threads.create_and_run_poll(assistant_id=talk.assistant())
    assert run.status == "completed"
    assert talk.texts(run.thread_id) == ["here"]
    body = {
        "assistant_id": talk.assistant(),
        "thread": {"messages": [{"role": "user", "content": "hi"}], "metadata": {"k": "v"}},
        "instructions": "Ours.",
        "additional_instructions": "More.",
    }
    made = talk.rested(talk.ok("/threads/runs", body))
    assert talk.texts(made["thread_id"]) == ["hi", "here"]
    assert talk.get(f"/threads/{made['thread_id']}")["metadata"] == {"k": "v"}
    assert made["instructions"] == "Ours.\nMore."


@pytest.mark.assertion(131)
@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "system", "content": "x"}, "thread.messages[0].role"),
        ({"role": "user", "content": ""}, "thread.messages[0].content"),
        ({"role": "user"}, "thread.messages[0].content"),
    ],
)
def test_create_and_run_makes_both_or_nothing(talk: Talk, message: Json, param: str) -> None:
    body = {"assistant_id": talk.assistant(), "thread": {"messages": [message]}}
    assert error_of(talk.http.post("/threads/runs", json=body))["param"] == param
    assert talk.get("/threads")["data"] == []
    body = {"assistant_id": "asst_nobody", "thread": {}}
    error_of(talk.http.post("/threads/runs", json=body), 404)
    assert talk.get("/threads")["data"] == []


@pytest.mark.assertion(134)
def test_only_the_runs_own_tools_are_capped_at_20(talk: Talk) -> None:
    talk.plays([text("ok")])
    tools = [function(f"f{number}") for number in range(30)]
    assistant, thread = talk.assistant(tools=tools), talk.thread("hi")
    # The original's description caps the tools of every run; so no judge looks at this one.
    with httpx2.Client(base_url=talk.server.url, headers=talk.http.headers) as unjudged:
        bold = Talk(talk.server, unjudged)
        run = bold.rested(bold.start(assistant, thread))
    assert (run["status"], len(run["tools"])) == ("completed", 30)
    assert len(talk.asked()[0]["tools"]) == 30
    error = refused(talk, tools=tools[:21])
    assert (error["code"], error["param"]) == ("array_above_max_length", "tools")
    assert talk.rested(talk.start(talk.assistant(), talk.thread("hi"), tools=tools[:20]))


@pytest.mark.assertion(167)
@pytest.mark.parametrize("stream", [False, None])
def test_a_stream_that_is_not_wanted_is_none(talk: Talk, stream: bool | None) -> None:
    run = talk.start(talk.assistant(), talk.thread("hi"), stream=stream)
    assert run["object"] == "thread.run"
    assert talk.rested(run)["status"] == "completed"


@pytest.mark.assertion(28)
def test_a_poller_is_told_when_to_look_again(talk: Talk) -> None:
    talk.plays([SILENCE])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    assert int(talk.http.get(path_of(run)).headers["openai-poll-after-ms"]) > 0
    talk.cancel(run)
    talk.rested(run)
    assert "openai-poll-after-ms" not in talk.http.get(path_of(run)).headers


def test_runs_are_listed_newest_first_and_known_by_their_thread(talk: Talk) -> None:
    assistant, thread, other = talk.assistant(), talk.thread("hi"), talk.thread("hi")
    made = [talk.rested(talk.start(assistant, thread))["id"] for _ in range(3)]
    page = talk.get(f"/threads/{thread}/runs?limit=2")
    assert [one["id"] for one in page["data"]] == [made[2], made[1]]
    assert page["has_more"] is True
    rest = talk.get(f"/threads/{thread}/runs?after={made[1]}")
    assert [one["id"] for one in rest["data"]] == [made[0]]
    error = error_of(talk.http.get(f"/threads/{other}/runs/{made[0]}"), 404)
    assert error["message"] == f"No run found with id '{made[0]}'."


def test_an_id_that_is_no_runs_is_named(talk: Talk, http: httpx2.Client) -> None:
    error = error_of(http.get(f"/threads/{talk.thread()}/runs/undefined"))
    assert error["message"] == (
        "Invalid 'run_id': 'undefined'. Expected an ID that begins with 'run'."
    )
