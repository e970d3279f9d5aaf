"""An App in the test's own loop: a clock that tests move, and doors without a socket."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests import postgres
from understudy import limits
from understudy.api.app import Api
from understudy.api.auth import ensure_key
from understudy.bell import Bell
from understudy.bell.local import LocalBell
from understudy.blobs import open_blobs
from understudy.engine.app import App
from understudy.engine.index import Index
from understudy.engine.log import Log
from understudy.engine.worker import Worker
from understudy.model import Model, When
from understudy.model.rehearsal_model import RehearsalModel
from understudy.sandbox import Sandbox
from understudy.sandbox.off import Off
from understudy.search.child import Readers
from understudy.search.choice import Embedders
from understudy.settings import Settings, object_store_options
from understudy.store import Database, Ring, Row, Statement, Told, open_database
from understudy.store.store import Store
from understudy.wire.chat import ChatRequest, Chunk
from understudy.world import World

KEY = "sk-key-of-the-engine-tests"
TERMINAL = {"completed", "failed", "cancelled", "expired", "incomplete"}
FUNCTION = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
WAIT_S = 10.0

Json = dict[str, Any]
Hook = Callable[[list[str]], Awaitable[None]]


@dataclass
class Clock:
    """Unix time that passes only when a test says so; the monotonic clock goes along."""

    at: float = 1_800_000_000.0

    def now(self) -> float:
        """The time."""
        return self.at

    @property
    def world(self) -> World:
        """A world with this clock."""
        return World(now=self.now, monotonic=self.now)


class Overheard(RehearsalModel):
    """The rehearsal model, with a list of the calls that it got and of those being answered;
    it says nothing more while `may_speak` is clear."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.calls: list[str] = []
        self.open: set[str] = set()
        self.may_speak = asyncio.Event()
        self.may_speak.set()

    async def stream(
        self, request: ChatRequest, *, call_id: str, when: When | None = None
    ) -> AsyncGenerator[list[Chunk], None]:
        """The answer."""
        if when is not None:
            await when()
        self.calls.append(call_id)
        self.open.add(call_id)
        inner = super().stream(request, call_id=call_id)
        try:
            async for chunks in inner:
                await self.may_speak.wait()
                yield chunks
        finally:
            self.open.discard(call_id)
            await inner.aclose()


@dataclass
class Stage:
    """One App and a client of its API."""

    app: App
    clock: Clock
    http: httpx2.AsyncClient
    model: Overheard

    async def post(self, path: str, body: Json, *, key: str | None = None) -> Json:
        """A POST that must succeed."""
        headers = {"Idempotency-Key": key} if key else {}
        return _ok(await self.http.post(path, json=body, headers=headers))

    async def get(self, path: str) -> Json:
        """A GET that must succeed."""
        return _ok(await self.http.get(path))

    async def thread(self, *texts: str) -> str:
        """A thread with messages of the user."""
        messages = [{"role": "user", "content": text} for text in texts]
        id: str = (await self.post("/threads", {"messages": messages}))["id"]
        return id

    async def start(self, script: Json, **body: Any) -> Json:
        """A run, in a thread of its own, whose model plays this script."""
        assistant = await self.post("/assistants", {"model": "m", "tools": [FUNCTION]})
        thread = await self.thread(f"Please rehearse:{httpx2.Response(200, json=script).text}")
        body = {"assistant_id": assistant["id"], **body}
        return await self.post(f"/threads/{thread}/runs", body)

    def path(self, run: Json) -> str:
        """Where a run is."""
        return f"/threads/{run['thread_id']}/runs/{run['id']}"

    async def run(self, run: Json) -> Json:
        """The run as it is now."""
        return await self.get(self.path(run))

    async def until(self, run: Json, *statuses: str) -> Json:
        """The run once it has one of these statuses; by default, a final one."""
        wanted = set(statuses) or TERMINAL
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await self.run(run)
                if found["status"] in wanted:
                    return found
                assert statuses or found["status"] != "requires_action", found
                await asyncio.sleep(0.002)

    async def rested(self, run: Json) -> Json:
        """The run when nobody works on it any more."""
        found = await self.until(run)
        await eventually(lambda: run["id"] not in self.held)
        return found

    @property
    def held(self) -> dict[str, Any]:
        """What this worker holds: job id → lease."""
        return self.app.worker._held

    async def frames(self, run: Json, after: tuple[int, int] = (0, 0)) -> bytes:
        """The run's events as a tail gives them."""
        project = "default"
        tail = self.app.log.tail(project, run["id"], after, with_ids=True, goes_on=True)
        return b"".join([frame async for frame in tail.frames()])

    async def answer(self, run: Json, **more: Any) -> Json:
        """Submit an output for every call that the run asks for."""
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": "42"} for call in calls]
        return await self.post(
            f"{self.path(run)}/submit_tool_outputs", {"tool_outputs": outputs, **more}
        )

    async def messages(self, run: Json) -> list[Json]:
        """The messages of the run's thread, oldest first."""
        path = f"/threads/{run['thread_id']}/messages?order=asc&limit=100"
        found: list[Json] = (await self.get(path))["data"]
        return found


