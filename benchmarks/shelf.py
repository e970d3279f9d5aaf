"""Shelf: files and vector stores of a server, through its API as any client has it."""

import http.client
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.stage import KEY

Json = dict[str, Any]

_BOUNDARY = "----understudy-benchmark"
_POLL_S = 0.05


class Refused(Exception):
    """The server did not answer with 200."""


class Shelf:
    """One connection to a server; one request at a time."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """One request with JSON."""
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, data, _headers("application/json"))
        return self._answer()

    def streamed(self, method: str, path: str, body: Json) -> bytes:
        """One request whose answer is events, read to its end."""
        self._connection.request(
            method, path, json.dumps(body).encode(), _headers("application/json")
        )
        return self._body()

    def file(self, name: str, content: bytes) -> str:
        """A file for assistants; its id."""
        return self.streamed_file(name, [content], len(content))

    def streamed_file(self, name: str, pieces: Iterable[bytes], size_bytes: int) -> str:
        """The same, with its content in pieces."""
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
            f'assistants\r\n--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'
        ).encode()
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = _headers(f"multipart/form-data; boundary={_BOUNDARY}")
        headers["content-length"] = str(len(head) + size_bytes + len(tail))
        self._connection.request("POST", "/v1/files", _all(head, pieces, tail), headers)
        return str(self._answer()["id"])

    def store(self, file_ids: Sequence[str] = ()) -> str:
        """A vector store with these files, added as a batch; its id."""
        id = str(self.ask("POST", "/v1/vector_stores", {})["id"])
        if file_ids:
            self.ask("POST", f"/v1/vector_stores/{id}/file_batches", {"file_ids": list(file_ids)})
        return id

    def counts(self, store_id: str) -> Json:
        """How many of a store's files are in which state."""
        found: Json = self.ask("GET", f"/v1/vector_stores/{store_id}")["file_counts"]
        return found

    def settle(self, store_id: str) -> None:
        """Wait until all files of a store are completed."""
        while (counts := self.counts(store_id))["in_progress"]:
            time.sleep(_POLL_S)
        assert counts["completed"] == counts["total"], counts

    def search(self, store_id: str, query: str, results: int = 10) -> list[Json]:
        """What a search finds."""
        body = {"query": query, "max_num_results": results}
        found: list[Json] = self.ask("POST", f"/v1/vector_stores/{store_id}/search", body)["data"]
        return found

    def _answer(self) -> Json:
        found: Json = json.loads(self._body())
        return found

    def _body(self) -> bytes:
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise Refused(f"{response.status}: {text[:600]!r}")
        return text


def _all(head: bytes, pieces: Iterable[bytes], tail: bytes) -> Iterable[bytes]:
    yield head
    yield from pieces
    yield tail


def _headers(content_type: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {KEY}",
        "content-type": content_type,
        "openai-beta": "assistants=v2",
    }
