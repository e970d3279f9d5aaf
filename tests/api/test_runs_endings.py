"""How runs end: cancelled, failed, with their thread, or taken over by the next process."""

from contextlib import ExitStack

import openai
import pytest

from tests.api.conftest import Start, client_for
from tests.api.conversation import (
    SILENCE,
    Json,
    Talk,
    call,
    error_of,
    eventually,
    function,
    names,
    path_of,
    text,
)
from tests.api.serving import KEY
from understudy import limits

TOOLS = [function("f")]


def working(talk: Talk, *steps: Json) -> Json:
    """A run that hears its model, which falls silent after these steps."""
    talk.plays([*steps, SILENCE])
    run = talk.start(talk.assistant(tools=TOOLS), talk.thread("hi"))
    eventually(talk.asked)
    return talk.once(run, lambda now: now["status"] == "in_progress")


@pytest.mark.assertion(119, 125)
def test_cancel_stops_the_run_and_its_model(talk: Talk, sdk: openai.OpenAI) -> None:
    run = working(talk)
    answer = sdk.beta.threads.runs.cancel(run["id"], thread_id=run["thread_id"])
    assert (answer.status, answer.required_action) == ("cancelling", None)
    ended = talk.again(run)  # At the first look.
    assert ended["status"] == "cancelled"
    assert ended["cancelled_at"] is not None
    assert (ended["expires_at"], ended["last_error"]) == (None, None)
    eventually(lambda: talk.provider_calls()[0]["left_early"])
    talk.ok(f"/threads/{run['thread_id']}/messages", {"role": "user", "content": "free"})
    assert talk.steps(run) == []


@pytest.mark.assertion(122)
def test_cancel_keeps_what_was_said(talk: Talk) -> None:
    run = working(talk, text("half of an answer"))
    eventually(lambda: len(talk.messages(run["thread_id"])) == 2)
    eventually(lambda: len(talk.provider_calls()) == 1)
    with talk.open_replay(run) as live:
        for _ in range(4):
            live.until("thread.message.delta")
        talk.cancel(run)
        live.rest()
    message = talk.messages(run["thread_id"])[-1]
    assert message["content"][0]["text"]["value"] == "half of an answer"
    assert (message["status"], message["completed_at"]) == ("incomplete", None)
    assert message["incomplete_details"] == {"reason": "run_cancelled"}
    assert message["incomplete_at"] is not None
    (step,) = talk.steps(run)
    assert (step["status"], step["completed_at"]) == ("cancelled", None)
    assert step["cancelled_at"] is not None
    assert talk.again(run)["usage"]["completion_tokens"] > 0


