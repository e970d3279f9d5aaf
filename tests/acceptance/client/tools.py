"""Functions: calls, parallel calls, rounds of calls, and their outputs."""

import json
from typing import Any

import openai
from openai.types.beta.threads import Run

from tests.acceptance.client.scene import (
    BOTH,
    WEATHER,
    Scene,
    call,
    outputs,
    refused,
    rehearse,
    same,
    scenario,
)

END = [{"text": "That is all."}]


def pending(run: Run) -> list[tuple[str, Any]]:
    """Name and arguments of each call that the run waits for."""
    same(run.status, "requires_action")
    assert run.required_action is not None
    same(run.required_action.type, "submit_tool_outputs")
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [(one.function.name, json.loads(one.function.arguments)) for one in calls]


@scenario(111, 112, 116, 141)
def one_call_is_answered(scene: Scene) -> None:
    """requires_action, submit, completed; the step holds the output."""
    runs = scene.client.beta.threads.runs
    thread = scene.thread(rehearse([call("get_weather", city="Oslo")], END))
    run = scene.run(thread, scene.assistant(tools=[WEATHER]))
    same(pending(run), [("get_weather", {"city": "Oslo"})])
    found: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
    (step,) = runs.steps.list(run.id, thread_id=thread.id, include=found)
    assert step.step_details.type == "tool_calls" and step.status == "in_progress"
    (before,) = step.step_details.tool_calls
    assert before.type == "function" and before.function.output is None
    submitted = runs.submit_tool_outputs(
        run.id, thread_id=thread.id, tool_outputs=outputs(run, "rain")
    )
    same((submitted.status, submitted.required_action), ("queued", None))
    done = runs.poll(run.id, thread_id=thread.id)
    same((done.status, scene.last_text(thread.id)), ("completed", "That is all."))
    step = runs.steps.retrieve(step.id, thread_id=thread.id, run_id=run.id)
    assert step.step_details.type == "tool_calls" and step.status == "completed"
    (after,) = step.step_details.tool_calls
    assert after.type == "function"
    same((after.id, after.function.output), (before.id, "rain"))
    _, second = scene.asked()
    same(second["messages"][-1]["role"], "tool")
    same(second["messages"][-1]["content"], "rain")


@scenario(138)
def two_calls_are_answered_together(scene: Scene) -> None:
    """In one step, in the model's order."""
    thread = scene.thread(rehearse([call("get_weather", city="Oslo"), call("get_time")], END))
    _answered(scene, thread.id, ["get_weather", "get_time"])


@scenario(138)
def three_calls_are_answered_together(scene: Scene) -> None:
    """The same function may come twice."""
    cities = [call("get_weather", city=city) for city in ("Oslo", "Rome")]
    thread = scene.thread(rehearse([*cities, call("get_time")], END))
    _answered(scene, thread.id, ["get_weather", "get_weather", "get_time"])


def _answered(scene: Scene, thread_id: str, expected: list[str]) -> None:
    runs = scene.client.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread_id, assistant_id=scene.assistant(tools=BOTH).id)
    same([name for name, _ in pending(run)], expected)
    texts = [f"output {number}" for number in range(len(expected))]
    backwards = outputs(run, *texts)[::-1]  # The order of the outputs is free.
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread_id, tool_outputs=backwards
    )
    same((run.status, scene.last_text(thread_id)), ("completed", "That is all."))
    _, step = runs.steps.list(run.id, thread_id=thread_id)
    assert step.step_details.type == "tool_calls"
    calls = step.step_details.tool_calls
    found = [one.function.output for one in calls if one.type == "function"]
    same(found, texts)
    same(len({one.id for one in calls}), len(expected))


