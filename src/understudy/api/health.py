"""GET /health: 200 when ready, with the state of each seam."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from understudy import __version__, limits
from understudy.api.transport import Answer
from understudy.blobs import BlobsUnavailable
from understudy.engine.app import App
from understudy.model import ModelError
from understudy.store import Unavailable


class SeamState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One seam."""

    state: Literal["up", "down", "off", "starting", "unknown"]
    detail: str = ""


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """All seams; `status` is ready while requests can be served."""

    status: Literal["ready", "unavailable"]
    version: str
    seams: dict[str, SeamState]


class Health:
    """Looks at each seam. What is not ours is asked every few seconds at most, and not waited for
    long."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._blobs = _Remembered(app, self._blobs_state)
        self._model = _Remembered(app, self._model_state)

    async def answer(self) -> Answer:
        """The report; 503 when the record cannot be read or written."""
        store = await self._store_state()
        blobs, model = await asyncio.gather(self._blobs.state(), self._model.state())
        live = self._app.worker.live_runs
        report = HealthReport(
            status="ready" if store.state == "up" else "unavailable",
            version=__version__,
            seams={
                "store": store,
                "blobs": blobs,
                "model": model,
                "sandbox": SeamState(
                    state=self._app.sandbox.state, detail=self._app.sandbox.detail
                ),
                "search": SeamState(state="up", detail=self._app.embedders.state),
                "worker": SeamState(state="up", detail=f"{live} live runs"),
                **await self._others(),
            },
        )
        status = 200 if store.state == "up" else 503
        return Answer(status, msgspec.json.format(msgspec.json.encode(report), indent=2))

    async def _store_state(self) -> SeamState:
        try:
            async with asyncio.timeout(limits.HEALTH_WAIT_S):
                await self._app.store.ping()
        except (Unavailable, TimeoutError) as error:
            return SeamState(state="down", detail=str(error) or "no answer")
        return SeamState(state="up")

    async def _others(self) -> dict[str, SeamState]:
        """The servers that share the record, where several may."""
        if self._app.worker.is_alone:
            return {}
        since = self._app.world.now() - limits.NODE_ALIVE_S
        try:
            async with asyncio.timeout(limits.HEALTH_WAIT_S):
                nodes = await self._app.store.nodes(since=since)
        except (Unavailable, TimeoutError):
            return {"nodes": SeamState(state="unknown")}
        counts = Counter(node.role for node in nodes)
        shown = ", ".join(f"{count} {role}" for role, count in sorted(counts.items()))
        live = sum(node.live_runs for node in nodes)
        return {"nodes": SeamState(state="up", detail=f"{shown}; {live} live runs in all")}

    async def _blobs_state(self) -> SeamState:
        """Whether files can be read. Runs without files go on, so the server stays ready."""
        try:
            await self._app.blobs.ping()
        except BlobsUnavailable as away:
            return SeamState(state="down", detail=str(away))
        return SeamState(state="up")

    async def _model_state(self) -> SeamState:
        """Whether the provider lists models; its state never makes the server unready."""
        try:
            models = await self._app.model.models()
        except ModelError as error:
            return SeamState(state="down", detail=error.message)
        return SeamState(state="up", detail=f"{len(models)} models")


class _Remembered:
    """A seam's state, which holds for some seconds."""

    def __init__(self, app: App, ask: Callable[[], Awaitable[SeamState]]) -> None:
        self._monotonic = app.world.monotonic
        self._ask = ask
        self._state = SeamState(state="unknown")
        self._until = float("-inf")

    async def state(self) -> SeamState:
        """As it is, or was a moment ago."""
        now = self._monotonic()
        if now >= self._until:
            self._until = now + limits.HEALTH_CACHE_S
            try:
                async with asyncio.timeout(limits.HEALTH_WAIT_S):
                    self._state = await self._ask()
            except TimeoutError:
                self._state = SeamState(state="down", detail="no answer")
        return self._state
