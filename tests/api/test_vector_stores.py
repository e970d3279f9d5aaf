"""Vector stores (SPEC 7.8, assertions 183-188, 193)."""

import re

import httpx2
import openai
import pytest

from tests.api.shelf import DAY_S, Shelf
from tests.api.truth import error_of

EMPTY = {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}
WEEK = {"anchor": "last_active_at", "days": 7}


@pytest.mark.assertion(183)
@pytest.mark.parametrize("body", [None, b"{}"])
def test_an_empty_store_is_completed(http: httpx2.Client, body: bytes | None) -> None:
    made = http.post("/vector_stores", content=body).json()
    assert re.fullmatch("vs_[0-9a-f]{32}", made["id"])
    assert made == {
        "id": made["id"],
        "object": "vector_store",
        "created_at": made["created_at"],
        "name": None,
        "description": None,
        "usage_bytes": 0,
        "file_counts": EMPTY,
        "status": "completed",
        "expires_after": None,
        "expires_at": None,
        "last_active_at": made["created_at"],
        "metadata": {},
    }
    assert http.get(f"/vector_stores/{made['id']}").json() == made


@pytest.mark.assertion(184)
def test_files_given_on_creation_are_processed_in_the_background(shelf: Shelf) -> None:
    good, bad = shelf.file("Cats purr."), shelf.file(b"", "empty.txt")
    made = shelf.ok("/vector_stores", {"name": "Pets", "file_ids": [good, bad, good]})
    assert made["status"] == "in_progress"
    assert made["file_counts"] == {**EMPTY, "in_progress": 2, "total": 2}
    done = shelf.settled(made["id"])
    assert done["status"] == "completed"
    assert done["file_counts"] == {**EMPTY, "completed": 1, "failed": 1, "total": 2}
    assert done["usage_bytes"] > 0


def test_a_store_in_progress_tells_when_to_look_again(shelf: Shelf) -> None:
    store_id = shelf.held()
    assert "openai-poll-after-ms" not in shelf.http.get(f"/vector_stores/{store_id}").headers
    shelf.ok(f"/vector_stores/{store_id}/files", {"file_id": shelf.file()})
    answer = shelf.http.get(f"/vector_stores/{store_id}")
    assert answer.json()["status"] == "in_progress"
    assert answer.headers["openai-poll-after-ms"].isdigit()


def test_an_unknown_file_refuses_the_whole_store(shelf: Shelf) -> None:
    body = {"file_ids": [shelf.file(), "file-nope"]}
    error = error_of(shelf.http.post("/vector_stores", json=body), 404)
    assert error["message"] == "No such File object: file-nope"
    other = shelf.server.seed_file("somebody-else")
    error_of(shelf.http.post("/vector_stores", json={"file_ids": [other]}), 404)
    assert shelf.got("/vector_stores")["data"] == []


def test_a_create_call_takes_500_files(shelf: Shelf) -> None:
    error = error_of(shelf.http.post("/vector_stores", json={"file_ids": ["file-1"] * 501}))
    assert error["code"] == "array_above_max_length"


@pytest.mark.assertion(185)
def test_a_store_expires_days_after_its_last_use(shelf: Shelf) -> None:
    made = shelf.ok("/vector_stores", {"expires_after": WEEK})
    assert made["expires_after"] == WEEK
    assert made["expires_at"] == made["last_active_at"] + 7 * DAY_S
    for days, anchor in ((0, "last_active_at"), (366, "last_active_at"), (7, "created_at")):
        body = {"expires_after": {"anchor": anchor, "days": days}}
        error_of(shelf.http.post("/vector_stores", json=body))
        error_of(shelf.http.post(f"/vector_stores/{made['id']}", json=body))


@pytest.mark.assertion(187)
def test_an_expired_store_cannot_be_used_until_it_is_revived(shelf: Shelf) -> None:
    store_id = shelf.unused(8, expires_after_days=7)
    path = f"/vector_stores/{store_id}"
    assert shelf.got(path)["status"] == "expired"
    assert shelf.got("/vector_stores")["data"][0]["status"] == "expired"
    file_id = shelf.file()
    for refused, body in (
        ("search", {"query": "x"}),
        ("files", {"file_id": file_id}),
        ("file_batches", {"file_ids": [file_id]}),
    ):
        error = error_of(shelf.http.post(f"{path}/{refused}", json=body))
        assert error["message"] == f"Vector store '{store_id}' has expired."
    assert shelf.file_ids(store_id) == []
    revived = shelf.ok(path, {"expires_after": WEEK})
    assert revived["status"] == "completed"
    assert revived["expires_at"] == revived["last_active_at"] + 7 * DAY_S
    assert shelf.got(path) == revived
    shelf.ok(f"{path}/files", {"file_id": file_id})


