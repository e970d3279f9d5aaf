"""The bell: wake-ups between the parts of a server. A hint only; the record is the truth.

A listener subscribes, looks at the record, and then waits: what rings after the
subscription began is kept for the next wait, so nothing falls between look and wait.

A ring may say what it is about behind a #: `jobs#run_1` wakes who listens to `jobs`, and is what
he is told.

A bell that reaches other processes rings here at once and there soon. While it has lost its way
to them it goes on ringing here, and when it is back, everything that is listened to rings once:
something may have been missed.

Some bells also carry bytes, for streams that are watched in another process than they are made
in. Who hears finds gaps by what is in the bytes, and fills them from the record.
"""

import importlib
from collections.abc import Callable, Collection
from typing import Protocol

# URL scheme of the record → module with an `open_bell(database_url, nats_url)` of its own,
# imported when asked for, so that the embedded server does not need the drivers of the others.
SCHEMES: dict[str, str] = {
    "sqlite": "understudy.bell.local",
    "postgresql": "understudy.bell.postgres",
    "postgres": "understudy.bell.postgres",
}


class BellUnavailable(Exception):
    """The other processes cannot be reached, and this one is only starting."""


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


class Hearing(Protocol):
    """Hearing the bytes of one topic, from its opening to its close."""

    def close(self) -> None:
        """Hear nothing any more. Closing twice is harmless."""
        ...

    def __enter__(self) -> "Hearing": ...

    def __exit__(self, *exc_info: object) -> None: ...


class Bell(Protocol):
    """Rings topics, and wakes who listens to them."""

    def ring(self, topic: str) -> None:
        """Wake everyone who listens to this topic. Never blocks."""
        ...

    def with_commit(self, topic: str) -> tuple[str, str] | None:
        """What the record's server is to say by itself, on which channel and in which words, the
        moment that a commit is durable: it counts as rung. None: ring once that is known, because
        there is no such server, or because much rings and can leave together."""
        ...

    def ring_here(self, topic: str) -> None:
        """The same, in this process only."""
        ...

    def subscribe(self, *topics: str) -> Subscription:
        """Begin to listen."""
        ...

    async def wait(self, topics: Collection[str], timeout_s: float | None) -> set[str]:
        """Listen once: the topics that rang from now on, empty when the time is over."""
        ...

    @property
    def carries_bytes(self) -> bool:
        """Whether `tell` has any effect with this kind of bell."""
        ...

    def tell(self, topic: str, data: bytes) -> None:
        """Show bytes to those who hear this topic in other processes, in the order of telling.

        Never blocks. What cannot be carried now is dropped. Hearers in this process are left out:
        what is made here can be seen here without a bell.
        """
        ...

    def hear(self, topic: str, heard: Callable[[bytes], None]) -> Hearing:
        """Begin to hear what other processes tell; `heard` is called by the event loop.

        It begins a moment later. What is told until then is a gap, as what is dropped.
        """
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


async def open_bell(database_url: str, nats_url: str | None = None) -> Bell:
    """The bell of all processes that have this record, which has been opened before.

    A record of one process has a bell for one process, whatever `nats_url` says. ValueError when
    a URL is none of ours, BellUnavailable when the record's server does not answer; one that NATS
    does not answer is opened all the same.
    """
    scheme = database_url.partition(":")[0]
    if scheme not in SCHEMES:
        raise ValueError(f"No bell for {scheme}:// URLs; known: {', '.join(SCHEMES)}")
    module = importlib.import_module(SCHEMES[scheme])
    bell: Bell = await module.open_bell(database_url, nats_url)
    return bell
