"""Batches of files for vector stores (SPEC 7.8, assertions 194, 195, 202)."""

import re
from typing import Any

import openai
import pytest

from tests.api.shelf import Json, Shelf
from tests.api.truth import error_of

NONE = {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}


def batch(shelf: Shelf, store_id: str, **body: Any) -> Json:
    """Make a batch."""
    return shelf.ok(f"/vector_stores/{store_id}/file_batches", body)


@pytest.mark.assertion(194)
def test_a_batch_is_in_progress_until_its_files_are_done(shelf: Shelf) -> None:
    store_id = shelf.held()
    attached = shelf.file()
    shelf.ok(f"/vector_stores/{store_id}/files", {"file_id": attached})
    good, bad = shelf.file(), shelf.file(b"", "empty.txt")
    made = batch(shelf, store_id, file_ids=[good, bad, good])
    assert re.fullmatch("vsfb_[0-9a-f]{32}", made["id"])
    assert made == {
        "id": made["id"],
        "object": "vector_store.file_batch",
        "created_at": made["created_at"],
        "vector_store_id": store_id,
        "status": "in_progress",
        "file_counts": {**NONE, "in_progress": 2, "total": 2},
    }
    path = f"/vector_stores/{store_id}/file_batches/{made['id']}"
    answer = shelf.http.get(path)
    assert answer.json() == made
    assert answer.headers["openai-poll-after-ms"].isdigit()
    shelf.let_go(store_id)
    shelf.settled(store_id)
    counts = {**NONE, "completed": 1, "failed": 1, "total": 2}
    assert shelf.got(path) == {**made, "status": "completed", "file_counts": counts}
    listed = [one["id"] for one in shelf.got(f"{path}/files", order="asc")["data"]]
    assert listed == [good, bad]
    [failed] = shelf.got(f"{path}/files", filter="failed")["data"]
    assert failed["id"] == bad


@pytest.mark.assertion(194)
def test_a_batch_of_nothing_but_bad_files_has_failed(shelf: Shelf) -> None:
    store_id = shelf.store()
    bad = [shelf.file(b"", f"{number}.txt") for number in range(2)]
    made = batch(shelf, store_id, file_ids=bad)
    shelf.settled(store_id)
    found = shelf.got(f"/vector_stores/{store_id}/file_batches/{made['id']}")
    assert (found["id"], found["status"]) == (made["id"], "failed")
    assert found["file_counts"] == {**NONE, "failed": 2, "total": 2}


@pytest.mark.assertion(194)
def test_a_cancelled_batch_has_nothing_left_in_progress(shelf: Shelf) -> None:
    store_id = shelf.held()
    kept = shelf.file()
    shelf.ok(f"/vector_stores/{store_id}/files", {"file_id": kept})
    files = [shelf.file() for _ in range(3)]
    made = batch(shelf, store_id, file_ids=files)
    path = f"/vector_stores/{store_id}/file_batches/{made['id']}"
    cancelled = shelf.ok(f"{path}/cancel")
    counts = {**NONE, "cancelled": 3, "total": 3}
    assert cancelled == {**made, "status": "cancelled", "file_counts": counts}
    assert shelf.got(path) == cancelled
    assert shelf.ok(f"{path}/cancel") == cancelled
    shelf.let_go(store_id)
    done = shelf.settled(store_id)
    assert done["status"] == "completed"
    assert done["file_counts"] == {**NONE, "completed": 1, "cancelled": 3, "total": 4}
    # A file that was cancelled is processed when it is asked for again.
    again = shelf.ok(f"/vector_stores/{store_id}/files", {"file_id": files[0]})
    assert again["status"] == "in_progress"
    assert shelf.settled(store_id)["file_counts"]["completed"] == 2


def test_a_batch_that_is_done_stays_so(shelf: Shelf) -> None:
    store_id = shelf.store()
    made = batch(shelf, store_id, file_ids=[shelf.file()])
    shelf.settled(store_id)
    path = f"/vector_stores/{store_id}/file_batches/{made['id']}"
    assert shelf.ok(f"{path}/cancel")["status"] == "completed"
    assert shelf.got(path)["status"] == "completed"


@pytest.mark.assertion(195)
def test_a_batch_names_its_files_once(shelf: Shelf) -> None:
    store_id = shelf.held()
    file_id = shelf.file()
    files = [{"file_id": file_id}]
    for body, code in (
        ({}, "missing_required_parameter"),
        ({"file_ids": []}, "array_below_min_length"),
        ({"file_ids": [file_id], "files": files}, "invalid_value"),
        ({"file_ids": [file_id] * 2001}, "array_above_max_length"),
    ):
        answer = shelf.http.post(f"/vector_stores/{store_id}/file_batches", json=body)
        assert error_of(answer)["code"] == code
    assert shelf.file_ids(store_id) == []


