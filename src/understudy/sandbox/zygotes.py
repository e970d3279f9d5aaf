"""The zygotes, seen from the server: one makes sessions, those before it see theirs out."""

import array
import asyncio
import json
import socket

import structlog

from understudy import limits
from understudy.sandbox import FOLDER
from understudy.sandbox.channel import Channel, NotStarted, connected, pair, readable
from understudy.sandbox.jail import Jail, Jailed, mounts
from understudy.sandbox.life import ended, over

_log = structlog.get_logger()
_MESSAGE_BYTES = 4096
_REQUEST = json.dumps({"folder": FOLDER, "mounts": mounts()}).encode()


class NotNested(NotStarted):
    """The zygote runs, but it may not make namespaces for sessions."""


class Zygote:
    """One zygote in its jail."""

    def __init__(self, mine: socket.socket, jailed: Jailed) -> None:
        self._socket = mine
        self._jailed = jailed
        self._living = 0
        self._is_retired = False
        self.made = 0

    @classmethod
    async def start(cls, jail: Jail) -> "Zygote":
        """A zygote that has imported everything. Raises NotStarted."""
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                jailed = jail.start("zygote", its)
            except OSError as error:
                mine.close()
                raise NotStarted(str(error)) from error
        zygote = cls(mine, jailed)
        try:
            mine.setblocking(False)
            await readable(mine, limits.CODE_WARM_UP_S)
            said = mine.recv(_MESSAGE_BYTES)
            if not said:
                await over(jailed)
                raise NotStarted(jailed.said() or "It ended without a word.")
            if json.loads(said)["threads"] != 1:
                raise NotNested("A library has started a thread.")
        except BaseException:
            await zygote.close()
            raise
        return zygote

    @property
    def is_alive(self) -> bool:
        """Whether it runs, as far as we can see."""
        try:
            return bool(self._socket.recv(_MESSAGE_BYTES, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def fork(self) -> tuple[Channel, int]:
        """A new session: its channel and its pid. Raises NotStarted."""
        mine, its = pair()
        try:
            with its:
                rights = array.array("i", [its.fileno()])
                message = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                self._socket.sendmsg([_REQUEST], message)
        except OSError as error:
            mine.close()
            raise NotStarted(str(error)) from error
        self.made += 1
        self._living += 1
        try:
            return await connected(mine)
        except BaseException as why:
            self._living -= 1
            if isinstance(why, NotStarted) and self.is_alive:
                raise NotNested(str(why)) from why
            raise

    async def buried(self) -> None:
        """A session of it has ended."""
        self._living -= 1
        if self._is_retired and not self._living:
            await self.close()

    async def retire(self) -> None:
        """It makes no more sessions, and ends with the last of them."""
        self._is_retired = True
        if not self._living:
            await self.close()

    async def close(self) -> None:
        """End it, and with it whatever lives of its sessions."""
        self._socket.close()
        await ended(self._jailed)


class Zygotes:
    """The one that makes sessions now; after so many of them another takes over."""

    def __init__(self, jail: Jail, most_sessions: int) -> None:
        self._jail = jail
        self._most_sessions = most_sessions
        self._now: Zygote | None = None
        self._all: set[Zygote] = set()
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._is_closed = False

    async def fit(self) -> Zygote:
        """One that can make a session. Raises NotStarted."""
        async with self._turn:
            if self._now is None or not self._now.is_alive:
                await self._replace()
            assert self._now
            if self._now.made >= self._most_sessions and (not self._next or self._next.done()):
                self._next = asyncio.create_task(self._replace_in_time())
            return self._now

    async def close(self) -> None:
        """End all of them."""
        self._is_closed = True
        if self._next:
            self._next.cancel()
            await asyncio.wait([self._next])
        await asyncio.gather(*(zygote.close() for zygote in self._all))

    async def _replace_in_time(self) -> None:
        """Nobody waits for the next one: the old one serves until it is ready."""
        try:
            await self._replace()
        except NotStarted as why:
            _log.warning("zygote_not_replaced", reason=str(why))

    async def _replace(self) -> None:
        if self._is_closed:
            raise NotStarted("The server is stopping.")
        new = await Zygote.start(self._jail)
        self._all.add(new)
        old, self._now = self._now, new
        if old:
            _log.info("zygote_replaced", sessions=old.made)
            await old.retire()
