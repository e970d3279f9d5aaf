"""Runs that are polled: how they end, what a request may override, what the model receives."""

import json
import time
from typing import Any

import openai

from tests.acceptance.client.scene import (
    BOTH,
    TIME,
    WEATHER,
    Scene,
    outputs,
    rehearse,
    same,
    scenario,
    text_of,
)


@scenario(90, 97, 98, 136)
def a_run_completes(scene: Scene) -> None:
    """create_and_poll: the answer, the usage, the timestamps."""
    assistant = scene.assistant(instructions="Be kind.")
    thread = scene.thread(rehearse([{"text": "Hello there."}]))
    run = scene.run(thread, assistant)
    same((run.status, run.object), ("completed", "thread.run"))
    same((run.assistant_id, run.thread_id), (assistant.id, thread.id))
    same((run.expires_at, run.required_action, run.last_error), (None, None, None))
    assert run.started_at is not None and run.completed_at is not None and run.usage is not None
    assert run.created_at <= run.started_at <= run.completed_at
    same((run.instructions, run.model), ("Be kind.", scene.model))
    same(run.usage.total_tokens, run.usage.prompt_tokens + run.usage.completion_tokens)
    steps = list(scene.client.beta.threads.runs.steps.list(run.id, thread_id=thread.id))
    assert all(step.usage is not None for step in steps)
    totals = [step.usage.total_tokens for step in steps if step.usage is not None]
    same(sum(totals), run.usage.total_tokens)
    _, answer = scene.messages(thread.id)
    same((answer.role, answer.status), ("assistant", "completed"))
    same((answer.run_id, answer.assistant_id), (run.id, assistant.id))
    same(text_of(answer), "Hello there.")


@scenario(90, 28)
def a_run_is_created_and_polled(scene: Scene) -> None:
    """runs.create answers at once; runs.poll follows."""
    runs = scene.client.beta.threads.runs
    assistant, thread = scene.assistant(), scene.thread(rehearse([{"text": "Done."}]))
    created = runs.create(thread_id=thread.id, assistant_id=assistant.id)
    same((created.status, created.started_at), ("queued", None))
    same(created.expires_at, created.created_at + 600)
    same(runs.poll(created.id, thread_id=thread.id).status, "completed")
    same(scene.last_text(thread.id), "Done.")


@scenario(28, 136)
def a_poll_helper_is_held_and_others_are_told_when_to_look(scene: Scene) -> None:
    """The helper asks once and hears the end; another GET has `openai-poll-after-ms`."""
    runs = scene.client.beta.threads.runs
    assistant = scene.assistant()
    thread = scene.thread(rehearse([{"delay_ms": 1600}, {"text": "Slow."}]))
    run = runs.create(thread_id=thread.id, assistant_id=assistant.id)
    raw = runs.with_raw_response.retrieve(run.id, thread_id=thread.id)
    wait_ms = int(raw.headers["openai-poll-after-ms"])
    assert 0 < wait_ms < 1000, wait_ms
    looks = 0

    class Counting(openai.OpenAI):
        """Counts the requests."""

        def _prepare_request(self, request: Any) -> None:
            nonlocal looks
            looks += 1

    with Counting(base_url=f"{scene.root}/v1", api_key=scene.key) as client:
        same(client.beta.threads.runs.poll(run.id, thread_id=thread.id).status, "completed")
    same(looks, 1)


@scenario(130)
def a_thread_and_its_run_in_one_request(scene: Scene) -> None:
    """create_and_run and create_and_run_poll make the thread as well."""
    threads = scene.client.beta.threads
    assistant = scene.assistant()
    prompt = rehearse([{"text": "Together."}])
    created = threads.create_and_run(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": prompt}], "metadata": {"a": "b"}},
    )
    same(created.status, "queued")
    same(threads.runs.poll(created.id, thread_id=created.thread_id).status, "completed")
    same(threads.retrieve(created.thread_id).metadata, {"a": "b"})
    same(scene.last_text(created.thread_id), "Together.")
    polled = threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": prompt}]}
    )
    same((polled.status, scene.last_text(polled.thread_id)), ("completed", "Together."))
    bare = threads.create_and_run_poll(assistant_id=assistant.id)
    same((bare.status, len(scene.messages(bare.thread_id))), ("completed", 1))


