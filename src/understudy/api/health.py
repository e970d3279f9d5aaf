"""GET /health: 200 when ready, with the state of each seam."""

import asyncio
from typing import Literal

import msgspec

from understudy import __version__, limits
from understudy.api.transport import Answer
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
    """Looks at each seam. The provider is asked at most every few seconds, never waited long."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._model = SeamState(state="unknown")
        self._model_until = float("-inf")

    async def answer(self) -> Answer:
        """The report; 503 when the record cannot be read or written."""
        store = await self._store_state()
        live = self._app.worker.live_runs
        report = HealthReport(
            status="ready" if store.state == "up" else "unavailable",
            version=__version__,
            seams={
                "store": store,
                "model": await self._model_state(),
                "sandbox": SeamState(
                    state=self._app.sandbox.state, detail=self._app.sandbox.detail
                ),
                "search": SeamState(state="up", detail=self._app.embedders.state),
                "worker": SeamState(state="up", detail=f"{live} live runs"),
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

    async def _model_state(self) -> SeamState:
        """Whether the provider lists models; its state never makes the server unready."""
        now = self._app.world.monotonic()
        if now >= self._model_until:
            self._model_until = now + limits.HEALTH_CACHE_S
            self._model = await self._ask_model()
        return self._model

    async def _ask_model(self) -> SeamState:
        try:
            async with asyncio.timeout(limits.HEALTH_WAIT_S):
                models = await self._app.model.models()
        except TimeoutError:
            return SeamState(state="down", detail="no answer")
        except ModelError as error:
            return SeamState(state="down", detail=error.message)
        return SeamState(state="up", detail=f"{len(models)} models")
