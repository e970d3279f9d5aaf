"""Assembly: Settings → App, and the server around it. The only file that names technologies.

What only some settings need is imported where they are looked at: a start pays for nothing else.
"""

import asyncio
import gc
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from understudy import heaps, limits
from understudy.api.app import Api
from understudy.api.auth import DEFAULT_PROJECT, ensure_key, new_key
from understudy.api.worker_door import WorkerDoor
from understudy.bell import Bell, BellUnavailable, open_bell
from understudy.blobs import Blobs, BlobsUnavailable, open_blobs
from understudy.engine.app import App
from understudy.engine.index import Index
from understudy.engine.log import Log
from understudy.engine.worker import Role, Worker
from understudy.model import Model, ModelError, open_model
from understudy.sandbox import Sandbox, SandboxUnavailable
from understudy.sandbox.choice import open_sandbox
from understudy.sandbox.off import Off
from understudy.search import Embedder, EmbedderError
from understudy.search.child import Readers
from understudy.search.choice import Embedders, at_provider
from understudy.server import ALL_ADDRESSES, CannotStart, Server, base_url, listen
from understudy.settings import (
    Settings,
    SettingsError,
    blobs_url_of,
    database_url_of,
    is_embedded,
    masked,
    object_store_options,
    sandbox_folder_of,
)
from understudy.store import Clocked, Database, open_database
from understudy.store.store import Store
from understudy.world import World

if TYPE_CHECKING:
    from understudy.search.rerank import Reranker

_LOOPBACK = ALL_ADDRESSES | {"localhost", "127.0.0.1", "::1"}

_HUB = "hub:"  # Begins the name of a local embedding model that is fetched.


def check_settings(settings: Settings, role: Role = "serve") -> None:
    """Refuse what cannot work, before anything is opened."""
    if settings.workers > 1 and is_embedded(settings):
        raise SettingsError(
            f"--workers {settings.workers} needs PostgreSQL: a SQLite file belongs to one server "
            "process. Set UNDERSTUDY_DATABASE_URL=postgresql://... for several, or leave out "
            "--workers; one process serves many runs at once."
        )
    if role != "serve" and is_embedded(settings):
        raise SettingsError(
            f"understudy {role} needs PostgreSQL: a SQLite file belongs to one server process. Set "
            "UNDERSTUDY_DATABASE_URL=postgresql://... or use `understudy serve`, which does both."
        )
    if settings.upstream_url is not None and _is_own_address(settings, settings.upstream_url):
        raise SettingsError(
            f"UNDERSTUDY_UPSTREAM_URL={masked('upstream_url', settings.upstream_url)} is this "
            "server's own address. Set it to a model provider."
        )
    is_unsafe = settings.sandbox == "unsafe-local" and not settings.sandbox_unsafe_i_know
    if is_unsafe and not _is_loopback(settings.host):
        raise SettingsError(
            f"UNDERSTUDY_SANDBOX=unsafe-local runs code without a sandbox, and {settings.host} can "
            "be reached from other machines: whoever has a key could do there what this user can. "
            "Choose another sandbox, listen on 127.0.0.1, or set "
            "UNDERSTUDY_SANDBOX_UNSAFE_I_KNOW=1."
        )


