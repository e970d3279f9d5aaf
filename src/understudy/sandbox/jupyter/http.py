"""A Jupyter server over HTTP: its kernels started, interrupted, restarted and deleted.

The token goes out as one header and is nowhere else: no error and no log line of ours has it.
What the server says has bounds, and each failure is worded for the operator, with what helps.
"""

import asyncio
import contextlib
import errno
import os
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import aiohttp
import msgspec
import yarl

from understudy import limits
from understudy.sandbox import SandboxUnavailable

T = TypeVar("T")

_PING_S = 30.0  # Between signs of life on a kernel's channel: a dead peer is found out.
_HOW_TO_SAY_IT = (
    "Set UNDERSTUDY_SANDBOX=jupyter+http://host:8888?token=... with the token that the Jupyter "
    "server was started with."
)
_ITS_ADDRESS = "Start it, or correct the address in UNDERSTUDY_SANDBOX."
_ITS_LOG = "See the log of the Jupyter server."


class KernelGone(Exception):
    """The server does not know the kernel (any more)."""


@dataclass(frozen=True)
class Address:
    """Where a server is, and the token that it asks for."""

    url: yarl.URL
    token: str = field(repr=False)

    @property
    def shown(self) -> str:
        """It without secrets."""
        path = self.url.path.rstrip("/")
        return f"{self.url.host}:{self.url.port}{path}"


def address_of(url: str) -> Address:
    """The parts of `http(s)://host:port/path?token=...`; a token may also stand before an `@`.
    Raises SandboxUnavailable."""
    try:
        whole = yarl.URL(url)
        token = whole.query.get("token") or whole.password or whole.user or ""
        bare = whole.with_user(None).with_query(None).with_fragment(None)
    except ValueError:  # Its text may show the token.
        bare, token = yarl.URL(), ""
    if bare.scheme not in ("http", "https") or not bare.host:
        raise SandboxUnavailable(
            "The address of the Jupyter server cannot be read.",
            "It has to look like jupyter+http://host:8888?token=...",
        )
    if not (token.isascii() and token.isprintable()):
        raise SandboxUnavailable("The token has letters that no token has.", _HOW_TO_SAY_IT)
    return Address(bare, token)


class _Spec(msgspec.Struct):
    language: str = ""


class _KernelSpec(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _KernelSpecs(msgspec.Struct):
    kernelspecs: dict[str, _KernelSpec]
    default: str = ""


class _Kernel(msgspec.Struct):
    # It becomes part of addresses.
    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}\Z")]


