"""The Chat Completions wire over HTTP: any provider that speaks it, read as it streams.

One `stream` call is one request. It always streams, follows no redirect and retries nothing:
the engine decides on that, because it journals each call. What is odd about providers lives
beside this file: `reading.py` (bodies), `failures.py` (errors), `parameters.py` (what a model
refuses).
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from io import BytesIO

import aiohttp
import msgspec
from yarl import URL

from understudy import __version__, limits
from understudy.model import ModelError, When
from understudy.model.body import Response
from understudy.model.embeddings import from_upstream, upstream_body
from understudy.model.failures import Said, failed, from_answer, read_error
from understudy.model.listing import Listing, is_listed, read_models
from understudy.model.parameters import NEW_CAP, OLD_CAP, Lessons
from understudy.model.patience import Patience
from understudy.model.reading import Reading
from understudy.wire.chat import ChatRequest, Chunk
from understudy.wire.models import CreateEmbedding, EmbeddingList, Model
from understudy.world import World

# Hosts that refuse max_tokens for their newer models; elsewhere max_tokens is the name that
# every server knows, and some silently ignore the other.
_NEW_CAP_HOSTS = ("api.openai.com", ".openai.azure.com", ".services.ai.azure.com")
_LARGE_BODY_BYTES = 512 * 1024  # Larger bodies are handed to aiohttp in pieces of this size.


class ChatModel:
    """A provider behind a base URL such as https://api.openai.com/v1.

    A URL without a path gets `/v1`; a user and password in it become Basic auth unless there
    is a key. The time-outs are arguments for tests; `total_s` counts from the request.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        boot_id: str = "",
        fallback: str | None = None,
        world: World | None = None,
        connections: int = limits.MODEL_CONNECTIONS,
        connect_s: float = limits.MODEL_CONNECT_S,
        silence_s: float = limits.MODEL_SILENCE_S,
        total_s: float = limits.MODEL_TOTAL_S,
        tail_s: float = limits.MODEL_TAIL_S,
    ) -> None:
        self._base = _base(url)
        self._urls: dict[str, URL] = {}  # By path: chat/completions, models, embeddings.
        self._key = (key or "").strip()
        self._headers = _headers(URL(url), self._base, self._key, boot_id)
        self._secrets = _secrets(URL(url), self._key)
        self._fallback = fallback
        self._world = world or World()
        self._connections = connections
        self._connect_s, self._silence_s = connect_s, silence_s
        self._total_s, self._tail_s = total_s, tail_s
        is_new = (self._base.host or "").endswith(_NEW_CAP_HOSTS)
        self._lessons = Lessons(NEW_CAP if is_new else OLD_CAP)
        self._listing = Listing(self._list, self._world)
        self._opened: aiohttp.ClientSession | None = None
        self._tails: set[aiohttp.ClientResponse] = set()  # Whole answers whose end is on the way.

    async def stream(
        self, request: ChatRequest, *, call_id: str, when: When | None = None
    ) -> AsyncGenerator[list[Chunk], None]:
        """The answer, one list per network read; closing it closes the socket at once."""
        sent = self._lessons.outgoing(request)
        headers = {"Idempotency-Key": call_id, "x-understudy-call": call_id}
        ends_at = asyncio.get_running_loop().time() + self._total_s
        response = await self._ask(
            "POST", "chat/completions", msgspec.json.encode(sent), headers, sent, when
        )
        total_s = ends_at - asyncio.get_running_loop().time()
        patience = Patience(response, silence_s=self._silence_s, total_s=total_s)
        reading = Reading(self._secrets)
        try:
            while piece := await response.content.readany():
                had_finish = reading.has_finish
                chunks = reading.take(piece)
                if chunks:
                    patience.busy()
                    yield chunks
                if reading.is_done:
                    break
                patience.heard()
                if reading.has_finish and not had_finish:
                    patience.shorten(self._tail_s)
        except aiohttp.ClientError:
            if not reading.has_finish:
                raise self._lost(reading, patience) from None
        finally:
            patience.stop()
            self._let_go(response, reading)
        if chunks := reading.end():
            yield chunks

    async def models(self) -> list[Model]:
        """What the provider lists."""
        return await self._listing.models()

    async def resolve(self, name: str) -> str:
        """`name`, or the configured model where the provider lists models and not this one."""
        if self._fallback is None or name == self._fallback:
            return name
        try:
            models = await self.models()
        except ModelError:
            return name
        return name if not models or is_listed(name, models) else self._fallback

    async def embed(self, body: CreateEmbedding, model: str) -> EmbeddingList:
        """Vectors in the client's format."""
        answer = await self._whole("POST", "embeddings", upstream_body(body, model))
        return from_upstream(answer, body, model)

    async def close(self) -> None:
        """Close every connection."""
        await self._listing.close()
        for response in tuple(self._tails):
            self._close(response)
        if self._opened is not None:
            await self._opened.close()

    async def _list(self) -> list[Model]:
        """Ask the provider for its models."""
        return read_models(await self._whole("GET", "models", b""))

    def _session(self) -> aiohttp.ClientSession:
        """The pool of connections, opened by the first call because it needs a running loop."""
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=limits.MODEL_IDLE_S
                ),
                # Silence is watched by Patience: aiohttp would set a timer for each read.
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=self._connect_s, sock_connect=self._connect_s
                ),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                response_class=Response,
            )
        return self._opened

    async def _whole(self, method: str, path: str, body: bytes) -> bytes:
        """The body of an answer that is no stream."""
        response = await self._ask(method, path, body, {})
        try:
            async with asyncio.timeout(self._silence_s):
                return await _read(response, limits.MODEL_BODY_BYTES)
        except (TimeoutError, aiohttp.ClientError):
            raise failed("The model provider's answer did not arrive in full.") from None
        finally:
            response.close()

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        chat: ChatRequest | None = None,
        when: When | None = None,
    ) -> aiohttp.ClientResponse:
        """A 2xx answer whose body is still to be read."""
        response = await self._send(method, path, body, headers, when)
        if 200 <= response.status < 300:
            return response
        try:
            async with asyncio.timeout(self._connect_s):
                text = await _read(response, limits.MODEL_ERROR_BYTES)
        except (TimeoutError, aiohttp.ClientError):
            text = b""
        finally:
            response.close()
        raise self._refused(response, text, chat)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        when: When | None,
    ) -> aiohttp.ClientResponse:
        """Any answer; what the transport fails with becomes a ModelError."""
        url = self._url(path)
        length = {"Content-Length": str(len(body))} if body else {}
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._session().request(
                    method,
                    url,
                    data=_data(body, when),
                    headers={**headers, **length},
                    allow_redirects=False,
                )
        except aiohttp.ClientConnectorCertificateError:
            raise failed("The model provider's TLS certificate is not trusted.") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise failed("The model provider could not be reached.", retryable=True) from None
        except TimeoutError:
            raise failed(_SILENT.format(self._silence_s)) from None
        except aiohttp.ClientResponseError:
            raise failed("The model provider's answer is not HTTP.") from None
        except aiohttp.ClientError:
            raise failed(
                "The model provider closed the connection without an answer.", retryable=True
            ) from None

    def _url(self, path: str) -> URL:
        """Where to ask; put together once, since yarl takes its time."""
        url = self._urls.get(path)
        if url is None:
            whole = f"{self._base.path.rstrip('/')}/{path}"
            url = self._urls[path] = self._base.with_path(whole, keep_query=True)
        return url

    def _refused(
        self, response: aiohttp.ClientResponse, text: bytes, chat: ChatRequest | None
    ) -> ModelError:
        """The error for a status; a refused parameter is remembered."""
        error = from_answer(
            response.status, response.headers, text, secrets=self._secrets, now=self._world.now()
        )
        is_lesson = chat is not None and response.status in (400, 422) and not error.context_tokens
        if is_lesson and chat and self._lessons.learn(chat, read_error(text) or Said()):
            error.learned = error.retryable = True
        return error

    def _lost(self, reading: Reading, patience: Patience) -> ModelError:
        """The error for a body that ended too early, by us or by the provider."""
        match patience.spent:
            case "silence":
                return failed(_SILENT.format(self._silence_s))
            case "total":
                return failed(f"The model provider's answer took over {self._total_s:g} seconds.")
            case None:
                return reading.cut()

    def _let_go(self, response: aiohttp.ClientResponse, reading: Reading) -> None:
        """Close the socket, unless the answer is whole and only its end is on the way.

        Then the connection returns to the pool by itself when the end arrives.
        """
        if reading.is_done and not response.closed:
            self._tails.add(response)
            asyncio.get_running_loop().call_later(self._tail_s, self._close, response)
        else:
            response.close()

    def _close(self, response: aiohttp.ClientResponse) -> None:
        """Wait no longer for the end of a body."""
        self._tails.discard(response)
        response.close()


