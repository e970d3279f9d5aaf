"""Streams and those who read them: the official SDK, slow and lost clients, silence."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AssistantEventHandler
from openai.types.beta.threads import Message, Text, TextDelta
from openai.types.beta.threads.runs import RunStep, ToolCall

from tests.api.conftest import client_for
from tests.api.conversation import (
    SILENCE,
    Talk,
    call,
    call_ids,
    eventually,
    frames,
    function,
    names,
    path_of,
    text,
    text_of,
)
from tests.api.serving import KEY, running
from understudy import limits

TOOLS = [function("f")]


class Notes(AssistantEventHandler):
    """Writes down which of its hooks were called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []
        self.said = ""

    def on_text_created(self, text: Text) -> None:
        self.called.append("text created")

    def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        self.said += delta.value or ""
        assert snapshot.value == self.said

    def on_text_done(self, text: Text) -> None:
        assert text.value == self.said
        self.called.append("text done")

    def on_message_done(self, message: Message) -> None:
        self.called.append("message done")

    def on_tool_call_created(self, tool_call: ToolCall) -> None:
        self.called.append("call created")

    def on_tool_call_done(self, tool_call: ToolCall) -> None:
        assert tool_call.type == "function"
        self.called.append(f"call done {tool_call.function.arguments}")

    def on_run_step_done(self, run_step: RunStep) -> None:
        self.called.append("step done")

    def on_end(self) -> None:
        self.called.append("end")


