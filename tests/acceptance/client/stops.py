"""Cancelling: in a stream, while outputs are awaited, while the provider is silent."""

import time
from typing import Any

import openai

from tests.acceptance.client.runs import wait_until
from tests.acceptance.client.scene import (
    WEATHER,
    Scene,
    call,
    names,
    refused,
    rehearse,
    same,
    scenario,
    text_of,
)


@scenario(119, 122, 156)
def a_cancel_ends_the_stream(scene: Scene) -> None:
    """cancelling, the incomplete message, the cancelled step, cancelled; the text is kept."""
    runs = scene.client.beta.threads.runs
    thread = scene.thread(rehearse([{"words": 1000, "every_ms": 20}]))
    with runs.stream(thread_id=thread.id, assistant_id=scene.assistant().id) as stream:
        events: list[Any] = []
        is_asked = False
        for event in stream:
            events.append(event)
            if event.event == "thread.message.delta" and not is_asked:
                is_asked = True
                answer = runs.cancel(event_run(events), thread_id=thread.id)
                assert answer.status in ("cancelling", "cancelled"), answer.status
    expected = [
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
    ]
    same(names(events)[-4:], expected)
    run = stream.get_final_run()
    assert run.status == "cancelled" and run.cancelled_at is not None
    same(run, runs.retrieve(run.id, thread_id=thread.id))
    message = scene.messages(thread.id)[-1]
    assert message.incomplete_details is not None
    same((message.status, message.incomplete_details.reason), ("incomplete", "run_cancelled"))
    assert text_of(message).startswith("word1 "), message
    same([message], stream.get_final_messages())
    (step,) = runs.steps.list(run.id, thread_id=thread.id)
    assert step.status == "cancelled" and step.cancelled_at is not None
    wait_until(lambda: scene.calls()[0].get("left_early") is True)


def event_run(events: list[Any]) -> str:
    """The id of the run that these events are of."""
    run_id: str = events[0].data.id
    return run_id


@scenario(120, 121)
def a_cancel_frees_a_waiting_thread(scene: Scene) -> None:
    """requires_action may be cancelled; then the thread takes messages and runs again."""
    threads = scene.client.beta.threads
    assistant = scene.assistant(tools=[WEATHER])
    thread = scene.thread(rehearse([call("get_weather", city="Oslo")]))
    run = scene.run(thread, assistant)
    same(run.status, "requires_action")
    answer = threads.runs.cancel(run.id, thread_id=thread.id)
    assert answer.status in ("cancelling", "cancelled"), answer.status
    wait_until(lambda: threads.runs.retrieve(run.id, thread_id=thread.id).status == "cancelled")
    with refused(openai.BadRequestError, "Cannot cancel run with status 'cancelled'."):
        threads.runs.cancel(run.id, thread_id=thread.id)
    with refused(openai.BadRequestError, 'Runs in status "cancelled" do not accept tool outputs.'):
        threads.runs.submit_tool_outputs(run.id, thread_id=thread.id, tool_outputs=[])
    threads.messages.create(thread.id, role="user", content="Hello")
    same(scene.run(thread, assistant).status, "completed")


@scenario(119)
def a_cancel_does_not_wait_for_a_silent_provider(scene: Scene) -> None:
    """The run ends at once, and the provider is left."""
    runs = scene.client.beta.threads.runs
    thread = scene.thread(rehearse([{"silence": True}]))
    run = runs.create(thread_id=thread.id, assistant_id=scene.assistant().id)
    wait_until(lambda: bool(scene.calls()))
    began = time.monotonic()
    runs.cancel(run.id, thread_id=thread.id)
    run = runs.poll(run.id, thread_id=thread.id)
    same(run.status, "cancelled")
    assert time.monotonic() - began < 3
    wait_until(lambda: scene.calls()[0].get("left_early") is True)


@scenario(129, 159)
def a_deleted_thread_ends_its_stream(scene: Scene) -> None:
    """With an error that the SDK raises: there is no run any more that could have an end."""
    threads = scene.client.beta.threads
    thread = scene.thread(rehearse([{"words": 1000, "every_ms": 20}]))
    try:
        with threads.runs.stream(thread_id=thread.id, assistant_id=scene.assistant().id) as stream:
            for event in stream:
                if event.event == "thread.message.delta":
                    threads.delete(thread.id)
                    break
            stream.until_done()
    except openai.APIError as error:
        same(error.message, "Thread was deleted.")
    else:
        raise AssertionError("the stream ended as if nothing had happened")
    wait_until(lambda: scene.calls()[0].get("left_early") is True)


@scenario(121)
def a_run_that_is_over_cannot_be_cancelled(scene: Scene) -> None:
    """With the status in the text."""
    thread = scene.thread("Hello")
    run = scene.run(thread, scene.assistant())
    with refused(openai.BadRequestError, "Cannot cancel run with status 'completed'."):
        scene.client.beta.threads.runs.cancel(run.id, thread_id=thread.id)
