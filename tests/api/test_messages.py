"""Messages (SPEC 7.3, assertions 73-89)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from tests.api.serving import Running
from tests.api.shelf import Shelf
from tests.api.truth import error_of


@pytest.fixture
def thread_id(http: httpx2.Client) -> str:
    """A thread without messages."""
    found: str = http.post("/threads").json()["id"]
    return found


def add(
    http: httpx2.Client, thread_id: str, content: object = "hello", **fields: object
) -> httpx2.Response:
    """Add a message of the user's."""
    body = {"role": "user", "content": content, **fields}
    return http.post(f"/threads/{thread_id}/messages", json=body)


def for_code(file_id: str) -> dict[str, object]:
    """An attachment for code_interpreter."""
    return {"file_id": file_id, "tools": [{"type": "code_interpreter"}]}


@pytest.mark.assertion(73, 77)
def test_a_text_becomes_one_part_of_a_complete_message(http: httpx2.Client, thread_id: str) -> None:
    made = add(http, thread_id, "hi").json()
    assert made == {
        "id": made["id"],
        "object": "thread.message",
        "created_at": made["created_at"],
        "assistant_id": None,
        "thread_id": thread_id,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": made["created_at"],
        "role": "user",
        "content": [{"type": "text", "text": {"value": "hi", "annotations": []}}],
        "attachments": [],
        "metadata": {},
    }
    assert http.get(f"/threads/{thread_id}/messages/{made['id']}").json() == made


@pytest.mark.assertion(74)
def test_a_text_part_becomes_an_object(http: httpx2.Client, thread_id: str) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    made = add(http, thread_id, parts).json()
    assert [part["text"]["value"] for part in made["content"]] == ["a", "b"]


@pytest.mark.assertion(75)
def test_content_has_1_to_256000_characters(http: httpx2.Client, thread_id: str) -> None:
    assert error_of(add(http, thread_id, ""))["code"] == "empty_string"
    assert error_of(add(http, thread_id, []))["code"] == "array_below_min_length"
    assert add(http, thread_id, " ").status_code == 200
    assert add(http, thread_id, "x" * 256_000).status_code == 200
    error = error_of(add(http, thread_id, "x" * 256_001))
    assert error["message"] == (
        "Invalid 'content': string too long. Expected a string with maximum length 256000, "
        "but got a string with length 256001 instead."
    )


@pytest.mark.assertion(76)
def test_roles_are_user_and_assistant(http: httpx2.Client, thread_id: str) -> None:
    assert add(http, thread_id, role="assistant").json()["role"] == "assistant"
    error = error_of(add(http, thread_id, role="system"))
    assert error["code"] == "invalid_value"
    assert error["param"] == "role"


@pytest.mark.assertion(78)
def test_images_keep_their_detail(
    http: httpx2.Client, thread_id: str, server: Running, project: str
) -> None:
    url = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    made = add(http, thread_id, [url]).json()
    assert made["content"] == [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "auto"}}
    ]
    file_id = server.seed_file(project, "a.png")
    image = {"type": "image_file", "image_file": {"file_id": file_id, "detail": "low"}}
    assert add(http, thread_id, [image]).json()["content"] == [image]
    unknown = {"type": "image_file", "image_file": {"file_id": "file-nope"}}
    error = error_of(add(http, thread_id, [unknown]), 404)
    assert error["message"] == "No such File object: file-nope"


@pytest.mark.assertion(80)
def test_10_attachments_and_no_more(
    http: httpx2.Client, thread_id: str, server: Running, project: str
) -> None:
    files = [server.seed_file(project) for _ in range(10)]
    attachments = [for_code(file_id) for file_id in files]
    made = add(http, thread_id, attachments=attachments).json()
    assert made["attachments"] == attachments
    thread = http.get(f"/threads/{thread_id}").json()
    assert thread["tool_resources"] == {"code_interpreter": {"file_ids": files}}
    error = error_of(add(http, thread_id, attachments=[*attachments, attachments[0]]))
    assert error == {
        "message": "Invalid 'attachments': array too long. Expected an array with maximum length "
        "10, but got an array with length 11 instead.",
        "type": "invalid_request_error",
        "param": "attachments",
        "code": "array_above_max_length",
    }


