"""The bell between processes that have one PostgreSQL: LISTEN and NOTIFY on one connection each.

PostgreSQL commits notifications one after the other, so a process sends few. What rings first
after a quiet time leaves at once; what rings while that is on its way, or within a short gap
after it, leaves together. Nothing of it waits for the disk, and no other commit waits for it.

What concerns only some of the processes goes through a channel of its own, which they alone listen
to: each notification wakes all who listen.

The connection belongs to one task. It sends, and when there is nothing to send it looks whether
anybody is there: a peer that vanished says nothing, not even goodbye.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection
from typing import TypeAlias

import asyncpg
import structlog

from understudy import limits
from understudy.bell import Bell, BellUnavailable
from understudy.bell.local import LocalBell, LocalSubscription, Silence
from understudy.bell.outgoing import Outgoing, deliver, happened, messages

# asyncpg's types are generic only for the type checker.
_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_log = structlog.get_logger()

# All in one transaction. Of nothing, it is a question that only a living server answers.
_NOTIFY = """
SELECT pg_notify(channel, message) FROM unnest($1::text[], $2::text[]) AS one (channel, message)
"""
# Topics with a channel of their own: of each run that begins workers are told, and nobody else.
_APART = frozenset({"jobs"})
_WHERE = "SELECT current_database(), coalesce(current_schema(), '')"
# Which server it is whatever its address, and still is when a replica takes over.
_WHO = "SELECT system_identifier::text FROM pg_control_system()"
_CHANNEL_BYTES = 63
_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def open_bell(database_url: str, nats_url: str | None = None) -> Bell:
    """The bell of this database, with NATS on top of it when that has a URL."""
    if nats_url is None:
        bell = PostgresBell(database_url)
        await bell.open()
        return bell
    try:
        from understudy.bell.nats import open_nats
    except ModuleNotFoundError as error:
        raise ValueError("NATS needs a package more: pip install 'understudy[nats]'") from error
    return await open_nats(nats_url, PostgresBell(database_url))


class PostgresBell:
    """A bell for all processes with the same database and schema.

    `here` is its part in this process, and `room` says which database and schema it is for. A
    connection that gives no answer for `silence_s` is cut and made again.
    """

    carries_bytes = False

    def __init__(self, url: str, *, silence_s: float = limits.BELL_SILENCE_S) -> None:
        self.here = LocalBell()
        self.room = ""
        self._url = url
        self._schema = ""
        self._outgoing = Outgoing()
        self._news = asyncio.Event()
        self._gap_s = limits.BELL_GAP_S
        self._answer_s = silence_s / 2  # For the other half, nothing is asked.
        self._connection: _Connection | None = None
        self._wanted: set[str] = set()  # Of the topics apart, those that somebody listened to,
        self._listens: set[str] = set()  # and those that the connection listens to.
        self._free_at = 0.0  # When the next notification may leave, with a commit or without.
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect for the first time. ValueError when the URL is none, else BellUnavailable."""
        try:
            connection = await self._connected()
        except ValueError as error:
            raise ValueError(f"no URL of a PostgreSQL: {error}") from error
        except _FAILURES as error:
            raise BellUnavailable(_reason(error)) from error
        self._connection = connection
        self._task = asyncio.create_task(self._run(connection))

    def ring(self, topic: str) -> None:
        """Wake everyone who listens to this topic: here at once, elsewhere soon."""
        self.here.ring(topic)
        self._outgoing.add(topic)
        self._news.set()

    def with_commit(self, topic: str) -> tuple[str, str] | None:
        """The channel and the message, after a quiet time. Beneath NATS, what waits has left."""
        now = asyncio.get_running_loop().time()
        may_join_others = self._outgoing and self._gap_s <= limits.BELL_GAP_S
        if may_join_others or now < self._free_at:
            return None
        self._free_at = now + limits.BELL_GAP_S
        [message] = messages([topic], limits.BELL_NOTIFY_BYTES)
        return channel(self._schema, _apart(topic)), message

    def ring_here(self, topic: str) -> None:
        """The same, in this process only."""
        self.here.ring(topic)

    def subscribe(self, *topics: str) -> LocalSubscription:
        """Begin to listen."""
        self._want(topics)
        return self.here.subscribe(*topics)

    async def wait(self, topics: Collection[str], timeout_s: float | None) -> set[str]:
        """Listen once: the topics that rang from now on, empty when the time is over."""
        self._want(topics)
        return await self.here.wait(topics, timeout_s)

    def _want(self, topics: Collection[str]) -> None:
        if not _APART.isdisjoint(topics):
            self._wanted.update(_APART.intersection(topics))
            self._news.set()

    def tell(self, topic: str, data: bytes) -> None:
        """A notification is too small for bytes, and too dear."""

    def hear(self, topic: str, heard: Callable[[bytes], None]) -> Silence:
        """Nobody tells anything."""
        return self.here.hear(topic, heard)

    def pace(self, gap_s: float) -> None:
        """From now on, notify others no more often than this."""
        self._gap_s = gap_s

    async def close(self) -> None:
        """Send what has rung, then let go of everything. Closing twice is harmless."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            await self._say_goodbye(self._connection)
        await self.here.close()

    async def _say_goodbye(self, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(limits.BELL_CLOSE_S):
                while self._outgoing:
                    await self._send(connection)
                await connection.close()
        except _FAILURES:
            connection.terminate()

    async def _run(self, connection: _Connection) -> None:
        """Until the bell is closed: serve, and connect again."""
        while True:
            try:
                await self._serve(connection)
            except Exception as error:  # noqa: BLE001 (whatever it is, the bell must come back)
                _log.warning("bell_cut_off", reason=_reason(error))
                connection.terminate()
            connection = self._connection = await self._connected_again()
            _log.info("bell_is_back")
            self.here.ring_all()

    async def _serve(self, connection: _Connection) -> None:
        """Until the connection fails: send what rings, and ask when nothing does."""
        now = asyncio.get_running_loop().time
        while True:
            self._news.clear()
            async with asyncio.timeout(self._answer_s):
                await self._listen_apart(connection)
            is_question = not self._outgoing
            if not is_question:
                if self._free_at > now():
                    await asyncio.sleep(self._free_at - now())
                self._free_at = now() + limits.BELL_GAP_S
            await self._send(connection)
            if not is_question:
                await asyncio.sleep(self._gap_s)
            if not self._outgoing:
                await happened(self._news, self._answer_s)

    async def _send(self, connection: _Connection) -> None:
        topics = self._outgoing.take()
        channels, payloads = [], []
        for apart in ("", *_APART):
            own = [topic for topic in topics if topic is None or _apart(topic) == apart]
            for message in messages(own, limits.BELL_NOTIFY_BYTES):
                channels.append(channel(self._schema, apart))
                payloads.append(message)
        try:
            await connection.execute(_NOTIFY, channels, payloads, timeout=self._answer_s)
        except BaseException:  # It may have arrived all the same; hearing it twice is harmless.
            self._outgoing.add(*topics)
            raise

    async def _connected_again(self) -> _Connection:
        pause_s = limits.BELL_BACKOFF_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                return await self._connected()
            except Exception:  # noqa: BLE001 (as above, which has also been said there)
                pause_s = min(2 * pause_s, limits.BELL_BACKOFF_MOST_S)

    async def _connected(self) -> _Connection:
        """A connection that listens."""
        async with asyncio.timeout(limits.BELL_CONNECT_S):
            connection = await asyncpg.connect(self._url)
            try:
                await self._listen(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def _listen(self, connection: _Connection) -> None:
        database, schema = await connection.fetchrow(_WHERE) or ("", "")
        try:
            server = await connection.fetchval(_WHO)
        except asyncpg.InsufficientPrivilegeError:  # All may ask, unless somebody forbade it.
            server = ""
        self.room = f"{server}/{database}/{schema}"
        self._schema = schema
        self._listens = set()
        connection.add_termination_listener(self._cut)
        await connection.add_listener(channel(schema), self._heard)

    async def _listen_apart(self, connection: _Connection) -> None:
        """Listen to what is wanted by now. What rang there before may have been meant as well."""
        for topic in self._wanted - self._listens:
            await connection.add_listener(channel(self._schema, topic), self._heard)
            self._listens.add(topic)
            self.here.ring(topic)

    def _cut(self, _connection: object) -> None:
        self._news.set()  # Whoever waits for something to send finds that it cannot be sent.

    def _heard(self, _connection: object, pid: int, _channel: str, payload: object) -> None:
        """Ring here what rang elsewhere. What rang here comes back, too, and has rung already."""
        is_own = self._connection is not None and pid == self._connection.get_server_pid()
        if isinstance(payload, str) and not is_own:
            deliver(payload, self.here)


def channel(schema: str, apart: str = "") -> str:
    """The name of a schema's channel, or of the one that a topic has; names are cut when they are
    too long."""
    kind = f"understudy:{apart}" if apart else "understudy"
    name = f"{kind}.{schema}"
    if len(name.encode()) <= _CHANNEL_BYTES:
        return name
    return f"{kind}.{hashlib.blake2b(schema.encode(), digest_size=16).hexdigest()}"


def _apart(topic: str) -> str:
    """The topic itself, without what it is about, if it has a channel of its own."""
    kind = topic.partition("#")[0]
    return kind if kind in _APART else ""


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
