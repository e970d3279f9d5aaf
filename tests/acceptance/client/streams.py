"""Streams: the SDK's event handlers, its helpers, and the bare events."""

from typing import Any

from openai import AssistantEventHandler
from openai.types.beta.threads import Message, Run, Text
from openai.types.beta.threads.runs import RunStep, ToolCall
from typing_extensions import override

from tests.acceptance.client.scene import (
    BOTH,
    WEATHER,
    Scene,
    call,
    names,
    outputs,
    rehearse,
    same,
    scenario,
    text_of,
)

BEGIN = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
MESSAGE = [
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
]
CALLS = ["thread.run.step.created", "thread.run.step.in_progress", "thread.run.step.delta"]


class Notes(AssistantEventHandler):
    """Notes what the SDK tells a handler; equal neighbours once."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.text = ""
        self.arguments = ""

    def note(self, what: str) -> None:
        """Keep it, unless it is what came just before."""
        if self.heard[-1:] != [what]:
            self.heard.append(what)

    @override
    def on_run_step_created(self, run_step: RunStep) -> None:
        self.note(f"step created: {run_step.type}")

    @override
    def on_run_step_done(self, run_step: RunStep) -> None:
        self.note(f"step {run_step.status}: {run_step.type}")

    @override
    def on_message_created(self, message: Message) -> None:
        same((message.content, message.status), ([], "in_progress"))
        self.note("message created")

    @override
    def on_message_done(self, message: Message) -> None:
        self.note(f"message done: {text_of(message)}")

    @override
    def on_text_created(self, text: Text) -> None:
        same(text.annotations, [])
        self.note("text created")

    @override
    def on_text_delta(self, delta: Any, snapshot: Text) -> None:
        self.text += delta.value or ""
        same(snapshot.value, self.text)
        self.note("text delta")

    @override
    def on_text_done(self, text: Text) -> None:
        self.note(f"text done: {text.value}")

    @override
    def on_tool_call_created(self, tool_call: ToolCall) -> None:
        assert tool_call.type == "function" and tool_call.id.startswith("call_")
        self.arguments = tool_call.function.arguments
        self.note(f"call created: {tool_call.function.name}")

    @override
    def on_tool_call_delta(self, delta: Any, snapshot: ToolCall) -> None:
        self.arguments += delta.function.arguments or ""
        assert snapshot.type == "function"
        same(snapshot.function.arguments, self.arguments)
        self.note("call delta")

    @override
    def on_tool_call_done(self, tool_call: ToolCall) -> None:
        assert tool_call.type == "function"
        self.note(f"call done: {tool_call.function.name} {tool_call.function.arguments}")

    @override
    def on_end(self) -> None:
        self.note("end")


@scenario(150, 164)
def a_handler_hears_a_text(scene: Scene) -> None:
    """Every callback once and in order; the final objects are those of the record."""
    runs = scene.client.beta.threads.runs
    assistant = scene.assistant()
    thread = scene.thread(rehearse([{"text": "One two three.", "every_ms": 20}]))
    with runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=Notes()
    ) as stream:
        stream.until_done()
    same(
        stream.heard,
        [
            "step created: message_creation",
            "message created",
            "text created",
            "text delta",
            "text done: One two three.",
            "message done: One two three.",
            "step completed: message_creation",
            "end",
        ],
    )
    run = stream.get_final_run()
    same(run, runs.retrieve(run.id, thread_id=thread.id))
    same(stream.get_final_messages(), scene.messages(thread.id)[-1:])
    # This SDK's snapshot of a step does not take up its end; so by id.
    steps = list(runs.steps.list(run.id, thread_id=thread.id))
    same([step.id for step in stream.get_final_run_steps()], [step.id for step in steps])


@scenario(161, 164)
def a_handler_hears_calls(scene: Scene) -> None:
    """Names and ids come once; arguments grow; the calls come one after the other."""
    runs = scene.client.beta.threads.runs
    script = rehearse(
        [
            {"call": {"name": "get_weather", "arguments": {"city": "Oslo"}, "pieces": 5}},
            call("get_time"),
        ]
    )
    thread = scene.thread(script)
    assistant = scene.assistant(tools=BOTH)
    with runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=Notes()
    ) as stream:
        stream.until_done()
    same(
        stream.heard,
        [
            "step created: tool_calls",
            "call created: get_weather",
            "call delta",
            'call done: get_weather {"city":"Oslo"}',
            "call created: get_time",
            "call delta",
            "call done: get_time {}",
            "end",
        ],
    )
    run = stream.get_final_run()
    same(run.status, "requires_action")
    same(run, runs.retrieve(run.id, thread_id=thread.id))
    steps = list(runs.steps.list(run.id, thread_id=thread.id))
    same([step.id for step in stream.get_final_run_steps()], [step.id for step in steps])


@scenario(147, 149)
def a_text_has_exactly_these_events(scene: Scene) -> None:
    """create(stream=True), and what each event shows of its object."""
    assistant = scene.assistant()
    thread = scene.thread(rehearse([{"words": 5, "every_ms": 5}]))
    events = list(
        scene.client.beta.threads.runs.create(
            thread_id=thread.id, assistant_id=assistant.id, stream=True
        )
    )
    same(names(events), [*BEGIN, *MESSAGE, "thread.run.completed"])
    seen = {event.event: event.data for event in events}
    created: Any = seen["thread.run.created"]
    same((created.status, created.started_at), ("queued", None))
    step: Any = seen["thread.run.step.created"]
    same(step.status, "in_progress")
    last: Any = seen["thread.run.completed"]
    same((last.status, last.required_action), ("completed", None))
    assert last.usage is not None and last.completed_at is not None


@scenario(148)
def a_new_thread_comes_first(scene: Scene) -> None:
    """Only where the request makes the thread."""
    prompt = rehearse([{"text": "Hello."}])
    events = list(
        scene.client.beta.threads.create_and_run(
            assistant_id=scene.assistant().id,
            thread={"messages": [{"role": "user", "content": prompt}]},
            stream=True,
        )
    )
    same(names(events), ["thread.created", *BEGIN, *MESSAGE, "thread.run.completed"])
    thread: Any = events[0].data
    same(scene.last_text(thread.id), "Hello.")


@scenario(148, 164)
def a_new_thread_is_streamed_to_a_handler(scene: Scene) -> None:
    """create_and_run_stream, with a handler and without."""
    threads = scene.client.beta.threads
    assistant = scene.assistant()
    thread: Any = {"messages": [{"role": "user", "content": rehearse([{"text": "Hello you."}])}]}
    with threads.create_and_run_stream(
        assistant_id=assistant.id, thread=thread, event_handler=Notes()
    ) as notes:
        notes.until_done()
    assert "message done: Hello you." in notes.heard, notes.heard
    with threads.create_and_run_stream(assistant_id=assistant.id, thread=thread) as stream:
        same("".join(stream.text_deltas), "Hello you.")
    same(scene.last_text(stream.get_final_run().thread_id), "Hello you.")


@scenario(151, 152)
def outputs_are_submitted_with_a_stream(scene: Scene) -> None:
    """The old step completes first, then the run goes on."""
    runs = scene.client.beta.threads.runs
    thread = scene.thread(rehearse([call("get_weather", city="Oslo")], [{"text": "Rain."}]))
    assistant = scene.assistant(tools=[WEATHER])
    first = list(runs.create(thread_id=thread.id, assistant_id=assistant.id, stream=True))
    same(names(first), [*BEGIN, *CALLS, "thread.run.requires_action"])
    run: Any = first[-1].data
    same(run.status, "requires_action")
    second = list(
        runs.submit_tool_outputs(
            run.id, thread_id=thread.id, tool_outputs=outputs(run, "rain"), stream=True
        )
    )
    expected = ["thread.run.step.completed", "thread.run.queued", "thread.run.in_progress"]
    same(names(second), [*expected, *MESSAGE, "thread.run.completed"])
    step: Any = second[0].data
    same(step.step_details.tool_calls[0].function.output, "rain")


class Agent(Notes):
    """Answers calls from inside the stream that asks for them, as the quickstart does."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.scene = scene
        self.inner: list[Notes] = []

    @override
    def on_event(self, event: Any) -> None:
        if event.event == "thread.run.requires_action":
            self.answer(event.data)

    def answer(self, run: Run) -> None:
        """Submit, and follow the rest in an inner stream while this one is open."""
        assert run.required_action is not None
        texts = ["sunny"] * len(run.required_action.submit_tool_outputs.tool_calls)
        with self.scene.client.beta.threads.runs.submit_tool_outputs_stream(
            run_id=run.id,
            thread_id=run.thread_id,
            tool_outputs=outputs(run, *texts),
            event_handler=Agent(self.scene),
        ) as stream:
            stream.until_done()
        self.inner += [stream, *stream.inner]


