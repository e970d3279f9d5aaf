"""NATS on top of a bell: wake-ups that arrive sooner, and bytes for live streams.

It is a hint on top of a hint. What rings goes both ways: through NATS at once, and through
PostgreSQL as before, only less often. So a process whose NATS is down, or whose message was lost,
hears everything a little later, and nobody needs to know whose NATS is up. Bytes go through NATS
alone, or are dropped.

nats-py is the protocol here and no more than that: it connects again only after some failures and
waits for peers that are gone. A client is used until its connection fails, then let go of, and
another one is made.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, Error, FlushTimeoutError, SlowConsumerError

from understudy import limits
from understudy.bell.local import LocalSubscription
from understudy.bell.outgoing import Outgoing, deliver, happened, messages
from understudy.bell.postgres import PostgresBell

_log = structlog.get_logger()

_SCHEMES = {"nats", "tls"}


async def open_nats(url: str, beneath: PostgresBell) -> "NatsBell":
    """NATS on top of a bell that is opened here, for all processes of its database and schema."""
    servers(url)  # A bad URL is refused before anything is open.
    async with AsyncExitStack() as stack:
        await beneath.open()
        stack.push_async_callback(beneath.close)
        bell = NatsBell(url, beneath, f"understudy.{_token(beneath.room)}")
        await bell.open()
        stack.pop_all()
    return bell


class NatsBell:
    """A bell with NATS on top of it.

    All its subjects begin with `prefix`, which all processes of a database and schema share. A
    connection that gives no answer for `silence_s` is cut and made again.
    """

    carries_bytes = True

    def __init__(
        self,
        url: str,
        beneath: PostgresBell,
        prefix: str,
        *,
        silence_s: float = limits.BELL_SILENCE_S,
    ) -> None:
        self._servers = servers(url)
        self._beneath = beneath
        self._prefix = prefix
        self._answer_s = silence_s / 2  # For the other half, nothing is asked.
        self._outgoing = Outgoing()
        self._told: deque[tuple[str, bytes]] = deque()
        self._told_bytes = 0
        self._hearings: dict[str, set[NatsHearing]] = {}
        self._changed: set[str] = set()  # Topics that began or ceased to be heard.
        self._news = asyncio.Event()
        self._client = _Client()
        self._is_up: bool | None = None  # None before the first try.
        self._most_bytes = 0
        self._trouble: Exception | None = None
        self._is_known = asyncio.Event()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin, and wait until NATS is known to be up or down. Both are fine."""
        self._task = asyncio.create_task(self._run())
        await happened(self._is_known, limits.BELL_CONNECT_S)

    def ring(self, topic: str) -> None:
        """Wake everyone who listens to this topic: here at once, elsewhere soon."""
        self._beneath.ring(topic)
        if self._is_up:
            self._outgoing.add(topic)
            self._news.set()

    def with_commit(self, topic: str) -> tuple[str, str] | None:
        """By PostgreSQL: it is there already, and NATS has to be told first."""
        return self._beneath.with_commit(topic)

    def ring_here(self, topic: str) -> None:
        """The same, in this process only."""
        self._beneath.ring_here(topic)

    def subscribe(self, *topics: str) -> LocalSubscription:
        """Begin to listen."""
        return self._beneath.subscribe(*topics)

    async def wait(self, topics: Collection[str], timeout_s: float | None) -> set[str]:
        """Listen once: the topics that rang from now on, empty when the time is over."""
        return await self._beneath.wait(topics, timeout_s)

    def tell(self, topic: str, data: bytes) -> None:
        """Show bytes to those who hear this topic in other processes, or drop them."""
        is_small = len(data) <= self._most_bytes
        is_room = self._told_bytes + len(data) <= limits.NATS_TOLD_BYTES
        if self._is_up and is_small and is_room and len(self._told) < limits.NATS_TOLD:
            self._told.append((self._subject(topic), data))
            self._told_bytes += len(data)
            self._news.set()

    def hear(self, topic: str, heard: Callable[[bytes], None]) -> "NatsHearing":
        """Begin to hear what other processes tell."""
        hearing = NatsHearing(self, topic, heard)
        self._hearings.setdefault(topic, set()).add(hearing)
        self._has_changed(topic)
        return hearing

    def forget(self, hearing: "NatsHearing", topic: str) -> None:
        """Drop a closed hearing, and a topic that nobody hears any more."""
        hearings = self._hearings.get(topic)
        if hearings is not None:
            hearings.discard(hearing)
            if not hearings:
                del self._hearings[topic]
                self._has_changed(topic)

    def _has_changed(self, topic: str) -> None:
        if self._is_up:  # Else all are new to the next server.
            self._changed.add(topic)
            self._news.set()

    async def close(self) -> None:
        """Let go of everything, and of the bell beneath. Closing twice is harmless."""
        self._closed.set()
        self._client.abandon()  # It may wait for its server, and not let itself be cancelled.
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._hearings.clear()
        await self._beneath.close()

    async def _run(self) -> None:
        """Until the bell is closed: connect, serve, and connect again."""
        pause_s = limits.BELL_BACKOFF_S
        while not self._closed.is_set():
            client = self._client = _Client()
            try:
                await self._connect(client)
                self._rise(client)
                pause_s = limits.BELL_BACKOFF_S
                await self._serve(client)
            except Exception as error:  # noqa: BLE001 (whatever it is, the bell beneath rings on)
                if self._closed.is_set():
                    return
                self._fall(self._trouble or error)
            finally:
                client.abandon()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, limits.BELL_BACKOFF_MOST_S)

    async def _connect(self, client: "_Client") -> None:
        """Connect, and make sure that we may do here what we are here for."""
        self._trouble = None
        await client.connect(
            self._servers,
            name="understudy",
            no_echo=True,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=limits.NATS_CONNECT_S,
            pending_size=limits.NATS_PENDING_BYTES,
            flush_timeout=self._answer_s,
            error_cb=self._on_trouble,
        )
        self._trouble = None  # With those of several servers that were down, if any.
        client.when_cut(self._news.set)
        await client.subscribe(f"{self._prefix}.rings", cb=self._heard_rings)
        await client.publish(f"{self._prefix}.hello", b"")  # Nobody listens; it may be forbidden.
        for _ in range(2):  # The first question overtakes what the client has yet to send.
            await client.answer(self._answer_s)
        self._raise_trouble()

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    async def _on_trouble(self, error: Exception) -> None:
        """What the client meets outside of our calls. Who was too slow has only lost a hint."""
        if not isinstance(error, (OSError, Error)):
            _log.error("hearer_failed", exc_info=error)
        elif not isinstance(error, SlowConsumerError):
            self._trouble = error
        if isinstance(error, FlushTimeoutError):
            self._client.abandon()  # Else the next call would wait as long.

    def _rise(self, client: "_Client") -> None:
        if self._is_up is False:
            _log.info("nats_is_back")
        self._is_up = True
        self._most_bytes = client.max_payload
        self._changed = set(self._hearings)
        self._beneath.pace(limits.BELL_GAP_BENEATH_S)
        self._is_known.set()

    def _fall(self, error: Exception) -> None:
        """Fall back to the bell beneath, and say so once. Bytes have no other way."""
        if self._is_up is not False:
            _log.warning("nats_is_down", reason=str(error) or type(error).__name__)
        self._is_up = False
        self._outgoing = Outgoing()
        self._changed.clear()
        self._told.clear()
        self._told_bytes = 0
        self._beneath.pace(limits.BELL_GAP_S)
        self._is_known.set()

    async def _serve(self, client: "_Client") -> None:
        """Until the connection fails or the bell is closed: send what there is, and ask."""
        heard: dict[str, Subscription] = {}
        now = asyncio.get_running_loop().time
        rings_at = 0.0
        asks_at = now() + self._answer_s
        while not self._closed.is_set():
            self._news.clear()
            await self._hear_what_is_wanted(client, heard)
            await self._send_told(client)
            if self._outgoing and now() >= rings_at:
                await self._send_rings(client)
                rings_at = now() + limits.NATS_GAP_S
            if now() >= asks_at:
                await client.answer(self._answer_s)
                asks_at = now() + self._answer_s
            if not client.is_connected:
                raise ConnectionClosedError
            await happened(self._news, (rings_at if self._outgoing else asks_at) - now())

    async def _hear_what_is_wanted(self, client: "_Client", heard: dict[str, Subscription]) -> None:
        while self._changed:
            topic = self._changed.pop()
            if topic not in self._hearings:
                if topic in heard:
                    await heard.pop(topic).unsubscribe()
            elif topic not in heard:
                heard[topic] = await client.subscribe(
                    self._subject(topic),
                    cb=partial(self._heard_bytes, topic),
                    pending_msgs_limit=limits.NATS_HEARD,
                    pending_bytes_limit=limits.NATS_HEARD_BYTES,
                )

    async def _send_told(self, client: "_Client") -> None:
        for _ in range(len(self._told)):
            subject, data = self._told.popleft()
            self._told_bytes -= len(data)
            await client.publish(subject, data)

    async def _send_rings(self, client: "_Client") -> None:
        most_bytes = min(limits.NATS_MESSAGE_BYTES, client.max_payload)
        for message in messages(self._outgoing.take(), most_bytes):
            await client.publish(f"{self._prefix}.rings", message.encode())

    async def _heard_rings(self, message: Msg) -> None:
        deliver(message.data, self._beneath.here)

    async def _heard_bytes(self, topic: str, message: Msg) -> None:
        for hearing in tuple(self._hearings.get(topic, ())):
            hearing.heard(message.data)

    def _subject(self, topic: str) -> str:
        return f"{self._prefix}.live.{_token(topic)}"


