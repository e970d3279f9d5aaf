"""The files of vector stores (SPEC 7.8, assertions 188-193, 199)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import openai
import pytest

from tests.api.shelf import Json, Shelf
from tests.api.truth import error_of
from understudy import limits
from understudy.machine.vector_store import new_file
from understudy.store import changes, index_changes

AUTO = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
}


def attach(shelf: Shelf, store_id: str, file_id: str, **fields: Any) -> Json:
    """Put a file into a store."""
    return shelf.ok(f"/vector_stores/{store_id}/files", {"file_id": file_id, **fields})


def one(shelf: Shelf, store_id: str, file_id: str) -> Json:
    """A file of a store."""
    return shelf.got(f"/vector_stores/{store_id}/files/{file_id}")


@pytest.mark.assertion(188, 189)
def test_a_file_is_there_at_once_and_in_progress(shelf: Shelf) -> None:
    store_id, file_id = shelf.held(), shelf.file()
    made = attach(shelf, store_id, file_id)
    assert made == {
        "id": file_id,
        "object": "vector_store.file",
        "usage_bytes": 0,
        "created_at": made["created_at"],
        "vector_store_id": store_id,
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": AUTO,
        "attributes": {},
    }
    assert one(shelf, store_id, file_id) == made
    page = shelf.got(f"/vector_stores/{store_id}/files")
    assert page["data"] == [made]
    assert page["first_id"] == page["last_id"] == file_id
    headers = shelf.http.get(f"/vector_stores/{store_id}/files/{file_id}").headers
    assert headers["openai-poll-after-ms"].isdigit()
    shelf.let_go(store_id)
    shelf.settled(store_id)
    done = one(shelf, store_id, file_id)
    assert (done["status"], done["last_error"]) == ("completed", None)
    assert done["usage_bytes"] > 0


@pytest.mark.assertion(188)
def test_a_chosen_chunking_is_shown(shelf: Shelf) -> None:
    store_id = shelf.held()
    sizes = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100}
    strategy = {"type": "static", "static": sizes}
    made = attach(shelf, store_id, shelf.file(), chunking_strategy=strategy)
    assert made["chunking_strategy"] == strategy
    auto = attach(shelf, store_id, shelf.file(), chunking_strategy={"type": "auto"})
    assert auto["chunking_strategy"] == AUTO
    body = {
        "file_id": shelf.file(),
        "chunking_strategy": {"type": "static", "static": {**sizes, "chunk_overlap_tokens": 101}},
    }
    error = error_of(shelf.http.post(f"/vector_stores/{store_id}/files", json=body))
    assert error["param"] == "chunking_strategy.static.chunk_overlap_tokens"


@pytest.mark.assertion(190, 191)
def test_a_file_that_cannot_be_read_fails_alone(shelf: Shelf) -> None:
    store_id = shelf.store("Dogs bark.")
    binary = shelf.file(bytes(range(256)) * 4, "photo.png")
    empty = shelf.file(b"", "empty.txt")
    for file_id in (binary, empty):
        attach(shelf, store_id, file_id)
    assert shelf.settled(store_id)["status"] == "completed"
    failed = [one(shelf, store_id, file_id) for file_id in (binary, empty)]
    assert [file["status"] for file in failed] == ["failed", "failed"]
    assert failed[0]["last_error"]["code"] == "unsupported_file"
    assert failed[1]["last_error"]["code"] == "invalid_file"
    assert all(file["last_error"]["message"] for file in failed)
    assert shelf.file_ids(store_id, filter="failed") == [empty, binary]
    assert len(shelf.file_ids(store_id, filter="completed")) == 1
    assert shelf.file_ids(store_id, filter="in_progress") == []
    assert shelf.file_ids(store_id, filter="cancelled") == []
    params = {"filter": "broken"}
    error = error_of(shelf.http.get(f"/vector_stores/{store_id}/files", params=params))
    assert error["param"] == "filter"


def test_a_file_is_put_into_a_store_once(shelf: Shelf) -> None:
    store_id, file_id = shelf.held(), shelf.file()
    made = attach(shelf, store_id, file_id, attributes={"a": 1})
    assert attach(shelf, store_id, file_id) == made
    changed = attach(shelf, store_id, file_id, attributes={"b": 2})
    assert changed == {**made, "attributes": {"b": 2}}
    assert one(shelf, store_id, file_id) == changed
    shelf.let_go(store_id)
    shelf.settled(store_id)
    done = one(shelf, store_id, file_id)
    assert attach(shelf, store_id, file_id) == done
    cleared = attach(shelf, store_id, file_id, attributes=None)
    assert cleared == {**done, "attributes": {}}
    assert shelf.got(f"/vector_stores/{store_id}")["file_counts"]["total"] == 1


def test_requests_at_the_same_time_put_a_file_into_a_store_once(shelf: Shelf) -> None:
    store_id = shelf.store()
    file_ids = [shelf.file(f"Text {number}.") for number in range(4)]

    def put(number: int) -> int:
        path, body = "files", {"file_id": file_ids[number % 4], "attributes": {"n": number}}
        if number % 3 == 0:
            path, body = "file_batches", {"file_ids": file_ids}
        return shelf.http.post(f"/vector_stores/{store_id}/{path}", json=body).status_code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(put, range(24))) == {200}
    assert shelf.settled(store_id)["file_counts"]["completed"] == 4
    assert sorted(shelf.file_ids(store_id)) == sorted(file_ids)
    assert len(shelf.found(store_id, "text")) == 4


def test_a_failed_file_is_processed_anew(shelf: Shelf) -> None:
    store_id, file_id = shelf.held(), shelf.file(b"", "empty.txt")
    attach(shelf, store_id, file_id)
    shelf.let_go(store_id)
    shelf.settled(store_id)
    assert one(shelf, store_id, file_id)["status"] == "failed"
    sizes = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    strategy = {"type": "static", "static": sizes}
    again = attach(shelf, store_id, file_id, chunking_strategy=strategy, attributes={"tries": 2})
    assert (again["status"], again["last_error"]) == ("in_progress", None)
    assert again["chunking_strategy"] == strategy
    assert again["attributes"] == {"tries": 2}
    shelf.settled(store_id)
    assert one(shelf, store_id, file_id)["status"] == "failed"


@pytest.mark.assertion(192)
def test_attributes_are_replaced_as_a_whole(sdk: openai.OpenAI, shelf: Shelf) -> None:
    store_id = shelf.store("Cats purr.")
    [file_id] = shelf.file_ids(store_id)
    path = f"/vector_stores/{store_id}/files/{file_id}"

    def update(attributes: dict[str, str | float | bool] | None) -> Any:
        file = sdk.vector_stores.files.update(
            file_id, vector_store_id=store_id, attributes=attributes
        )
        assert shelf.got(path)["attributes"] == file.attributes
        return file.attributes

    assert update({"a": "x", "b": 1.5, "c": True}) == {"a": "x", "b": 1.5, "c": True}
    assert update({"d": "y"}) == {"d": "y"}
    equals = {"type": "eq", "key": "d", "value": "y"}
    [found] = shelf.found(store_id, "cats", filters=equals)
    assert found["attributes"] == {"d": "y"}
    assert update(None) == {}
    assert shelf.found(store_id, "cats", filters=equals) == []
    many = {f"k{number}": number for number in range(17)}
    error = error_of(shelf.http.post(path, json={"attributes": many}))
    assert error["code"] == "object_above_max_properties"
    error = error_of(shelf.http.post(path, json={}))
    assert error["code"] == "missing_required_parameter"


@pytest.mark.assertion(193)
def test_a_detached_file_stays_a_file(sdk: openai.OpenAI, shelf: Shelf) -> None:
    store_id = shelf.store("Cats purr.", "Dogs bark.")
    file_id = shelf.found(store_id, "cats")[0]["file_id"]
    gone = sdk.vector_stores.files.delete(file_id, vector_store_id=store_id)
    assert gone.model_dump() == {
        "id": file_id,
        "object": "vector_store.file.deleted",
        "deleted": True,
    }
    assert shelf.found(store_id, "cats") == []
    assert shelf.settled(store_id)["file_counts"]["total"] == 1
    path = f"/vector_stores/{store_id}/files/{file_id}"
    message = f"No file found with id '{file_id}' in vector store '{store_id}'."
    for answer in (
        shelf.http.get(path),
        shelf.http.delete(path),
        shelf.http.get(f"{path}/content"),
        shelf.http.post(path, json={"attributes": {}}),
    ):
        assert error_of(answer, 404)["message"] == message
    # It can come back.
    attach(shelf, store_id, file_id)
    shelf.settled(store_id)
    assert shelf.found(store_id, "cats")[0]["file_id"] == file_id


@pytest.mark.assertion(199)
def test_the_content_is_the_text_that_was_read(shelf: Shelf) -> None:
    text = "Ein Satz. " * 2_000 + "Das 漢字 Ende 😀."
    store_id = shelf.store(text)
    [file_id] = shelf.file_ids(store_id)
    page = shelf.got(f"/vector_stores/{store_id}/files/{file_id}/content")
    assert page["object"] == "vector_store.file_content.page"
    assert (page["has_more"], page["next_page"]) == (False, None)
    assert {piece["type"] for piece in page["data"]} == {"text"}
    assert "".join(piece["text"] for piece in page["data"]) == text


def test_a_file_that_is_not_read_yet_has_no_content(shelf: Shelf) -> None:
    store_id, file_id = shelf.held(), shelf.file()
    attach(shelf, store_id, file_id)
    assert shelf.got(f"/vector_stores/{store_id}/files/{file_id}/content")["data"] == []


def test_pages_go_on_from_ids_of_files_also_of_detached_ones(shelf: Shelf) -> None:
    store_id = shelf.held()
    ids = [shelf.file() for _ in range(5)]
    for file_id in ids:
        attach(shelf, store_id, file_id)
    path = f"/vector_stores/{store_id}/files"
    assert shelf.file_ids(store_id, limit=2, order="asc") == ids[:2]
    assert shelf.file_ids(store_id, limit=2, order="asc", after=ids[1]) == ids[2:4]
    assert shelf.file_ids(store_id, order="asc", before=ids[2]) == ids[:2]
    assert shelf.http.delete(f"{path}/{ids[2]}").status_code == 200
    assert shelf.file_ids(store_id, order="asc", after=ids[2]) == ids[3:]
    error = error_of(shelf.http.get(path, params={"after": "vs_1"}))
    assert error["message"] == "Invalid 'after': 'vs_1'. Expected an ID that begins with 'file'."
    error = error_of(shelf.http.get(path, params={"after": "file-nope"}), 404)
    assert error["message"] == f"No file found with id 'file-nope' in vector store '{store_id}'."


def test_an_unknown_file_cannot_be_attached(shelf: Shelf) -> None:
    store_id = shelf.held()
    other = shelf.server.seed_file("somebody-else")
    for file_id in ("file-nope", other):
        body = {"file_id": file_id}
        error = error_of(shelf.http.post(f"/vector_stores/{store_id}/files", json=body), 404)
        assert error["message"] == f"No such File object: {file_id}"


def _fill(shelf: Shelf, store_id: str, count: int) -> None:
    """Put places of files into a store, past the API."""
    world = shelf.server.app.world
    files = [new_file(file_id=world.new_id("file"), store_id=store_id, now=0) for _ in range(count)]
    statements = [
        changes.insert_object(
            "vector_store_file",
            id=index_changes.record_id(store_id, file.id),
            project=shelf.project,
            parent=store_id,
            created_at=0,
            body=msgspec.json.encode(file),
        )
        for file in files
    ]
    shelf.server.run(shelf.server.app.store.commit(*statements))


def test_a_store_holds_10_000_files(shelf: Shelf) -> None:
    store_id = shelf.held()
    _fill(shelf, store_id, limits.VECTOR_STORE_FILES - 1)
    file_id = shelf.file()
    attach(shelf, store_id, file_id)
    attach(shelf, store_id, file_id)
    body = {"file_id": shelf.file()}
    error = error_of(shelf.http.post(f"/vector_stores/{store_id}/files", json=body))
    assert error["message"] == f"Vector store '{store_id}' can hold at most 10000 files."
