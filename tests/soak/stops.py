"""Runs that come to another end: cancelled, left by their readers, failed by their provider."""

import asyncio

from tests.soak.client import Client, check_stream
from tests.soak.runs import assistant, calls, check_answer, conversation
from tests.soak.words import Json, paced, script, words

_SILENT: Json = {"silence": True}


async def cancelled(client: Client) -> None:
    """A cancel at some moment of a run; the thread goes on."""
    async with conversation(client, [paced(words(client.rng, 100), 50)]) as (path, body):
        run = await client.post(f"{path}/runs", body)
        place = f"{path}/runs/{run['id']}"
        await asyncio.sleep(client.rng.uniform(0, 0.6))
        await client.post(f"{place}/cancel", {})
        await client.until(place, "cancelled")
        await client.post(f"{path}/messages", script([{"text": "still here"}]))
        run = await client.post(f"{path}/runs", body)
        await client.until(f"{path}/runs/{run['id']}", "completed")


async def cancelled_amid_its_stream(client: Client) -> None:
    """One watches, another one cancels; the stream tells of it and ends."""
    async with conversation(client, [paced(words(client.rng, 100), 50)]) as (path, body):
        events = []
        async with client.stream(f"{path}/runs", {**body, "stream": True}) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == 10:
                    await client.post(f"{path}/runs/{events[0].object['id']}/cancel", {})
        check_stream(events)
        assert events[-1].name == "thread.run.cancelled"


async def cancelled_waiting(client: Client) -> None:
    """A run that waits for outputs is cancelled."""
    async with conversation(client, calls(1)) as (path, body):
        run = await client.post(f"{path}/runs", body)
        place = f"{path}/runs/{run['id']}"
        await client.until(place, "requires_action")
        await client.post(f"{place}/cancel", {})
        await client.until(place, "cancelled")


async def silent(client: Client) -> None:
    """A provider that says nothing, watched for a while, and cancelled."""
    async with conversation(client, [{"text": "well"}, _SILENT]) as (path, body):
        async with client.stream(f"{path}/runs", {**body, "stream": True}) as stream:
            first = await anext(stream)
            place = f"{path}/runs/{first.object['id']}"

            async def stop() -> None:
                await asyncio.sleep(client.silence_s)
                await client.post(f"{place}/cancel", {})

            stopping = asyncio.create_task(stop())
            events = [first, *[event async for event in stream]]
            await stopping
        check_stream(events)
        assert events[-1].name == "thread.run.cancelled"


async def left(client: Client) -> None:
    """A reader leaves amid the text; the run goes on to its end."""
    text = words(client.rng, 50)
    async with conversation(client, [paced(text, 20)]) as (path, body):
        run = await _leave(client, path, body)
        await client.until(f"{path}/runs/{run}", "completed")
        await check_answer(client, path, text)
        check_stream(await client.events(f"{path}/runs/{run}/events", None))


async def left_and_cancelled(client: Client) -> None:
    """A reader leaves who has asked that the run goes with it."""
    async with conversation(client, [paced(words(client.rng, 200), 50)]) as (path, body):
        run = await _leave(client, path, body, cancels=True)
        await client.until(f"{path}/runs/{run}", "cancelled")


async def _leave(client: Client, path: str, body: Json, *, cancels: bool = False) -> str:
    """Watch the beginning of a run, and go; its id."""
    least = client.rng.randint(1, 20)
    run, seen = "", 0
    async with client.stream(f"{path}/runs", {**body, "stream": True}, cancels=cancels) as stream:
        async for event in stream:
            run, seen = run or event.object["id"], seen + 1
            if seen >= least:
                break
    return run


async def replays_left(client: Client) -> None:
    """Readers who come later, to a live run, and leave."""
    text = words(client.rng, 80)
    async with conversation(client, [paced(text, 20)]) as (path, body):
        run = await client.post(f"{path}/runs", body)
        place = f"{path}/runs/{run['id']}"
        for _ in range(3):
            async with client.stream(f"{place}/events", None) as stream:
                for _ in range(client.rng.randint(1, 6)):
                    await anext(stream)
        check_stream(await client.events(f"{place}/events", None))
        await check_answer(client, path, text)


async def deleted_amid(client: Client) -> None:
    """A thread that is deleted under its run: the stream ends with the error that it should."""
    async with assistant(client) as id:
        message = script([paced(words(client.rng, 200), 50)])
        body = {"assistant_id": id, "thread": {"messages": [message]}, "stream": True}
        events = []
        async with client.stream("/threads/runs", body, fails=True) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == 8:
                    await client.delete(f"/threads/{events[0].object['id']}")
        assert events[-1].name == "error", events[-1]


async def failed_at_once(client: Client) -> None:
    """A provider that answers with 500 each time."""
    refusal: Json = {"status": 500, "body": {"error": {"message": "out of order"}}}
    async with conversation(client, [refusal]) as (path, body):
        events = await client.events(f"{path}/runs", {**body, "stream": True})
        check_stream(events)
        assert events[-1].name == "thread.run.failed"
        assert events[-1].object["last_error"]["code"] == "server_error"


async def failed_amid(client: Client) -> None:
    """A provider that breaks off."""
    steps: list[Json] = [paced(words(client.rng, 9), 9), {"drop": True}]
    async with conversation(client, steps) as (path, body):
        run = await client.post(f"{path}/runs", body)
        await client.until(f"{path}/runs/{run['id']}", "failed")


async def failed_at_first(client: Client) -> None:
    """A provider that is well again at the next attempt."""
    note = {"error": {"message": f"busy {client.rng.random()}"}}  # Equal steps share their count.
    busy: Json = {"status": client.rng.choice([500, 503, 429]), "body": note, "times": 1}
    async with conversation(client, [busy, {"text": "here"}]) as (path, body):
        run = await client.post(f"{path}/runs", body)
        await client.until(f"{path}/runs/{run['id']}", "completed")
        await check_answer(client, path, "here")


async def slow(client: Client) -> None:
    """A provider that thinks before it speaks."""
    steps: list[Json] = [{"delay_ms": 1500}, {"text": "so"}, {"delay_ms": 500}, {"text": " it is"}]
    async with conversation(client, steps) as (path, body):
        events = await client.events(f"{path}/runs", {**body, "stream": True})
        check_stream(events)
        await check_answer(client, path, "so it is")


ALL = [cancelled, cancelled_amid_its_stream, cancelled_waiting, silent, left, left_and_cancelled]
ALL += [replays_left, deleted_amid, failed_at_once, failed_amid, failed_at_first, slow]
