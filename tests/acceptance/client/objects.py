"""Create, read, change, list and delete: every resource, through the SDK's typed methods."""

import base64
import struct
from typing import Any

import openai

from tests.acceptance.client.scene import WEATHER, Scene, refused, rehearse, same, scenario, text_of


@scenario(1, 29, 30, 54, 55, 56)
def assistants_are_made_read_and_changed(scene: Scene) -> None:
    """Defaults are filled in; a change leaves the rest; null and {} clear."""
    assistants = scene.client.beta.assistants
    made = assistants.create(model=scene.model)
    assert made.id.startswith("asst_") and len(made.id) == len("asst_") + 24
    same(
        (made.object, made.name, made.description, made.instructions), ("assistant",) + (None,) * 3
    )
    same((made.tools, made.metadata, made.temperature, made.top_p), ([], {}, 1.0, 1.0))
    same(made.response_format, "auto")
    same(assistants.retrieve(made.id), made)

    tools: Any = [WEATHER]
    changed = assistants.update(
        made.id, name="Zoë", instructions="Be brief.", tools=tools, metadata={"a": "1", "b": "2"}
    )
    same((changed.name, changed.instructions, changed.model), ("Zoë", "Be brief.", scene.model))
    same(changed.created_at, made.created_at)
    same(changed.tools[0].type, "function")
    changed = assistants.update(made.id, metadata={"c": "3"})
    same((changed.metadata, changed.name), ({"c": "3"}, "Zoë"))
    cleared = assistants.update(made.id, name=None, tools=[], metadata={})
    same((cleared.name, cleared.tools, cleared.metadata), (None, [], {}))
    same(assistants.retrieve(made.id), cleared)


@scenario(59, 52)
def assistants_are_listed_and_deleted(scene: Scene) -> None:
    """The newest comes first; what is deleted is gone."""
    assistants = scene.client.beta.assistants
    older, newer = scene.assistant(name="older"), scene.assistant(name="newer")
    found = [one.id for one in assistants.list(limit=100)]
    assert found.index(newer.id) < found.index(older.id)
    deleted = assistants.delete(older.id)
    same((deleted.id, deleted.object, deleted.deleted), (older.id, "assistant.deleted", True))
    with refused(openai.NotFoundError, f"No assistant found with id '{older.id}'."):
        assistants.retrieve(older.id)
    with refused(openai.NotFoundError, f"No assistant found with id '{older.id}'."):
        assistants.delete(older.id)


@scenario(29, 42, 45, 61)
def assistants_keep_every_setting(scene: Scene) -> None:
    """What was given is what is read."""
    schema: Any = {"name": "s", "strict": True, "schema": {"type": "object", "properties": {}}}
    schema["schema"] |= {"additionalProperties": False, "required": []}
    response_format: Any = {"type": "json_schema", "json_schema": schema}
    made = scene.assistant(
        name="n",
        description="d",
        instructions="i",
        tools=[WEATHER, {"type": "code_interpreter"}, {"type": "file_search"}],
        temperature=0.5,
        top_p=0.25,
        response_format=response_format,
        reasoning_effort="high",
        metadata={"k": "v"},
    )
    read = scene.client.beta.assistants.retrieve(made.id)
    same((read.name, read.description, read.instructions), ("n", "d", "i"))
    same([tool.type for tool in read.tools], ["function", "code_interpreter", "file_search"])
    same((read.temperature, read.top_p, read.metadata), (0.5, 0.25, {"k": "v"}))
    assert read.response_format is not None and not isinstance(read.response_format, str)
    shown: Any = read.response_format.to_dict()
    same(shown["json_schema"]["name"], "s")
    same(shown["json_schema"]["strict"], True)
    same(shown["json_schema"]["schema"], schema["schema"])


@scenario(63, 64, 68, 70)
def threads_are_made_changed_and_deleted(scene: Scene) -> None:
    """An empty one, and one with messages in their order."""
    threads = scene.client.beta.threads
    empty = threads.create()
    same((empty.object, empty.metadata), ("thread", {}))
    same(list(threads.messages.list(empty.id)), [])
    thread = scene.thread("one", "two", "three")
    same([text_of(one) for one in scene.messages(thread.id)], ["one", "two", "three"])
    changed = threads.update(thread.id, metadata={"user": "7"})
    same((changed.metadata, threads.retrieve(thread.id)), ({"user": "7"}, changed))
    deleted = threads.delete(thread.id)
    same((deleted.id, deleted.object, deleted.deleted), (thread.id, "thread.deleted", True))
    with refused(openai.NotFoundError, f"No thread found with id '{thread.id}'."):
        threads.retrieve(thread.id)
    with refused(openai.NotFoundError, f"No thread found with id '{thread.id}'."):
        threads.messages.list(thread.id)


