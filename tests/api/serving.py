"""A real server in a thread of its own: the ASGI application under uvicorn, on a free port."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec
import pytest

from tests import postgres
from tests.api.fleet_serving import keys_at, serving_fleet
from understudy.api.app import Api
from understudy.api.auth import new_key
from understudy.assembly import first_key, opened_app
from understudy.engine.app import App
from understudy.machine.private import BlobRef, FilePrivate
from understudy.model.rehearsal_server import running_rehearsal
from understudy.server import Server, base_url, listen
from understudy.settings import Settings
from understudy.store import changes
from understudy.store.records import Job, Record
from understudy.wire.base import Wire

T = TypeVar("T")

KEY = "sk-operator-key-of-these-tests"


@dataclass
class Running:
    """A server that is up; `url` ends in /v1, `root` does not."""

    url: str
    app: App
    loop: asyncio.AbstractEventLoop
    rehearsal: str = ""
    _http: httpx2.Client = field(default_factory=httpx2.Client)

    def require_own_process(self) -> None:
        """For tests that look into the server's process: a fleet's they cannot."""
        if postgres.IS_FLEET:
            pytest.skip("this looks into the server's process; a fleet has several")

    @property
    def root(self) -> str:
        """The server's address without /v1."""
        return self.url.removesuffix("/v1")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's own loop, from the test's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def new_key(self, project: str) -> str:
        """A key that opens this project."""
        key = self.app.world.new_key()
        self.run(self.app.store.commit(new_key(self.app.world, key, project=project, name="test")))
        return key

    def seed(
        self,
        kind: str,
        body: dict[str, Any],
        *,
        project: str,
        parent: str | None = None,
        private: Wire | None = None,
    ) -> None:
        """Put an object into the record that no operation can make yet."""
        statement = changes.insert_object(
            kind,
            id=body["id"],
            project=project,
            parent=parent,
            created_at=self.app.world.now(),
            body=msgspec.json.encode(body),
            private=None if private is None else msgspec.json.encode(private),
        )
        self.run(self.app.store.commit(statement))

    def seed_file(
        self, project: str, name: str = "notes.txt", content: bytes = b"Some notes."
    ) -> str:
        """A file with its bytes; its id."""
        id = self.app.world.new_id("file")

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        size_bytes = self.run(self.app.blobs.put(id, pieces()))
        private = FilePrivate(blobs=[BlobRef(key=id, size_bytes=size_bytes)])
        body = {
            "id": id,
            "object": "file",
            "bytes": size_bytes,
            "created_at": int(self.app.world.now()),
            "filename": name,
            "purpose": "assistants",
            "status": "processed",
        }
        self.seed("file", body, project=project, private=private)
        return id

    def seed_run(self, thread_id: str, project: str) -> str:
        """Hold a thread as an active run does that waits for somebody; the run's id."""
        run_id = self.app.world.new_id("run")
        never = self.app.world.now() + 3600
        statement = changes.insert_job(
            run_id,
            kind="run",
            project=project,
            thread_id=thread_id,
            due_at=never,
            expires_at=never,
            fence=1,
            lease_owner=None,
            lease_until=None,
        )
        self.run(self.app.store.commit(statement))
        return run_id

    def blobs(self) -> set[str]:
        """The keys of the blobs that are stored."""
        if self.app.settings.blobs_url is not None:
            return keys_at(self.app.settings.blobs_url)
        return {path.name for path in (Path(self.app.settings.data) / "blobs").iterdir()}

    def blob(self, key: str) -> bytes:
        """The bytes of one."""

        async def read() -> bytes:
            return b"".join([piece async for piece in self.app.blobs.open(key)])

        return self.run(read())

    def record(self, kind: str, project: str, id: str) -> Record | None:
        """What is stored of an object."""
        return self.run(self.app.store.get(kind, project, id))

    def job(self, id: str) -> Job | None:
        """The work that is left on an object."""
        return self.run(self.app.store.job(id))

    def script(self, *steps: dict[str, Any], model: str | None = None) -> None:
        """What the rehearsal model plays for this model's name, or for every other one."""
        body = {"model": model, "script": {"steps": steps}}
        self._http.post(f"{self.rehearsal}/rehearsal/script", json=body).raise_for_status()

    def play(self, model: str, turns: list[list[dict[str, Any]]]) -> None:
        """What the rehearsal model plays for this model's name, turn by turn."""
        body = {"model": model, "script": {"turns": turns}}
        self._http.post(f"{self.rehearsal}/rehearsal/script", json=body).raise_for_status()

    def calls(self) -> list[dict[str, Any]]:
        """What the provider was asked."""
        answer = self._http.get(f"{self.rehearsal}/rehearsal/calls").raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    def reset_rehearsal(self) -> None:
        """Forget scripts and calls."""
        self._http.post(f"{self.rehearsal}/rehearsal/reset").raise_for_status()

    def close(self) -> None:
        """Close the control connection."""
        self._http.close()


@contextmanager
def running(data: Path, **settings: Any) -> Iterator[Running]:
    """A server on a data folder; settings as in Settings."""
    with running_rehearsal() as rehearsal:
        usual = {"api_key": KEY, "upstream_url": f"{rehearsal}/v1", "port": 0, "sandbox": "off"}
        if postgres.IS_CHOSEN:
            usual["database_url"] = postgres.url_of(data)
        values = {**usual, **settings}
        if postgres.IS_FLEET:
            with serving_fleet(data, values) as (url, beside):
                server = Running(url, beside.app, beside.loop, rehearsal)
                try:
                    yield server
                finally:
                    server.close()
            return
        chosen = Settings(data=str(data), **values)
        thread = _Thread(chosen)
        thread.start()
        server = thread.wait_until_up()
        server.rehearsal = rehearsal
        try:
            yield server
        finally:
            server.close()
            thread.stop()


class _Thread(threading.Thread):
    """The server's thread; a failure to start is raised in the test's thread."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="server", daemon=True)
        self._settings = settings
        self._is_up = threading.Event()
        self._running: Running | None = None
        self._server: Server | None = None
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Serve until stopped."""
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 (raised again where it is seen)
            self._failure = failure
        finally:
            self._is_up.set()

    async def _serve(self) -> None:
        async with opened_app(self._settings) as app:
            with listen(self._settings.host, self._settings.port) as listener:
                await first_key(app)
                url = base_url(self._settings.host, listener.getsockname()[1])
                self._running = Running(url, app, asyncio.get_running_loop())
                self._server = Server(Api(app))
                await self._server.run_on(listener, on_ready=self._is_up.set)

    def wait_until_up(self) -> Running:
        """The running server, or why it did not start."""
        assert self._is_up.wait(30)
        if self._failure is not None:
            raise self._failure
        assert self._running is not None
        return self._running

    def stop(self) -> None:
        """Stop as SIGTERM does, and wait."""
        assert self._server is not None
        self._server.should_exit = True
        self.join(20)
        assert not self.is_alive(), "the server did not stop"
        if self._failure is not None:
            raise self._failure
