"""Twins: a server on SQLite and one on PostgreSQL, of the same code, that are asked the same.

Everything is said in the ids of the first one; the second is asked with its own. Whatever they
answer is compared (alike.py), and the first one's answer is what the test goes on with.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from tests import postgres
from tests.api.conversation import ACTIVE, Frame, Json, Live, frames, run_of
from tests.api.serving import Running, running
from tests.fuzz.alike import Bijection, Unlike
from understudy.machine.vector_store import StoreBody
from understudy.store import changes, index_changes
from understudy.wire.vector_stores import ExpiresAfter

_WAIT_S = 30.0
_LOOK_S = 0.005
_projects = count(1)

Compare = Callable[[Bijection, Any, Any], None]  # Of decoded answers; raises Unlike.

# Multipart: (field, (file's name, bytes)).
Files = Mapping[str, tuple[str, bytes]]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, in the first server's ids; `path` begins with / and has its query, quoted."""

    method: str
    path: str
    content: bytes | None = None
    form: Mapping[str, str] | None = None
    files: Files | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_strangers: bool = False

    def translated(self, ids: Bijection) -> "Asked":
        """The same in the second server's ids."""
        content = self.content
        if content is not None:
            content = ids.translated(content.decode("latin-1")).encode("latin-1")
        return replace(
            self,
            path=ids.translated(self.path),
            content=content,
            headers={name: ids.translated(value) for name, value in self.headers.items()},
        )


@dataclass(frozen=True)
class Answered:
    """What the first server answered; the second one's answer was alike."""

    status: int
    body: Any  # Decoded JSON, bytes, or the frames of a stream.
    headers: Mapping[str, str]

    @property
    def object(self) -> Json:
        """The object, or nothing where it was refused."""
        return self.body if self.status == 200 and isinstance(self.body, dict) else {}

    @property
    def id(self) -> str | None:
        """Of the object."""
        return self.object.get("id")

    @property
    def frames(self) -> list[Frame]:
        """The events, where it was a stream."""
        return self.body if isinstance(self.body, list) else []


@contextmanager
def running_twins(folder: Path) -> Iterator[tuple[Running, Running]]:
    """Both servers; their vector stores have vectors."""
    data = folder / "left", folder / "right"
    urls = f"sqlite:///{data[0]}/understudy.db", postgres.url_of(data[1])
    model = "rehearsal-embedding"
    with (
        running(data[0], database_url=urls[0], embedding_model=model) as left,
        running(data[1], database_url=urls[1], embedding_model=model) as right,
    ):
        yield left, right