@scenario(99, 108)
def a_run_overrides_the_assistant(scene: Scene) -> None:
    """For this run only; the assistant stays as it was."""
    assistant = scene.client.beta.assistants.create(
        model="another-model", instructions="Be long.", tools=[WEATHER], temperature=1, top_p=1
    )
    run = scene.run(
        scene.thread("Hello"),
        assistant,
        model=scene.model,
        instructions="Be brief.",
        tools=[TIME],
        tool_choice="none",
        temperature=0.25,
        top_p=0.5,
        response_format={"type": "json_object"},
        metadata={"why": "test"},
        parallel_tool_calls=False,
    )
    same((run.status, run.model, run.instructions), ("completed", scene.model, "Be brief."))
    same((run.temperature, run.top_p, run.metadata), (0.25, 0.5, {"why": "test"}))
    same((run.tool_choice, run.parallel_tool_calls), ("none", False))
    (asked,) = scene.asked()
    same(asked["messages"][0]["content"], "Be brief.")
    same((asked["temperature"], asked["top_p"]), (0.25, 0.5))
    same(asked["response_format"], {"type": "json_object"})
    assert "tools" not in asked
    assert scene.client.beta.assistants.retrieve(assistant.id) == assistant


@scenario(100, 101)
def a_run_adds_to_the_assistant(scene: Scene) -> None:
    """additional_instructions come after, additional_messages before the answer."""
    assistant, thread = scene.assistant(instructions="Be kind."), scene.thread("First")
    run = scene.run(
        thread,
        assistant,
        additional_instructions="Be brief.",
        additional_messages=[
            {"role": "assistant", "content": "Second"},
            {"role": "user", "content": "Third"},
        ],
    )
    same(run.status, "completed")
    texts = [(one.role, text_of(one)) for one in scene.messages(thread.id)]
    same(texts[:3], [("user", "First"), ("assistant", "Second"), ("user", "Third")])
    same(len(texts), 4)
    (asked,) = scene.asked()
    system, *rest = asked["messages"]
    assert system["content"].startswith("Be kind."), system
    assert system["content"].endswith("Be brief."), system
    same([one["role"] for one in rest], ["user", "assistant", "user"])


@scenario(108, 111)
def a_tool_choice_is_obeyed(scene: Scene) -> None:
    """`required` and a named function force the first turn only."""
    runs = scene.client.beta.threads.runs
    assistant = scene.assistant(tools=BOTH)
    named: Any = {"type": "function", "function": {"name": "get_time"}}
    choices: list[tuple[Any, str]] = [("required", "get_weather"), (named, "get_time")]
    for choice, expected in choices:
        thread = scene.thread("Hello")
        run = scene.run(thread, assistant, tool_choice=choice)
        same(run.status, "requires_action")
        assert run.required_action is not None
        (pending,) = run.required_action.submit_tool_outputs.tool_calls
        same(pending.function.name, expected)
        run = runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=thread.id,
            tool_outputs=[{"tool_call_id": pending.id, "output": "x"}],
        )
        same(run.status, "completed")
    forced, after, named_call, _ = scene.asked()
    same(forced["tool_choice"], "required")
    assert after.get("tool_choice", "auto") == "auto"
    same(named_call["tool_choice"], named)


@scenario(105)
def only_the_last_messages_are_sent(scene: Scene) -> None:
    """truncation_strategy last_messages."""
    thread = scene.thread("one", "two", "three")
    truncation: Any = {"type": "last_messages", "last_messages": 2}
    run = scene.run(thread, scene.assistant(), truncation_strategy=truncation)
    same(run.status, "completed")
    assert run.truncation_strategy is not None
    same(run.truncation_strategy.last_messages, 2)
    (asked,) = scene.asked()
    same([one["content"] for one in asked["messages"] if one["role"] == "user"], ["two", "three"])


