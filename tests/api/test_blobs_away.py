"""A server whose files are on S3, and the S3 server goes away: 503, and all is well afterwards."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import client_for
from tests.api.serving import KEY, Running, running
from tests.s3_server import S3Server
from understudy import limits

LONG = 7_000_000  # Bytes: in parts.


@pytest.fixture
def url(s3: S3Server) -> str:
    """A bucket for the server's files."""
    return s3.place()


@pytest.fixture
def server(
    s3: S3Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    """The server, with times that a test can wait for."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(limits, "BLOB_BACKOFF_S", 0.001)
    monkeypatch.setattr(limits, "BLOB_ANSWER_S", 1.0)
    monkeypatch.setattr(limits, "BLOB_REQUEST_S", 1.0)
    monkeypatch.setattr(limits, "BLOB_TRY_WITHIN_S", 0.1)
    monkeypatch.setattr(limits, "BLOB_RETRY_S", 0.05)
    monkeypatch.setattr(limits, "INGEST_AWAY_S", 0.2)
    monkeypatch.setattr(limits, "HEALTH_CACHE_S", 0.0)
    with running(tmp_path / "data", blobs_url=url, allow_file_downloads=True) as server:
        yield server
        s3.mend()


@pytest.fixture
def http(server: Running) -> Iterator[httpx2.Client]:
    """A client of the server."""
    with client_for(server.url, KEY) as http:
        yield http


def upload(http: httpx2.Client, content: bytes = b"apple") -> httpx2.Response:
    """The answer to an upload."""
    form = {"file": ("notes.txt", content)}
    return http.post("/files", data={"purpose": "assistants"}, files=form)


def assert_away(answer: httpx2.Response) -> None:
    """It is a 503 that asks to come again."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["type"] == "server_error"


def until(holds: Callable[[], bool]) -> None:
    """Wait for something in other processes."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


FAULTS: dict[str, Callable[[S3Server], None]] = {
    "refuses": S3Server.cut_off,
    "hangs": S3Server.freeze,
    "500": lambda s3: s3.fail(500),
    "wrong key": S3Server.refuse_keys,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_outage_is_a_503_and_leaves_no_trace(
    s3: S3Server, url: str, http: httpx2.Client, fault: str
) -> None:
    first = upload(http).json()
    made = http.post(
        "/uploads",
        json={"filename": "u", "purpose": "vision", "bytes": 3, "mime_type": "image/png"},
    ).json()
    parts = f"/uploads/{made['id']}/parts"
    FAULTS[fault](s3)
    asked: list[Callable[[], httpx2.Response]] = [
        lambda: upload(http, b"pear"),
        lambda: upload(http, bytes(LONG)),
        lambda: http.post(parts, files={"data": ("data", b"abc")}),
        lambda: http.get(f"/files/{first['id']}/content"),
    ]
    with ThreadPoolExecutor() as threads:
        for answer in threads.map(lambda ask: ask(), asked):
            assert_away(answer)
    assert [file["id"] for file in http.get("/files").json()["data"]] == [first["id"]]
    s3.mend()
    assert http.get(f"/files/{first['id']}/content").content == b"apple"
    again = upload(http, bytes(LONG))
    assert again.status_code == 200
    content = http.get(f"/files/{again.json()['id']}/content").content
    assert content == bytes(LONG)
    part = http.post(parts, files={"data": ("data", b"abc")})
    assert part.status_code == 200
    until(lambda: len(s3.keys(url)) == 3 and s3.uploads(url) == [])


def test_a_repeated_upload_is_not_answered_with_the_outage(
    s3: S3Server, http: httpx2.Client
) -> None:
    def ask() -> httpx2.Response:
        return http.post(
            "/files",
            data={"purpose": "assistants"},
            files={"file": ("notes.txt", b"apple")},
            headers={"Idempotency-Key": "one"},
        )

    s3.cut_off()
    assert_away(ask())
    s3.reconnect()
    done = ask()
    assert done.status_code == 200
    assert ask().json()["id"] == done.json()["id"]
    assert len(http.get("/files").json()["data"]) == 1


def test_a_download_that_is_cut_ends_short_and_can_be_resumed(
    s3: S3Server, http: httpx2.Client
) -> None:
    path = f"/files/{upload(http, bytes(LONG)).json()['id']}/content"
    got = 0
    with pytest.raises(httpx2.RemoteProtocolError), http.stream("GET", path) as answer:
        for piece in answer.iter_bytes():
            got += len(piece)
            s3.cut_off()
    assert got < LONG
    s3.reconnect()
    rest = http.get(path, headers={"Range": f"bytes={got}-"})
    assert rest.status_code == 206
    assert len(rest.content) == LONG - got


def test_a_file_deleted_in_an_outage_is_gone_at_once_and_its_bytes_afterwards(
    s3: S3Server, url: str, http: httpx2.Client
) -> None:
    id = upload(http).json()["id"]
    s3.cut_off()
    assert http.delete(f"/files/{id}").status_code == 200
    assert http.get(f"/files/{id}").status_code == 404
    s3.reconnect()
    until(lambda: s3.keys(url) == [])


def test_files_of_vector_stores_wait_for_the_end_of_an_outage(
    s3: S3Server, server: Running, http: httpx2.Client
) -> None:
    id = upload(http).json()["id"]
    s3.cut_off()
    store = http.post("/vector_stores", json={"file_ids": [id]}).json()["id"]
    job = server.job(store)
    assert job is not None
    until(lambda: (now := server.job(store)) is not None and now.fence >= job.fence + 3)
    assert http.get(f"/vector_stores/{store}").json()["file_counts"]["in_progress"] == 1
    s3.reconnect()
    until(lambda: http.get(f"/vector_stores/{store}").json()["file_counts"]["completed"] == 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_health_shows_it_and_the_server_stays_ready(
    s3: S3Server, server: Running, fault: str
) -> None:
    def blobs() -> dict[str, str]:
        answer = httpx2.get(f"{server.root}/health")
        assert answer.status_code == 200
        report = answer.json()
        assert report["status"] == "ready"
        found: dict[str, str] = report["seams"]["blobs"]
        return found

    assert blobs() == {"state": "up"}
    FAULTS[fault](s3)
    found = blobs()
    assert found["state"] == "down"
    assert found["detail"]
    s3.mend()
    assert blobs() == {"state": "up"}


def test_a_server_starts_while_its_store_of_files_is_away(
    s3: S3Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.cut_off()
    with (
        running(tmp_path / "data", blobs_url=url) as server,
        client_for(server.url, KEY) as http,
    ):
        assert_away(upload(http))
        s3.reconnect()
        assert upload(http).status_code == 200
