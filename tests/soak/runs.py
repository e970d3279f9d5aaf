"""Runs that come to a good end: polled, streamed, replayed, with functions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.crash.client import Event
from tests.soak.client import Client, check_stream, text_of
from tests.soak.words import FUNCTION, Json, call, paced, script, words


@asynccontextmanager
async def assistant(client: Client, **fields: Any) -> AsyncIterator[str]:
    """An assistant that is deleted at the end."""
    made = await client.post("/assistants", {"model": "rehearsal", **fields})
    yield made["id"]
    await client.delete(f"/assistants/{made['id']}")


@asynccontextmanager
async def thread(client: Client, *messages: Json, **fields: Any) -> AsyncIterator[str]:
    """A thread that is deleted at the end; its path."""
    made = await client.post("/threads", {"messages": list(messages), **fields})
    yield f"/threads/{made['id']}"
    await client.delete(f"/threads/{made['id']}")


@asynccontextmanager
async def conversation(client: Client, *turns: list[Json]) -> AsyncIterator[tuple[str, Json]]:
    """A thread whose next run plays this, and the body of that run."""
    async with (
        assistant(client, tools=[FUNCTION]) as id,
        thread(client, script(*turns)) as path,
    ):
        yield path, {"assistant_id": id}


async def check_answer(client: Client, path: str, text: str) -> None:
    """The thread's last message is this one, whole, once."""
    messages = (await client.get(f"{path}/messages?limit=100"))["data"]
    own = [message for message in messages if message["role"] == "assistant"]
    assert own[0]["content"][0]["text"]["value"] == text, own
    assert {message["status"] for message in own} == {"completed"}, own


def answers(run: Json) -> Json:
    """Outputs for what the run asks."""
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert [json.loads(one["function"]["arguments"]) for one in calls] == [
        {"number": number} for number in range(len(calls))
    ]
    return {"tool_outputs": [{"tool_call_id": one["id"], "output": "found it"} for one in calls]}


def calls(count: int) -> list[Json]:
    """Steps that call the function."""
    return [call("look_up", {"number": number}) for number in range(count)]


async def polled(client: Client) -> None:
    """Create, poll, read."""
    text = words(client.rng, 30)
    async with conversation(client, [paced(text, 15)]) as (path, body):
        run = await client.post(f"{path}/runs", body)
        await client.until(f"{path}/runs/{run['id']}", "completed")
        await check_answer(client, path, text)
        steps = (await client.get(f"{path}/runs/{run['id']}/steps"))["data"]
        assert [step["status"] for step in steps] == ["completed"]


async def streamed(client: Client) -> None:
    """A stream to its end; its replay is the same."""
    text = words(client.rng, 60)
    async with conversation(client, [paced(text, 10)]) as (path, body):
        events = await client.events(f"{path}/runs", {**body, "stream": True})
        check_stream(events)
        assert text_of(events) == text
        assert events[-1].name == "thread.run.completed"
        run = events[0].object["id"]
        assert await client.events(f"{path}/runs/{run}/events", None) == events
        await check_answer(client, path, text)


async def read_slowly(client: Client) -> None:
    """A reader that pauses gets everything."""
    text = words(client.rng, 400)
    async with conversation(client, [paced(text, 1)]) as (path, body):
        events: list[Event] = []
        async with client.stream(f"{path}/runs", {**body, "stream": True}) as slow:
            async for event in slow:
                events.append(event)
                if len(events) % 20 == 0:
                    await asyncio.sleep(0.05)
        check_stream(events)
        assert text_of(events) == text


async def functions_polled(client: Client) -> None:
    """Two rounds of function calls, polled."""
    text = words(client.rng, 10)
    async with conversation(client, calls(2), calls(1), [paced(text, 5)]) as (path, body):
        run = await client.post(f"{path}/runs", body)
        place = f"{path}/runs/{run['id']}"
        for _ in range(2):
            run = await client.until(place, "requires_action")
            await client.post(f"{place}/submit_tool_outputs", answers(run))
        await client.until(place, "completed")
        await check_answer(client, path, text)
        assert len((await client.get(f"{place}/steps"))["data"]) == 3


async def functions_streamed(client: Client) -> None:
    """A round of function calls in two streams, which follow each other."""
    text = words(client.rng, 20)
    async with conversation(client, calls(2), [paced(text, 10)]) as (path, body):
        events = await client.events(f"{path}/runs", {**body, "stream": True})
        assert events[-1].name == "thread.run.requires_action"
        run = events[-1].object
        given = {**answers(run), "stream": True}
        events += await client.events(f"{path}/runs/{run['id']}/submit_tool_outputs", given)
        check_stream(events)
        assert text_of(events) == text


async def several_turns(client: Client) -> None:
    """A conversation of some runs, one after the other, on one thread."""
    async with conversation(client) as (path, body):
        for _ in range(3):
            text = words(client.rng, 8)
            await client.post(f"{path}/messages", script([paced(text, 2)]))
            run = await client.post(f"{path}/runs", body)
            await client.until(f"{path}/runs/{run['id']}", "completed")
            await check_answer(client, path, text)
        assert len((await client.get(f"{path}/runs"))["data"]) == 3


ALL = [polled, streamed, read_slowly, functions_polled, functions_streamed, several_turns]