def test_a_thread_holds_20_attached_files_each_once(
    http: httpx2.Client, thread_id: str, server: Running, project: str
) -> None:
    files = [server.seed_file(project) for _ in range(21)]
    for start in (0, 10, 10):
        attachments = [for_code(file_id) for file_id in files[start : start + 10]]
        assert add(http, thread_id, attachments=attachments).status_code == 200
    error = error_of(add(http, thread_id, attachments=[for_code(files[20])]))
    assert error["code"] == "array_above_max_length"
    assert error["param"] == "tool_resources.code_interpreter.file_ids"
    assert len(http.get(f"/threads/{thread_id}/messages").json()["data"]) == 3


def test_files_attached_at_the_same_time_are_all_kept(
    http: httpx2.Client, thread_id: str, server: Running, project: str
) -> None:
    files = [server.seed_file(project) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda id: add(http, thread_id, attachments=[for_code(id)]), files))
    assert [answer.status_code for answer in answers] == [200] * 4
    thread = http.get(f"/threads/{thread_id}").json()
    assert sorted(thread["tool_resources"]["code_interpreter"]["file_ids"]) == sorted(files)


def test_an_attached_file_must_exist(http: httpx2.Client, thread_id: str) -> None:
    error_of(add(http, thread_id, attachments=[for_code("file-nope")]), 404)
    assert http.get(f"/threads/{thread_id}/messages").json()["data"] == []


FOR_SEARCH = [{"type": "file_search"}]


@pytest.mark.assertion(65, 82)
def test_files_attached_for_file_search_are_in_the_threads_store(
    thread_id: str, shelf: Shelf
) -> None:
    def attach(*file_ids: str) -> str:
        attachments = [{"file_id": file_id, "tools": FOR_SEARCH} for file_id in file_ids]
        made = add(shelf.http, thread_id, attachments=attachments).json()
        assert made["attachments"] == attachments
        resources = shelf.got(f"/threads/{thread_id}")["tool_resources"]
        [store_id] = resources["file_search"]["vector_store_ids"]
        return str(store_id)

    first, second, third = (shelf.file() for _ in range(3))
    store_id = attach(first)
    store = shelf.got(f"/vector_stores/{store_id}")
    assert store["expires_after"] == {"anchor": "last_active_at", "days": 7}
    assert attach(second, third, first) == store_id
    assert shelf.file_ids(store_id, order="asc") == [first, second, third]
    assert shelf.settled(store_id)["file_counts"]["completed"] == 3
    # A store that was deleted is replaced by a new one.
    assert shelf.http.delete(f"/vector_stores/{store_id}").status_code == 200
    other = attach(first)
    assert other != store_id
    assert shelf.file_ids(other) == [first]


@pytest.mark.assertion(65, 66)
def test_one_file_may_be_for_both_tools(thread_id: str, shelf: Shelf) -> None:
    file_id = shelf.file("print(1)", "one.PY")
    tools = [{"type": "code_interpreter"}, *FOR_SEARCH]
    made = add(shelf.http, thread_id, attachments=[{"file_id": file_id, "tools": tools}])
    assert made.status_code == 200
    resources = shelf.got(f"/threads/{thread_id}")["tool_resources"]
    assert resources["code_interpreter"] == {"file_ids": [file_id]}
    assert shelf.file_ids(resources["file_search"]["vector_store_ids"][0]) == [file_id]


@pytest.mark.assertion(81)
@pytest.mark.parametrize("name", ["table.csv", "TABLE.CSV", "photo.png"])
def test_a_file_that_file_search_cannot_read_means_no_message(
    thread_id: str, shelf: Shelf, name: str
) -> None:
    attachments = [
        {"file_id": shelf.file(), "tools": FOR_SEARCH},
        {"file_id": shelf.file("a,b", name), "tools": FOR_SEARCH},
    ]
    error = error_of(add(shelf.http, thread_id, attachments=attachments))
    assert error == {
        "message": f"Files with extensions [.{name.lower()[-3:]}] are not supported for "
        "retrieval. See https://platform.openai.com/docs/assistants/tools/file-search/"
        "supported-files",
        "type": "invalid_request_error",
        "param": "file_ids",
        "code": "unsupported_file",
    }
    assert shelf.got(f"/threads/{thread_id}/messages")["data"] == []
    assert shelf.got(f"/threads/{thread_id}")["tool_resources"] == {}
    assert shelf.got("/vector_stores")["data"] == []