@scenario(117, 152)
def outputs_are_submitted_inside_the_open_stream(scene: Scene) -> None:
    """Two rounds, each from within the event of the one before."""
    script = rehearse(
        [call("get_weather", city="Oslo"), call("get_time")],
        [call("get_weather", city="Rome")],
        [{"text": "Sunny everywhere."}],
    )
    thread = scene.thread(script)
    assistant = scene.assistant(tools=BOTH)
    with scene.client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=Agent(scene)
    ) as stream:
        stream.until_done()
    same(len(stream.inner), 2)
    same(stream.inner[-1].text, "Sunny everywhere.")
    same(stream.inner[-1].get_final_run().status, "completed")
    same(scene.last_text(thread.id), "Sunny everywhere.")


@scenario(158)
def a_used_up_budget_ends_the_stream(scene: Scene) -> None:
    """message.incomplete, step.completed, run.incomplete."""
    thread = scene.thread(rehearse([{"words": 400}]))
    events = list(
        scene.client.beta.threads.runs.create(
            thread_id=thread.id,
            assistant_id=scene.assistant().id,
            max_completion_tokens=256,
            stream=True,
        )
    )
    expected = ["thread.message.incomplete", "thread.run.step.completed", "thread.run.incomplete"]
    same(names(events)[-3:], expected)