@scenario(106)
def an_overflow_drops_the_middle(scene: Scene) -> None:
    """truncation_strategy auto keeps the first message and the newest ones."""
    texts = [f"message {number} " + "word " * 100 for number in range(10)]
    thread = scene.thread(*texts)
    truncation: Any = {"type": "auto"}
    run = scene.run(
        thread, scene.assistant(), truncation_strategy=truncation, max_prompt_tokens=500
    )
    same(run.status, "completed")
    (asked,) = scene.asked()
    sent = [one["content"].split()[1] for one in asked["messages"] if one["role"] == "user"]
    same((sent[0], sent[-1]), ("0", "9"))
    assert len(sent) < 10 and sent == sorted(sent), sent


@scenario(45)
def a_schema_shapes_the_answer(scene: Scene) -> None:
    """response_format json_schema and json_object reach the model."""
    properties = {"city": {"type": "string"}, "degrees": {"type": "integer"}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
    format: Any = {
        "type": "json_schema",
        "json_schema": {"name": "weather", "strict": True, "schema": schema},
    }
    thread = scene.thread("Weather?")
    run = scene.run(thread, scene.assistant(response_format=format))
    same(run.status, "completed")
    same(sorted(json.loads(scene.last_text(thread.id))), ["city", "degrees"])
    (asked,) = scene.asked()
    same(asked["response_format"], format)
    thread = scene.thread("Answer in JSON")
    run = scene.run(thread, scene.assistant(), response_format={"type": "json_object"})
    same(run.status, "completed")
    assert "answer" in json.loads(scene.last_text(thread.id))


@scenario(103)
def a_used_up_budget_ends_incomplete(scene: Scene) -> None:
    """max_completion_tokens: the text so far is kept."""
    thread = scene.thread(rehearse([{"words": 400}]))
    run = scene.run(thread, scene.assistant(), max_completion_tokens=256)
    same(run.status, "incomplete")
    assert run.incomplete_details is not None
    same(run.incomplete_details.reason, "max_completion_tokens")
    same((run.max_completion_tokens, run.expires_at), (256, None))
    message = scene.messages(thread.id)[-1]
    same(message.status, "incomplete")
    assert message.incomplete_details is not None
    same(message.incomplete_details.reason, "max_tokens")
    assert text_of(message).startswith("word1 word2 ")


@scenario(123, 125)
def a_failing_provider_fails_the_run(scene: Scene) -> None:
    """The request that made the run is answered all the same; the thread is free again."""
    body = {"error": {"message": "The engine is on fire.", "type": "server_error"}}
    thread = scene.thread(rehearse([{"status": 400, "body": body}]))
    assistant = scene.assistant()
    run = scene.run(thread, assistant)
    same(run.status, "failed")
    assert run.last_error is not None and run.failed_at is not None
    assert run.last_error.code in ("server_error", "invalid_prompt"), run.last_error
    same((run.completed_at, run.expires_at), (None, None))
    scene.client.beta.threads.messages.create(thread.id, role="user", content="Again")
    same(scene.run(thread, assistant).status, "completed")


@scenario(123)
def a_broken_provider_is_tried_again(scene: Scene) -> None:
    """What fails before the first byte is repeated, then it succeeds."""
    limit = {"status": 429, "headers": {"retry-after": "0"}, "body": {}, "times": 1}
    fault = {"status": 500, "body": "oops", "times": 1}
    script = {"steps": [fault, limit, {"text": "Fine now."}]}
    thread = scene.thread("rehearse: " + json.dumps(script))
    same(scene.run(thread, scene.assistant()).status, "completed")
    same(scene.last_text(thread.id), "Fine now.")
    same([one["status"] for one in scene.calls()], [500, 429, 200])


@scenario(123)
def a_provider_that_stays_broken_fails_the_run(scene: Scene) -> None:
    """server_error, and no secret of the provider."""
    thread = scene.thread(rehearse([{"status": 500, "body": "sk-secret at http://inside:1"}]))
    run = scene.run(thread, scene.assistant())
    same(run.status, "failed")
    assert run.last_error is not None
    same(run.last_error.code, "server_error")
    assert "secret" not in run.last_error.message, run.last_error


@scenario(104)
def a_used_up_prompt_budget_ends_incomplete(scene: Scene) -> None:
    """max_prompt_tokens is a total over the run's turns; the second turn finds nothing left."""
    runs = scene.client.beta.threads.runs
    usage = {"prompt_tokens": 256, "completion_tokens": 5, "total_tokens": 261}
    thread = scene.thread(rehearse([{"call": {"name": "get_time"}}, {"usage": usage}]))
    run = scene.run(thread, scene.assistant(tools=BOTH), max_prompt_tokens=256)
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread.id, tool_outputs=outputs(run, "noon")
    )
    same(run.status, "incomplete")
    assert run.incomplete_details is not None and run.usage is not None
    same(run.incomplete_details.reason, "max_prompt_tokens")
    same((run.usage.prompt_tokens, run.usage.total_tokens), (256, 261))
    same(len(scene.calls()), 1)