@pytest.mark.assertion(65)
def test_additional_messages_of_a_run_bring_their_files(thread_id: str, shelf: Shelf) -> None:
    assistant = shelf.ok("/assistants", {"model": "m"})
    attachments = [{"file_id": shelf.file("a,b", "table.csv"), "tools": FOR_SEARCH}]
    message = {"role": "user", "content": "x", "attachments": attachments}
    body = {"assistant_id": assistant["id"], "additional_messages": [message]}
    error = error_of(shelf.http.post(f"/threads/{thread_id}/runs", json=body))
    assert error["code"] == "unsupported_file"
    assert shelf.got(f"/threads/{thread_id}/messages")["data"] == []
    attachments[0]["file_id"] = file_id = shelf.file()
    shelf.ok(f"/threads/{thread_id}/runs", body)
    resources = shelf.got(f"/threads/{thread_id}")["tool_resources"]
    assert shelf.file_ids(resources["file_search"]["vector_store_ids"][0]) == [file_id]


def test_nothing_is_attached_to_a_store_that_has_expired(thread_id: str, shelf: Shelf) -> None:
    store_id = shelf.unused(8, expires_after_days=7)
    resources = {"file_search": {"vector_store_ids": [store_id]}}
    shelf.ok(f"/threads/{thread_id}", {"tool_resources": resources})
    attachments = [{"file_id": shelf.file(), "tools": FOR_SEARCH}]
    error = error_of(add(shelf.http, thread_id, attachments=attachments))
    assert error["message"] == f"Vector store '{store_id}' has expired."
    assert shelf.got(f"/threads/{thread_id}/messages")["data"] == []


