"""The asynchronous client: the same operations, and many runs at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai
from openai import AsyncAssistantEventHandler
from openai.types.beta.threads import Message, Text
from typing_extensions import override

from tests.acceptance.client.scene import (
    TIMEOUT_S,
    WEATHER,
    Scene,
    call,
    outputs,
    rehearse,
    same,
    scenario,
    text_of,
)


class Notes(AsyncAssistantEventHandler):
    """Notes what the SDK tells an asynchronous handler."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.text = ""

    @override
    async def on_text_created(self, text: Text) -> None:
        self.heard.append("text created")

    @override
    async def on_text_delta(self, delta: Any, snapshot: Text) -> None:
        self.text += delta.value or ""
        same(snapshot.value, self.text)

    @override
    async def on_text_done(self, text: Text) -> None:
        self.heard.append(f"text done: {text.value}")

    @override
    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.heard.append(f"call created: {tool_call.function.name}")

    @override
    async def on_message_done(self, message: Message) -> None:
        self.heard.append(f"message done: {text_of(message)}")

    @override
    async def on_end(self) -> None:
        self.heard.append("end")


def asynchronously(scene: Scene, play: Callable[[openai.AsyncOpenAI], Awaitable[None]]) -> None:
    """Play with an asynchronous client of the same server."""

    async def whole() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{scene.root}/v1",
            api_key=scene.key,
            timeout=TIMEOUT_S,
            max_retries=0,
            _strict_response_validation=True,
        ) as client:
            await play(client)

    asyncio.run(whole())


@scenario(136, 164)
def an_asynchronous_client_drives_a_run(scene: Scene) -> None:
    """Poll to the call, submit with a stream and a handler."""

    async def play(client: openai.AsyncOpenAI) -> None:
        threads = client.beta.threads
        assistant = await client.beta.assistants.create(model=scene.model, tools=[WEATHER])
        prompt = rehearse([call("get_weather", city="Oslo")], [{"text": "It rains."}])
        thread = await threads.create(messages=[{"role": "user", "content": prompt}])
        async with threads.runs.stream(
            thread_id=thread.id, assistant_id=assistant.id, event_handler=Notes()
        ) as first:
            await first.until_done()
        same(first.heard, ["call created: get_weather", "end"])
        run = await first.get_final_run()
        async with threads.runs.submit_tool_outputs_stream(
            run_id=run.id,
            thread_id=thread.id,
            tool_outputs=outputs(run, "rain"),
            event_handler=Notes(),
        ) as second:
            await second.until_done()
        expected = ["text created", "text done: It rains.", "message done: It rains.", "end"]
        same(second.heard, expected)
        found = [text_of(one) async for one in threads.messages.list(thread.id, limit=1)]
        same(found, ["It rains.", prompt])
        again = await threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
        same(again.status, "completed")

    asynchronously(scene, play)


@scenario(90)
def many_runs_go_on_at_once(scene: Scene) -> None:
    """Twenty threads, each with its own answer."""

    async def play(client: openai.AsyncOpenAI) -> None:
        assistant = await client.beta.assistants.create(model=scene.model)

        async def one(number: int) -> str:
            prompt = rehearse([{"text": f"Answer {number}.", "every_ms": 50}])
            run = await client.beta.threads.create_and_run_poll(
                assistant_id=assistant.id,
                thread={"messages": [{"role": "user", "content": prompt}]},
            )
            same(run.status, "completed")
            page = await client.beta.threads.messages.list(run.thread_id, limit=1)
            return text_of(page.data[0])

        answers = await asyncio.gather(*(one(number) for number in range(20)))
        same(answers, [f"Answer {number}." for number in range(20)])

    asynchronously(scene, play)


@scenario(95, 94)
def one_of_many_creates_wins(scene: Scene) -> None:
    """Ten runs on one thread at the same moment: one is taken, nine are refused."""

    async def play(client: openai.AsyncOpenAI) -> None:
        assistant = await client.beta.assistants.create(model=scene.model)
        prompt = rehearse([{"delay_ms": 500}, {"text": "Done."}])
        thread = await client.beta.threads.create(messages=[{"role": "user", "content": prompt}])
        runs = client.beta.threads.runs
        found = await asyncio.gather(
            *(runs.create(thread_id=thread.id, assistant_id=assistant.id) for _ in range(10)),
            return_exceptions=True,
        )
        refusals = [one for one in found if isinstance(one, openai.BadRequestError)]
        (taken,) = [one for one in found if not isinstance(one, BaseException)]
        same(len(refusals), 9)
        expected = f"Thread {thread.id} already has an active run {taken.id}."
        for refusal in refusals:
            body: Any = refusal.body
            same(body["message"], expected)
        same((await runs.poll(taken.id, thread_id=thread.id)).status, "completed")

    asynchronously(scene, play)
