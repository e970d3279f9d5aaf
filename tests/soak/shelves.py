"""Files, uploads and vector stores: made, searched, and deleted again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from tests.soak.client import POLL_S, Client, check_stream
from tests.soak.runs import assistant, check_answer, thread
from tests.soak.words import SEARCH, Json, call, script, words

_SLOW_PIECE = 16 * 1024


@asynccontextmanager
async def text_file(client: Client, count: int) -> AsyncIterator[tuple[str, str]]:
    """A file of so many words, and a word that stands in it alone."""
    own = f"own{client.rng.randrange(200)}word"
    content = f"{words(client.rng, count)} {own} {words(client.rng, count)}"
    id = await client.upload(f"{own}.txt", content.encode())
    yield id, own
    await client.delete(f"/files/{id}")


@asynccontextmanager
async def store(client: Client, files: int) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """A store with files that are indexed; its id, and each file's own word."""
    async with AsyncExitStack() as stack:
        own = {}
        for _ in range(files):
            id, word = await stack.enter_async_context(text_file(client, 2_000))
            own[id] = word
        made = await client.post("/vector_stores", {"file_ids": list(own)})
        await ready(client, made["id"], files)
        yield made["id"], own
        await client.delete(f"/vector_stores/{made['id']}")


async def ready(client: Client, store_id: str, files: int) -> None:
    """Wait until all files are indexed."""
    while True:
        counts = (await client.get(f"/vector_stores/{store_id}"))["file_counts"]
        if counts["completed"] == files:
            return
        assert counts["failed"] == counts["cancelled"] == 0, counts
        await asyncio.sleep(POLL_S)


async def stored(client: Client) -> None:
    """Some hundred KB, uploaded, listed, downloaded and deleted."""
    content = client.rng.randbytes(client.rng.randint(100_000, 600_000))
    id = await client.upload("noise.png", content, "vision")
    assert await client.content(id) == content
    assert (await client.get(f"/files/{id}"))["bytes"] == len(content)
    await client.delete(f"/files/{id}")
    await client.ask("GET", f"/files/{id}", status=404)


async def in_parts(client: Client) -> None:
    """An upload of parts; every second one is cancelled."""
    parts = [client.rng.randbytes(60_000) for _ in range(3)]
    body = {"filename": "parts.png", "purpose": "vision", "mime_type": "image/png"}
    made = await client.post("/uploads", {**body, "bytes": sum(map(len, parts))})
    place, ids = f"/uploads/{made['id']}", []
    for part in parts:
        form = aiohttp.FormData()
        form.add_field("data", part, filename="part")
        async with client.http.post(f"{client.url}{place}/parts", data=form) as answer:
            assert answer.status == 200, await answer.text()
            ids.append((await answer.json())["id"])
    if client.rng.random() < 0.5:
        assert (await client.post(f"{place}/cancel", {}))["status"] == "cancelled"
        return
    done = await client.post(f"{place}/complete", {"part_ids": ids})
    assert await client.content(done["file"]["id"]) == b"".join(parts)
    await client.delete(f"/files/{done['file']['id']}")


async def searched(client: Client) -> None:
    """A store that is searched while it changes."""
    async with store(client, 2) as (id, own):
        for file_id, word in own.items():
            found = (await client.post(f"/vector_stores/{id}/search", {"query": word}))["data"]
            assert file_id in [one["file_id"] for one in found], (word, found)
        query = {"query": words(client.rng, 6), "max_num_results": 20}
        assert (await client.post(f"/vector_stores/{id}/search", query))["data"]
        gone, stays = own
        await client.delete(f"/vector_stores/{id}/files/{gone}")
        found = (await client.post(f"/vector_stores/{id}/search", {"query": own[gone]}))["data"]
        assert {one["file_id"] for one in found} <= {stays}
        async with text_file(client, 500) as (added, word):
            batch = await client.post(f"/vector_stores/{id}/file_batches", {"file_ids": [added]})
            place = f"/vector_stores/{id}/file_batches/{batch['id']}"
            await client.until(place, "completed")
            found = (await client.post(f"/vector_stores/{id}/search", {"query": word}))["data"]
            assert added in [one["file_id"] for one in found]


async def searched_in_a_run(client: Client) -> None:
    """A run whose model searches the assistant's store, and answers."""
    async with store(client, 1) as (id, own):
        [word] = own.values()
        resources = {"file_search": {"vector_store_ids": [id]}}
        look = [call("file_search", {"queries": [word, words(client.rng, 5)]})]
        async with (
            assistant(client, tools=[SEARCH], tool_resources=resources) as assistant_id,
            thread(client, script(look, [{"text": f"{word} is in it"}])) as path,
        ):
            body = {"assistant_id": assistant_id, "stream": True}
            events = await client.events(f"{path}/runs", body)
            check_stream(events)
            assert events[-1].name == "thread.run.completed", events[-1]
            await check_answer(client, path, f"{word} is in it")
            steps = await client.get(f"{path}/runs/{events[0].object['id']}/steps?order=asc")
            detail: Json = steps["data"][0]["step_details"]["tool_calls"][0]
            assert detail["file_search"]["results"], detail


async def attached(client: Client) -> None:
    """A file that comes with a message, whose run waits for it; its store goes with the thread."""
    async with text_file(client, 300) as (id, word), assistant(client, tools=[SEARCH]) as who:
        look = [call("file_search", {"queries": [word]})]
        message = {
            **script(look, [{"text": "found"}]),
            "attachments": [{"file_id": id, "tools": [SEARCH]}],
        }
        async with thread(client, message) as path:
            run = await client.post(f"{path}/runs", {"assistant_id": who})
            await client.until(f"{path}/runs/{run['id']}", "completed")
            made = await client.get(path)
            [store_id] = made["tool_resources"]["file_search"]["vector_store_ids"]
        await client.ask("GET", f"/vector_stores/{store_id}", status=404)


async def deleted_amid_indexing(client: Client) -> None:
    """A store that goes while its files are read."""
    async with text_file(client, 4_000) as (one, _), text_file(client, 4_000) as (other, _):
        made = await client.post("/vector_stores", {"file_ids": [one, other]})
        await asyncio.sleep(client.rng.uniform(0, 0.3))
        await client.delete(f"/vector_stores/{made['id']}")


ALL = [stored, in_parts, searched, searched_in_a_run, attached, deleted_amid_indexing]
