"""Vector stores, their files, batches and searches, and the helpers that wait for them."""

import time
from typing import Any

import openai

from tests.acceptance.client.scene import Scene, refused, same, scenario

CATS = ("cats.md", b"# Cats\n\nCats purr when they are content.")
DOGS = ("Dogs.TXT", b"Dogs bark at strangers.")
EMPTY = ("empty.txt", b" \n")


def lenient(scene: Scene) -> openai.OpenAI:
    """A client that takes what recorded traffic has where the SDK's types have something else:
    null for the name of a store, and `vector_store.file_batch`."""
    return openai.OpenAI(
        base_url=f"{scene.root}/v1", api_key=scene.key, timeout=scene.client.timeout, max_retries=0
    )


def upload(scene: Scene, file: tuple[str, bytes]) -> str:
    """A file; its id."""
    return scene.client.files.create(file=file, purpose="assistants").id


@scenario(183, 185, 193)
def vector_stores_are_made_changed_listed_and_deleted(scene: Scene) -> None:
    """Defaults are filled in; what is deleted is gone."""
    stores = lenient(scene).vector_stores
    made = stores.create()
    assert made.id.startswith("vs_") and len(made.id) == len("vs_") + 32
    same((made.name, made.status, made.usage_bytes, made.metadata), (None, "completed", 0, {}))
    same((made.file_counts.total, made.expires_after, made.expires_at), (0, None, None))
    same(stores.retrieve(made.id), made)
    changed = scene.client.vector_stores.update(
        made.id,
        name="Pets",
        metadata={"k": "v"},
        expires_after={"anchor": "last_active_at", "days": 7},
    )
    same((changed.name, changed.metadata), ("Pets", {"k": "v"}))
    assert changed.last_active_at is not None
    same(changed.expires_at, changed.last_active_at + 7 * 86_400)
    same(scene.client.vector_stores.retrieve(made.id), changed)
    newer = stores.create(name="newer")
    found = [one.id for one in stores.list(limit=1)]
    assert found.index(newer.id) < found.index(made.id)
    deleted = scene.client.vector_stores.delete(made.id)
    same((deleted.id, deleted.object, deleted.deleted), (made.id, "vector_store.deleted", True))
    with refused(openai.NotFoundError, f"No vector store found with id '{made.id}'."):
        stores.retrieve(made.id)


@scenario(184, 189, 192, 193, 199, 202)
def files_of_vector_stores_are_polled_updated_and_read(scene: Scene) -> None:
    """Every helper of `vector_stores.files` comes to its end."""
    store = scene.client.vector_stores.create(name="files")
    files = scene.client.vector_stores.files
    cats = files.upload_and_poll(vector_store_id=store.id, file=CATS)
    same((cats.status, cats.last_error), ("completed", None))
    dogs = files.create_and_poll(
        upload(scene, DOGS), vector_store_id=store.id, attributes={"kind": "dog", "legs": 4}
    )
    same((dogs.status, dogs.attributes), ("completed", {"kind": "dog", "legs": 4}))
    empty = files.upload(vector_store_id=store.id, file=EMPTY)
    same(files.retrieve(empty.id, vector_store_id=store.id).id, empty.id)
    empty = files.poll(empty.id, vector_store_id=store.id)
    assert empty.last_error is not None
    same((empty.status, empty.last_error.code), ("failed", "invalid_file"))
    [failed] = files.list(store.id, filter="failed")
    same(failed.id, empty.id)
    same([one.id for one in files.list(store.id, limit=1)], [empty.id, dogs.id, cats.id])
    updated = files.update(cats.id, vector_store_id=store.id, attributes={"old": True})
    same(updated.attributes, {"old": True})
    same(files.update(cats.id, vector_store_id=store.id, attributes=None).attributes, {})
    text = "".join(piece.text or "" for piece in files.content(dogs.id, vector_store_id=store.id))
    same(text, DOGS[1].decode())
    gone = files.delete(cats.id, vector_store_id=store.id)
    same((gone.id, gone.object, gone.deleted), (cats.id, "vector_store.file.deleted", True))
    message = f"No file found with id '{cats.id}' in vector store '{store.id}'."
    with refused(openai.NotFoundError, message):
        files.retrieve(cats.id, vector_store_id=store.id)
    same(scene.client.files.retrieve(cats.id).filename, "cats.md")
    counts = scene.client.vector_stores.retrieve(store.id).file_counts
    same((counts.completed, counts.failed, counts.total), (1, 1, 2))