@scenario(157)
def a_lost_provider_fails_the_stream(scene: Scene) -> None:
    """The text so far is kept in an incomplete message; then the run fails."""
    thread = scene.thread(rehearse([{"text": "So far"}, {"delay_ms": 100}, {"drop": True}]))
    with scene.client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=scene.assistant().id
    ) as stream:
        events = list(stream)
    expected = ["thread.message.incomplete", "thread.run.step.failed", "thread.run.failed"]
    same(names(events)[-3:], expected)
    run = stream.get_final_run()
    assert run.last_error is not None
    same((run.status, run.last_error.code), ("failed", "server_error"))
    same(text_of(scene.messages(thread.id)[-1]), "So far")


@scenario(133)
def a_refusal_is_streamed(scene: Scene) -> None:
    """As fragments of a refusal part."""
    thread = scene.thread(rehearse([{"refusal": "I would rather not."}]))
    text = ""
    with scene.client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=scene.assistant().id
    ) as stream:
        for event in stream:
            if event.event == "thread.message.delta":
                for part in event.data.delta.content or []:
                    assert part.type == "refusal"
                    text += part.refusal or ""
    same(text, "I would rather not.")
    (whole,) = stream.get_final_messages()[0].content
    assert whole.type == "refusal"
    same(whole.refusal, text)


@scenario(163)
def a_client_that_leaves_does_not_stop_the_run(scene: Scene) -> None:
    """The result is there for those who poll."""
    runs = scene.client.beta.threads.runs
    thread = scene.thread(rehearse([{"words": 10, "every_ms": 20}]))
    stream = runs.create(thread_id=thread.id, assistant_id=scene.assistant().id, stream=True)
    first: Any = next(iter(stream))
    stream.close()
    same(runs.poll(first.data.id, thread_id=thread.id).status, "completed")
    assert scene.last_text(thread.id).endswith("word10")


@scenario(162, is_slow=True)
def a_long_silence_is_bridged(scene: Scene) -> None:
    """Keep-alives go unnoticed, and keep a client that gives up after 17 s of silence."""
    runs = scene.client.with_options(timeout=17).beta.threads.runs
    script: list[dict[str, Any]] = [{"text": "I think "}, {"delay_ms": 18_500}, {"text": "slowly."}]
    thread = scene.thread(rehearse(script))
    with runs.stream(thread_id=thread.id, assistant_id=scene.assistant().id) as stream:
        same("".join(stream.text_deltas), "I think slowly.")
    same(stream.get_final_run().status, "completed")
