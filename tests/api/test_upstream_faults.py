"""A provider that fails in every way: the run ends, says why, and the thread is free."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.conftest import Start, client_for
from tests.api.conversation import (
    PAUSE,
    Json,
    Talk,
    call,
    eventually,
    function,
    names,
    text,
)
from tests.api.serving import KEY, Running, running
from tests.ports import free_port
from understudy import limits
from understudy.assembly import check_settings
from understudy.settings import Settings, SettingsError

SECRET = "sk-provider-secret-0123456789"
SORRY = "Sorry, something went wrong."


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose provider wants a key."""
    with running(tmp_path_factory.mktemp("keyed"), upstream_key=SECRET) as server:
        yield server


@pytest.fixture
def talk(keyed: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """Conversations there; whoever tries again does so at once."""
    monkeypatch.setattr(limits, "MODEL_BACKOFF_S", 0.001)
    with client_for(keyed.url, KEY) as http:
        talk = Talk(keyed, http)
        yield talk
        talk.close()


def failed(talk: Talk, *steps: Json, **fields: Any) -> Json:
    """The run that fails on these steps; its thread is free and the server well."""
    talk.plays(steps)
    assistant, thread = talk.assistant(), talk.thread("hi")
    run = talk.rested(talk.start(assistant, thread, **fields))
    assert run["status"] == "failed"
    assert run["failed_at"] is not None
    assert (run["expires_at"], run["completed_at"], run["required_action"]) == (None, None, None)
    assert set(run["last_error"]) == {"code", "message"}
    assert run["usage"] is not None
    talk.plays([text("fine")])
    talk.ok(f"/threads/{thread}/messages", {"role": "user", "content": "again"})
    assert talk.rested(talk.start(assistant, thread))["status"] == "completed"
    return run


def outcomes(talk: Talk, run: Json) -> list[tuple[str, int, str | None]]:
    """The calls of a run, as the journal has them."""
    return [(line.key, line.attempt, line.outcome) for line in talk.journal(run)]


OPENAI_429 = {
    "error": {
        "message": "Rate limit reached for gpt-4o on tokens per min. Please try again in 1ms.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }
}
FILTER_400 = {
    "error": {
        "message": "The response was filtered due to the prompt triggering our content policy.",
        "type": "invalid_request_error",
        "param": "prompt",
        "code": "content_filter",
    }
}

LASTING = [
    # Steps, the error's code, words of its message, how often the provider was asked.
    ([{"status": 500, "body": {}}], "server_error", "failed with status 500", 4),
    ([{"status": 503, "body": "busy"}], "server_error", "failed with status 503", 4),
    ([{"status": 429, "body": OPENAI_429}], "rate_limit_exceeded", "try again in 1ms", 4),
    ([{"status": 400, "body": FILTER_400}], "invalid_prompt", "content policy", 1),
    ([{"status": 400, "body": {"error": "odd"}}], "server_error", "refused the request", 1),
    ([{"status": 401, "body": {}}], "server_error", "refused the server's credentials", 1),
    ([{"status": 404, "body": {}}], "server_error", "does not know this model", 1),
    ([{"status": 302, "headers": {"location": "/"}}], "server_error", "redirect", 1),
    ([{"status": 502, "body": "<html>Bad Gateway</html>"}], "server_error", "status 502", 4),
    ([{"html": True}], "server_error", "HTML instead of a stream", 1),
    ([{"drop": True}], "server_error", "without an answer", 4),
    ([{"eof": True}], "server_error", "without an answer", 4),
    ([text("half of it"), PAUSE, {"drop": True}], "server_error", "in the middle of the answer", 1),
    ([text("half of it"), {"eof": True}], "server_error", "in the middle of the answer", 1),
    ([{"raw_bytes": "data: {nonsense\n\n"}], "server_error", "cannot be read", 1),
    ([{"raw_bytes": "\x00\x01\x02 garbage"}, {"eof": True}], "server_error", "", None),
    ([{"status": 200, "body": {"foo": 1}}], "server_error", "no chat completion", 1),
    ([{"status": 200, "body": [1, 2]}], "server_error", "cannot be read", 1),
    ([{"status": 200, "body": "{"}], "server_error", "cannot be read", 1),
    ([{"status": 200, "body": ""}], "server_error", "without an answer", 4),
    ([{"raw_bytes": 'data: "text"\n\n'}], "server_error", "cannot be read", 1),
    (
        [{"raw_chunk": {"error": {"message": "overloaded", "type": "overloaded_error"}}}],
        "server_error",
        "status 503",
        4,
    ),
    (
        [text("half"), {"delay_ms": 50}, {"status": 429, "body": OPENAI_429}],
        "rate_limit_exceeded",
        "try again in 1ms",
        1,
    ),
]


@pytest.mark.assertion(123, 124, 125)
@pytest.mark.parametrize(("steps", "code", "words", "asked"), LASTING)
def test_a_failure_that_lasts(
    talk: Talk, steps: list[Json], code: str, words: str, asked: int | None
) -> None:
    run = failed(talk, *steps)
    error = run["last_error"]
    assert error["code"] == code
    assert words in error["message"]
    if code == "server_error":
        assert error["message"].startswith(SORRY)
    lines = outcomes(talk, run)
    if asked is not None:
        assert len(lines) == asked
    assert [(key, attempt) for key, attempt, _ in lines] == [
        ("llm:1", number) for number in range(1, len(lines) + 1)
    ]
    assert all(outcome and outcome != "done" for _, _, outcome in lines)


@pytest.mark.parametrize(
    "step",
    [
        {"status": 500, "body": {}},
        {"status": 503, "headers": {"retry-after": "0"}, "body": {}},
        {"status": 429, "body": OPENAI_429},
        {"drop": True},
    ],
)
def test_a_failure_that_passes(talk: Talk, step: Json) -> None:
    talk.plays([{**step, "times": 2}, text("Hello")])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert names(found)[-2:] == ["run.completed", "done"]
    run = found[0].data
    assert [(key, attempt) for key, attempt, _ in outcomes(talk, run)] == [
        ("llm:1", 1),
        ("llm:1", 2),
        ("llm:1", 3),
    ]
    assert outcomes(talk, run)[-1][2] == "done"
    assert talk.texts(run["thread_id"]) == ["hi", "Hello"]
    calls = talk.provider_calls()
    assert [one["call_id"] for one in calls] == [f"{run['id']}:llm:1:{n}" for n in (1, 2, 3)]
    assert [one["idempotency_key"] for one in calls] == [one["call_id"] for one in calls]


def test_nothing_is_tried_again_once_something_was_said(talk: Talk) -> None:
    talk.plays([text("half of it"), PAUSE, {"drop": True, "times": 1}, text("never")])
    run = talk.rested(talk.start(talk.assistant(), talk.thread("hi")))
    assert run["status"] == "failed"
    message = talk.messages(run["thread_id"])[-1]
    assert message["content"][0]["text"]["value"] == "half of it"
    assert (message["status"], message["incomplete_details"]) == (
        "incomplete",
        {"reason": "run_failed"},
    )
    (step,) = talk.steps(run)
    assert (step["status"], step["last_error"]["code"]) == ("failed", "server_error")
    assert len(talk.asked()) == 1


def test_a_provider_that_asks_for_too_long_a_wait(talk: Talk) -> None:
    run = failed(talk, {"status": 429, "headers": {"retry-after": "60"}, "body": OPENAI_429})
    assert run["last_error"]["code"] == "rate_limit_exceeded"
    assert len(outcomes(talk, run)) == 1


def test_a_later_turn_may_fail_too(talk: Talk) -> None:
    talk.plays([call("f")], [{"status": 400, "body": {"error": "odd"}}])
    run = talk.rested(talk.start(talk.assistant(tools=[function("f")]), talk.thread("hi")))
    talk.submit(run, "1")
    run = talk.rested(run)
    assert run["status"] == "failed"
    assert [step["status"] for step in talk.steps(run)] == ["completed"]
    assert [(key, number) for key, number, _ in outcomes(talk, run)] == [("llm:1", 1), ("llm:2", 1)]


@pytest.mark.parametrize(
    ("parameter", "fields"),
    [
        ("temperature", {"temperature": 0.5}),
        ("max_tokens", {"max_completion_tokens": 1000}),
        ("stream_options", {}),
        ("reasoning_effort", {"reasoning_effort": "low"}),
    ],
)
def test_a_refused_parameter_is_left_out_from_then_on(
    talk: Talk, parameter: str, fields: Json
) -> None:
    talk.plays([{"refuse": parameter}, text("Hello")])
    assistant = talk.assistant()
    run = talk.rested(talk.start(assistant, talk.thread("hi"), **fields))
    assert run["status"] == "completed"
    first, second = talk.asked()
    assert parameter in first
    assert parameter not in second
    if parameter == "max_tokens":
        assert second["max_completion_tokens"] == 1000
    lines = outcomes(talk, run)
    assert [(key, attempt) for key, attempt, _ in lines] == [("llm:1", 1), ("llm:1", 2)]
    assert parameter in (lines[0][2] or "")
    talk.rested(talk.start(assistant, talk.thread("hi"), **fields))
    assert len(talk.asked()) == 3
    assert parameter not in talk.asked()[2]


def test_a_format_that_the_client_builds_on_is_never_left_out(talk: Talk) -> None:
    run = failed(talk, {"refuse": "response_format"}, response_format={"type": "json_object"})
    assert "response_format" in run["last_error"]["message"]
    assert len(outcomes(talk, run)) == 1


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_the_providers_key_and_address_stay_here(talk: Talk, status: int) -> None:
    address = talk.server.rehearsal.removeprefix("http://")
    leak = f"Incorrect API key {SECRET} at http://{address}/v1/chat/completions (Bearer {SECRET})"
    body = {"error": {"message": leak, "type": "invalid_request_error", "code": None}}
    run = failed(talk, {"status": status, "body": body})
    everything = str([run, talk.steps(run), talk.messages(run["thread_id"]), talk.replay(run)])
    assert SECRET not in everything
    assert address not in everything
    assert SECRET not in str(outcomes(talk, run))


def test_a_slow_provider_is_given_up(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk.server.app.model, "_silence_s", 0.1)
    for steps in ([{"silence": True}], [text("half"), {"silence": True}]):
        run = failed(talk, *steps)
        assert run["last_error"]["message"] == (
            f"{SORRY} The model provider sent nothing for 0.1 seconds."
        )


def test_an_answer_that_was_not_streamed_is_an_answer(talk: Talk) -> None:
    message = {"role": "assistant", "content": "all at once"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    talk.plays([{"status": 200, "body": body}])
    assert talk.texts(talk.ran("hi")["thread_id"]) == ["hi", "all at once"]


def test_chunks_of_odd_types_are_read(talk: Talk) -> None:
    parts = [{"type": "thinking"}, {"type": "text", "text": "Hello"}]
    chunk: Json = {"choices": [{"index": "0", "delta": {"content": parts}}], "usage": None}
    usage: Json = {"choices": [], "usage": {"prompt_tokens": 3.0, "completion_tokens": "1"}}
    talk.plays([{"raw_chunk": chunk}, {"raw_chunk": usage}, {"usage": None}])
    run = talk.ran("hi")
    assert talk.texts(run["thread_id"]) == ["hi", "Hello"]
    assert run["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


def test_a_provider_that_is_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MODEL_BACKOFF_S", 0.001)
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with start(upstream_url=url) as server, client_for(server.url, KEY) as http:
        talk = Talk(server, http)
        run = talk.rested(talk.start(talk.assistant(), talk.thread("hi")))
        assert run["status"] == "failed"
        assert run["last_error"] == {
            "code": "server_error",
            "message": f"{SORRY} The model provider could not be reached.",
        }
        assert len(talk.journal(run)) == 4
        health = httpx2.get(f"{server.root}/health")
        assert health.status_code == 200
        assert str(port) not in str(run)
        talk.ok(f"/threads/{run['thread_id']}/messages", {"role": "user", "content": "free"})


def test_a_model_that_is_not_listed_falls_back(start: Start) -> None:
    with start(model="rehearsal") as server, client_for(server.url, KEY) as http:
        talk = Talk(server, http)
        for asked, used in (("gpt-4o", "rehearsal"), ("rehearsal-embedding",) * 2):
            talk.model = asked
            run = talk.ran("hi")
            assert (run["status"], run["model"]) == ("completed", asked)
            chats = [one for one in server.calls() if one["path"].endswith("/chat/completions")]
            assert chats[-1]["model"] == used


def test_a_request_that_comes_back_to_us_is_refused(talk: Talk) -> None:
    ours, other = talk.server.app.boot_id, "boot_of_somebody_else"
    answer = talk.http.get("/models", headers={"x-understudy-hop": ours})
    assert answer.status_code >= 400
    assert "itself" in answer.json()["error"]["message"]
    assert talk.http.get("/models", headers={"x-understudy-hop": other}).status_code == 200
    talk.ran("hi")
    assert {one["hop"] for one in talk.provider_calls()} == {ours}


def test_a_server_is_not_its_own_provider() -> None:
    for url in ("http://localhost:8000/v1", "http://127.0.0.1:8000", "http://[::1]:8000/v1"):
        with pytest.raises(SettingsError, match="own address"):
            check_settings(Settings(upstream_url=url))
    check_settings(Settings(upstream_url="http://localhost:8001/v1"))


def test_a_loop_by_another_name_ends(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MODEL_BACKOFF_S", 0.001)
    port = free_port()
    own = f"http://127.0.0.2:{port}/v1"  # Ours as well, but nobody wrote that down.
    with (
        start(host="0.0.0.0", port=port, upstream_url=own, upstream_key=KEY) as server,
        client_for(f"http://127.0.0.1:{port}/v1", KEY) as http,
    ):
        talk = Talk(server, http)
        run = talk.rested(talk.start(talk.assistant(), talk.thread("hi")))
        assert run["status"] == "failed"
        assert "508" in run["last_error"]["message"]


def test_a_client_sees_nothing_of_what_was_tried_again(talk: Talk) -> None:
    talk.plays([{"status": 500, "body": {}, "times": 1}, text("Hello")])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert names(found)[:4] == [
        "run.created",
        "run.queued",
        "run.in_progress",
        "run.step.created",
    ]
    assert eventually(lambda: len(talk.asked())) == 2
