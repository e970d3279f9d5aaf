"""Uploads through the API: parts in any order, one file at the end, and no bytes left behind."""

import hashlib
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.api.conftest import Start, client_for
from tests.api.serving import Running
from tests.api.truth import error_of
from understudy import limits
from understudy.wire.uploads import AddUploadPart

Json = dict[str, Any]
UNKNOWN = "upload_00000000000000000000000000000000"


class Door:
    """The upload calls of one client."""

    def __init__(self, http: httpx2.Client, server: Running) -> None:
        self.http = http
        self.server = server

    def create(self, size: int, **more: Any) -> Json:
        """A new upload."""
        body = {"filename": "a.txt", "purpose": "vision", "bytes": size, "mime_type": "image/png"}
        return self._ok(self.http.post("/uploads", json={**body, **more}))

    def add(self, upload: Json, data: bytes) -> str:
        """A part; its id."""
        id: str = self._ok(self.part(upload["id"], data))["id"]
        return id

    def part(self, upload_id: str, data: bytes) -> httpx2.Response:
        """The answer to adding a part."""
        return self.http.post(f"/uploads/{upload_id}/parts", files={"data": ("blob", data)})

    def complete(self, upload: Json, *parts: str, **more: Any) -> httpx2.Response:
        """The answer to completing."""
        body = {"part_ids": parts, **more}
        return self.http.post(f"/uploads/{upload['id']}/complete", json=body)

    def cancel(self, upload: Json) -> httpx2.Response:
        """The answer to cancelling."""
        return self.http.post(f"/uploads/{upload['id']}/cancel")

    def content(self, file: Json) -> bytes:
        """The bytes of a file."""
        answer = self.http.get(f"/files/{file['id']}/content")
        assert answer.status_code == 200, answer.text
        return answer.content

    def until_left(self, count: int, beside: set[str]) -> None:
        """Wait until only that many blobs are there beside others, and no job of an upload."""
        deadline = time.monotonic() + 10
        while len(self.server.blobs() - beside) != count:
            assert time.monotonic() < deadline, self.server.blobs() - beside
            time.sleep(0.02)

    def _ok(self, answer: httpx2.Response) -> Json:
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
def door(http: httpx2.Client, server: Running) -> Door:
    """The upload calls."""
    return Door(http, server)


@pytest.mark.assertion(179)
def test_parts_become_a_file(door: Door, project: str) -> None:
    before = door.server.blobs()
    upload = door.create(11, filename="folder/naïve.png")
    assert upload == {
        "id": upload["id"],
        "object": "upload",
        "bytes": 11,
        "created_at": upload["created_at"],
        "filename": "naïve.png",
        "purpose": "vision",
        "status": "pending",
        "expires_at": upload["created_at"] + 3600,
        "file": None,
    }
    answer = door.part(upload["id"], b"hello ").json()
    assert answer == {
        "id": answer["id"],
        "object": "upload.part",
        "created_at": answer["created_at"],
        "upload_id": upload["id"],
    }
    second = door.add(upload, b"world")
    done = door.complete(upload, answer["id"], second).json()
    file = done["file"]
    assert done == {**upload, "status": "completed", "file": file}
    assert (file["object"], file["bytes"], file["purpose"]) == ("file", 11, "vision")
    assert (file["filename"], file["status"]) == ("naïve.png", "processed")
    assert door.http.get(f"/files/{file['id']}").json() == file
    assert door.http.get(f"/uploads/{upload['id']}").json() == done
    assert door.content(file) == b"hello world"
    for start, stop in ((0, 1), (4, 8), (6, 11), (5, 6), (10, 11)):
        asked = {"Range": f"bytes={start}-{stop - 1}"}
        found = door.http.get(f"/files/{file['id']}/content", headers=asked)
        assert (found.status_code, found.content) == (206, b"hello world"[start:stop])
    door.until_left(2, before)
    until_no_job(door, upload)
    assert door.content(file) == b"hello world"  # Cleaning up took nothing of it.
    door.http.delete(f"/files/{file['id']}")
    door.until_left(0, before)


def until_no_job(door: Door, upload: Json) -> None:
    """Wait until the upload was cleaned up."""
    deadline = time.monotonic() + 10
    while door.server.job(upload["id"]) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.assertion(180)
def test_parts_come_at_once_and_are_put_in_order(door: Door) -> None:
    pieces = [bytes([n]) * 100_000 for n in range(8)]
    upload = door.create(800_000)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda piece: door.add(upload, piece), pieces))
    order = [3, 1, 4, 0, 5, 2, 7, 6]
    done = door.complete(upload, *(ids[n] for n in order)).json()
    assert door.content(done["file"]) == b"".join(pieces[n] for n in order)


