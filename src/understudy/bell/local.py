"""The bell inside one process: dictionaries and asyncio events, no tasks, no tick."""

import asyncio
from collections.abc import Collection


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


class LocalBell:
    """A bell for one event loop."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[LocalSubscription]] = {}

    def ring(self, topic: str) -> None:
        """Wake everyone who listens to this topic. Never blocks."""
        for listener in self._listeners.get(topic, ()):
            listener.heard(topic)

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
