"""The bell inside one process: dictionaries and asyncio events, no tasks, no tick."""

import asyncio
from collections.abc import Callable, Collection


async def open_bell(database_url: str, nats_url: str | None = None) -> "LocalBell":
    """A bell for a record that one process has."""
    return LocalBell()


class LocalSubscription:
    """Listening to some topics of a LocalBell."""

    def __init__(self, bell: "LocalBell", topics: tuple[str, ...]) -> None:
        self._bell = bell
        self._topics = topics
        self._rung: set[str] = set()
        self._event = asyncio.Event()

    def heard(self, topic: str) -> None:
        """Keep a ring for the next wait."""
        self._rung.add(topic)
        self._event.set()

    async def wait(self, timeout_s: float | None) -> set[str]:
        """The topics that rang since the last wait; empty when the time is over."""
        if not self._rung:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._event.wait()
            except TimeoutError:
                return set()
        rung, self._rung = self._rung, set()
        self._event.clear()
        return rung

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        self._bell.forget(self, self._topics)

    def __enter__(self) -> "LocalSubscription":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Silence:
    """Hearing where no bytes are carried."""

    def close(self) -> None:
        """Hear nothing any more."""

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *exc_info: object) -> None: ...


class LocalBell:
    """A bell for one event loop."""

    carries_bytes = False

    def __init__(self) -> None:
        self._listeners: dict[str, set[LocalSubscription]] = {}

    def ring(self, topic: str) -> None:
        """Wake everyone who listens to this topic. Never blocks."""
        for listener in self._listeners.get(topic.partition("#")[0], ()):
            listener.heard(topic)

    def with_commit(self, topic: str) -> None:
        """Nobody else could ring here."""

    def ring_here(self, topic: str) -> None:
        """The same: there is no other process."""
        self.ring(topic)

    def ring_all(self) -> None:
        """Ring every topic that somebody listens to."""
        for topic in self._listeners:
            self.ring(topic)

    def subscribe(self, *topics: str) -> LocalSubscription:
        """Begin to listen."""
        listener = LocalSubscription(self, topics)
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(listener)
        return listener

    async def wait(self, topics: Collection[str], timeout_s: float | None) -> set[str]:
        """Listen once: the topics that rang from now on, empty when the time is over."""
        with self.subscribe(*topics) as listener:
            return await listener.wait(timeout_s)

    def tell(self, topic: str, data: bytes) -> None:
        """There is no other process."""

    def hear(self, topic: str, heard: Callable[[bytes], None]) -> Silence:
        """Nobody tells anything."""
        return Silence()

    def forget(self, listener: LocalSubscription, topics: Collection[str]) -> None:
        """Drop a closed subscription, and topics that nobody listens to any more."""
        for topic in topics:
            listeners = self._listeners.get(topic)
            if listeners is not None:
                listeners.discard(listener)
                if not listeners:
                    del self._listeners[topic]

    async def close(self) -> None:
        """Let go of everything."""
        self._listeners.clear()