def _ok(answer: httpx2.Response) -> Json:
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds in this process."""
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 (any fact will do, not only an event)
            await asyncio.sleep(0.001)


class Hooked:
    """A database with something to do around its commits and before its reads; `before`, `after`
    and `reading` get the names of the statements and may wait or raise."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self.reading: Hook = _nothing

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """As the inner one, after the hook."""
        await self.reading([query])
        return await self._inner.fetch(query, args)

    async def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> list[list[Row]]:
        """The inner one's, between the hooks."""
        names = [statement.query for statement in statements]
        await self.before(names)
        rows = await self._inner.commit(statements, told, ring)
        await self.after(names)
        return rows

    async def close(self) -> None:
        """The inner one is closed by who opened it."""


async def _nothing(names: list[str]) -> None:
    """No hook."""


@asynccontextmanager
async def opened_store(
    path: Path | str, wrap: Callable[[Database], Database] = lambda database: database
) -> AsyncIterator[Store]:
    """A store on this file, or what the tests have in its place; or at this URL."""
    inner = await open_database(path if isinstance(path, str) else postgres.record_url(path))
    try:
        yield Store(wrap(inner))
    finally:
        await inner.close()


@asynccontextmanager
async def opened_stage(
    store: Store,
    clock: Clock | None = None,
    *,
    runs_at_once: int = limits.RUNS_AT_ONCE,
    is_alone: bool = True,
    bell: Bell | None = None,
    works: bool = True,
    sandbox: Sandbox | None = None,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """An App whose worker works, until the end of the block; then it drains."""
    clock = clock or Clock()
    bell = bell or LocalBell()
    app = make_app(store, clock, runs_at_once, is_alone, bell, settings, sandbox)
    assert isinstance(app.model, Overheard)
    await ensure_key(store, app.world, KEY)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.readers.close)
        if works:
            await app.worker.start(app)
            stack.push_async_callback(app.worker.drain, 0.0)
        stage = Stage(app, clock, client(app), app.model)
        stack.push_async_callback(stage.http.aclose)
        yield stage


def make_app(
    store: Store,
    clock: Clock,
    runs_at_once: int = limits.RUNS_AT_ONCE,
    is_alone: bool = True,
    bell: Bell | None = None,
    settings: Json | None = None,
    sandbox: Sandbox | None = None,
) -> App:
    """An App that nobody started yet."""
    world = clock.world
    bell = bell or LocalBell()
    boot_id = world.new_id("boot")
    model: Model = Overheard(world)
    return App(
        settings=Settings(api_key=KEY, **(settings or {})),
        world=world,
        store=store,
        blobs=open_blobs((settings or {}).get("blobs_url", "memory:"), object_store_options()),
        bell=bell,
        model=model,
        embedders=Embedders(monotonic=world.monotonic),
        readers=Readers(2),
        index=Index(store),
        reranker=None,
        sandbox=sandbox or Off("Tests have no sandbox.", "Give them one."),
        log=Log(store, bell, world),
        worker=Worker(boot_id, runs_at_once=runs_at_once, is_alone=is_alone),
        boot_id=boot_id,
    )


def client(app: App, key: str = KEY) -> httpx2.AsyncClient:
    """A client that calls the API in this loop."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=Api(app)),
        base_url="http://stage/v1",
        headers={"Authorization": f"Bearer {key}"},
    )