@scenario(117, 98)
def calls_come_in_rounds(scene: Scene) -> None:
    """Text, call, call, text: each in its own step; the deadline stays."""
    runs = scene.client.beta.threads.runs
    script = rehearse(
        [{"text": "Let me see."}, call("get_weather", city="Oslo")], [call("get_time")], END
    )
    thread = scene.thread(script)
    first = scene.run(thread, scene.assistant(tools=BOTH))
    same(pending(first), [("get_weather", {"city": "Oslo"})])
    second = runs.submit_tool_outputs_and_poll(
        run_id=first.id, thread_id=thread.id, tool_outputs=outputs(first, "rain")
    )
    same(pending(second), [("get_time", {})])
    same(second.expires_at, first.expires_at)
    done = runs.submit_tool_outputs_and_poll(
        run_id=first.id, thread_id=thread.id, tool_outputs=outputs(second, "noon")
    )
    same(done.status, "completed")
    steps = list(runs.steps.list(done.id, thread_id=thread.id, order="asc"))
    kinds = [step.type for step in steps]
    same(kinds, ["message_creation", "tool_calls", "tool_calls", "message_creation"])
    assert done.usage is not None
    same(
        sum(step.usage.total_tokens for step in steps if step.usage is not None),
        done.usage.total_tokens,
    )
    same(len(scene.messages(thread.id)), 3)


@scenario(113)
def missing_outputs_are_refused(scene: Scene) -> None:
    """With the exact ids; the run waits on."""
    runs = scene.client.beta.threads.runs
    thread = scene.thread(rehearse([call("get_weather", city="Oslo"), call("get_time")], END))
    run = scene.run(thread, scene.assistant(tools=BOTH))
    given = outputs(run, "rain", "noon")
    ids = [one["tool_call_id"] for one in given]
    message = f"Expected tool outputs for call_ids {ids}, got {ids[:1]}"
    with refused(openai.BadRequestError, message):
        runs.submit_tool_outputs(run.id, thread_id=thread.id, tool_outputs=given[:1])
    same(runs.retrieve(run.id, thread_id=thread.id).status, "requires_action")
    done = runs.submit_tool_outputs_and_poll(run_id=run.id, thread_id=thread.id, tool_outputs=given)
    same(done.status, "completed")
    message = 'Runs in status "completed" do not accept tool outputs.'
    with refused(openai.BadRequestError, message):
        runs.submit_tool_outputs(run.id, thread_id=thread.id, tool_outputs=given)


@scenario(110)
def parallel_calls_can_be_turned_off(scene: Scene) -> None:
    """At most one pending call, whatever the model does."""
    thread = scene.thread(rehearse([call("get_weather", city="Oslo"), call("get_time")], END))
    run = scene.run(thread, scene.assistant(tools=BOTH), parallel_tool_calls=False)
    same(pending(run), [("get_weather", {"city": "Oslo"})])
    same(scene.asked()[0]["parallel_tool_calls"], False)


@scenario(135)
def arguments_that_are_no_json_pass_through(scene: Scene) -> None:
    """What the model said is what the application sees."""
    step = {"call": {"name": "get_weather", "arguments": '{"city": '}}
    run = scene.run(scene.thread(rehearse([step], END)), scene.assistant(tools=[WEATHER]))
    same(run.status, "requires_action")
    assert run.required_action is not None
    (found,) = run.required_action.submit_tool_outputs.tool_calls
    same(found.function.arguments, '{"city": ')


@scenario(83, 84, 94)
def a_waiting_thread_is_locked(scene: Scene) -> None:
    """No messages, no second run, while outputs are awaited; neither is left behind."""
    threads = scene.client.beta.threads
    assistant = scene.assistant(tools=[WEATHER])
    thread = scene.thread(rehearse([call("get_weather", city="Oslo")], END))
    run = scene.run(thread, assistant)
    message = f"Can't add messages to {thread.id} while a run {run.id} is active."
    with refused(openai.BadRequestError, message):
        threads.messages.create(thread.id, role="user", content="Hurry")
    message = f"Thread {thread.id} already has an active run {run.id}."
    with refused(openai.BadRequestError, message):
        threads.runs.create(
            thread_id=thread.id,
            assistant_id=assistant.id,
            additional_messages=[{"role": "user", "content": "Hurry"}],
        )
    same(len(scene.messages(thread.id)), 1)