@dataclass
class Twins:
    """A project of its own on both servers."""

    servers: tuple[Running, Running]
    ids: Bijection = field(default_factory=Bijection)
    project: str = field(default_factory=lambda: f"twins-{next(_projects)}")

    def __post_init__(self) -> None:
        # Each server's key of this project, and of one that may see nothing of it.
        projects = self.project, f"{self.project}-stranger"
        self._keys = [[server.new_key(name) for name in projects] for server in self.servers]
        self._http = [
            httpx2.Client(base_url=server.url, timeout=_WAIT_S, verify=False)
            for server in self.servers
        ]

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        compare: Compare = Bijection.check,
        **more: Any,  # As in Asked.
    ) -> Answered:
        """The same request to both."""
        if body is not None:
            more["content"] = json.dumps(body).encode()
        asked = Asked(method=method, path=path, **more)
        left, right = (self._send(asked, side) for side in (0, 1))
        try:
            if left.status_code != right.status_code:
                raise Unlike(f"{left.status_code} {left.text} and {right.status_code} {right.text}")
            bodies = _body(left), _body(right)
            if isinstance(bodies[0], list):
                self.ids.check_frames(*bodies)
            else:
                compare(self.ids, *bodies)
            self.ids.check_headers(left.headers, right.headers)
        except Unlike as unlike:
            raise Unlike(f"{asked}: {unlike}") from None
        assert left.status_code < 500, left.text
        return Answered(left.status_code, bodies[0], left.headers)

    def _send(self, asked: Asked, side: int, *, stream: bool = False) -> httpx2.Response:
        if side:
            asked = asked.translated(self.ids)
        key = self._keys[side][asked.is_strangers]
        is_form = asked.form is not None or asked.files is not None
        given: Json = {"data": asked.form, "files": asked.files} if is_form else {}
        request = self._http[side].build_request(
            asked.method,
            asked.path,
            content=None if is_form else asked.content,
            headers={"Authorization": f"Bearer {key}", **asked.headers},
            **given,
        )
        return self._http[side].send(request, stream=stream)

    # Runs and indexing take their time: what they come to is what is compared.

    def rested(self, run: str) -> Answered:
        """A run, by its path, that is over or waits for its client."""
        return self._settled(run, lambda found: found.get("status") not in ACTIVE)

    def indexed(self, store: str) -> Answered:
        """A vector store, by its path, of whose files none is in progress."""
        return self._settled(
            store, lambda found: not found.get("file_counts", {}).get("in_progress")
        )

    def _settled(self, path: str, is_so: Callable[[Json], bool]) -> Answered:
        ends_at = time.monotonic() + _WAIT_S
        for side in (0, 1):
            while not is_so(self._send(Asked(method="GET", path=path), side).json()):
                assert time.monotonic() < ends_at, f"{path} does not come to rest"
                time.sleep(_LOOK_S)
        return self.ask("GET", path)

    @contextmanager
    def streams(self, path: str, body: object) -> Iterator["tuple[Live, Live] | None"]:
        """Open streams of both servers; None where the request was refused."""
        asked = Asked(method="POST", path=path, content=json.dumps(body).encode())
        answers = [self._send(asked, side, stream=True) for side in (0, 1)]
        try:
            statuses = {answer.status_code for answer in answers}
            if statuses == {200}:
                yield Live(answers[0]), Live(answers[1])
            else:
                assert 200 not in statuses, f"{path}: {statuses}"
                yield None
        finally:
            for answer in answers:
                answer.close()

    def heard(self, lives: "tuple[Live, Live]", until: str | None) -> Json:
        """Read both streams on, to an event or to the end; the run that they are about."""
        for live in lives:
            if until is None:
                live.rest()
            else:
                live.until(until)
        self.ids.check_frames(lives[0].heard, lives[1].heard)
        return run_of(lives[0].heard)

    # What no operation can do.

    def hold(self, store: str) -> bool:
        """Nobody indexes the files of this store, until `let_go`; False where there is none."""
        if not self.ask("GET", store).object:
            return False
        for server, id in self._both(store):
            now = server.app.world.now()
            job = changes.insert_job(
                id,
                kind="ingest",
                project=self.project,
                thread_id=None,
                due_at=now,
                expires_at=None,
                fence=1,
                lease_owner="somebody",
                lease_until=now + 3600,
            )
            gone = changes.delete_job(id, fence=None)
            server.run(server.app.store.commit(gone, job))
        return True

    def let_go(self, store: str) -> None:
        """The files of a held store are indexed."""
        for server, id in self._both(store):
            now = server.app.world.now()
            wake = index_changes.wake_ingest(id, project=self.project, now=now)
            server.run(server.app.store.commit(changes.delete_job(id, fence=None), wake))
            server.app.bell.ring("ingest")

    def unused_store(self, for_s: float, expires_after: Json | None) -> str:
        """A store that was last used so long ago; its id."""
        made = []
        for server in self.servers:
            then = server.app.world.now() - for_s
            body = StoreBody(
                id=server.app.world.new_id("vector_store"),
                created_at=int(then),
                expires_after=msgspec.convert(expires_after, ExpiresAfter | None),
            )
            server.seed("vector_store", msgspec.to_builtins(body), project=self.project)
            insert = index_changes.insert_store(body.id, project=self.project, now=then)
            server.run(server.app.store.commit(insert))
            made.append(body.id)
        assert self.ids.learn(*made), "both are new"
        return made[0]

    def _both(self, path: str) -> list[tuple[Running, str]]:
        id = path.rpartition("/")[2]
        return list(zip(self.servers, (id, self.ids.right[id]), strict=True))

    def close(self) -> None:
        """End what still runs, and hang up."""
        for side, (server, http) in enumerate(zip(self.servers, self._http, strict=True)):
            http.headers["Authorization"] = f"Bearer {self._keys[side][0]}"
            if server.app.worker.live_runs:
                for thread in http.get("/threads?limit=100").json()["data"]:
                    http.delete(f"/threads/{thread['id']}")
            http.close()


def _body(answer: httpx2.Response) -> Any:
    kind = answer.headers.get("content-type", "")
    if kind.startswith("text/event-stream"):
        return frames(answer.content)
    if kind.startswith("application/json"):
        return json.loads(answer.content)
    return answer.content.decode("latin-1")