@pytest.mark.assertion(83)
def test_a_message_is_refused_while_a_run_is_active(
    http: httpx2.Client, thread_id: str, server: Running, project: str
) -> None:
    run_id = server.seed_run(thread_id, project)
    assert error_of(add(http, thread_id)) == {
        "message": f"Can't add messages to {thread_id} while a run {run_id} is active.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.assertion(84)
def test_a_message_is_refused_while_a_run_waits_for_outputs(
    http: httpx2.Client, thread_id: str, server: Running
) -> None:
    server.script({"call": {"name": "now"}})
    tool = {"type": "function", "function": {"name": "now"}}
    assistant = http.post("/assistants", json={"model": "rehearsal", "tools": [tool]}).json()
    body = {"assistant_id": assistant["id"], "stream": True}
    with http.stream("POST", f"/threads/{thread_id}/runs", json=body) as stream:
        assert "thread.run.requires_action" in stream.read().decode()
    [run] = http.get(f"/threads/{thread_id}/runs").json()["data"]
    error = error_of(add(http, thread_id))
    assert error["message"] == (
        f"Can't add messages to {thread_id} while a run {run['id']} is active."
    )


@pytest.mark.assertion(85)
def test_only_metadata_can_be_modified(http: httpx2.Client, thread_id: str) -> None:
    made = add(http, thread_id, metadata={"a": "1"}).json()
    path = f"/threads/{thread_id}/messages/{made['id']}"
    assert http.post(path, json={"metadata": {"b": "2"}}).json() == {
        **made,
        "metadata": {"b": "2"},
    }
    assert http.post(path, json={"metadata": None}).json()["metadata"] == {}
    error = error_of(http.post(path, json={"content": "x"}))
    assert error["code"] == "unknown_parameter"


@pytest.mark.assertion(86)
def test_a_deleted_message_is_gone(sdk: openai.OpenAI, thread_id: str) -> None:
    first = sdk.beta.threads.messages.create(thread_id, role="user", content="1")
    second = sdk.beta.threads.messages.create(thread_id, role="user", content="2")
    gone = sdk.beta.threads.messages.delete(first.id, thread_id=thread_id)
    assert gone.model_dump() == {
        "id": first.id,
        "object": "thread.message.deleted",
        "deleted": True,
    }
    assert [item.id for item in sdk.beta.threads.messages.list(thread_id)] == [second.id]
    with pytest.raises(openai.NotFoundError):
        sdk.beta.threads.messages.delete(first.id, thread_id=thread_id)


def test_the_message_that_a_run_writes_cannot_be_deleted(
    http: httpx2.Client, thread_id: str, server: Running, project: str
) -> None:
    body = {**add(http, thread_id).json(), "id": "msg_open", "status": "in_progress"}
    server.seed("message", body, project=project, parent=thread_id)
    error = error_of(http.delete(f"/threads/{thread_id}/messages/msg_open"))
    assert error["message"] == "Can't delete message msg_open while a run is writing it."


@pytest.mark.assertion(87)
def test_a_list_can_be_cut_to_one_run(
    http: httpx2.Client, thread_id: str, server: Running, project: str
) -> None:
    mine = add(http, thread_id).json()
    body = {**mine, "id": "msg_of_a_run", "run_id": "run_1", "role": "assistant"}
    server.seed("message", body, project=project, parent=thread_id)

    def listed(run_id: str) -> list[str]:
        page = http.get(f"/threads/{thread_id}/messages", params={"run_id": run_id}).json()
        return [item["id"] for item in page["data"]]

    assert listed("run_1") == ["msg_of_a_run"]
    assert listed("run_2") == []
    assert listed("") == ["msg_of_a_run", mine["id"]]


@pytest.mark.assertion(88)
def test_a_message_belongs_to_its_thread(http: httpx2.Client, thread_id: str) -> None:
    made = add(http, thread_id).json()
    other = http.post("/threads").json()["id"]
    error = error_of(http.get(f"/threads/{other}/messages/{made['id']}"), 404)
    assert error["message"] == f"No message found with id '{made['id']}'."


@pytest.mark.assertion(89)
def test_both_orders_mirror_each_other_and_ties_are_stable(http: httpx2.Client) -> None:
    messages = [{"role": "user", "content": str(number)} for number in range(5)]
    thread_id = http.post("/threads", json={"messages": messages}).json()["id"]

    def walk(order: str) -> Iterator[str]:
        params: dict[str, str] = {"order": order, "limit": "1"}
        while True:
            page = http.get(f"/threads/{thread_id}/messages", params=params).json()
            yield from (item["content"][0]["text"]["value"] for item in page["data"])
            if not page["has_more"]:
                return
            params["after"] = page["last_id"]

    assert list(walk("asc")) == list("01234")
    assert list(walk("desc")) == list("43210")


def test_a_full_thread_refuses_more(
    http: httpx2.Client, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.limits.THREAD_MESSAGES", 2)
    messages = [{"role": "user", "content": "x"}] * 2
    thread_id = http.post("/threads", json={"messages": messages}).json()["id"]
    assert error_of(add(http, thread_id))["message"] == "Threads can hold at most 2 messages."
    [message, _] = http.get(f"/threads/{thread_id}/messages").json()["data"]
    http.delete(f"/threads/{thread_id}/messages/{message['id']}")
    assert add(http, thread_id).status_code == 200


def test_runs_go_on_in_a_full_thread(http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.limits.THREAD_MESSAGES", 1)
    assistant = http.post("/assistants", json={"model": "m"}).json()["id"]
    messages = [{"role": "user", "content": "x"}]
    thread_id = http.post("/threads", json={"messages": messages}).json()["id"]
    body = {"assistant_id": assistant, "stream": True}
    for _ in range(3):
        answer = http.post(f"/threads/{thread_id}/runs", json=body)
        assert "thread.run.completed" in answer.text
    page = http.get(f"/threads/{thread_id}/messages").json()["data"]
    assert len(page) == 4
    for message in page:
        assert http.delete(f"/threads/{thread_id}/messages/{message['id']}").status_code == 200
    assert add(http, thread_id).status_code == 200


def test_a_message_for_an_unknown_thread_is_a_404(http: httpx2.Client) -> None:
    error = error_of(add(http, "thread_nobody"), 404)
    assert error["message"] == "No thread found with id 'thread_nobody'."
