"""The door of a server that only works: it answers /health, if it listens at all."""

import asyncio

from understudy.api.health import Health
from understudy.api.transport import Answer, Receive, Scope, Send, error_answer, send_answer
from understudy.engine.app import App
from understudy.errors import ApiError


class WorkerDoor:
    """Starts and drains its App's worker with the ASGI life span, as Api does."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._health = Health(app)
        self._drain: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await send_answer(
                    send,
                    receive,
                    await self._answer(scope),
                    {},
                    without_body=scope["method"] == "HEAD",
                )
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1003})

    async def drain(self) -> None:
        """Finish or hand over what runs. Once, whoever calls."""
        if self._drain is None:
            self._drain = asyncio.create_task(self._app.worker.drain())
        await asyncio.shield(self._drain)

    async def _answer(self, scope: Scope) -> Answer:
        if scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
            return await self._health.answer()
        return error_answer(ApiError.unknown_route(scope["method"], scope["path"]))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:  # Two messages: startup, then shutdown.
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._app.worker.start(self._app)
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.drain()
                await send({"type": "lifespan.shutdown.complete"})
                return