@pytest.mark.assertion(120)
def test_cancel_while_the_client_is_waited_for(talk: Talk) -> None:
    talk.plays([call("f")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    answer = talk.cancel(run).json()
    assert (answer["status"], answer["required_action"]) == ("cancelling", None)
    ended = talk.again(run)
    assert (ended["status"], ended["required_action"]) == ("cancelled", None)
    (step,) = talk.steps(run)
    assert step["status"] == "cancelled"
    assert step["step_details"]["tool_calls"][0]["function"]["output"] is None
    assert talk.start(run["assistant_id"], run["thread_id"])["status"] == "queued"


@pytest.mark.assertion(121, 24)
def test_only_an_active_run_is_cancelled(talk: Talk, sdk: openai.OpenAI) -> None:
    run = talk.ran("hi")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.beta.threads.runs.cancel(run["id"], thread_id=run["thread_id"])
    assert refused.value.body == {
        "message": "Cannot cancel run with status 'completed'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    run = working(talk)
    assert talk.cancel(run).status_code == 200
    error = error_of(talk.cancel(run))
    assert error["message"] == "Cannot cancel run with status 'cancelled'."
    assert talk.again(run)["status"] == "cancelled"


def test_a_cancel_with_an_idempotency_key_can_be_repeated(talk: Talk) -> None:
    alive = working(talk)
    talk.plays([call("f")])
    waiting = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    for run in (alive, waiting):
        keyed = {"idempotency-key": run["id"]}
        first, second = (talk.http.post(f"{path_of(run)}/cancel", headers=keyed) for _ in range(2))
        assert first.json()["status"] == "cancelling"
        assert (second.status_code, second.json()) == (200, first.json())
        assert talk.cancel(run).status_code == 400


def test_a_cancel_is_never_too_early(talk: Talk) -> None:
    talk.plays([text("some words that come"), SILENCE])
    assistant = talk.assistant()
    for _ in range(10):
        run = talk.start(assistant, talk.thread("hi"))
        assert talk.cancel(run).json()["status"] == "cancelling"
        assert talk.again(run)["status"] == "cancelled"


@pytest.mark.assertion(128)
def test_a_run_outlives_its_assistant(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    assistant = talk.assistant(tools=TOOLS)
    run = talk.rested(talk.start(assistant, talk.thread("hi")))
    assert talk.http.delete(f"/assistants/{assistant}").status_code == 200
    assert talk.submit(run, "1").status_code == 200
    ended = talk.rested(run)
    assert (ended["status"], ended["assistant_id"]) == ("completed", assistant)
    body = {"assistant_id": assistant}
    error_of(talk.http.post(f"/threads/{run['thread_id']}/runs", json=body), 404)


@pytest.mark.assertion(129)
def test_deleting_the_thread_stops_the_run(talk: Talk) -> None:
    talk.plays([text("half"), SILENCE])
    assistant, thread = talk.assistant(), talk.thread("hi")
    with talk.open_stream(assistant, thread) as live:
        run = live.until("thread.message.delta")
        run = live.heard[0]
        assert talk.http.delete(f"/threads/{thread}").status_code == 200
        heard = live.rest()
    assert heard[-1].name == "error"
    assert heard[-1].data == {
        "error": {
            "message": "Thread was deleted.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
    eventually(lambda: talk.provider_calls()[0]["left_early"])
    eventually(lambda: talk.server.job(run.data["id"]) is None)
    error_of(talk.http.get(path_of(run.data)), 404)
    error_of(talk.http.get(f"/threads/{thread}/messages"), 404)
    app = talk.server.app
    eventually(lambda: talk.server.run(app.store.events(run.data["id"], (0, 0))) == [])
    assert talk.server.run(app.store.journal(run.data["id"])) == []


def test_deleting_the_thread_ends_a_run_that_waits(talk: Talk) -> None:
    talk.plays([call("f")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    assert talk.http.delete(f"/threads/{run['thread_id']}").status_code == 200
    error_of(talk.submit(run, "1"), 404)
    assert talk.server.job(run["id"]) is None


@pytest.mark.assertion(133)
def test_a_refusal_is_a_part_of_its_own(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([{"refusal": "I cannot do that."}])
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=talk.thread("hi"), assistant_id=talk.assistant()
    )
    assert run.status == "completed"
    (part,) = sdk.beta.threads.messages.list(run.thread_id).data[0].content
    assert part.model_dump() == {"type": "refusal", "refusal": "I cannot do that."}


@pytest.mark.assertion(136)
def test_create_and_poll_sees_the_end_at_once(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([text("done")])
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=talk.thread("hi"), assistant_id=talk.assistant()
    )
    assert run.status == "completed"
    assert run.completed_at is not None
    assert run.completed_at - run.created_at <= 2


@pytest.mark.assertion(112)
def test_submit_and_poll_goes_on(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([call("f")], [text("done")])
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=talk.thread("hi"), assistant_id=talk.assistant(tools=TOOLS)
    )
    assert run.required_action is not None
    (one,) = run.required_action.submit_tool_outputs.tool_calls
    run = sdk.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": one.id, "output": "1"}],
    )
    assert run.status == "completed"


@pytest.fixture
def short_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops does not wait for its runs."""
    monkeypatch.setattr(limits, "DRAIN_S", 0.05)


@pytest.mark.assertion(126)
@pytest.mark.usefixtures("short_drain")
def test_a_run_goes_on_in_the_next_process(start: Start) -> None:
    with start() as first, client_for(first.url, KEY) as http:
        talk = Talk(first, http)
        talk.plays([text("half of it"), SILENCE])
        run = talk.start(talk.assistant(), talk.thread("hi"))
        eventually(lambda: len(talk.messages(run["thread_id"])) == 2)
    with start() as second, client_for(second.url, KEY) as http:
        again = Talk(second, http)
        assert again.rested(run)["status"] == "completed"
        half, whole = again.messages(run["thread_id"])[1:]
        assert (half["status"], whole["status"]) == ("incomplete", "completed")
        assert half["incomplete_details"] == {"reason": "run_failed"}
        heard = again.replay(run)
        assert names(heard)[-3:] == ["run.step.completed", "run.completed", "done"]
        lines = again.journal(run)
        assert [(line.key, line.attempt) for line in lines] == [("llm:1", 1), ("llm:1", 2)]
        again.ok(f"/threads/{run['thread_id']}/messages", {"role": "user", "content": "free"})


@pytest.mark.assertion(126)
@pytest.mark.usefixtures("short_drain")
def test_a_run_that_waits_for_its_client_still_does_after_a_restart(start: Start) -> None:
    with start() as first, client_for(first.url, KEY) as http:
        talk = Talk(first, http)
        talk.plays([call("f")])
        run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    with start() as second, client_for(second.url, KEY) as http:
        again = Talk(second, http)
        assert again.again(run) == run
        assert again.submit(run, "the output").status_code == 200
        assert again.rested(run)["status"] == "completed"
        assert "the output" in again.texts(run["thread_id"])[-1]


@pytest.mark.usefixtures("short_drain")
def test_a_server_that_stops_is_no_client_that_left(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RUNS_PER_PROJECT", 1)
    with ExitStack() as clients, start() as first:
        talk = Talk(first, clients.enter_context(client_for(first.url, KEY)))
        talk.plays([SILENCE], [text("done")])
        talk.start(talk.assistant(), talk.thread("it has the only slot"))
        eventually(lambda: len(talk.provider_calls()) == 1)
        wish = {"x-cancel-on-disconnect": "true"}
        stream = talk.open_stream(talk.assistant(), talk.thread("it waits"), **wish)
        live = clients.enter_context(stream)
        live.until("thread.run.queued")
    with start() as second, client_for(second.url, KEY) as http:
        assert Talk(second, http).rested(live.heard[0].data)["status"] == "completed"


@pytest.mark.usefixtures("short_drain")
def test_a_stream_ends_with_its_server(start: Start) -> None:
    with start() as server, client_for(server.url, KEY) as http:
        talk = Talk(server, http)
        talk.plays([text("half"), SILENCE])
        with talk.open_stream(talk.assistant(), talk.thread("hi")) as live:
            live.until("thread.message.delta")
            id = live.heard[0].data["id"]
            server.loop.call_soon_threadsafe(server.app.worker.interrupt, id, "drain")
            heard = live.rest()
        assert heard[-1].name == "error"
        assert heard[-1].data["error"]["type"] == "server_error"
