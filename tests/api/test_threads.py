"""Threads (SPEC 7.2, assertions 63-72)."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from tests.api.serving import Running
from tests.api.shelf import Shelf
from tests.api.truth import error_of


@pytest.mark.assertion(63)
@pytest.mark.parametrize("body", [b"", b"{}", b"  \n"])
def test_a_thread_needs_no_body(http: httpx2.Client, body: bytes) -> None:
    answer = http.post("/threads", content=body, headers={"content-type": "application/json"})
    made = answer.json()
    assert made == {
        "id": made["id"],
        "object": "thread",
        "created_at": made["created_at"],
        "metadata": {},
        "tool_resources": {},
    }


def test_the_sdk_creates_a_thread_without_arguments(sdk: openai.OpenAI) -> None:
    made = sdk.beta.threads.create()
    assert sdk.beta.threads.retrieve(made.id) == made


@pytest.mark.assertion(64)
def test_first_messages_keep_their_order(http: httpx2.Client) -> None:
    texts = ["one", "two", "three"]
    messages = [{"role": "user", "content": text} for text in texts]
    made = http.post("/threads", json={"messages": messages}).json()
    page = http.get(f"/threads/{made['id']}/messages", params={"order": "asc"}).json()
    assert [item["content"][0]["text"]["value"] for item in page["data"]] == texts
    assert len({item["created_at"] for item in page["data"]}) == 1


def test_first_messages_bring_their_files(
    http: httpx2.Client, server: Running, project: str
) -> None:
    file_id = server.seed_file(project)
    attachment = {"file_id": file_id, "tools": [{"type": "code_interpreter"}]}
    message = {"role": "user", "content": "x", "attachments": [attachment]}
    made = http.post("/threads", json={"messages": [message]}).json()
    assert made["tool_resources"] == {"code_interpreter": {"file_ids": [file_id]}}


@pytest.mark.assertion(67)
def test_the_vector_stores_helper_makes_a_store_for_7_days(shelf: Shelf) -> None:
    file_id, attached = shelf.file(), shelf.file()
    body = {
        "tool_resources": {"file_search": {"vector_stores": [{"file_ids": [file_id]}]}},
        "messages": [message_with(attached)],
    }
    made = shelf.ok("/threads", body)
    [store_id] = made["tool_resources"]["file_search"]["vector_store_ids"]
    store = shelf.settled(store_id)
    assert store["expires_after"] == {"anchor": "last_active_at", "days": 7}
    assert shelf.file_ids(store_id, order="asc") == [file_id, attached]
    assert shelf.got(f"/threads/{made['id']}") == made


def message_with(file_id: str) -> dict[str, object]:
    """A message with a file for file_search."""
    attachment = {"file_id": file_id, "tools": [{"type": "file_search"}]}
    return {"role": "user", "content": "x", "attachments": [attachment]}


@pytest.mark.assertion(65, 82)
def test_first_messages_share_one_store(shelf: Shelf) -> None:
    first, second = shelf.file(), shelf.file()
    made = shelf.ok("/threads", {"messages": [message_with(first), message_with(second)]})
    [store_id] = made["tool_resources"]["file_search"]["vector_store_ids"]
    assert shelf.file_ids(store_id, order="asc") == [first, second]
    given = shelf.store()
    resources = {"file_search": {"vector_store_ids": [given]}}
    body = {"tool_resources": resources, "messages": [message_with(first)]}
    assert shelf.ok("/threads", body)["tool_resources"] == resources
    assert shelf.file_ids(given) == [first]


@pytest.mark.assertion(81)
def test_a_file_that_cannot_be_searched_means_no_thread(shelf: Shelf) -> None:
    good, bad = shelf.file(), shelf.file("a,b", "table.csv")
    body = {"messages": [message_with(good), message_with(bad)]}
    error = error_of(shelf.http.post("/threads", json=body))
    assert error["code"] == "unsupported_file"
    assert shelf.got("/threads")["data"] == shelf.got("/vector_stores")["data"] == []


def test_a_threads_own_stores_go_with_it(shelf: Shelf) -> None:
    by_helper = shelf.ok(
        "/threads", {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": []}]}}}
    )
    by_message = shelf.ok("/threads")
    shelf.ok(f"/threads/{by_message['id']}/messages", message_with(shelf.file()))
    given = shelf.store()
    by_id = shelf.ok("/threads", {"tool_resources": {"file_search": {"vector_store_ids": [given]}}})
    for thread in (by_helper, by_message, by_id):
        assert shelf.http.delete(f"/threads/{thread['id']}").status_code == 200
    assert [store["id"] for store in shelf.got("/vector_stores")["data"]] == [given]


def test_a_threads_store_stays_while_something_else_names_it(shelf: Shelf) -> None:
    made = shelf.ok("/threads", {"messages": [message_with(shelf.file())]})
    resources = made["tool_resources"]
    [store_id] = resources["file_search"]["vector_store_ids"]
    shelf.ok("/assistants", {"model": "m", "tool_resources": resources})
    assert shelf.http.delete(f"/threads/{made['id']}").status_code == 200
    shelf.got(f"/vector_stores/{store_id}")


def test_a_thread_goes_also_when_its_store_went_before(shelf: Shelf) -> None:
    made = shelf.ok("/threads", {"messages": [message_with(shelf.file())]})
    [store_id] = made["tool_resources"]["file_search"]["vector_store_ids"]
    assert shelf.http.delete(f"/vector_stores/{store_id}").status_code == 200
    shelf.ok(f"/threads/{made['id']}", {"metadata": {"k": "v"}})
    assert shelf.http.delete(f"/threads/{made['id']}").status_code == 200


@pytest.mark.assertion(68)
def test_modify_metadata_leaves_the_resources(
    http: httpx2.Client, server: Running, project: str
) -> None:
    resources = {"code_interpreter": {"file_ids": [server.seed_file(project)]}}
    made = http.post("/threads", json={"tool_resources": resources}).json()
    changed = http.post(f"/threads/{made['id']}", json={"metadata": {"a": "1"}}).json()
    assert changed == {**made, "metadata": {"a": "1"}}
    assert changed["tool_resources"] == resources
    cleared = http.post(f"/threads/{made['id']}", json={"tool_resources": None}).json()
    assert cleared == {**changed, "tool_resources": {}}


def test_changes_at_the_same_time_all_succeed(http: httpx2.Client) -> None:
    path = f"/threads/{http.post('/threads').json()['id']}"

    def change(number: int) -> int:
        return http.post(path, json={"metadata": {"number": str(number)}}).status_code

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(change, range(48))) == {200}


@pytest.mark.assertion(69)
def test_an_unknown_thread_is_told_apart_from_a_bad_id(http: httpx2.Client) -> None:
    error = error_of(http.get("/threads/thread_nobody"), 404)
    assert error["message"] == "No thread found with id 'thread_nobody'."
    error = error_of(http.get("/threads/undefined"))
    assert error["message"] == (
        "Invalid 'thread_id': 'undefined'. Expected an ID that begins with 'thread'."
    )


@pytest.mark.assertion(70)
def test_a_deleted_thread_is_gone_with_all_below_it(sdk: openai.OpenAI) -> None:
    made = sdk.beta.threads.create(messages=[{"role": "user", "content": "x"}])
    [message] = sdk.beta.threads.messages.list(made.id).data
    gone = sdk.beta.threads.delete(made.id)
    assert gone.model_dump() == {"id": made.id, "object": "thread.deleted", "deleted": True}
    for ask in (
        lambda: sdk.beta.threads.retrieve(made.id),
        lambda: sdk.beta.threads.messages.list(made.id),
        lambda: sdk.beta.threads.messages.retrieve(message.id, thread_id=made.id),
        lambda: sdk.beta.threads.messages.create(made.id, role="user", content="x"),
        lambda: sdk.beta.threads.runs.list(made.id),
        lambda: sdk.beta.threads.delete(made.id),
    ):
        with pytest.raises(openai.NotFoundError, match="No thread found with id"):
            ask()


def test_a_deleted_thread_lets_go_of_its_run(
    http: httpx2.Client, server: Running, project: str
) -> None:
    thread_id = http.post("/threads").json()["id"]
    run_id = server.seed_run(thread_id, project)
    assert http.delete(f"/threads/{thread_id}").status_code == 200
    assert server.job(run_id) is None


def test_what_was_below_a_deleted_thread_is_removed(
    http: httpx2.Client, server: Running, project: str
) -> None:
    thread_id = http.post("/threads", json={"messages": [{"role": "user", "content": "x"}]}).json()[
        "id"
    ]
    [message] = http.get(f"/threads/{thread_id}/messages").json()["data"]
    http.delete(f"/threads/{thread_id}")

    async def is_purged() -> bool:
        bell = server.app.bell
        for _ in range(100):
            if await server.app.store.job(thread_id) is None:
                return True
            await bell.wait(["jobs"], 0.05)
        return False

    assert server.run(is_purged())
    assert server.record("message", project, message["id"]) is None


@pytest.mark.assertion(71)
def test_threads_can_be_listed(http: httpx2.Client) -> None:
    made = [http.post("/threads").json()["id"] for _ in range(3)]
    page = http.get("/threads", params={"limit": 2}).json()
    assert [item["id"] for item in page["data"]] == made[:0:-1]
    assert page["has_more"] is True


@pytest.mark.assertion(72)
def test_a_bad_message_means_no_thread(http: httpx2.Client) -> None:
    messages = [{"role": "system", "content": "x"}]
    error = error_of(http.post("/threads", json={"messages": messages}))
    assert (error["param"] or "").startswith("messages[0]")
    missing = [{"role": "user", "content": "x", "attachments": [{"file_id": "file-nope"}]}]
    error_of(http.post("/threads", json={"messages": missing}), 404)
    assert http.get("/threads").json()["data"] == []
