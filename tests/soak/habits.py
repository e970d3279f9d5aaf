"""What the official SDK does for its users, and lists of objects."""

from typing import Any

from openai import AsyncAssistantEventHandler
from openai.types.beta.threads import Run
from openai.types.beta.threads.run_submit_tool_outputs_params import ToolOutput
from typing_extensions import override

from tests.soak.client import Client
from tests.soak.runs import calls
from tests.soak.words import FUNCTION, paced, script, words


class _Reader(AsyncAssistantEventHandler):
    """Collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    @override
    async def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.text += delta.value or ""


async def sdk_polls(client: Client) -> None:
    """create_and_poll, with functions and submit_tool_outputs_and_poll."""
    beta, text = client.sdk.beta, words(client.rng, 12)
    tools: Any = [FUNCTION]
    assistant = await beta.assistants.create(model="rehearsal", tools=tools)
    messages: Any = [script(calls(2), [paced(text, 10)])]
    thread = await beta.threads.create(messages=messages)
    run = await beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, poll_interval_ms=80
    )
    run = await beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread.id, tool_outputs=_outputs(run), poll_interval_ms=80
    )
    assert run.status == "completed", run
    listed = await beta.threads.messages.list(thread.id, run_id=run.id)
    assert [_text(message) for message in listed.data] == [text]
    await beta.threads.delete(thread.id)
    await beta.assistants.delete(assistant.id)


async def sdk_streams(client: Client) -> None:
    """stream with a handler, and submit_tool_outputs_stream."""
    beta, text = client.sdk.beta, words(client.rng, 40)
    tools: Any = [FUNCTION]
    assistant = await beta.assistants.create(model="rehearsal", tools=tools)
    messages: Any = [script(calls(1), [paced(text, 10)])]
    thread = await beta.threads.create(messages=messages)
    async with beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        await stream.until_done()
        run = stream.current_run
    assert run is not None and run.status == "requires_action", run
    handler = _Reader()
    async with beta.threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=thread.id, tool_outputs=_outputs(run), event_handler=handler
    ) as stream:
        await stream.until_done()
    assert handler.text == text
    assert handler.current_run is not None and handler.current_run.status == "completed"
    await beta.threads.delete(thread.id)
    await beta.assistants.delete(assistant.id)


def _outputs(run: Run) -> list[ToolOutput]:
    assert run.required_action is not None, run
    asked = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": one.id, "output": "found"} for one in asked]


def _text(message: Any) -> str:
    return "".join(part.text.value for part in message.content)


async def sdk_searches(client: Client) -> None:
    """upload_and_poll into a store, and a search."""
    stores = client.sdk.vector_stores
    store = await stores.create(name="a store")
    content = words(client.rng, 400).encode()
    file = await stores.files.upload_and_poll(
        vector_store_id=store.id, file=("some.txt", content), poll_interval_ms=80
    )
    assert file.status == "completed", file
    found = await stores.search(store.id, query=words(client.rng, 3))
    assert {one.file_id for one in found.data} == {file.id}
    await stores.delete(store.id)
    await client.sdk.files.delete(file.id)


async def lists(client: Client) -> None:
    """Assistants made, changed, listed page by page, and deleted; a thread's messages too."""
    made = []
    for number in range(5):
        body = {"model": "rehearsal", "name": f"assistant {number}"}
        made.append((await client.post("/assistants", body))["id"])
    await client.post(f"/assistants/{made[0]}", {"metadata": {"is": "changed"}})
    seen, after = set(), ""
    for _ in range(50):
        page = await client.get(f"/assistants?limit=4{after}")
        seen |= {one["id"] for one in page["data"]}
        if not page["has_more"] or seen >= set(made):
            break
        after = f"&after={page['last_id']}"
    assert seen >= set(made)
    messages = [{"role": "user", "content": words(client.rng, 30)} for _ in range(20)]
    thread = await client.post("/threads", {"messages": messages})
    path = f"/threads/{thread['id']}"
    page = await client.get(f"{path}/messages?limit=12&order=asc")
    rest = await client.get(f"{path}/messages?limit=12&order=asc&after={page['last_id']}")
    assert (len(page["data"]), len(rest["data"]), rest["has_more"]) == (12, 8, False)
    for place in ("/files", "/vector_stores", "/models"):
        await client.get(place)
    await client.delete(path)
    for id in made:
        await client.delete(f"/assistants/{id}")


ALL = [sdk_polls, sdk_streams, sdk_searches, lists]