@pytest.mark.assertion(181)
def test_sizes_and_digests_must_be_right(door: Door) -> None:
    upload = door.create(6)
    one, two = door.add(upload, b"abc"), door.add(upload, b"def")
    error = error_of(door.complete(upload, one))
    assert error["message"] == (
        "The parts have 3 bytes together, but the upload was created with 6 bytes."
    )
    wrong, right = (hashlib.md5(data).hexdigest() for data in (b"defabc", b"abcdef"))
    error = error_of(door.complete(upload, one, two, md5=wrong))
    assert error["message"] == (
        f"Invalid 'md5': expected '{wrong}', but the uploaded bytes have '{right}'."
    )
    assert door.http.get(f"/uploads/{upload['id']}").json()["status"] == "pending"
    assert door.complete(upload, one, two, md5=right.upper()).status_code == 200
    for answer in (
        door.complete(upload, one, two),
        door.cancel(upload),
        door.part(upload["id"], b"x"),
    ):
        assert error_of(answer)["message"] == f"Upload '{upload['id']}' is not pending."


def test_parts_must_be_known_and_named_once(door: Door) -> None:
    upload, other = door.create(6), door.create(3)
    one, strange = door.add(upload, b"abc"), door.add(other, b"def")
    error = error_of(door.complete(upload, one, one))
    assert error["message"] == f"Invalid 'part_ids': part '{one}' is given twice."
    for id in (strange, "part_unknown", ""):
        error = error_of(door.complete(upload, one, id))
        assert error["message"] == f"No part '{id}' found in upload '{upload['id']}'."
        assert error["param"] == "part_ids"
    assert error_of(door.complete(upload))["code"] == "invalid_value"


def test_parts_that_are_not_named_are_deleted(door: Door) -> None:
    before = door.server.blobs()
    upload = door.create(3)
    ids = [door.add(upload, data) for data in (b"abc", b"def", b"ghi")]
    done = door.complete(upload, ids[1]).json()
    door.until_left(1, before)
    assert door.content(done["file"]) == b"def"


@pytest.mark.assertion(181)
def test_a_cancelled_upload_takes_nothing_and_keeps_nothing(door: Door) -> None:
    before = door.server.blobs()
    upload = door.create(6)
    part = door.add(upload, b"abc")
    cancelled = door.cancel(upload).json()
    assert cancelled == {**upload, "status": "cancelled"}
    for answer in (
        door.part(upload["id"], b"def"),
        door.complete(upload, part),
        door.cancel(upload),
    ):
        assert error_of(answer)["message"] == f"Upload '{upload['id']}' is not pending."
    door.until_left(0, before)


def test_of_many_who_complete_one_succeeds(door: Door) -> None:
    upload = door.create(3)
    part = door.add(upload, b"abc")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: door.complete(upload, part), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    assert len(door.http.get("/files").json()["data"]) == 1


def test_completing_and_cancelling_at_once_end_it_once(door: Door) -> None:
    for _ in range(5):
        upload = door.create(3)
        part = door.add(upload, b"abc")
        with ThreadPoolExecutor(2) as pool:
            ends = [
                pool.submit(door.complete, upload, part),
                pool.submit(door.cancel, upload),
            ]
        assert sorted(end.result().status_code for end in ends) == [200, 400]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"bytes": 0}, "bytes", "integer_below_min_value"),
        ({"bytes": 8 * 1024**3 + 1}, "bytes", "integer_above_max_value"),
        ({"bytes": "3"}, "bytes", "invalid_type"),
        ({"filename": ""}, "filename", "empty_string"),
        ({"purpose": "foo"}, "purpose", "invalid_value"),
        ({"mime_type": "application/pdf"}, "mime_type", "invalid_value"),
        ({"purpose": "fine-tune", "mime_type": "image/png"}, "mime_type", "invalid_value"),
        ({"foo": 1}, "foo", "unknown_parameter"),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 1}},
            "expires_after.seconds",
            "integer_below_min_value",
        ),
    ],
)
def test_a_wrong_beginning_is_refused(
    http: httpx2.Client, change: Json, param: str, code: str
) -> None:
    body = {"filename": "a.png", "purpose": "vision", "bytes": 3, "mime_type": "image/png"}
    error = error_of(http.post("/uploads", json={**body, **change}))
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize(
    ("purpose", "kind"),
    [
        ("assistants", "anything/at-all"),
        ("fine-tune", "text/jsonl"),
        ("vision", "IMAGE/PNG; x=y"),
        ("batch", ""),
    ],
)
def test_the_type_matters_to_few_purposes(door: Door, purpose: str, kind: str) -> None:
    assert door.create(3, purpose=purpose, mime_type=kind)["purpose"] == purpose


def test_eight_gigabytes_may_be_announced(door: Door) -> None:
    assert door.create(8 * 1024**3)["bytes"] == 8 * 1024**3


def test_the_file_expires_as_was_asked_for(door: Door) -> None:
    upload = door.create(3, expires_after={"anchor": "created_at", "seconds": 7200})
    file = door.complete(upload, door.add(upload, b"abc")).json()["file"]
    assert file["expires_at"] == file["created_at"] + 7200


