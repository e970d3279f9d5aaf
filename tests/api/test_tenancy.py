"""Two projects see nothing of each other, on any operation (assertion 216)."""

from typing import Any

import httpx2
import pytest

from tests.api.conftest import client_for
from tests.api.serving import Running
from tests.api.shelf import Shelf
from tests.api.truth import error_of
from understudy.api.nouns import load_nouns
from understudy.api.operation import OPERATIONS, Operation

load_nouns()

# Operations that name an object. A new one joins by itself; if it needs a body, `body_for` has it.
NAMING = [
    operation for operation in OPERATIONS if operation.path_names and operation.tag != "Models"
]
LISTS = [
    operation
    for operation in OPERATIONS
    if operation.page_name is not None and not operation.path_names
]


def name_of(operation: Operation) -> str:
    """How a test's name shows an operation."""
    return operation.name


@pytest.fixture
def owned(http: httpx2.Client, server: Running, shelf: Shelf) -> dict[str, str]:
    """One object of each kind, all of the first project; a waiting run with its steps."""
    server.script({"call": {"name": "now"}}, model="waits")
    tool = {"type": "function", "function": {"name": "now"}}
    assistant = http.post("/assistants", json={"model": "waits", "tools": [tool]}).json()
    body = {
        "assistant_id": assistant["id"],
        "stream": True,
        "thread": {"messages": [{"role": "user", "content": "x"}]},
    }
    with http.stream("POST", "/threads/runs", json=body) as stream:
        assert "thread.run.requires_action" in stream.read().decode()
    thread = http.get("/threads").json()["data"][0]
    path = f"/threads/{thread['id']}"
    run = http.get(f"{path}/runs").json()["data"][0]
    store_id, file_id = shelf.held(), shelf.file()
    batch = shelf.ok(f"/vector_stores/{store_id}/file_batches", {"file_ids": [file_id]})
    upload = {"filename": "a", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain"}
    return {
        "assistant_id": assistant["id"],
        "thread_id": thread["id"],
        "message_id": http.get(f"{path}/messages").json()["data"][0]["id"],
        "run_id": run["id"],
        "step_id": http.get(f"{path}/runs/{run['id']}/steps").json()["data"][0]["id"],
        "vector_store_id": store_id,
        "file_id": file_id,
        "batch_id": batch["id"],
        "upload_id": shelf.ok("/uploads", upload)["id"],
    }


def body_for(operation: Operation, owned: dict[str, str]) -> dict[str, object] | None:
    """A body that is right in itself."""
    bodies: dict[str, dict[str, object]] = {
        "create_message": {"role": "user", "content": "x"},
        "create_run": {"assistant_id": owned["assistant_id"]},
        "submit_tool_outputs": {"tool_outputs": []},
        "complete_upload": {"part_ids": []},
        "search_vector_store": {"query": "x"},
        "create_vector_store_file": {"file_id": owned["file_id"]},
        "modify_vector_store_file": {"attributes": None},
        "create_vector_store_file_batch": {"file_ids": [owned["file_id"]]},
    }
    return bodies.get(operation.name, {}) if operation.method == "POST" else None


@pytest.mark.assertion(216)
@pytest.mark.parametrize("operation", NAMING, ids=name_of)
def test_another_projects_object_is_not_found(
    operation: Operation, owned: dict[str, str], server: Running, http: httpx2.Client
) -> None:
    path = operation.path.format(**owned)
    with client_for(server.url, server.new_key("strangers")) as stranger:
        body: dict[str, Any] = {"json": body_for(operation, owned)}
        if operation.name == "add_upload_part":
            body = {"files": {"data": b"x"}}
        error = error_of(stranger.request(operation.method, path, **body), 404)
    first = operation.path_names[0]
    assert owned[first] in (error["message"] or "")
    # Its owner still has everything.
    thread = f"/threads/{owned['thread_id']}"
    for kept in (
        f"/assistants/{owned['assistant_id']}",
        f"{thread}/messages/{owned['message_id']}",
        f"{thread}/runs/{owned['run_id']}/steps/{owned['step_id']}",
        f"/vector_stores/{owned['vector_store_id']}/files/{owned['file_id']}",
    ):
        assert http.get(kept).status_code == 200
    run = http.get(f"{thread}/runs/{owned['run_id']}").json()
    assert run["status"] == "requires_action"


@pytest.mark.assertion(216)
@pytest.mark.parametrize("operation", LISTS, ids=name_of)
def test_lists_hold_only_ones_own(
    operation: Operation, owned: dict[str, str], server: Running, http: httpx2.Client
) -> None:
    assert len(http.get(operation.path).json()["data"]) == 1
    with client_for(server.url, server.new_key("strangers")) as stranger:
        assert stranger.get(operation.path).json()["data"] == []


@pytest.mark.assertion(216)
def test_a_run_cannot_use_another_projects_assistant(
    owned: dict[str, str], server: Running
) -> None:
    with client_for(server.url, server.new_key("strangers")) as stranger:
        body = {"assistant_id": owned["assistant_id"]}
        error = error_of(stranger.post("/threads/runs", json=body), 404)
        assert error["message"] == f"No assistant found with id '{owned['assistant_id']}'."
        assert stranger.get("/threads").json()["data"] == []


@pytest.mark.assertion(216)
def test_a_file_of_another_project_cannot_be_attached(http: httpx2.Client, server: Running) -> None:
    file_id = server.seed_file("somebody-else")
    resources = {"code_interpreter": {"file_ids": [file_id]}}
    error_of(http.post("/threads", json={"tool_resources": resources}), 404)


def test_a_runs_tool_resources_must_be_the_projects_own(
    http: httpx2.Client, server: Running
) -> None:
    assistant = http.post("/assistants", json={"model": "m"}).json()
    body = {
        "assistant_id": assistant["id"],
        "tool_resources": {"code_interpreter": {"file_ids": ["file-of-somebody-else"]}},
    }
    answer = http.post("/threads/runs", json=body)
    message = error_of(answer, 404)["message"]
    assert message == "No such File object: file-of-somebody-else"
    assert http.get("/threads").json()["data"] == []