class Server:
    """One Jupyter server. Methods raise SandboxUnavailable; those on a kernel also KernelGone."""

    def __init__(self, address: Address) -> None:
        self.shown = address.shown
        self._url = address.url
        self._token = address.token
        self._opened: aiohttp.ClientSession | None = None
        self._left: list[str] = []

    async def python(self) -> str:
        """The name of its Python kernel, the default one if that is Python."""
        said = await self._asked("GET", ("kernelspecs",), limits.JUPYTER_ANSWER_S)
        specs = self._decoded(said, _KernelSpecs)
        names = [
            name
            for name, kernel in sorted(specs.kernelspecs.items())
            if kernel.spec.language.lower() == "python"
        ]
        if not names:
            raise SandboxUnavailable(
                f"The Jupyter server at {self.shown} has no Python kernel.",
                "Install one there: pip install ipykernel",
            )
        return specs.default if specs.default in names else names[0]

    async def start(self, name: str) -> str:
        """Start a kernel; its id."""
        said = await self._asked("POST", ("kernels",), limits.CODE_START_S, {"name": name})
        return self._decoded(said, _Kernel).id

    async def interrupt(self, kernel: str) -> None:
        """Interrupt what runs in a kernel."""
        await self._asked("POST", ("kernels", kernel, "interrupt"), limits.JUPYTER_ANSWER_S)

    async def restart(self, kernel: str) -> None:
        """Give a kernel a new process."""
        await self._asked("POST", ("kernels", kernel, "restart"), limits.CODE_START_S)

    async def delete(self, kernel: str) -> None:
        """End a kernel. When the server cannot be reached, that is done when it is back."""
        try:
            await self._asked("DELETE", ("kernels", kernel), limits.JUPYTER_ANSWER_S)
        except SandboxUnavailable:
            if len(self._left) < limits.CODE_SESSIONS:
                self._left.append(kernel)
            raise

    async def delete_left(self) -> None:
        """End the kernels that could not be ended earlier."""
        left, self._left = self._left, []
        for kernel in left:
            with contextlib.suppress(KernelGone):
                await self.delete(kernel)

    async def channels(self, kernel: str, session_id: str) -> aiohttp.ClientWebSocketResponse:
        """A kernel's messages."""
        url = self._path("kernels", kernel, "channels").with_query(session_id=session_id)
        try:
            async with asyncio.timeout(limits.CODE_START_S):
                return await self._http().ws_connect(
                    url,
                    max_msg_size=limits.JUPYTER_MESSAGE_BYTES,
                    heartbeat=_PING_S,
                    timeout=aiohttp.ClientWSTimeout(ws_close=limits.CODE_CLOSE_S),
                )
        except aiohttp.WSServerHandshakeError as refusal:
            status = refusal.status
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from None
        if status in (401, 403, 404):
            raise self._refused(status, ("kernels", kernel))
        raise SandboxUnavailable(
            f"The Jupyter server at {self.shown} opens no WebSocket (HTTP {status}).",
            "If there is a proxy before it, let that pass WebSockets.",
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def _asked(
        self,
        method: str,
        path: tuple[str, ...],
        timeout_s: float,
        body: dict[str, str] | None = None,
    ) -> bytes:
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http().request(
                    method, self._path(*path), json=body, allow_redirects=False
                ) as answer,
            ):
                if answer.status < 300:
                    return await _body(answer.content)
                status = answer.status
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from None
        raise self._refused(status, path)

    def _http(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                headers={"Authorization": f"token {self._token}"} if self._token else {},
                connector=aiohttp.TCPConnector(limit=0),  # The number of sessions is the bound.
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._opened

    def _path(self, *parts: str) -> yarl.URL:
        url = self._url / "api"
        for part in parts:
            url = url / part
        return url

    def _unreachable(self, error: Exception) -> SandboxUnavailable:
        """What the system says of it; never the words of a library, which may quote a request."""
        if isinstance(error, TimeoutError):
            why = "It does not answer."
        elif isinstance(error, aiohttp.ClientConnectorDNSError):
            why = "Its name is not known."
        elif isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            why = "Its certificate is not trusted."
        elif isinstance(error, OSError) and error.errno and error.errno in errno.errorcode:
            why = f"{os.strerror(error.errno)}."
        else:
            why = f"{type(error).__name__}."
        return SandboxUnavailable(
            f"The Jupyter server at {self.shown} cannot be reached. {why}", _ITS_ADDRESS
        )

    def _refused(self, status: int, path: tuple[str, ...]) -> SandboxUnavailable | KernelGone:
        if status == 403 and path == ("kernels",):
            return SandboxUnavailable(
                f"The Jupyter server at {self.shown} starts no more kernels.",
                "Raise its limit of kernels, or have it end unused ones (cull_idle_timeout).",
            )
        if status in (401, 403):
            what = "has refused the token" if self._token else "asks for a token"
            return SandboxUnavailable(f"The Jupyter server at {self.shown} {what}.", _HOW_TO_SAY_IT)
        if status == 404 and len(path) > 1:
            return KernelGone()
        if status < 500:
            return SandboxUnavailable(
                f"What answers at {self.shown} is no Jupyter server (HTTP {status}).",
                _ITS_ADDRESS,
            )
        return SandboxUnavailable(
            f"The Jupyter server at {self.shown} has failed (HTTP {status}).", _ITS_LOG
        )

    def _decoded(self, said: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(said, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            raise SandboxUnavailable(
                f"What answers at {self.shown} is no Jupyter server.", _ITS_ADDRESS
            ) from None


async def _body(content: aiohttp.StreamReader) -> bytes:
    """An answer that has a bound. Raises ValueError beyond it."""
    pieces: list[bytes] = []
    room = limits.JUPYTER_BODY_BYTES
    async for piece in content.iter_any():
        room -= len(piece)
        if room < 0:
            raise ValueError
        pieces.append(piece)
    return b"".join(pieces)
