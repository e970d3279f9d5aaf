"""Files through the API: what is kept, what may be read, and what goes with a file."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.api.conftest import Start, client_for
from tests.api.serving import Running
from tests.api.truth import error_of
from understudy import limits

Json = dict[str, Any]
Upload = Callable[..., Json]


@pytest.fixture
def upload(http: httpx2.Client) -> Upload:
    """Uploads a file that must be taken."""

    def begin(
        name: str = "a.txt", data: bytes = b"Some text.", purpose: str = "assistants", **more: str
    ) -> Json:
        answer = http.post(
            "/files", data={"purpose": purpose, **more}, files={"file": (name, data)}
        )
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    return begin


def until_gone(holds: Callable[[], bool]) -> None:
    """Wait for the background."""
    deadline = time.monotonic() + 10
    while holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.assertion(169)
def test_a_file_is_shown_as_the_original_showed_it(upload: Upload, http: httpx2.Client) -> None:
    file = upload("报告.txt", b"12345", "user_data")
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": 5,
        "created_at": file["created_at"],
        "filename": "报告.txt",
        "purpose": "user_data",
        "status": "processed",
    }
    assert file["id"].startswith("file-") and len(file["id"]) == len("file-") + 22
    assert http.get(f"/files/{file['id']}").json() == file


def test_the_same_file_twice_is_two_files(upload: Upload) -> None:
    assert upload()["id"] != upload()["id"]


@pytest.mark.assertion(170)
def test_what_is_missing_or_unknown_is_named(http: httpx2.Client) -> None:
    file = {"file": ("a.txt", b"x")}
    error = error_of(http.post("/files", data={"purpose": "foo"}, files=file))
    assert error == {
        "message": "Invalid value: 'foo'. Supported values are: 'assistants', 'batch', "
        "'fine-tune', 'vision', 'user_data', and 'evals'.",
        "type": "invalid_request_error",
        "param": "purpose",
        "code": "invalid_value",
    }
    for more in ({"purpose": "assistants_output"}, {"purpose": ""}):
        assert error_of(http.post("/files", data=more, files=file))["code"] == "invalid_value"
    error = error_of(http.post("/files", files=file))
    assert error["message"] == "Missing required parameter: 'purpose'."
    assert (error["param"], error["code"]) == ("purpose", "missing_required_parameter")
    error = error_of(http.post("/files", files={"purpose": (None, "vision")}))
    assert (error["param"], error["code"]) == ("file", "missing_required_parameter")


def test_an_empty_file_is_refused(http: httpx2.Client) -> None:
    answer = http.post("/files", data={"purpose": "vision"}, files={"file": ("a.txt", b"")})
    assert error_of(answer)["message"] == "File is empty."


@pytest.mark.assertion(172)
def test_an_unknown_file_is_said_so(http: httpx2.Client, server: Running) -> None:
    for method, path in (
        ("GET", "/files/file-x"),
        ("DELETE", "/files/file-x"),
        ("GET", "/files/file-x/content"),
    ):
        error = error_of(http.request(method, path), 404)
        assert error == {
            "message": "No such File object: file-x",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }
    assert error_of(http.get("/files/asst_1"))["code"] == "invalid_value"
    assert error_of(http.get("/files/assistant-azure"), 404)["param"] == "id"


def test_another_project_sees_no_file(server: Running, upload: Upload) -> None:
    file = upload(purpose="vision")
    with client_for(server.url, server.new_key("strangers-to-files")) as other:
        error_of(other.get(f"/files/{file['id']}"), 404)
        error_of(other.get(f"/files/{file['id']}/content"), 404)
        error_of(other.delete(f"/files/{file['id']}"), 404)
        assert other.get("/files").json()["data"] == []


@pytest.mark.assertion(173)
@pytest.mark.parametrize("purpose", ["assistants", "user_data"])
def test_some_purposes_are_for_tools_only(
    upload: Upload, http: httpx2.Client, purpose: str, start: Start
) -> None:
    file = upload(purpose=purpose)
    assert error_of(http.get(f"/files/{file['id']}/content")) == {
        "message": f"Not allowed to download files of purpose: {purpose}",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    with (
        start(allow_file_downloads=True) as lenient,
        client_for(lenient.url, lenient.new_key("p")) as other,
    ):
        made = other.post(
            "/files", data={"purpose": purpose}, files={"file": ("a.txt", b"Some text.")}
        ).json()
        assert other.get(f"/files/{made['id']}/content").content == b"Some text."


@pytest.mark.assertion(174)
@pytest.mark.parametrize("purpose", ["vision", "batch", "fine-tune"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.PNG", "image/png"),
        ("a.b.jpeg", "image/jpeg"),
        ("a.txt", "text/plain"),
        ("a.json", "application/octet-stream"),
        ("a.jsonl", "application/octet-stream"),
        ("a.strange", "application/octet-stream"),
        ("none", "application/octet-stream"),
        ("a.tar.gz", "application/octet-stream"),
    ],
)
def test_the_content_is_what_was_sent(
    upload: Upload, http: httpx2.Client, purpose: str, name: str, kind: str
) -> None:
    data = bytes(range(256)) * 50
    file = upload(name, data, purpose)
    answer = http.get(f"/files/{file['id']}/content")
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-length"] == str(len(data))
    head = http.head(f"/files/{file['id']}/content")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(data))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a b.txt", "filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"),
        ('say "hi".txt', "filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt"),
        ("é👋.txt", "filename=\"__.txt\"; filename*=UTF-8''%C3%A9%F0%9F%91%8B.txt"),
    ],
)
def test_a_download_is_saved_under_its_name(
    upload: Upload, http: httpx2.Client, name: str, said: str
) -> None:
    file = upload(name, b"x", "vision")
    assert file["filename"] == name
    answer = http.get(f"/files/{file['id']}/content")
    assert answer.headers["content-disposition"] == f"attachment; {said}"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=2-4", 206, 2, 5),
        ("bytes=7-", 206, 7, 10),
        ("bytes=7-99", 206, 7, 10),
        ("bytes=-3", 206, 7, 10),
        ("bytes=-99", 206, 0, 10),
        ("bytes=4-2", 200, 0, 10),
        ("bytes=-", 200, 0, 10),
        ("bytes=0-1,3-4", 200, 0, 10),
        ("lines=0-1", 200, 0, 10),
        ("bytes=a-b", 200, 0, 10),
    ],
)
def test_a_range_is_answered_with_its_bytes(
    upload: Upload, http: httpx2.Client, asked: str, status: int, start: int, stop: int
) -> None:
    file = upload("a.txt", b"0123456789", "vision")
    answer = http.get(f"/files/{file['id']}/content", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, b"0123456789"[start:stop])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/10"


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(upload: Upload, http: httpx2.Client, asked: str) -> None:
    file = upload("a.txt", b"0123456789", "vision")
    answer = http.get(f"/files/{file['id']}/content", headers={"Range": asked})
    assert error_of(answer, 416)["param"] == "range"
    assert answer.headers["content-range"] == "bytes */10"


def test_a_range_goes_on_only_in_the_same_bytes(upload: Upload, http: httpx2.Client) -> None:
    file = upload("a.txt", b"0123456789", "vision")
    path = f"/files/{file['id']}/content"
    tag = http.get(path).headers["etag"]
    for if_range, status in ((tag, 206), ('"another"', 200)):
        headers = {"Range": "bytes=5-", "If-Range": if_range}
        assert http.get(path, headers=headers).status_code == status


def test_a_client_that_leaves_a_download_harms_nobody(
    upload: Upload, http: httpx2.Client, server: Running, key: str
) -> None:
    file = upload("a.bin", bytes(20_000_000), "vision")
    with (
        client_for(server.url, key) as other,
        other.stream("GET", f"/files/{file['id']}/content") as answer,
    ):
        next(answer.iter_bytes(1000))
    assert len(http.get(f"/files/{file['id']}/content").content) == 20_000_000


def test_bytes_that_somebody_took_away_are_said_to_be_missing(
    upload: Upload, http: httpx2.Client, server: Running
) -> None:
    before = server.blobs()
    file = upload("a.txt", b"x", "vision")
    [blob] = server.blobs() - before
    server.run(server.app.blobs.delete(blob))
    error = error_of(http.get(f"/files/{file['id']}/content"), 500)
    assert error["message"] == f"The content of file {file['id']} is missing."


@pytest.mark.assertion(175, 52)
def test_a_deleted_file_leaves_no_trace(
    upload: Upload, http: httpx2.Client, server: Running
) -> None:
    before = server.blobs()
    gone, stays = upload("gone.txt"), upload("stays.txt")
    resources = {"code_interpreter": {"file_ids": [gone["id"], stays["id"]]}}
    tools = [{"type": "code_interpreter"}]
    assistant = http.post(
        "/assistants", json={"model": "m", "tools": tools, "tool_resources": resources}
    ).json()
    thread = http.post("/threads", json={"tool_resources": resources}).json()
    answer = http.delete(f"/files/{gone['id']}")
    assert answer.json() == {"id": gone["id"], "object": "file", "deleted": True}
    left = {"code_interpreter": {"file_ids": [stays["id"]]}}
    for path, id in (("/assistants", assistant["id"]), ("/threads", thread["id"])):
        assert http.get(f"{path}/{id}").json()["tool_resources"] == left
        assert http.get(path).json()["data"][0]["tool_resources"] == left
        changed = http.post(f"{path}/{id}", json={"metadata": {"a": "b"}}).json()
        assert changed["tool_resources"] == left
    error_of(http.get(f"/files/{gone['id']}"), 404)
    error_of(http.delete(f"/files/{gone['id']}"), 404)
    assert [file["id"] for file in http.get("/files").json()["data"]] == [stays["id"]]
    until_gone(lambda: len(server.blobs() - before) > 1)
    assert server.job(gone["id"]) is None


@pytest.mark.assertion(176)
def test_files_are_listed_by_purpose_order_and_cursor(upload: Upload, http: httpx2.Client) -> None:
    made = [upload(f"{n}.txt", purpose=["vision", "assistants"][n % 2])["id"] for n in range(6)]

    def ids(query: str) -> list[str]:
        answer = http.get(f"/files?{query}")
        assert answer.status_code == 200, answer.text
        return [file["id"] for file in answer.json()["data"]]

    assert ids("") == made[::-1]
    assert ids("order=asc&limit=10000") == made
    assert ids("order=asc&purpose=vision") == made[::2]
    assert ids("purpose=assistants") == made[1::2][::-1]
    assert ids("purpose=nothing-of-that-kind") == []
    assert ids(f"order=asc&after={made[2]}") == made[3:]
    assert ids(f"order=asc&purpose=vision&after={made[2]}") == [made[4]]
    assert ids(f"after={made[2]}&limit=1") == [made[1]]
    assert ids(f"order=asc&before={made[2]}") == made  # There is no such parameter.
    page = http.get("/files?limit=2").json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (made[5], made[4], True)
    error = error_of(http.get("/files?limit=10001"))
    assert (error["param"], error["code"]) == ("limit", "integer_above_max_value")
    assert "Expected a value <= 10000, but got 10001 instead." in (error["message"] or "")
    assert error_of(http.get("/files?limit=0"))["code"] == "integer_below_min_value"
    assert error_of(http.get("/files?after=asst_1"))["param"] == "after"


def test_a_page_of_files_may_begin_after_a_deleted_one(upload: Upload, http: httpx2.Client) -> None:
    first, second, third = upload()["id"], upload()["id"], upload()["id"]
    http.delete(f"/files/{second}")
    found = http.get(f"/files?order=asc&after={second}").json()["data"]
    assert [file["id"] for file in found] == [third]
    assert first != third


@pytest.mark.assertion(177)
def test_an_expiry_is_kept_in_seconds(http: httpx2.Client, server: Running) -> None:
    for seconds in (3_600, 2_592_000):
        data = {"purpose": "vision", "expires_after[anchor]": "created_at"}
        data["expires_after[seconds]"] = str(seconds)
        file = http.post("/files", data=data, files={"file": ("a", b"x")}).json()
        assert file["expires_at"] == file["created_at"] + seconds
        assert http.get(f"/files/{file['id']}").json() == file
        job = server.job(file["id"])
        assert job is not None and (job.kind, job.due_at) == ("expire", file["expires_at"])


@pytest.mark.assertion(178)
def test_an_extension_in_capitals_is_as_good(upload: Upload, http: httpx2.Client) -> None:
    file = upload("report.PDF", b"%PDF-1.4 nothing")
    assert file["filename"] == "report.PDF"
    content = {
        "role": "user",
        "content": "Read it.",
        "attachments": [{"file_id": file["id"], "tools": [{"type": "file_search"}]}],
    }
    thread = http.post("/threads", json={}).json()
    answer = http.post(f"/threads/{thread['id']}/messages", json=content)
    assert answer.status_code == 200, answer.text


def test_an_idempotency_key_makes_one_file_of_two_posts(
    http: httpx2.Client, server: Running
) -> None:
    before = server.blobs()
    headers = {"Idempotency-Key": "upload-once"}

    def post(content: bytes, purpose: str = "vision") -> httpx2.Response:
        file = {"file": ("a.txt", content)}
        return http.post("/files", data={"purpose": purpose}, files=file, headers=headers)

    first, second = post(b"same"), post(b"same")
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    for other in (post(b"else"), post(b"same", "batch")):
        assert error_of(other)["code"] == "idempotency_error"
    until_gone(lambda: len(server.blobs() - before) > 1)
    assert len(http.get("/files").json()["data"]) == 1


def test_a_full_disk_is_said_and_the_server_goes_on(
    http: httpx2.Client, monkeypatch: pytest.MonkeyPatch, upload: Upload, server: Running
) -> None:
    before = server.blobs()
    with monkeypatch.context() as patched:
        patched.setattr(limits, "FREE_BYTES_FOR_BLOBS", 2**60)
        file = {"file": ("a.txt", b"x")}
        answer = http.post("/files", data={"purpose": "vision"}, files=file)
        error = error_of(answer, 507)
        assert error["message"] == "The server has no space left for files."
        assert answer.headers["x-should-retry"] == "false"
        assert http.get("/files").status_code == 200
    until_gone(lambda: server.blobs() != before)
    upload()


def test_the_sdk_sends_and_reads_files(sdk: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "naïve notes.txt"
    path.write_bytes(b"From a path.")
    for given, name in (
        (path, "naïve notes.txt"),
        (("named.txt", b"From a path."), "named.txt"),
        (io.BytesIO(b"From a path."), "upload"),
    ):
        file = sdk.files.create(file=given, purpose="vision")
        assert (file.filename, file.bytes) == (name, 12)
        assert sdk.files.wait_for_processing(file.id).status == "processed"
        assert sdk.files.content(file.id).read() == b"From a path."
    assert len(list(sdk.files.list(purpose="vision", limit=1))) == 3


PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.assertion(78, 79)
def test_an_image_must_be_one(upload: Upload, http: httpx2.Client) -> None:
    thread = http.post("/threads", json={}).json()["id"]

    def show(file_id: str) -> httpx2.Response:
        image = {"type": "image_file", "image_file": {"file_id": file_id}}
        body = {"role": "user", "content": [image]}
        return http.post(f"/threads/{thread}/messages", json=body)

    for name, purpose in (("a.PNG", "vision"), ("b.jpeg", "assistants"), ("c.webp", "vision")):
        shown = show(upload(name, PNG, purpose)["id"])
        assert shown.json()["content"][0]["image_file"]["detail"] == "auto"
    assert error_of(show("file-unknown"), 404)["message"] == "No such File object: file-unknown"
    assert error_of(show(upload("report.pdf")["id"])) == {
        "message": "Invalid message content: Expected file type to be a supported format: .jpeg, "
        ".jpg, .png, .gif, .webp but got .pdf.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_image_format",
    }
    assert "but got 'batch'." in (
        error_of(show(upload("a.png", PNG, "batch")["id"]))["message"] or ""
    )
    assert len(http.get(f"/threads/{thread}/messages").json()["data"]) == 3