def test_an_unknown_file_refuses_the_whole_batch(shelf: Shelf) -> None:
    store_id = shelf.held()
    body = {"file_ids": [shelf.file(), "file-nope"]}
    error = error_of(shelf.http.post(f"/vector_stores/{store_id}/file_batches", json=body), 404)
    assert error["message"] == "No such File object: file-nope"
    assert shelf.file_ids(store_id) == []


def test_each_file_of_files_has_its_own_attributes_and_chunking(shelf: Shelf) -> None:
    store_id = shelf.held()
    sizes = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    small = {"type": "static", "static": sizes}
    first, second = shelf.file(), shelf.file()
    batch(
        shelf,
        store_id,
        files=[
            {"file_id": first, "attributes": {"n": 1}, "chunking_strategy": small},
            {"file_id": second},
        ],
        attributes={"n": 0},
        chunking_strategy=small,
    )
    path = f"/vector_stores/{store_id}/files"
    one, other = shelf.got(f"{path}/{first}"), shelf.got(f"{path}/{second}")
    assert (one["attributes"], one["chunking_strategy"]) == ({"n": 1}, small)
    assert other["attributes"] == {}
    assert other["chunking_strategy"]["static"]["max_chunk_size_tokens"] == 800


def test_attributes_and_chunking_of_a_batch_are_for_all_its_file_ids(shelf: Shelf) -> None:
    store_id = shelf.held()
    sizes = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    small = {"type": "static", "static": sizes}
    ids = [shelf.file(), shelf.file()]
    batch(shelf, store_id, file_ids=ids, attributes={"n": 0}, chunking_strategy=small)
    for file in shelf.got(f"/vector_stores/{store_id}/files")["data"]:
        assert (file["attributes"], file["chunking_strategy"]) == ({"n": 0}, small)


@pytest.mark.assertion(195)
def test_2000_files_are_one_batch(shelf: Shelf) -> None:
    store_id = shelf.held()
    ids = shelf.names(2_000)
    made = batch(shelf, store_id, file_ids=ids)
    assert made["file_counts"]["in_progress"] == 2_000
    path = f"/vector_stores/{store_id}/file_batches/{made['id']}"
    assert shelf.ok(f"{path}/cancel")["file_counts"]["cancelled"] == 2_000
    page = shelf.got(f"{path}/files", limit=100, order="asc", after=ids[99])
    assert [one["id"] for one in page["data"]] == ids[100:200]


def test_a_detached_file_is_counted_no_more(shelf: Shelf) -> None:
    store_id = shelf.held()
    ids = [shelf.file(), shelf.file()]
    made = batch(shelf, store_id, file_ids=ids)
    assert shelf.http.delete(f"/vector_stores/{store_id}/files/{ids[0]}").status_code == 200
    found = shelf.got(f"/vector_stores/{store_id}/file_batches/{made['id']}")
    assert found["file_counts"] == {**NONE, "in_progress": 1, "total": 1}


def test_a_batch_belongs_to_its_store(shelf: Shelf) -> None:
    store_id, other = shelf.held(), shelf.held()
    made = batch(shelf, store_id, file_ids=[shelf.file()])
    for path in (f"{other}/file_batches/{made['id']}", f"{store_id}/file_batches/vsfb_nope"):
        id = path.rpartition("/")[2]
        for answer in (
            shelf.http.get(f"/vector_stores/{path}"),
            shelf.http.get(f"/vector_stores/{path}/files"),
            shelf.http.post(f"/vector_stores/{path}/cancel"),
        ):
            error = error_of(answer, 404)
            assert error["message"] == f"No vector store file batch found with id '{id}'."
    error = error_of(shelf.http.get(f"/vector_stores/{store_id}/file_batches/{store_id}"))
    assert error["param"] == "batch_id"


@pytest.mark.assertion(202)
def test_the_sdks_poll_helpers_end(sdk: openai.OpenAI, shelf: Shelf) -> None:
    store = sdk.vector_stores.create()
    good, bad = shelf.file(), shelf.file(b"", "empty.txt")
    done = sdk.vector_stores.file_batches.create_and_poll(store.id, file_ids=[good, bad])
    assert done.id.startswith("vsfb_")
    assert (done.file_counts.completed, done.file_counts.failed) == (1, 1)
    file = sdk.vector_stores.files.create_and_poll(shelf.file(), vector_store_id=store.id)
    assert file.status == "completed"
