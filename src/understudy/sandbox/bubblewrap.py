"""The sandbox that bubblewrap jails on this machine.

Two ways. Nested: one jail holds a zygote that has imported the libraries, and each session is
forked from it into namespaces of its own. Cold: where the zygote may not make namespaces, each
session is a jail of its own that imports the libraries itself. Both have the same walls.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog

from understudy import limits
from understudy.sandbox import FOLDER, SandboxLost, SandboxUnavailable, Session
from understudy.sandbox.cgroup import Groups
from understudy.sandbox.channel import Channel, NotStarted, connected, pair
from understudy.sandbox.check import found_bwrap, prove, why
from understudy.sandbox.environment import Environment
from understudy.sandbox.jail import Jail, Jailed
from understudy.sandbox.life import Pid1, ended, over
from understudy.sandbox.pool import Pool, Sizes, stopping
from understudy.sandbox.session import ChannelSession, bounds
from understudy.sandbox.zygotes import NotNested, Zygotes

_log = structlog.get_logger()

_NO_SESSION = "a session ended at once"

Way = Literal["nested", "cold"]


class Bubblewrap:
    """All sessions of this server. It starts when it is told to, or when somebody waits for it.

    `way` is for tests; by itself the faster one that works is taken.
    """

    def __init__(
        self,
        environment: Environment | None,
        *,
        way: Way | None = None,
        sizes: Sizes | None = None,
        zygote_sessions: int = limits.CODE_ZYGOTE_SESSIONS,
    ) -> None:
        self._environment = environment
        self._asked_way = way
        self._way: Way = way or "nested"
        self._zygote_sessions = zygote_sessions
        self._pool = Pool(self._make, sizes or Sizes())
        self._groups: Groups | None = None
        self._jail: Jail | None = None
        self._zygotes: Zygotes | None = None
        self._starting: asyncio.Task[None] | None = None
        self._off: SandboxUnavailable | None = None
        self._is_closed = False
        self._is_up = False
        self._detail = "bubblewrap"

    @property
    def state(self) -> Literal["up", "starting", "off"]:
        """Whether code can run; `starting` until the self-test is over."""
        if self._off or self._is_closed:
            return "off"
        return "up" if self._is_up else "starting"

    @property
    def detail(self) -> str:
        """Which sandbox it is; or, when off, cause and remedy."""
        return str(self._off) if self._off else self._detail

    def start(self) -> None:
        """Begin to start. Doing so twice is harmless."""
        if self._starting is None and not self._is_closed:
            self._starting = asyncio.create_task(self._start())

    async def started(self) -> None:
        """Starts it if need be, and waits for the self-test. Raises SandboxUnavailable."""
        self.start()
        if self._starting:
            await asyncio.wait([self._starting])
        if not self._is_up or self._is_closed:
            off = self._off or stopping()
            raise SandboxUnavailable(off.cause, off.remedy)

    async def session(self, key: str) -> Session:
        """The living session of a key, or a new one. Raises SandboxUnavailable."""
        await self.started()
        return await self._pool.session(key)

    async def forget(self, key: str) -> None:
        """Close the key's session, if there is one."""
        await self._pool.forget(key)

    async def close(self) -> None:
        """End all of them and leave nothing behind."""
        self._is_closed = True
        if self._starting:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._pool.close()
        if self._zygotes:
            await self._zygotes.close()

    async def _start(self) -> None:
        """Find what works, prove that it holds, and only then serve."""
        try:
            path, version = await asyncio.to_thread(found_bwrap, self._environment)
            assert self._environment
            self._jail = Jail(path, self._environment)
            self._groups = Groups.found()
            await self._prove()
            cold = "" if self._way == "nested" else ", cold: sessions start slowly"
            self._detail = f"bubblewrap {version}, Python {self._environment.version}{cold}"
            self._pool.open()
            self._is_up = True
            _log.info("sandbox_up", detail=self._detail)
        except SandboxUnavailable as off:
            self._off = off
        except Exception:  # noqa: BLE001 - our own mistake, whatever it is: no code runs then.
            _log.exception("sandbox_not_started")
            self._off = SandboxUnavailable("The sandbox did not start.", "See the server's log.")
        finally:
            if not self._is_up and self._zygotes:
                await self._zygotes.close()

    async def _prove(self) -> None:
        """A true session is made, and tries to get out. Raises SandboxUnavailable."""
        assert self._environment
        try:
            session = await self._first()
        except (NotStarted, SandboxLost) as said:
            raise why(str(said) or _NO_SESSION) from said
        try:
            await prove(session, self._environment.prefix)
        finally:
            self._pool.end(session)  # So that it is waited for, whatever becomes of this start.
            await session.close()

    async def _first(self) -> ChannelSession:
        assert self._jail
        slots = asyncio.Semaphore(1)
        if self._asked_way != "cold":
            self._zygotes = Zygotes(self._jail, self._zygote_sessions)
            try:
                return await self._nested(slots)
            except NotNested as said:
                await self._zygotes.close()
                self._zygotes = None
                if self._asked_way == "nested":
                    raise
                _log.warning("sandbox_not_nested", reason=str(said))
        self._way = "cold"
        return await self._cold(slots)

    async def _make(self, slots: asyncio.Semaphore) -> ChannelSession:
        try:
            return await (self._nested(slots) if self._way == "nested" else self._cold(slots))
        except (NotStarted, SandboxLost) as said:
            raise why(str(said) or _NO_SESSION) from said

    async def _nested(self, slots: asyncio.Semaphore) -> ChannelSession:
        """A session forked from the zygote."""
        assert self._zygotes
        zygote = await self._zygotes.fit()
        channel, pid = await zygote.fork()
        return await self._begun(channel, pid, zygote.buried, slots)

    async def _cold(self, slots: asyncio.Semaphore) -> ChannelSession:
        """A session in a jail of its own."""
        assert self._jail
        mine, its = pair()
        with its:
            try:
                jailed = self._jail.start("session", its)
            except OSError as error:
                mine.close()
                raise NotStarted(str(error)) from error
        try:
            channel, pid = await _connected(mine, jailed)
        except BaseException:
            jailed.kill()
            await ended(jailed)
            raise
        return await self._begun(channel, pid, lambda: ended(jailed), slots)

    async def _begun(
        self,
        channel: Channel,
        pid: int,
        after: Callable[[], Awaitable[None]],
        slots: asyncio.Semaphore,
    ) -> ChannelSession:
        """Hold the session's first process, and tell it what it may use."""
        try:
            group = self._groups.hold(pid) if self._groups else None
            life = Pid1(pid, group, after)
        except OSError as error:  # It died just now, or is in a namespace that we cannot see.
            channel.close()
            await channel.closed()
            await after()
            raise NotStarted(str(error)) from error
        session = ChannelSession(channel, life, slots)
        try:
            await session.begin(bounds(FOLDER, is_jailed=True))
        except BaseException:
            await session.close()
            raise
        return session


async def _connected(mine: socket.socket, jailed: Jailed) -> tuple[Channel, int]:
    """The channel to a new jail and its first process. Raises NotStarted with the jail's words."""
    try:
        return await connected(mine)
    except NotStarted as said:
        await over(jailed)
        raise NotStarted(jailed.said() or str(said)) from said