def test_an_unknown_upload_is_said_so(door: Door) -> None:
    unknown = {"id": UNKNOWN}
    for answer in (
        door.part(UNKNOWN, b"x"),
        door.complete(unknown, "part_x"),
        door.cancel(unknown),
        door.http.get(f"/uploads/{UNKNOWN}"),
    ):
        assert error_of(answer, 404)["message"] == f"No upload found with id '{UNKNOWN}'."
    assert error_of(door.part("file-x", b"x"))["param"] == "upload_id"


def test_another_project_has_no_upload(door: Door, server: Running) -> None:
    upload = door.create(3)
    part = door.add(upload, b"abc")
    with client_for(server.url, server.new_key("strangers-to-uploads")) as http:
        stranger = Door(http, server)
        error_of(stranger.part(upload["id"], b"abc"), 404)
        error_of(stranger.complete(upload, part), 404)
        error_of(stranger.cancel(upload), 404)
        own = stranger.create(3)
        error_of(stranger.complete(own, part))


def test_a_part_needs_bytes_and_its_name(door: Door) -> None:
    upload = door.create(3)
    assert error_of(door.part(upload["id"], b""))["message"] == "File is empty."
    path = f"/uploads/{upload['id']}/parts"
    error = error_of(door.http.post(path, files={"file": ("a", b"x")}))
    assert (error["param"], error["code"]) == ("file", "unknown_parameter")
    error = error_of(door.http.post(path, files={"x": (None, b"")}))
    assert error["param"] in ("x", "data")


def test_a_part_over_the_limit_is_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    before = door.server.blobs()
    upload = door.create(3)
    monkeypatch.setattr(AddUploadPart, "MAX_BYTES", 1000)
    error = error_of(door.part(upload["id"], bytes(1001)), 413)
    assert (error["message"] or "").startswith("Maximum content size limit (1000) exceeded (")
    assert door.part(upload["id"], bytes(1000)).status_code == 200
    door.until_left(1, before)


def test_an_upload_takes_a_bounded_number_of_parts(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPLOAD_PARTS", 2)
    upload = door.create(3)
    door.add(upload, b"a")
    door.add(upload, b"b")
    error = error_of(door.part(upload["id"], b"c"))
    assert error["message"] == "Uploads can have at most 2 parts."


def test_an_idempotency_key_adds_one_part_and_completes_once(door: Door) -> None:
    upload = door.create(3)
    path = f"/uploads/{upload['id']}"

    def add(data: bytes) -> httpx2.Response:
        headers = {"Idempotency-Key": f"add-{upload['id']}"}
        return door.http.post(f"{path}/parts", files={"data": ("a", data)}, headers=headers)

    first, second = add(b"abc"), add(b"abc")
    assert first.json() == second.json()
    assert error_of(add(b"abd"))["code"] == "idempotency_error"
    headers = {"Idempotency-Key": f"complete-{upload['id']}"}
    body = {"part_ids": [first.json()["id"]]}
    done = [door.http.post(f"{path}/complete", json=body, headers=headers) for _ in range(2)]
    assert done[0].status_code == 200 and done[0].json() == done[1].json()


def test_the_parts_of_an_upload_outlive_the_server(start: Start) -> None:
    def door_of(server: Running) -> Door:
        return Door(client_for(server.url, server.new_key("p")), server)

    with start() as server:
        door = door_of(server)
        upload = door.create(6)
        one = door.add(upload, b"abc")
        door.http.close()
    with start() as server:
        door = door_of(server)
        two = door.add(upload, b"def")
        done = door.complete(upload, one, two).json()
        assert door.content(done["file"]) == b"abcdef"
        door.http.close()


@pytest.mark.assertion(182)
def test_the_sdk_uploads_a_file_in_three_parts(sdk: openai.OpenAI, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    path = tmp_path / "big.png"
    path.write_bytes(data)
    done = sdk.uploads.upload_file_chunked(
        file=path, mime_type="image/png", purpose="vision", part_size=100_000
    )
    assert done.status == "completed" and done.file is not None
    assert sdk.files.content(done.file.id).read() == data
    done = sdk.uploads.upload_file_chunked(
        file=io.BytesIO(data).getvalue(),
        filename="other.png",
        bytes=len(data),
        mime_type="image/png",
        purpose="vision",
        part_size=100_000,
        md5=hashlib.md5(data).hexdigest(),
    )
    assert done.file is not None and done.file.filename == "other.png"


def test_the_list_of_parts_is_checked(http: httpx2.Client) -> None:
    bodies: list[Json] = [{}, {"part_ids": "x"}, {"part_ids": [1]}, {"part_ids": None}]
    for body in bodies:
        error = error_of(http.post(f"/uploads/{UNKNOWN}/complete", json=body))
        assert (error["param"] or "").startswith("part_ids")