@scenario(124)
def a_rate_limit_is_told(scene: Scene) -> None:
    """Applications read `try again in Xs` from last_error."""
    text = "Rate limit reached for requests. Please try again in 60s."
    body = {"error": {"message": text, "type": "requests", "code": "rate_limit_exceeded"}}
    step = {"status": 429, "body": body, "headers": {"retry-after": "60"}}
    run = scene.run(scene.thread(rehearse([step])), scene.assistant())
    same(run.status, "failed")
    assert run.last_error is not None
    same((run.last_error.code, run.last_error.message), ("rate_limit_exceeded", text))


@scenario(97)
def half_an_emoji_does_not_fail_a_run(scene: Scene) -> None:
    """Gateways that cut text by UTF-16 units send lone surrogates; the rest is kept."""
    chunk = 'data: {"choices": [{"index": 0, "delta": {"content": "TEXT"}}]}\n\n'
    texts = ("One ", "\\ud83d", "\\ude00", " two.")
    frames = "".join(chunk.replace("TEXT", text) for text in texts)
    thread = scene.thread(rehearse([{"raw_bytes": frames}]))
    same(scene.run(thread, scene.assistant()).status, "completed")
    text = scene.last_text(thread.id)
    assert text.startswith("One ") and text.endswith(" two."), text


@scenario(133)
def a_refusal_is_a_content_part(scene: Scene) -> None:
    """Not a text, and the run is complete."""
    thread = scene.thread(rehearse([{"refusal": "I cannot help with that."}]))
    same(scene.run(thread, scene.assistant()).status, "completed")
    (part,) = scene.messages(thread.id)[-1].content
    assert part.type == "refusal", part
    same(part.refusal, "I cannot help with that.")


@scenario(128)
def a_deleted_assistant_does_not_stop_its_run(scene: Scene) -> None:
    """The run has what it needs."""
    assistant = scene.assistant(instructions="Be kind.")
    thread = scene.thread(rehearse([{"delay_ms": 300}, {"text": "Still here."}]))
    runs = scene.client.beta.threads.runs
    run = runs.create(thread_id=thread.id, assistant_id=assistant.id)
    scene.client.beta.assistants.delete(assistant.id)
    same(runs.poll(run.id, thread_id=thread.id).status, "completed")
    same(scene.last_text(thread.id), "Still here.")


@scenario(129)
def a_deleted_thread_stops_its_run(scene: Scene) -> None:
    """The provider's stream is closed."""
    assistant = scene.assistant()
    thread = scene.thread(rehearse([{"text": "Hm"}, {"silence": True}]))
    runs = scene.client.beta.threads.runs
    runs.create(thread_id=thread.id, assistant_id=assistant.id)
    wait_until(lambda: bool(scene.calls()))
    scene.client.beta.threads.delete(thread.id)
    wait_until(lambda: scene.calls()[0].get("left_early") is True)


def wait_until(is_true: Any) -> None:
    """Until then, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