class NatsHearing:
    """Hearing the bytes of one topic of a NatsBell."""

    def __init__(self, bell: NatsBell, topic: str, heard: Callable[[bytes], None]) -> None:
        self._bell = bell
        self._topic = topic
        self.heard = heard

    def close(self) -> None:
        """Hear nothing any more. Closing twice is harmless."""
        self._bell.forget(self, self._topic)

    def __enter__(self) -> "NatsHearing":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Client(Client):
    """nats-py's client, of which we can let go at once."""

    def when_cut(self, call: Callable[[], None]) -> None:
        """Call this when the connection ends, however it ends."""
        assert self._reading_task is not None

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                task.exception()  # It has been looked at, so asyncio does not complain.
            call()

        self._reading_task.add_done_callback(ended)

    async def answer(self, timeout_s: float) -> None:
        """Ask whether the server is there, and wait for its answer."""
        await self.flush(timeout_s)  # type: ignore[arg-type]  # Parts of seconds work as well.

    def abandon(self) -> None:
        """Let go of the connection without a word.

        The client's own close() waits until a peer that may be gone for ever has read everything,
        and leaves tasks and the socket behind when that fails.
        """
        self._status = Client.CLOSED
        waiting = [one._wait_for_msgs_task for one in self._subs.values()]
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task, *waiting):
            if task is not None:
                task.cancel()
        self._subs.clear()
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


def servers(url: str) -> list[str]:
    """The addresses in a NATS URL, which are several with commas. ValueError when one is none."""
    found = [address.strip() for address in url.split(",")]
    if not all(map(_is_address, found)):
        raise ValueError("not a NATS URL: nats://host:port or tls://host:port, or several")
    return found


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _token(name: str) -> str:
    """A part of a subject that stands for any name: dots, blanks and wildcards mean something."""
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()
