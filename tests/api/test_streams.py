"""Streams: the exact events of every way a run can go (SPEC 9.3), and their bytes (9.1)."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.api.conversation import (
    PAUSE,
    SILENCE,
    Frame,
    Json,
    Talk,
    call,
    error_of,
    function,
    names,
    path_of,
    run_of,
    text,
    text_of,
)
from tests.api.test_runs import KEYS as RUN_KEYS
from tests.machine.accumulator import StrictClient

TOOLS = [function("f"), function("g")]
STEP_KEYS = [
    *("id", "object", "created_at", "run_id", "assistant_id", "thread_id", "type", "status"),
    *("cancelled_at", "completed_at", "expires_at", "expired_at", "failed_at", "last_error"),
    *("step_details", "usage", "metadata"),
]
MESSAGE_KEYS = [
    *("id", "object", "created_at", "assistant_id", "thread_id", "run_id", "status"),
    *("incomplete_details", "incomplete_at", "completed_at", "role", "content", "attachments"),
    "metadata",
]
KEYS = {
    "thread": ["id", "object", "created_at", "metadata", "tool_resources"],
    "thread.run": RUN_KEYS,
    "thread.run.step": STEP_KEYS,
    "thread.message": MESSAGE_KEYS,
    "thread.run.step.delta": ["id", "object", "delta"],
    "thread.message.delta": ["id", "object", "delta"],
}
BEGIN = ["run.created", "run.queued", "run.in_progress"]
STEP = ["run.step.created", "run.step.in_progress"]
MESSAGE = [*STEP, "message.created", "message.in_progress", "message.delta"]
MESSAGE_DONE = ["message.completed", "run.step.completed"]
COMPLETED = ["run.completed", "done"]
WAITS = ["run.step.delta", "run.requires_action", "done"]


def checked(found: list[Frame]) -> list[str]:
    """The names in order, after everything that holds for any stream was looked at."""
    assert found[-1] == Frame("done", "[DONE]")
    client = StrictClient()
    for frame in found[:-1]:
        noun = frame.data["object"]
        assert list(frame.data) == KEYS[noun], frame.name
        assert frame.name.startswith(noun)
        what = frame.name.removeprefix(f"{noun}.")
        if noun == "thread.run":
            assert frame.data["status"] == ("queued" if what == "created" else what)
        elif what in ("completed", "incomplete", "cancelled", "failed", "expired", "in_progress"):
            assert frame.data["status"] == what
        client.hear(frame.name, frame.data)
    return names(found)


def deltas(found: list[Frame], noun: str) -> list[Json]:
    """What the deltas of messages or run.steps say."""
    return [one.data["delta"] for one in found if one.short == f"{noun}.delta"]


def one(found: list[Frame], short: str) -> Json:
    """The only event of a name."""
    (frame,) = [frame for frame in found if frame.short == short]
    data: Json = frame.data
    return data


@pytest.mark.assertion(145, 146)
def test_the_bytes_of_a_plain_stream(talk: Talk) -> None:
    talk.plays([text("Hello there, wörld")])
    body = {"assistant_id": talk.assistant(), "stream": True}
    answer = talk.http.post(f"/threads/{talk.thread('hi')}/runs", json=body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in answer.headers
    expected = (Path(__file__).parent / "plain_stream.txt").read_bytes()
    assert normalised(answer.content, talk.model) == expected


def normalised(raw: bytes, model: str) -> bytes:
    """A stream without what differs from run to run."""
    seen: dict[bytes, bytes] = {}

    def name(match: re.Match[bytes]) -> bytes:
        return seen.setdefault(match[0], b"%b_%d" % (match[1], len(seen) + 1))

    raw = re.sub(rb"\b(asst|thread|run|step|msg)_[A-Za-z0-9]{24}\b", name, raw)
    raw = re.sub(rb'("\w+_at":)\d{10}\b', rb"\g<1>1700000000", raw)
    return raw.replace(b'"%b"' % model.encode(), b'"gpt-4o"')


@pytest.mark.assertion(147, 149, 150)
def test_a_plain_answer(talk: Talk) -> None:
    talk.plays([text("Hello there world")])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert checked(found) == [*BEGIN, *MESSAGE, *MESSAGE_DONE, *COMPLETED]
    assert one(found, "run.step.created")["status"] == "in_progress"
    made = one(found, "message.created")
    assert (made["status"], made["content"]) == ("in_progress", [])
    step = one(found, "run.step.created")
    assert step["step_details"]["message_creation"] == {"message_id": made["id"]}
    said = deltas(found, "message")
    assert said == [
        {"content": [{"index": 0, "type": "text", "text": {"value": "Hello ", "annotations": []}}]},
        {"content": [{"index": 0, "type": "text", "text": {"value": "there "}}]},
        {"content": [{"index": 0, "type": "text", "text": {"value": "world"}}]},
    ]
    (part,) = one(found, "message.completed")["content"]
    assert part["text"] == {"value": text_of(found), "annotations": []}
    assert one(found, "run.step.completed")["usage"] == one(found, "run.completed")["usage"]
    run = run_of(found)
    assert talk.again(run) == run
    assert talk.steps(run) == [one(found, "run.step.completed")]
    assert talk.messages(run["thread_id"])[-1] == one(found, "message.completed")


@pytest.mark.assertion(148)
def test_a_thread_that_is_made_comes_first(talk: Talk) -> None:
    talk.plays([text("Hello")])
    body = {"assistant_id": talk.assistant(), "thread": {"metadata": {"k": "v"}}}
    found = talk.streamed("/threads/runs", body)
    assert checked(found) == ["created", *BEGIN, *MESSAGE, *MESSAGE_DONE, *COMPLETED]
    assert found[0].name == "thread.created"
    assert found[0].data == talk.get(f"/threads/{run_of(found)['thread_id']}")
    again = talk.stream(talk.assistant(), talk.thread("hi"))
    assert "created" not in names(again)


@pytest.mark.assertion(151, 161)
def test_function_calls(talk: Talk) -> None:
    talk.plays([call("f", {"a": 1}, pieces=3), call("g", {"b": 2})])
    found = talk.stream(talk.assistant(tools=TOOLS), talk.thread("hi"))
    assert checked(found) == [*BEGIN, *STEP, *WAITS]
    assert one(found, "run.step.created")["step_details"] == {
        "type": "tool_calls",
        "tool_calls": [],
    }
    told = deltas(found, "run.step")
    assert not any("id" in delta for delta in told)
    assert {delta["step_details"]["type"] for delta in told} == {"tool_calls"}
    calls = [delta["step_details"]["tool_calls"] for delta in told]
    first, second = [
        one["id"] for one in run_of(found)["required_action"]["submit_tool_outputs"]["tool_calls"]
    ]
    assert calls == [
        [introduced(0, first, "f")],
        [added(0, '{"a"')],
        [added(0, ":1}")],
        [introduced(1, second, "g")],
        [added(1, '{"b":2}')],
    ]
    assert one(found, "run.requires_action")["usage"] is None
    (step,) = talk.steps(run_of(found))
    assert (step["status"], step["usage"]) == ("in_progress", None)


def introduced(index: int, id: str, name: str) -> Json:
    """The first delta of a call."""
    function = {"name": name, "arguments": "", "output": None}
    return {"index": index, "id": id, "type": "function", "function": function}


def added(index: int, arguments: str) -> Json:
    """A further delta of a call."""
    return {"index": index, "type": "function", "function": {"arguments": arguments}}


@pytest.mark.assertion(152)
def test_submitting_outputs(talk: Talk) -> None:
    talk.plays([call("f")], [call("g")], [text("done")])
    run = run_of(talk.stream(talk.assistant(tools=TOOLS), talk.thread("hi")))
    found = submitted(talk, run, "one")
    submit = ["run.step.completed", "run.queued", "run.in_progress"]
    assert checked(found) == [*submit, *STEP, *WAITS]
    step = one(found, "run.step.completed")
    assert step["step_details"]["tool_calls"][0]["function"]["output"] == "one"
    assert step["usage"]["total_tokens"] > 0
    assert one(found, "run.queued")["required_action"] is None
    found = submitted(talk, run_of(found), "two")
    assert names(found) == [*submit, *MESSAGE, *MESSAGE_DONE, *COMPLETED]
    assert found[-2].data == talk.again(run)


def submitted(talk: Talk, run: Json, *outputs: str) -> list[Frame]:
    """The stream of a submit."""
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    pairs = zip(calls, outputs, strict=True)
    given = [{"tool_call_id": one["id"], "output": output} for one, output in pairs]
    return talk.streamed(f"{path_of(run)}/submit_tool_outputs", {"tool_outputs": given})


@pytest.mark.assertion(160)
def test_text_and_then_calls(talk: Talk) -> None:
    talk.plays([text("let me see"), call("f"), call("g")])
    found = talk.stream(talk.assistant(tools=TOOLS), talk.thread("hi"))
    assert checked(found) == [*BEGIN, *MESSAGE, *MESSAGE_DONE, *STEP, *WAITS]


@pytest.mark.assertion(160)
def test_a_function_that_does_not_exist(talk: Talk) -> None:
    talk.plays([call("unknown")], [text("sorry")])
    found = talk.stream(talk.assistant(tools=TOOLS), talk.thread("hi"))
    assert checked(found) == [
        *(*BEGIN, *STEP, "run.step.delta", "run.step.completed"),
        *(*MESSAGE, *MESSAGE_DONE, *COMPLETED),
    ]


def test_a_refusal(talk: Talk) -> None:
    talk.plays([{"refusal": "I cannot."}])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert checked(found) == [*BEGIN, *MESSAGE, *MESSAGE_DONE, *COMPLETED]
    assert deltas(found, "message") == [
        {"content": [{"index": 0, "type": "refusal", "refusal": "I "}]},
        {"content": [{"index": 0, "type": "refusal", "refusal": "cannot."}]},
    ]
    assert one(found, "message.completed")["content"] == [
        {"type": "refusal", "refusal": "I cannot."}
    ]


def test_an_empty_answer(talk: Talk) -> None:
    talk.plays([{"finish": "stop"}])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert checked(found) == [*BEGIN, *MESSAGE, *MESSAGE_DONE, *COMPLETED]
    assert text_of(found) == ""


@pytest.mark.assertion(156)
def test_a_cancelled_run(talk: Talk) -> None:
    talk.plays([text("Hello there"), SILENCE])
    with talk.open_stream(talk.assistant(), talk.thread("hi")) as live:
        live.until("thread.message.delta")
        live.until("thread.message.delta")
        assert talk.cancel(live.heard[0].data).status_code == 200
        found = live.rest()
    cancelled = ["message.incomplete", "run.step.cancelled", "run.cancelled", "done"]
    assert checked(found) == [*BEGIN, *MESSAGE, "run.cancelling", *cancelled]
    message = one(found, "message.incomplete")
    assert message["incomplete_details"] == {"reason": "run_cancelled"}
    assert message["content"][0]["text"]["value"] == "Hello there"


def test_a_run_that_is_cancelled_before_it_says_anything(talk: Talk) -> None:
    talk.plays([SILENCE])
    with talk.open_stream(talk.assistant(), talk.thread("hi")) as live:
        live.until("thread.run.in_progress")
        talk.cancel(live.heard[0].data)
        assert checked(live.rest()) == [*BEGIN, "run.cancelling", "run.cancelled", "done"]


@pytest.mark.assertion(157)
def test_a_failed_run(talk: Talk) -> None:
    talk.plays([text("Hello there"), PAUSE, {"drop": True}])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    failed = ["message.incomplete", "run.step.failed", "run.failed", "done"]
    assert checked(found) == [*BEGIN, *MESSAGE, *failed]
    assert one(found, "message.incomplete")["incomplete_details"] == {"reason": "run_failed"}
    assert one(found, "run.step.failed")["last_error"]["code"] == "server_error"
    run = one(found, "run.failed")
    assert run["last_error"]["code"] == "server_error"
    assert (run["failed_at"] is None, run["expires_at"]) == (False, None)


def test_a_run_that_fails_before_it_says_anything(talk: Talk) -> None:
    talk.plays([{"status": 401, "body": {}}])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert checked(found) == [*BEGIN, "run.failed", "done"]


@pytest.mark.assertion(158)
def test_an_incomplete_run(talk: Talk) -> None:
    talk.plays([{"words": 300}])
    found = talk.stream(talk.assistant(), talk.thread("hi"), max_completion_tokens=256)
    incomplete = ["message.incomplete", "run.step.completed", "run.incomplete", "done"]
    assert checked(found) == [*BEGIN, *MESSAGE, *incomplete]
    assert one(found, "message.incomplete")["incomplete_details"] == {"reason": "max_tokens"}
    assert one(found, "run.incomplete")["incomplete_details"] == {"reason": "max_completion_tokens"}


@pytest.mark.assertion(159)
def test_an_error_that_no_run_can_carry(talk: Talk) -> None:
    talk.plays([text("Hello"), SILENCE])
    thread = talk.thread("hi")
    with talk.open_stream(talk.assistant(), thread) as live:
        live.until("thread.message.delta")
        talk.http.delete(f"/threads/{thread}")
        found = live.rest()
    assert found[-1].name == "error"  # And no `done`.
    assert set(found[-1].data) == {"error"}
    assert set(found[-1].data["error"]) == {"message", "type", "param", "code"}


@pytest.mark.assertion(168)
def test_what_is_wrong_before_the_start_is_no_stream(talk: Talk) -> None:
    talk.plays([SILENCE])
    assistant, thread = talk.assistant(), talk.thread("hi")
    run = talk.start(assistant, thread)
    body = {"assistant_id": assistant, "stream": True}
    answer = talk.http.post(f"/threads/{thread}/runs", json=body)
    assert answer.headers["content-type"] == "application/json"
    assert error_of(answer)["message"] == (
        f"Thread {thread} already has an active run {run['id']}."
    )
    answer = talk.http.post("/threads/runs", json={**body, "model": 3})
    assert error_of(answer)["param"] == "model"


@pytest.mark.assertion(19)
def test_a_stream_is_a_stream_whatever_is_accepted(talk: Talk) -> None:
    body = {"assistant_id": talk.assistant(), "stream": True}
    headers = {"accept": "application/json", "accept-encoding": "gzip, br"}
    answer = talk.http.post("/threads/runs", json=body, headers=headers)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-encoding" not in answer.headers


@pytest.mark.assertion(166)
def test_the_first_event_comes_at_once(talk: Talk) -> None:
    talk.plays([SILENCE])
    assistant = talk.assistant()

    def first_event_s() -> float:
        thread = talk.thread("hi")
        began = time.perf_counter()
        with talk.open_stream(assistant, thread) as live:
            live.until("thread.run.created")
            return time.perf_counter() - began

    assert min(first_event_s() for _ in range(5)) < 0.1


@pytest.mark.parametrize(
    "value", ["line\nbreak\r\n\u2028 \x00 \x1b", "data: x\n\nevent: done\n\n", "😀 漢字 \ud83dx"]
)
def test_any_text_is_one_line(talk: Talk, value: str) -> None:
    said = value.encode("utf-8", "replace").decode()
    chunk: Json = {"choices": [{"index": 0, "delta": {"content": said}}]}
    talk.plays([{"raw_chunk": chunk}])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert checked(found)[-2] == "run.completed"
    assert text_of(found) == said
    assert talk.texts(run_of(found)["thread_id"])[-1] == said


def test_everything_that_a_client_can_send_is_streamed_back(talk: Talk) -> None:
    fields: dict[str, Any] = {
        "instructions": "Be\nbrief.",
        "tools": TOOLS,
        "metadata": {"k": "v"},
        "temperature": 0.5,
        "top_p": 0.5,
        "max_prompt_tokens": 1000,
        "max_completion_tokens": 1000,
        "truncation_strategy": {"type": "last_messages", "last_messages": 3},
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
    }
    found = talk.stream(talk.assistant(), talk.thread("hi"), **fields)
    assert checked(found)[-2] == "run.completed"
    plain = {name: value for name, value in fields.items() if name != "tools"}
    for frame in found:
        if frame.short in BEGIN or frame.short == "run.completed":
            assert {name: frame.data[name] for name in plain} == plain
            assert [one["function"]["name"] for one in frame.data["tools"]] == ["f", "g"]