@scenario(194, 195, 202)
def batches_of_files_are_polled_listed_and_cancelled(scene: Scene) -> None:
    """One bad file fails alone, and the helpers come to their end."""
    batches = lenient(scene).vector_stores.file_batches
    store = scene.client.vector_stores.create(name="batches")
    ids = [upload(scene, CATS), upload(scene, EMPTY)]
    done = batches.create_and_poll(store.id, file_ids=ids)
    same((done.status, done.vector_store_id), ("completed", store.id))
    same((done.file_counts.completed, done.file_counts.failed), (1, 1))
    same(batches.poll(done.id, vector_store_id=store.id), done)
    listed = batches.list_files(done.id, vector_store_id=store.id, order="asc")
    same([one.id for one in listed], ids)
    uploaded = batches.upload_and_poll(store.id, files=[CATS, DOGS], file_ids=[ids[0]])
    assert uploaded.id.startswith("vsfb_")
    same((uploaded.file_counts.completed, uploaded.file_counts.total), (3, 3))
    many: Any = [upload(scene, (f"{number}.txt", b"x " * 5_000)) for number in range(5)]
    begun = batches.create(store.id, file_ids=many)
    batches.cancel(begun.id, vector_store_id=store.id)
    cancelled = batches.retrieve(begun.id, vector_store_id=store.id)
    same((cancelled.id, cancelled.file_counts.in_progress), (begun.id, 0))
    same(cancelled.file_counts.total, 5)


@scenario(196, 197, 198)
def vector_stores_are_searched(scene: Scene) -> None:
    """By one query or several, and filtered by attributes."""
    stores = scene.client.vector_stores
    store = stores.create(name="search")
    cats = stores.files.upload_and_poll(vector_store_id=store.id, file=CATS)
    dogs = stores.files.upload_and_poll(
        vector_store_id=store.id, file=DOGS, attributes={"kind": "dog"}
    )
    [first, *_] = stores.search(store.id, query="Who purrs?")
    same((first.file_id, first.filename, first.attributes), (cats.id, "cats.md", {}))
    assert 0 < first.score <= 1
    assert "purr" in first.content[0].text
    both = stores.search(store.id, query=["purr", "bark"], max_num_results=2)
    same({one.file_id for one in both}, {cats.id, dogs.id})
    only: Any = {"type": "and", "filters": [{"type": "eq", "key": "kind", "value": "dog"}]}
    options: Any = {"ranker": "auto", "score_threshold": 0.0}
    found = stores.search(
        store.id, query="purr or bark", filters=only, ranking_options=options, rewrite_query=False
    )
    same([one.file_id for one in found], [dogs.id])
    with refused(
        openai.BadRequestError,
        "Invalid 'max_num_results': integer above maximum value. Expected a value <= 50, "
        "but got 51 instead.",
        code="integer_above_max_value",
        param="max_num_results",
    ):
        stores.search(store.id, query="x", max_num_results=51)


@scenario(50, 65, 67, 82)
def assistants_and_threads_bring_their_stores(scene: Scene) -> None:
    """By the helper `vector_stores`, and by attachments of messages."""
    file_id = upload(scene, CATS)
    helper: Any = {"file_search": {"vector_stores": [{"file_ids": [file_id]}]}}
    assistant = scene.assistant(tools=[{"type": "file_search"}], tool_resources=helper)
    assert assistant.tool_resources is not None
    assert assistant.tool_resources.file_search is not None
    [store_id] = assistant.tool_resources.file_search.vector_store_ids or []
    stores = lenient(scene).vector_stores
    same(stores.retrieve(store_id).expires_after, None)
    tools: Any = [{"type": "file_search"}]
    attached: Any = {"role": "user", "content": "x"}
    attached |= {"attachments": [{"file_id": file_id, "tools": tools}]}
    thread = scene.client.beta.threads.create(messages=[attached])
    assert thread.tool_resources is not None and thread.tool_resources.file_search is not None
    [own] = thread.tool_resources.file_search.vector_store_ids or []
    policy = stores.retrieve(own).expires_after
    assert policy is not None
    same(policy.days, 7)
    scene.client.beta.threads.messages.create(
        thread.id, **{**attached, "attachments": [{"file_id": upload(scene, DOGS), "tools": tools}]}
    )
    end = time.monotonic() + 10
    while stores.retrieve(own).status != "completed":
        assert time.monotonic() < end
        time.sleep(0.05)
    same(stores.retrieve(own).file_counts.completed, 2)
    scene.client.beta.threads.delete(thread.id)
    with refused(openai.NotFoundError, f"No vector store found with id '{own}'."):
        stores.retrieve(own)
