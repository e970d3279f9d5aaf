"""The ASGI application: every request comes in here, and every error is answered here.

The order of checks is SPEC section 3: key, route, beta header, JSON, path ids, body, objects
named, state. The last two belong to the operations. `Api` opens nothing: it is given an App, and
starts and drains its worker with the ASGI life span.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog

from understudy import limits
from understudy.api import forms, health, openapi
from understudy.api.auth import Keys
from understudy.api.cors import allow_origin, preflight
from understudy.api.idempotency import HEADER, Turns, earlier_answer, idempotency_of
from understudy.api.nouns import load_nouns
from understudy.api.operation import OPERATIONS, Call, Operation
from understudy.api.routes import Routes, Target, target_of
from understudy.api.stream import Stream
from understudy.api.transport import (
    ANSWER,
    PUSH,
    STREAM_HEADERS,
    Answer,
    Content,
    Disconnected,
    Receive,
    Scope,
    Send,
    Streams,
    closing,
    error_answer,
    read_body,
    send_answer,
    send_content,
)
from understudy.blobs import BlobsUnavailable
from understudy.engine import frames
from understudy.engine.app import App
from understudy.errors import ApiError
from understudy.store import Conflict, Unavailable

HOP_HEADER = "x-understudy-hop"
API_VERSION = "2020-10-01"

_log = structlog.get_logger("api")
_encoder = msgspec.json.Encoder()


class Api:
    """The application for one App."""

    def __init__(self, app: App) -> None:
        load_nouns()
        self.app = app
        self._routes = Routes(OPERATIONS)
        self._keys = Keys(app.store, app.world)
        self._turns = Turns()  # By idempotency key.
        self._again = Turns()  # By object, of those whose change was refused.
        self._streams = Streams()
        self._health = health.Health(app)
        self._drain: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1003})

    async def drain(self) -> None:
        """Finish or hand over what runs, then end the open streams. Once, whoever calls."""
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_once())
        await asyncio.shield(self._drain)

    async def _drain_once(self) -> None:
        await self.app.worker.drain(limits.DRAIN_S)
        self._streams.end()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:  # Two messages: startup, then shutdown.
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.app.worker.start(self.app)
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.drain()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: perform it, and put the headers of SPEC 2.3 on whatever came out."""
        world = self.app.world
        started = world.monotonic()
        request_id = world.new_id("request")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        outgoing = self._common_headers(request_id, headers)
        try:
            answer = await self._answer(scope, receive, headers, request_id, outgoing)
        except Disconnected:
            return
        except ApiError as error:
            answer = error_answer(error)
        except (Unavailable, BlobsUnavailable) as error:
            answer = error_answer(ApiError.unavailable(error.retry_after_s))
        except Exception:  # noqa: BLE001 (the one place where our bugs become a 500)
            _log.exception("request_failed", request_id=request_id, path=scope["path"])
            answer = error_answer(ApiError.internal(request_id))
        elapsed_ms = (world.monotonic() - started) * 1000
        outgoing["openai-processing-ms"] = str(round(elapsed_ms))
        self._log_request(scope, headers, answer, request_id, elapsed_ms)
        is_head = scope["method"] == "HEAD"
        match answer:
            case Stream():
                answer.tail.push = (scope.get("extensions") or {}).get(PUSH)
                await self._streams.send(
                    send,
                    receive,
                    answer.frames,
                    {**outgoing, **STREAM_HEADERS, **answer.headers},
                    partial(_error_frame, request_id),
                )
            case Content():
                await send_content(send, receive, answer, outgoing, without_body=is_head)
            case Answer():
                at_once = (scope.get("extensions") or {}).get(ANSWER)
                await send_answer(
                    send, receive, answer, outgoing, without_body=is_head, at_once=at_once
                )

    def _common_headers(self, request_id: str, headers: Mapping[str, str]) -> dict[str, str]:
        """What every response carries."""
        outgoing = {"x-request-id": request_id, "openai-version": API_VERSION}
        for name, default in (
            ("openai-organization", "default"),
            ("openai-project", ""),
            ("x-portkey-trace-id", ""),
        ):
            value = headers.get(name, default)[: limits.HEADER_VALUE_CHARS]
            if value:
                outgoing[name] = value
        if self.app.settings.cors_origins:
            allow_origin(self.app.settings.cors_origins, headers, outgoing)
        return outgoing

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: Mapping[str, str],
        request_id: str,
        outgoing: dict[str, str],
    ) -> Answer | Stream | Content:
        """The answer to a request, or the ApiError."""
        if headers.get(HOP_HEADER) == self.app.boot_id:
            raise ApiError.loop_detected()
        target = target_of(scope.get("raw_path") or scope["path"].encode())
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if target.segments == ("health",) and method == "GET":
            return await self._health.answer()
        if target.segments == ("openapi.json",) and method == "GET":
            return Answer(200, openapi.document())
        if method == "OPTIONS":
            allowed = self._routes.allowed(target.segments)
            if allowed:
                return preflight(allowed, headers, outgoing)
        key = await self._keys.key_of(headers)
        outgoing.setdefault("openai-project", key.project)
        operation, path_values = self._routes.match(method, target.segments, scope["path"])
        self._check_beta(operation, target, headers)
        call = Call(
            app=self.app,
            project=key.project,
            key_id=key.id,
            request_id=request_id,
            method=method,
            path=scope["path"],
            headers=headers,
            query=_query(scope),
            deployment=target.deployment,
            response_headers=outgoing,
        )
        if operation.form is not None:
            return await self._perform_form(operation, call, path_values, target, receive)
        if method == "POST":
            call.body = await read_body(scope, receive, headers)
        call.idempotency = idempotency_of(method, target.segments, headers, call.body)
        return await self._perform(operation, call, path_values)

    async def _perform_form(
        self,
        operation: Operation,
        call: Call,
        path_values: list[str],
        target: Target,
        receive: Receive,
    ) -> Answer | Stream | Content:
        """Read a form, its file into the blobs, and run the operation on it."""
        assert operation.form is not None, "the operation takes a form"
        try:
            operation.check_path(path_values)
        except ApiError as error:
            raise closing(error) from None
        is_hashed = HEADER in call.headers
        async with forms.received(
            self.app, call.project, receive, call.headers, operation.form, is_hashed=is_hashed
        ) as form:
            call.body, call.file = form.fields, form.file
            sent = form.fields + form.digest
            call.idempotency = idempotency_of(call.method, target.segments, call.headers, sent)
            return await self._perform(operation, call, path_values)

    def _check_beta(self, operation: Operation, target: Target, headers: Mapping[str, str]) -> None:
        """Strict mode only; Azure never had the header (SPEC 2.2, 2.4)."""
        if not (self.app.settings.strict and operation.beta) or target.is_azure:
            return
        values = {value.strip().lower() for value in headers.get("openai-beta", "").split(",")}
        if "assistants=v2" not in values:
            raise ApiError.beta_v1() if "assistants=v1" in values else ApiError.no_beta_header()

    async def _perform(
        self, operation: Operation, call: Call, path_values: list[str]
    ) -> Answer | Stream | Content:
        """Run the operation; again when the record moved under it.

        Callers that were refused take turns, object by object, and whoever comes meanwhile queues
        up behind them: otherwise of many changes at once only the luckiest few would succeed.
        """
        arguments = operation.bind(call, path_values)
        # A call that names no object competes with nobody; a read is never refused.
        place = path_values[0] if path_values else call.request_id
        if operation.method == "GET" or not self._again.is_busy(call.project, place):
            try:
                return await self._perform_once(operation, call, arguments)
            except Conflict as conflict:
                _log.debug("conflict", request_id=call.request_id, what=conflict.what)
        async with self._again.turn(call.project, place):
            for _ in range(limits.CONFLICT_RETRIES):
                try:
                    return await self._perform_once(operation, call, arguments)
                except Conflict as conflict:
                    _log.debug("conflict", request_id=call.request_id, what=conflict.what)
        raise ApiError.unavailable()

    async def _perform_once(
        self, operation: Operation, call: Call, arguments: dict[str, Any]
    ) -> Answer | Stream | Content:
        """Run the operation unless its idempotency key was seen; then give the same answer."""
        idempotency = call.idempotency
        if idempotency is None:
            return _encode(await operation.function(call, **arguments))
        async with self._turns.turn(call.project, idempotency.key):
            app = self.app
            earlier = await earlier_answer(app.store, app.world, call.project, idempotency)
            if earlier is not None:
                body = arguments.get(operation.body_name or "")
                if not (operation.streams and getattr(body, "stream", None) is True):
                    return Answer(200, earlier.answer)
                call.replayed_stream = earlier.run_id
            return _encode(await operation.function(call, **arguments))

    def _log_request(
        self,
        scope: Scope,
        headers: Mapping[str, str],
        answer: Answer | Stream | Content,
        request_id: str,
        elapsed_ms: float,
    ) -> None:
        """One line for each request, when somebody wants to see it."""
        if self.app.settings.log_level == "debug":
            _log.debug(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=200 if isinstance(answer, Stream) else answer.status,
                ms=round(elapsed_ms, 1),
                request_id=request_id,
                client_request_id=headers.get("x-client-request-id"),
                trace_id=headers.get("x-portkey-trace-id"),
                metadata=headers.get("x-portkey-metadata"),
            )


def _encode(result: object) -> Answer | Stream | Content:
    """What an operation returned, as it goes out."""
    if isinstance(result, Stream | Content):
        return result
    return Answer(200, _encoder.encode(result))


def _query(scope: Scope) -> list[tuple[str, str]]:
    """The query, decoded; broken UTF-8 in it is the client's and harms nobody."""
    raw = scope["query_string"]
    if not raw:
        return []
    return parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="replace")


def _error_frame(request_id: str, error: Exception) -> bytes:
    """A failure after the first byte is the stream's error event (SPEC 9.1)."""
    if not isinstance(error, ApiError):
        _log.error("stream_failed", request_id=request_id, exc_info=error)
        error = ApiError.internal(request_id)
    return frames.error_frame(error)
