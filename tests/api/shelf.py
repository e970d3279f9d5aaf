"""Shelf: one project's files and vector stores, as tests of them need them."""

import time
from typing import Any

import httpx2
import msgspec

from tests.api.serving import Running
from understudy.machine.vector_store import StoreBody
from understudy.store import changes, index_changes
from understudy.wire.vector_stores import ExpiresAfter

Json = dict[str, Any]
DAY_S = 86_400
_FILE = {
    "object": "file",
    "bytes": 0,
    "created_at": 0,
    "filename": "notes.txt",
    "purpose": "assistants",
    "status": "processed",
}


class Shelf:
    """A project's client, and the verbs that tests of vector stores are made of."""

    def __init__(self, server: Running, http: httpx2.Client, project: str) -> None:
        self.server = server
        self.http = http
        self.project = project

    def file(self, text: str | bytes = "Some notes.", name: str = "notes.txt") -> str:
        """A file; its id."""
        content = text if isinstance(text, bytes) else text.encode()
        return self.server.seed_file(self.project, name, content)

    def names(self, count: int) -> list[str]:
        """Files without bytes, made past the API and in one commit; their ids."""
        world = self.server.app.world
        ids = [world.new_id("file") for _ in range(count)]
        statements = [
            changes.insert_object(
                "file",
                id=id,
                project=self.project,
                parent=None,
                created_at=world.now(),
                body=msgspec.json.encode({**_FILE, "id": id}),
                private=b'{"blobs":[]}',
            )
            for id in ids
        ]
        self.server.run(self.server.app.store.commit(*statements))
        return ids

    def store(self, *texts: str, **fields: Any) -> str:
        """A vector store with files of these texts, all processed; its id."""
        file_ids = [self.file(text, f"{number}.txt") for number, text in enumerate(texts)]
        made = self.ok("/vector_stores", {"file_ids": file_ids, **fields})
        return str(self.settled(made["id"])["id"])

    def held(self, **fields: Any) -> str:
        """A vector store whose files nobody processes, until `let_go`; its id."""
        store_id: str = self.ok("/vector_stores", fields)["id"]
        now = self.server.app.world.now()
        job = changes.insert_job(
            store_id,
            kind="ingest",
            project=self.project,
            thread_id=None,
            due_at=now,
            expires_at=None,
            fence=1,
            lease_owner="somebody",
            lease_until=now + 3600,
        )
        self.server.run(self.server.app.store.commit(job))
        return store_id

    def let_go(self, store_id: str) -> None:
        """Let the files of a held store be processed."""
        wake = index_changes.wake_ingest(
            store_id, project=self.project, now=self.server.app.world.now()
        )
        gone = changes.delete_job(store_id, fence=None)
        self.server.run(self.server.app.store.commit(gone, wake))

    def unused(self, days: int, *, expires_after_days: int) -> str:
        """A store that was last used so many days ago; its id."""
        app = self.server.app
        then = app.world.now() - days * DAY_S
        body = StoreBody(
            id=app.world.new_id("vector_store"),
            created_at=int(then),
            expires_after=ExpiresAfter(anchor="last_active_at", days=expires_after_days),
        )
        self.server.seed("vector_store", msgspec.to_builtins(body), project=self.project)
        insert = index_changes.insert_store(body.id, project=self.project, now=then)
        self.server.run(app.store.commit(insert))
        return body.id

    def settled(self, store_id: str) -> Json:
        """The store, once none of its files is in progress."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            store = self.got(f"/vector_stores/{store_id}")
            if store["file_counts"]["in_progress"] == 0:
                return store
            time.sleep(0.02)
        raise AssertionError(f"files of {store_id} are still in progress")

    def ok(self, path: str, body: Json | None = None) -> Json:
        """What a POST answers."""
        answer = self.http.post(path, json={} if body is None else body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def got(self, path: str, **params: str | int) -> Json:
        """What a GET answers."""
        answer = self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def file_ids(self, store_id: str, **params: str | int) -> list[str]:
        """The ids of a store's files, newest first."""
        return [one["id"] for one in self.got(f"/vector_stores/{store_id}/files", **params)["data"]]

    def found(self, store_id: str, query: str | list[str], **fields: Any) -> list[Json]:
        """What a search finds."""
        body = {"query": query, **fields}
        data: list[Json] = self.ok(f"/vector_stores/{store_id}/search", body)["data"]
        return data