def _is_own_address(settings: Settings, url: str) -> bool:
    """Whether a URL leads back to the address that the server listens on."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = (parts.hostname or "").lower()
    own = {settings.host.lower(), socket.gethostname().lower()}
    if settings.host in _LOOPBACK:
        own |= _LOOPBACK
    return port == settings.port and host in own


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@asynccontextmanager
async def opened_store(
    settings: Settings, *, beside: bool = False, apart: bool = False
) -> AsyncIterator[Store]:
    """The record, with all migrations applied; `beside` a running server it is as it is. A server
    has its writer `apart`, in a process of its own."""
    async with _opened_database(settings, beside, apart) as database:
        yield Store(database)


@asynccontextmanager
async def _opened_database(
    settings: Settings, beside: bool, apart: bool
) -> AsyncIterator[Database]:
    url = database_url_of(settings)
    if settings.database_url is None:
        await asyncio.to_thread(Path(settings.data).mkdir, 0o700, True, True)
    try:
        database = await open_database(
            url,
            on_fatal=_die,
            beside=beside,
            apart=apart,
            connections=settings.database_connections,
        )
    except ValueError as error:
        raise SettingsError(f"UNDERSTUDY_DATABASE_URL: {error}") from error
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def opened_app(
    settings: Settings,
    world: World | None = None,
    *,
    beside: bool = False,
    apart: bool = False,
    role: Role = "serve",
) -> AsyncIterator[App]:
    """Everything but the door, in the order of need; closed in the reverse order. `beside` is
    for a look next to a running server, `apart` for a server, `role` what that one does."""
    check_settings(settings, role)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(_opened_database(settings, beside, apart))
        store = Store(database)
        if world is None:
            world = World(now=database.now) if isinstance(database, Clocked) else World()
        blobs = _opened_blobs(settings)
        stack.push_async_callback(blobs.close)
        boot_id = world.new_id("boot")
        url, key = settings.upstream_url, settings.upstream_key
        if url is None:
            from understudy.model.rehearsal_server import running_rehearsal

            url, key = stack.enter_context(running_rehearsal(world=world)) + "/v1", None
        model = open_model(url, key=key, boot_id=boot_id, fallback=settings.model, world=world)
        stack.push_async_callback(model.close)
        embedders = await _opened_embedders(settings, world, model, stack)
        stack.push_async_callback(embedders.close)
        reranker = _opened_reranker(settings)
        if reranker is not None:
            stack.push_async_callback(reranker.close)
        readers = Readers(limits.INGESTS_AT_ONCE)
        stack.push_async_callback(readers.close)
        sandbox = _opened_sandbox(settings, role)
        stack.push_async_callback(sandbox.close)
        bell = await _opened_bell(settings)
        stack.push_async_callback(bell.close)
        log = Log(store, bell, world)
        worker = Worker(
            boot_id, runs_at_once=settings.max_runs, is_alone=is_embedded(settings), role=role
        )
        yield App(
            settings=settings,
            world=world,
            store=store,
            blobs=blobs,
            bell=bell,
            model=model,
            embedders=embedders,
            readers=readers,
            index=Index(store),
            reranker=reranker,
            sandbox=sandbox,
            log=log,
            worker=worker,
            boot_id=boot_id,
        )


async def _opened_embedders(
    settings: Settings, world: World, model: Model, stack: AsyncExitStack
) -> Embedders:
    """What turns texts into vectors, as the operator chose: a local model, a name at a provider,
    none, or (auto) what the provider turns out to have."""
    name = settings.embedding_model
    local = await asyncio.to_thread(_local_embedder, name, Path(settings.data) / "models")
    if local is not None:
        return Embedders(local, monotonic=world.monotonic)
    if settings.embedding_url is not None:
        model = open_model(settings.embedding_url, key=settings.upstream_key, world=world)
        stack.push_async_callback(model.close)
    is_rehearsal = settings.upstream_url is None and settings.embedding_url is None
    if name == "off" or (name == "auto" and is_rehearsal):
        return Embedders(monotonic=world.monotonic)

    def at(name: str) -> Embedder:
        from understudy.search.embed_api import ApiEmbedder

        return ApiEmbedder(model.embed, name, failure=_provider_failure)

    async def listed() -> list[str]:
        return [one.id for one in await model.models()]

    if name == "auto":
        return Embedders(find=at_provider(listed, at), at=at, monotonic=world.monotonic)
    return Embedders(at(name), monotonic=world.monotonic)


def _local_embedder(name: str, models: Path) -> Embedder | None:
    """The local model, where the setting names one; `models` is the folder for fetched ones."""
    folder = Path(name).expanduser()
    is_folder = folder.is_dir() or name.startswith((".", "/", "~"))
    if not (is_folder or name.startswith(_HUB)):
        return None
    from understudy.search import hub
    from understudy.search.embed_onnx import open_onnx

    try:
        if name.startswith(_HUB):
            folder = hub.fetched(name.removeprefix(_HUB), models)
        return open_onnx(folder)
    except EmbedderError as error:
        raise SettingsError(f"UNDERSTUDY_EMBEDDING_MODEL: {error.message}") from error


def _provider_failure(error: Exception) -> ModelError | None:
    """What an embedder may know of how its provider failed."""
    return error if isinstance(error, ModelError) else None


def _opened_reranker(settings: Settings) -> "Reranker | None":
    """What orders search results anew, if the operator has named it."""
    if settings.rerank_url is None:
        return None
    from understudy.search.rerank import Reranker

    return Reranker(settings.rerank_url, model=settings.rerank_model, key=settings.rerank_key)


def _opened_blobs(settings: Settings) -> Blobs:
    """The place for the bytes of files."""
    try:
        return open_blobs(blobs_url_of(settings), object_store_options())
    except ValueError as error:
        raise SettingsError(f"UNDERSTUDY_BLOBS_URL: {error}") from error
    except BlobsUnavailable as error:
        raise CannotStart(f"Cannot open the folder for files: {error}") from error


async def _opened_bell(settings: Settings) -> Bell:
    """What wakes this server and those that share its record."""
    try:
        return await open_bell(database_url_of(settings), settings.nats_url)
    except ValueError as error:
        raise SettingsError(f"UNDERSTUDY_NATS_URL: {error}") from error
    except BellUnavailable as error:
        raise CannotStart(f"Other servers cannot be reached: {error}") from error


def _opened_sandbox(settings: Settings, role: Role) -> Sandbox:
    """Where code runs, if this server runs any."""
    if role == "api":
        return Off("The workers run code.", "Look at a worker's health.")
    return open_sandbox(settings.sandbox, sandbox_folder_of(settings))


async def first_key(app: App) -> str | None:
    """Make sure that somebody can come in; a key that was made is returned once, to be shown."""
    if app.settings.api_key is not None:
        await ensure_key(app.store, app.world, app.settings.api_key)
        return None
    if any(row.revoked_at is None for row in await app.store.keys(None)):
        return None
    key = app.world.new_key()
    await app.store.commit(new_key(app.world, key, project=DEFAULT_PROJECT, name="first start"))
    return key


def _die(reason: str) -> None:
    """The record can never be written again: end at once, so that a new process can take over."""
    structlog.get_logger("store").critical("store_died", reason=reason)
    os._exit(70)


@dataclass(frozen=True)
class Welcome:
    """What a server that is ready tells its operator: the API's base URL, unless it only works, the
    key if this is the first start, and what searches and code_interpreter stand on."""

    url: str | None
    key: str | None
    search: str
    sandbox: str


async def serve(
    settings: Settings,
    on_ready: Callable[[Welcome], None],
    on_no_sandbox: Callable[[str], None],
    *,
    role: Role = "serve",
    listener: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; on `listener`, where somebody has opened it.

    The key is made when nothing can prevent the start any more: it is shown once or never. The
    sandbox tests itself when the server is ready; `on_no_sandbox` is told if that fails.
    """
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(opened_app(settings, apart=True, role=role))
        listener = listener or _listener(settings, role)
        shown = url = None
        if listener is not None:
            stack.enter_context(listener)
            url = base_url(settings.host, listener.getsockname()[1])
        if role != "worker":
            shown = await first_key(app)
        beside: list[asyncio.Task[None]] = []

        def ready() -> None:
            on_ready(Welcome(url, shown, app.embedders.state, sandbox_state(app)))
            gc.freeze()  # Else each full collection looks at all modules again, for 18 ms.
            gc.set_threshold(limits.GC_OBJECTS)
            gc.enable()
            beside.append(asyncio.create_task(_test_sandbox(app, on_no_sandbox)))
            beside.append(asyncio.create_task(_give_memory_back()))

        server = Server(WorkerDoor(app) if role == "worker" else Api(app))
        try:
            await server.run_on(*([listener] if listener else []), on_ready=ready)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


def _listener(settings: Settings, role: Role) -> socket.socket | None:
    """Where requests come in; a worker listens only if it is told to."""
    if role == "worker":
        return listen(settings.host, settings.worker_port) if settings.worker_port else None
    return listen(settings.host, settings.port)


async def _give_memory_back() -> None:
    while True:
        await asyncio.sleep(limits.GIVE_BACK_S)
        heaps.give_back()


def sandbox_state(app: App) -> str:
    """The sandbox in one line."""
    match app.sandbox.state:
        case "up":
            return app.sandbox.detail
        case "starting":
            return f"{app.sandbox.detail} (starting)"
        case "off":
            return f"off: {app.sandbox.detail}"


async def _test_sandbox(app: App, on_failure: Callable[[str], None]) -> None:
    """Wait for the self-test. What the banner has already told is not told again."""
    known = app.sandbox.state
    try:
        await app.sandbox.started()
    except SandboxUnavailable as error:
        if known != "off":
            log = structlog.get_logger("sandbox")
            log.warning("sandbox_off", cause=error.cause, remedy=error.remedy)
            on_failure(sandbox_state(app))
