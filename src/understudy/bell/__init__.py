"""The bell: wake-ups between the parts of a server. A hint only; the record is the truth.

A listener subscribes, looks at the record, and then waits: what rings after the
subscription began is kept for the next wait, so nothing falls between look and wait.
"""

from collections.abc import Collection
from typing import Protocol


class Subscription(Protocol):
    """Listening to some topics, from its opening to its close."""

    async def wait(self, timeout_s: float | None) -> set[str]:
        """The topics that rang since the last wait; empty when the time is over."""
        ...

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        ...

    def __enter__(self) -> "Subscription": ...

    def __exit__(self, *exc_info: object) -> None: ...


class Bell(Protocol):
    """Rings topics, and wakes who listens to them."""

    def ring(self, topic: str) -> None:
        """Wake everyone who listens to this topic. Never blocks."""
        ...

    def subscribe(self, *topics: str) -> Subscription:
        """Begin to listen."""
        ...

    async def wait(self, topics: Collection[str], timeout_s: float | None) -> set[str]:
        """Listen once: the topics that rang from now on, empty when the time is over."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...