@scenario(73, 77, 85, 86)
def messages_are_made_changed_and_deleted(scene: Scene) -> None:
    """A user's message is complete at once."""
    messages = scene.client.beta.threads.messages
    thread = scene.thread()
    made = messages.create(thread.id, role="user", content="Grüße 👋")
    same((made.object, made.thread_id, made.role), ("thread.message", thread.id, "user"))
    same((made.status, made.run_id, made.assistant_id), ("completed", None, None))
    same((text_of(made), made.attachments, made.metadata), ("Grüße 👋", [], {}))
    same(messages.retrieve(made.id, thread_id=thread.id), made)
    changed = messages.update(made.id, thread_id=thread.id, metadata={"seen": "yes"})
    same((changed.metadata, changed.content), ({"seen": "yes"}, made.content))
    deleted = messages.delete(made.id, thread_id=thread.id)
    same((deleted.id, deleted.object, deleted.deleted), (made.id, "thread.message.deleted", True))
    same(scene.messages(thread.id), [])
    with refused(openai.NotFoundError, f"No message found with id '{made.id}'."):
        messages.retrieve(made.id, thread_id=thread.id)


@scenario(74, 76, 78)
def messages_hold_parts(scene: Scene) -> None:
    """Texts and images by URL; an assistant may be the author."""
    messages = scene.client.beta.threads.messages
    thread = scene.thread()
    url = "https://images.example/cat.png"
    made = messages.create(
        thread.id,
        role="assistant",
        content=[
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": url}},
        ],
    )
    same(made.role, "assistant")
    text, image = made.content
    assert text.type == "text" and image.type == "image_url"
    same((text.text.value, text.text.annotations), ("What is this?", []))
    same((image.image_url.url, image.image_url.detail), (url, "auto"))


@scenario(127)
def runs_are_read_listed_and_changed(scene: Scene) -> None:
    """Metadata changes in any state, also of a run that is over."""
    runs = scene.client.beta.threads.runs
    assistant, thread = scene.assistant(), scene.thread("Hello")
    first = scene.run(thread, assistant, metadata={"n": "1"})
    second = scene.run(thread, assistant)
    same((first.status, second.status), ("completed", "completed"))
    same(runs.retrieve(first.id, thread_id=thread.id), first)
    same([one.id for one in runs.list(thread.id)], [second.id, first.id])
    changed = runs.update(first.id, thread_id=thread.id, metadata={"n": "2"})
    same((changed.metadata, changed.status), ({"n": "2"}, "completed"))
    same(runs.retrieve(first.id, thread_id=thread.id), changed)


@scenario(137, 139, 140, 143)
def steps_are_listed_and_read(scene: Scene) -> None:
    """The newest comes first; each message has its step."""
    runs = scene.client.beta.threads.runs
    assistant = scene.assistant(tools=[WEATHER])
    prompt = rehearse([{"call": {"name": "get_weather"}}], [{"text": "Fine."}])
    thread = scene.thread(prompt)
    run = scene.run(thread, assistant)
    assert run.required_action is not None
    pending = run.required_action.submit_tool_outputs.tool_calls[0].id
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=thread.id,
        tool_outputs=[{"tool_call_id": pending, "output": "sunny"}],
    )
    same(run.status, "completed")
    newest, oldest = list(runs.steps.list(run.id, thread_id=thread.id))
    same((oldest.type, newest.type), ("tool_calls", "message_creation"))
    assert newest.step_details.type == "message_creation"
    message_id = newest.step_details.message_creation.message_id
    same(scene.messages(thread.id)[-1].id, message_id)
    for step in (oldest, newest):
        same((step.status, step.run_id, step.assistant_id), ("completed", run.id, assistant.id))
        same(runs.steps.retrieve(step.id, thread_id=thread.id, run_id=run.id), step)
    ascending = list(runs.steps.list(run.id, thread_id=thread.id, order="asc"))
    same(ascending, [oldest, newest])
    with refused(openai.NotFoundError, "No run step found with id 'step_missing'."):
        runs.steps.retrieve("step_missing", thread_id=thread.id, run_id=run.id)


@scenario(214)
def models_are_listed_and_read(scene: Scene) -> None:
    """The provider's models."""
    found = [model.id for model in scene.client.models.list()]
    assert "rehearsal" in found, found
    same(scene.client.models.retrieve("rehearsal").object, "model")
    message = "The model 'no-such-model' does not exist"
    with refused(openai.NotFoundError, message, code="model_not_found", param="model"):
        scene.client.models.retrieve("no-such-model")


@scenario(215)
def embeddings_are_the_same_in_both_encodings(scene: Scene) -> None:
    """The SDK asks for base64 by itself and decodes it."""
    # Not strict: the SDK would check the base64 text against the type of the decoded vector.
    embeddings = openai.OpenAI(base_url=f"{scene.root}/v1", api_key=scene.key).embeddings
    texts = ["a red fox", "a blue fox"]
    decoded = embeddings.create(model="rehearsal-embedding", input=texts)
    plain = embeddings.create(model="rehearsal-embedding", input=texts, encoding_format="float")
    raw = embeddings.create(model="rehearsal-embedding", input=texts, encoding_format="base64")
    same([one.index for one in decoded.data], [0, 1])
    for one, other, packed in zip(decoded.data, plain.data, raw.data, strict=True):
        assert len(one.embedding) == 64
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding, strict=True))
        bits: Any = packed.embedding
        same(list(struct.unpack("<64f", base64.b64decode(bits))), one.embedding)
    same((decoded.object, decoded.usage.prompt_tokens), ("list", 6))
    short = embeddings.create(model="rehearsal-embedding", input="a red fox", dimensions=8)
    same(len(short.data[0].embedding), 8)