def test_attaching_and_searching_count_as_use(shelf: Shelf) -> None:
    for path, body in (
        ("files", {"file_id": shelf.file()}),
        ("file_batches", {"file_ids": [shelf.file()]}),
        ("search", {"query": "x"}),
    ):
        store_id = shelf.unused(3, expires_after_days=7)
        before = shelf.got(f"/vector_stores/{store_id}")
        shelf.ok(f"/vector_stores/{store_id}/{path}", body)
        after = shelf.got(f"/vector_stores/{store_id}")
        assert after["last_active_at"] > before["last_active_at"] + 2 * DAY_S
        assert after["expires_at"] == after["last_active_at"] + 7 * DAY_S


def test_modify_changes_what_is_given_and_null_clears(shelf: Shelf) -> None:
    fields = {"name": "a", "description": "d", "metadata": {"k": "v"}, "expires_after": WEEK}
    made = shelf.ok("/vector_stores", fields)
    path = f"/vector_stores/{made['id']}"
    assert shelf.ok(path, {}) == made
    assert shelf.ok(path, {"name": "b"}) == {**made, "name": "b"}
    cleared = shelf.ok(path, {"name": None, "metadata": None, "expires_after": None})
    assert cleared == {
        **made,
        "name": None,
        "metadata": {},
        "expires_after": None,
        "expires_at": None,
        "last_active_at": cleared["last_active_at"],
    }
    assert error_of(shelf.http.post(path, json={"file_ids": []}))["code"] == "unknown_parameter"


def test_a_store_keeps_the_rules_of_names_and_metadata(http: httpx2.Client) -> None:
    error = error_of(http.post("/vector_stores", json={"name": "x" * 257}))
    assert error["code"] == "string_above_max_length"
    many = {f"k{number}": "v" for number in range(17)}
    error = error_of(http.post("/vector_stores", json={"metadata": many}))
    assert error["code"] == "object_above_max_properties"
    assert http.post("/vector_stores", json={"name": "x" * 256}).status_code == 200


def test_a_list_has_the_newest_first(shelf: Shelf) -> None:
    made = [shelf.ok("/vector_stores", {"name": str(number)})["id"] for number in range(3)]
    page = shelf.got("/vector_stores", limit=2)
    assert [one["id"] for one in page["data"]] == made[:0:-1]
    assert page["has_more"] is True
    rest = shelf.got("/vector_stores", after=page["last_id"])
    assert [one["id"] for one in rest["data"]] == made[:1]
    error = error_of(shelf.http.get("/vector_stores", params={"after": "asst_1"}))
    assert error["message"] == "Invalid 'after': 'asst_1'. Expected an ID that begins with 'vs'."


@pytest.mark.assertion(193)
def test_a_deleted_store_leaves_its_files(sdk: openai.OpenAI, shelf: Shelf) -> None:
    file_id = shelf.file()
    made = sdk.vector_stores.create(file_ids=[file_id])
    gone = sdk.vector_stores.delete(made.id)
    assert gone.model_dump() == {
        "id": made.id,
        "object": "vector_store.deleted",
        "deleted": True,
    }
    message = f"No vector store found with id '{made.id}'."
    path = f"/vector_stores/{made.id}"
    for answer in (
        shelf.http.get(path),
        shelf.http.get(f"{path}/files"),
        shelf.http.get(f"{path}/files/{file_id}"),
        shelf.http.post(path, json={}),
        shelf.http.post(f"{path}/search", json={"query": "x"}),
        shelf.http.post(f"{path}/files", json={"file_id": file_id}),
        shelf.http.post(f"{path}/file_batches", json={"file_ids": [file_id]}),
        shelf.http.delete(path),
    ):
        assert error_of(answer, 404)["message"] == message
    # The file is there for another store.
    shelf.ok("/vector_stores", {"file_ids": [file_id]})


def test_an_id_of_another_kind_is_a_400(http: httpx2.Client) -> None:
    error = error_of(http.get("/vector_stores/undefined"))
    assert error["message"] == (
        "Invalid 'vector_store_id': 'undefined'. Expected an ID that begins with 'vs'."
    )


def test_a_repeated_create_with_one_idempotency_key_makes_one_store(shelf: Shelf) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"file_ids": [shelf.file()]}
    made = [shelf.http.post("/vector_stores", json=body, headers=headers) for _ in range(2)]
    assert made[0].json()["id"] == made[1].json()["id"]
    assert len(shelf.got("/vector_stores")["data"]) == 1
