"""Run steps (SPEC 7.5, assertions 116, 137-143)."""

import openai
import pytest
from openai.types.beta.threads.runs import RunStepInclude

from tests.api.conversation import Json, Talk, call, error_of, function, path_of, text
from tests.api.test_streams import STEP_KEYS

TOOLS = [function("f"), function("g")]


def three_steps(talk: Talk) -> Json:
    """A run of text, then two calls, then text; it is completed."""
    talk.plays([text("let me see"), call("f", {"a": 1}), call("g")], [text("done")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    talk.submit(run, "one", "two")
    return talk.rested(run)


@pytest.mark.assertion(137, 140)
def test_a_step_that_makes_a_message_names_it(talk: Talk) -> None:
    run = talk.ran("hi")
    (step,) = talk.steps(run)
    message = talk.messages(run["thread_id"])[-1]
    assert list(step) == STEP_KEYS
    assert step == {
        **dict.fromkeys(STEP_KEYS),
        "id": step["id"],
        "object": "thread.run.step",
        "created_at": step["created_at"],
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": "message_creation",
        "status": "completed",
        "completed_at": step["completed_at"],
        "expires_at": run["created_at"] + 600,
        "step_details": {
            "type": "message_creation",
            "message_creation": {"message_id": message["id"]},
        },
        "usage": run["usage"],
        "metadata": {},
    }
    assert (message["run_id"], message["assistant_id"]) == (run["id"], run["assistant_id"])
    assert message["role"] == "assistant"


@pytest.mark.assertion(138, 116)
def test_parallel_calls_share_a_step(talk: Talk) -> None:
    run = three_steps(talk)
    step = talk.steps(run)[1]
    calls = step["step_details"]["tool_calls"]
    assert [one["function"] for one in calls] == [
        {"name": "f", "arguments": '{"a":1}', "output": "one"},
        {"name": "g", "arguments": "{}", "output": "two"},
    ]
    assert len({one["id"] for one in calls}) == 2
    assert all(one["id"].startswith("call_") and one["type"] == "function" for one in calls)
    assert step["completed_at"] is not None


@pytest.mark.assertion(139)
def test_steps_are_listed_newest_first(talk: Talk, sdk: openai.OpenAI) -> None:
    run = three_steps(talk)
    oldest_first = [step["id"] for step in talk.steps(run)]
    steps = sdk.beta.threads.runs.steps
    listed = list(steps.list(run["id"], thread_id=run["thread_id"], limit=1))  # Page by page.
    assert [step.id for step in listed] == oldest_first[::-1]
    types = [step["type"] for step in talk.steps(run)]
    assert types == ["message_creation", "tool_calls", "message_creation"]
    page = talk.get(f"{path_of(run)}/steps?order=asc&limit=2")
    assert [step["id"] for step in page["data"]] == oldest_first[:2]
    assert (page["has_more"], page["last_id"]) == (True, oldest_first[1])
    rest = talk.get(f"{path_of(run)}/steps?order=asc&after={oldest_first[1]}")
    assert [step["id"] for step in rest["data"]] == oldest_first[2:]


@pytest.mark.assertion(142)
def test_include_has_two_spellings_and_one_value(talk: Talk, sdk: openai.OpenAI) -> None:
    run = three_steps(talk)
    value: RunStepInclude = "step_details.tool_calls[*].file_search.results[*].content"
    first = talk.steps(run)[0]
    path = f"{path_of(run)}/steps"
    for name in ("include", "include[]"):
        assert talk.http.get(path, params={name: value}).status_code == 200
        assert talk.http.get(f"{path}/{first['id']}", params={name: value}).json() == first
        error = error_of(talk.http.get(path, params={name: "everything"}))
        assert error["code"] == "invalid_value"
        error_of(talk.http.get(f"{path}/{first['id']}", params={name: "everything"}))
    step = sdk.beta.threads.runs.steps.retrieve(
        first["id"], run_id=run["id"], thread_id=run["thread_id"], include=[value]
    )
    assert step.to_dict() == first


def test_a_run_may_be_created_with_include(talk: Talk) -> None:
    value = "step_details.tool_calls[*].file_search.results[*].content"
    body = {"assistant_id": talk.assistant()}
    path = f"/threads/{talk.thread('hi')}/runs"
    error_of(talk.http.post(path, json=body, params={"include[]": "everything"}))
    assert talk.http.post(path, json=body, params={"include[]": value}).status_code == 200


@pytest.mark.assertion(143)
def test_a_step_is_known_by_its_run(talk: Talk) -> None:
    run, other = talk.ran("hi"), talk.ran("hi")
    (step,) = talk.steps(run)
    error = error_of(talk.http.get(f"{path_of(run)}/steps/step_nothing"), 404)
    assert error["message"] == "No run step found with id 'step_nothing'."
    error = error_of(talk.http.get(f"{path_of(other)}/steps/{step['id']}"), 404)
    assert error["message"] == f"No run step found with id '{step['id']}'."
    error = error_of(talk.http.get(f"{path_of(run)}/steps/undefined"))
    assert error["message"] == (
        "Invalid 'step_id': 'undefined'. Expected an ID that begins with 'step'."
    )
    error_of(talk.http.get(f"{path_of(run)}/steps", params={"after": "step_nothing"}), 404)


def test_a_step_that_still_waits_has_no_usage(talk: Talk) -> None:
    talk.plays([call("f")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    (step,) = talk.steps(run)
    assert (step["status"], step["usage"], step["completed_at"]) == ("in_progress", None, None)
    assert step["step_details"]["tool_calls"][0]["function"]["output"] is None
    assert "output" in step["step_details"]["tool_calls"][0]["function"]