@pytest.mark.assertion(164, 165)
def test_the_sdks_handler_hears_a_plain_answer(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([text("Hello there, world")])
    notes = Notes()
    with sdk.beta.threads.runs.stream(
        thread_id=talk.thread("hi"), assistant_id=talk.assistant(), event_handler=notes
    ) as stream:
        stream.until_done()
    assert notes.called == ["text created", "text done", "message done", "step done", "end"]
    assert notes.said == "Hello there, world"
    run = stream.get_final_run()
    threads = sdk.beta.threads
    assert run == threads.runs.retrieve(run.id, thread_id=run.thread_id)
    steps = threads.runs.steps.list(run.id, thread_id=run.thread_id)
    # The Python SDK keeps a step as it was created; Node's keeps the last event.
    assert [step.id for step in stream.get_final_run_steps()] == [step.id for step in steps.data]
    assert stream.get_final_messages() == threads.messages.list(run.thread_id).data[:1]


@pytest.mark.assertion(164, 165)
def test_the_sdk_answers_calls_from_inside_its_stream(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([text("let me see"), call("f", {"a": 1}, pieces=4)], [text("It is done.")])
    runs = sdk.beta.threads.runs
    after = Notes()

    class Answering(Notes):
        def on_event(self, event: Any) -> None:
            if event.event != "thread.run.requires_action":
                return
            calls = event.data.required_action.submit_tool_outputs.tool_calls
            outputs: Any = [{"tool_call_id": one.id, "output": "1"} for one in calls]
            with runs.submit_tool_outputs_stream(
                run_id=event.data.id,
                thread_id=event.data.thread_id,
                tool_outputs=outputs,
                event_handler=after,
            ) as stream:
                stream.until_done()

    before = Answering()
    with runs.stream(
        thread_id=talk.thread("hi"),
        assistant_id=talk.assistant(tools=TOOLS),
        event_handler=before,
    ) as stream:
        stream.until_done()
    assert before.said == "let me see"
    assert next(one for one in before.called if one.startswith("call")) == "call created"
    assert 'call done {"a":1}' in before.called
    assert after.said == "It is done."
    assert before.called[-1] == after.called[-1] == "end"
    assert after.called[0] == "step done"
    run = after.current_run
    assert run is not None
    assert run.status == "completed"


@pytest.mark.assertion(164)
def test_the_sdk_streams_a_thread_that_it_creates(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([text("Hello")])
    with sdk.beta.threads.create_and_run_stream(
        assistant_id=talk.assistant(), thread={"messages": [{"role": "user", "content": "hi"}]}
    ) as stream:
        heard = [event.event for event in stream]
    assert heard[0] == "thread.created"
    assert heard[-1] == "thread.run.completed"
    events = sdk.beta.threads.create_and_run(assistant_id=talk.assistant(), stream=True)
    assert [event.event for event in events][-1] == "thread.run.completed"


@pytest.fixture
def quick_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is filled after a moment already."""
    monkeypatch.setattr(limits, "KEEP_ALIVE_S", 0.03)


@pytest.mark.assertion(162)
@pytest.mark.usefixtures("quick_comments")
def test_silence_is_filled_with_comments(talk: Talk, sdk: openai.OpenAI) -> None:
    talk.plays([text("Hello "), {"delay_ms": 200}, text("there")])
    assistant = talk.assistant()
    body = {"assistant_id": assistant, "stream": True}
    raw = talk.http.post(f"/threads/{talk.thread('hi')}/runs", json=body).content
    assert raw.count(b": keep-alive\n\n") >= 3
    assert names(frames(raw))[-1] == "done"
    notes = Notes()
    with sdk.beta.threads.runs.stream(
        thread_id=talk.thread("hi"), assistant_id=assistant, event_handler=notes
    ) as stream:
        stream.until_done()
    assert notes.said == "Hello there"


@pytest.mark.assertion(163)
def test_a_client_that_leaves_does_not_stop_the_run(talk: Talk) -> None:
    talk.plays([text("Hello "), {"delay_ms": 100}, text("there")])
    with talk.open_stream(talk.assistant(), talk.thread("hi")) as live:
        live.until("thread.message.delta")
    run = talk.rested(live.heard[0].data)
    assert run["status"] == "completed"
    assert talk.texts(run["thread_id"]) == ["hi", "Hello there"]
    assert not talk.provider_calls()[0]["left_early"]


@pytest.mark.parametrize("wish", ["true", "True"])
def test_a_client_may_want_its_run_to_go_with_it(talk: Talk, wish: str) -> None:
    talk.plays([text("Hello"), SILENCE])
    headers = {"x-cancel-on-disconnect": wish}
    with talk.open_stream(talk.assistant(), talk.thread("hi"), **headers) as live:
        live.until("thread.message.delta")
    run = talk.rested(live.heard[0].data)
    assert run["status"] == "cancelled"
    eventually(lambda: talk.provider_calls()[0]["left_early"])


def test_a_wish_to_cancel_harms_no_run_that_ended(talk: Talk) -> None:
    talk.plays([text("Hello")])
    body = {"assistant_id": talk.assistant()}
    headers = {"x-cancel-on-disconnect": "true"}
    found = talk.streamed(f"/threads/{talk.thread('hi')}/runs", body, **headers)
    assert talk.again(found[0].data)["status"] == "completed"


def test_outputs_are_taken_while_the_first_stream_is_open(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    with talk.open_stream(talk.assistant(tools=TOOLS), talk.thread("hi")) as live:
        run = live.until("thread.run.requires_action").data
        outputs = [{"tool_call_id": call_ids(run)[0], "output": "1"}]
        path = f"{path_of(run)}/submit_tool_outputs"
        second = talk.streamed(path, {"tool_outputs": outputs})
        assert names(live.rest())[-2:] == ["run.requires_action", "done"]
    assert names(second)[0] == "run.step.completed"
    assert names(second)[-2:] == ["run.completed", "done"]


def test_many_readers_hear_the_same(talk: Talk) -> None:
    talk.plays([{"text": "one two three four", "every_ms": 20}])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    with talk.open_replay(run) as one, talk.open_replay(run) as two, talk.open_replay(run) as three:
        assert one.rest() == two.rest() == three.rest()


def test_a_long_answer_outgrows_the_memory_of_the_live_log(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIVE_LOG_BYTES", 4_000)
    talk.plays([{"words": 500}])
    found = talk.stream(talk.assistant(), talk.thread("hi"))
    assert text_of(found).split()[-1] == "word500"
    run = found[0].data
    assert [frame.data for frame in talk.replay(run)] == [frame.data for frame in found]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """A server that works on one run at a time."""
    with (
        running(tmp_path_factory.mktemp("narrow"), max_runs=1) as server,
        client_for(server.url, KEY) as http,
    ):
        server.require_own_process()  # A fleet of two such works on two.
        talk = Talk(server, http)
        yield talk
        talk.close()


@pytest.mark.usefixtures("quick_comments")
def test_a_run_waits_in_the_queue_and_its_stream_with_it(narrow: Talk) -> None:
    busy, other = Talk(narrow.server, narrow.http), Talk(narrow.server, narrow.http)
    busy.plays([SILENCE])
    first = busy.start(busy.assistant(), busy.thread("hi"))
    busy.once(first, lambda now: now["status"] == "in_progress")
    other.plays([text("at last")])
    with other.open_stream(other.assistant(), other.thread("hi")) as live:
        live.until("thread.run.queued")
        run = live.heard[0].data
        assert other.again(run)["status"] == "queued"
        busy.cancel(first)
        found = live.rest()
    assert names(found)[:3] == ["run.created", "run.queued", "run.in_progress"]
    assert text_of(found) == "at last"
    assert other.again(run)["status"] == "completed"


def test_the_stream_of_a_run_in_the_queue_ends_with_its_thread(narrow: Talk) -> None:
    busy, other = Talk(narrow.server, narrow.http), Talk(narrow.server, narrow.http)
    busy.plays([SILENCE])
    first = busy.start(busy.assistant(), busy.thread("hi"))
    busy.once(first, lambda now: now["status"] == "in_progress")
    with other.open_stream(other.assistant(), other.thread("hi")) as live:
        live.until("thread.run.queued")
        run = live.heard[0].data
        other.http.delete(f"/threads/{run['thread_id']}")
        found = live.rest()
    assert names(found) == ["run.created", "run.queued", "error"]
    assert found[-1].data["error"]["message"] == "Thread was deleted."
    busy.cancel(first)


def test_a_run_in_the_queue_can_be_cancelled(narrow: Talk) -> None:
    busy, other = Talk(narrow.server, narrow.http), Talk(narrow.server, narrow.http)
    busy.plays([SILENCE])
    first = busy.start(busy.assistant(), busy.thread("hi"))
    busy.once(first, lambda now: now["status"] == "in_progress")
    with other.open_stream(other.assistant(), other.thread("hi")) as live:
        live.until("thread.run.queued")
        run = live.heard[0].data
        assert other.cancel(run).json()["status"] == "cancelling"
        assert names(live.rest())[-3:] == ["run.cancelling", "run.cancelled", "done"]
    assert other.again(run)["status"] == "cancelled"
    assert other.asked() == []
    busy.cancel(first)


def test_a_slow_reader_misses_nothing(talk: Talk) -> None:
    talk.plays([{"words": 3_000}])
    thread = talk.thread("hi")
    body = {"assistant_id": talk.assistant(), "stream": True}
    with (
        httpx2.Client(base_url=talk.server.url, headers=talk.http.headers, verify=False) as slow,
        slow.stream("POST", f"/threads/{thread}/runs", json=body) as answer,
    ):
        (run,) = talk.get(f"/threads/{thread}/runs")["data"]
        assert talk.rested(run)["status"] == "completed"  # Before a byte is read here.
        raw = b"".join(answer.iter_bytes())
    assert text_of(frames(raw)).split()[-1] == "word3000"
    assert names(frames(raw))[-1] == "done"