_SILENT = "The model provider sent nothing for {:g} seconds."


def _secrets(url: URL, key: str) -> tuple[str, ...]:
    """What no client may read. Short keys ("ollama", "none") are placeholders and are words."""
    host = url.host or ""
    candidates = (key, url.password or "", url.authority, host if "." in host else "")
    return tuple(secret for secret in candidates if len(secret) >= 8)


def _base(url: str) -> URL:
    """The base URL without credentials; a bare host means its /v1."""
    if not URL(url).host:
        raise ValueError("The model provider's URL names no host.")
    base = URL(url).with_user(None).with_fragment(None)
    return base.with_path("/v1", keep_query=True) if base.path in ("", "/") else base


def _headers(url: URL, base: URL, key: str, boot_id: str) -> dict[str, str]:
    """The headers of every request."""
    headers = {
        "Accept": "text/event-stream, application/json",
        "Accept-Encoding": "identity",  # A compressed stream arrives in lumps.
        "Content-Type": "application/json",
        "User-Agent": f"understudy/{__version__}",
    }
    if boot_id:
        headers["x-understudy-hop"] = boot_id
    if key:
        headers["Authorization"] = f"Bearer {key}"
        if (base.host or "").endswith(".azure.com"):
            headers["api-key"] = key
    elif url.user:
        pair = f"{url.user}:{url.password or ''}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    return headers


def _data(body: bytes, when: When | None) -> bytes | AsyncIterator[bytes] | None:
    """A body for aiohttp, which warns of large ones that are in one piece."""
    if not body:
        return None
    is_small = len(body) <= _LARGE_BODY_BYTES
    return body if is_small and when is None else _pieces(body, when)


async def _pieces(body: bytes, when: When | None) -> AsyncIterator[bytes]:
    """A body, piece by piece; aiohttp sends the head with the first one, so not before `when`."""
    if when is not None:
        await when()
    reader = BytesIO(body)
    while piece := reader.read(_LARGE_BODY_BYTES):
        yield piece


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The body, at most so much of it."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            break
    return b"".join(pieces)[:limit_bytes]
