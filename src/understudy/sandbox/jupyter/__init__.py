"""The sandbox on another machine: kernels of a Jupyter server or a Jupyter Kernel Gateway.

One kernel per session. What walls there are around a kernel is up to that server: kernels of a
plain one share its user, its disk and its network, so it belongs into a container or a virtual
machine of its own that has nothing else in it. Limits of memory and processes are its own, too.

Where /mnt/data can be had for one session alone, it is used; else a session has a folder below the
server's temporary one, which stands for /mnt/data in code and in what it prints. Sessions remove
their files and kernels when they end. Those of a server of ours that was killed cannot be known to
the next: the Jupyter server has to end unused kernels by itself (`cull_idle_timeout`).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Literal

import structlog

from understudy import limits
from understudy.sandbox import FOLDER, SandboxLost, SandboxUnavailable, Session
from understudy.sandbox.jupyter.http import Address, KernelGone, Server, address_of
from understudy.sandbox.jupyter.kernel import Kernel
from understudy.sandbox.jupyter.session import JupyterSession
from understudy.sandbox.pool import Pool, Sizes, stopping
from understudy.world import random_id

_log = structlog.get_logger()
_TEST_S = 20.0


class Jupyter:
    """All sessions on one server. `url` is `http(s)://host:port/path?token=...`; a token may also
    stand before an `@`. `folder` is where sessions would like to have their files; tests, whose
    server is on this machine, take another one."""

    def __init__(
        self,
        url: str,
        *,
        sizes: Sizes | None = None,
        folder: str = FOLDER,
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        self._folder = folder
        self._new_id = new_id
        self._pool = Pool(self._make, sizes or Sizes(spare=0))
        self._server: Server | None = None
        self._kernel = ""  # The name of its Python kernel.
        self._testing: asyncio.Task[None] | None = None
        self._tested_at = -limits.JUPYTER_RETRY_S
        self._off: SandboxUnavailable | None = None
        self._is_up = False
        self._is_closed = False
        self._detail = "jupyter"
        try:
            address: Address = address_of(url)
        except SandboxUnavailable as why:
            self._off = why
        else:
            self._server = Server(address)
            self._detail = f"jupyter at {address.shown}"

    @property
    def state(self) -> Literal["up", "starting", "off"]:
        """Whether code can run; `starting` while a self-test is not over."""
        if self._off is not None or self._is_closed:
            return "off"
        return "up" if self._is_up else "starting"

    @property
    def detail(self) -> str:
        """Which server it is; or, when off, cause and remedy. Never the token."""
        return str(self._off) if self._off is not None else self._detail

    async def started(self) -> None:
        """Tests the server if need be, and waits for that. Raises SandboxUnavailable."""
        self._test_if_due()
        if self._testing is not None:
            await asyncio.wait([self._testing])
        if self._is_closed:
            raise stopping()
        if self._off is not None:
            raise SandboxUnavailable(self._off.cause, self._off.remedy)

    async def session(self, key: str) -> Session:
        """The living session of a key, or a new one. Raises SandboxUnavailable."""
        await self.started()
        self._pool.open()
        try:
            return await self._pool.session(key)
        except SandboxUnavailable:
            self._is_up = False  # Whether that was for this once, a test finds out.
            self._test_if_due()
            raise

    async def forget(self, key: str) -> None:
        """Close the key's session, if there is one."""
        await self._pool.forget(key)

    async def close(self) -> None:
        """End all sessions and leave nothing behind."""
        self._is_closed = True
        if self._testing is not None:
            self._testing.cancel()
            await asyncio.wait([self._testing])
        await self._pool.close()
        if self._server is not None:
            await self._server.close()

    def _test_if_due(self) -> None:
        """Begin a self-test, unless one is under way or a failure is too fresh."""
        is_fresh = time.monotonic() - self._tested_at < limits.JUPYTER_RETRY_S
        is_testing = self._testing is not None and not self._testing.done()
        if self._server is None or self._is_closed or self._is_up or is_testing:
            return
        if self._off is not None and is_fresh:
            return
        self._testing = asyncio.create_task(self._test(self._server))

    async def _test(self, server: Server) -> None:
        """Prove that a session can be had and works."""
        was = self._off
        try:
            python = await self._proved(server)
        except SandboxUnavailable as why:
            self._off = why
        except Exception:  # noqa: BLE001 - our own mistake, whatever it is: no code runs then.
            _log.exception("sandbox_not_started")
            self._off = SandboxUnavailable("The sandbox did not start.", "See the server's log.")
        else:
            self._off = None
            self._is_up = True
            self._detail = f"jupyter at {server.shown}, Python {python}"
            _log.info("sandbox_up", detail=self._detail)
        if self._off is not None and was is None and self._tested_at > 0:
            _log.warning("sandbox_off", cause=self._off.cause, remedy=self._off.remedy)
        self._tested_at = time.monotonic()

    async def _proved(self, server: Server) -> str:
        """The version of Python there. Raises SandboxUnavailable."""
        self._kernel = await server.python()
        session = await self._new(server)
        logs: list[str] = []
        try:
            await session.run("1 + 1", timeout_s=_TEST_S, on_logs=logs.append)
        except SandboxLost:
            logs.clear()
        finally:
            await session.close()
        if "".join(logs) != "2\n":
            raise SandboxUnavailable(
                f"Code does not run on the Jupyter server at {server.shown}.",
                "See the log of the Jupyter server.",
            )
        await server.delete_left()
        return session.python

    async def _make(self, _slots: asyncio.Semaphore) -> JupyterSession:
        """A session for the pool. The slots are for those that share this machine's processors."""
        assert self._server
        return await self._new(self._server)

    async def _new(self, server: Server) -> JupyterSession:
        try:
            kernel = Kernel(server, await server.start(self._kernel), self._new_id)
        except KernelGone:
            raise SandboxUnavailable(
                f"The Jupyter server at {server.shown} starts no kernel.",
                "See the log of the Jupyter server.",
            ) from None
        session = JupyterSession(kernel, self._folder)
        try:
            await session.begin()
        except BaseException:
            await session.close()
            raise
        return session
