"""Topics that rang here, on their way to the other processes: many in one message.

A message is a JSON array of topics, in ASCII whatever is in their names. An empty one means all
topics: too many rang to be named, or one that no message holds.
"""

import asyncio
import json
from collections.abc import Collection
from contextlib import suppress
from itertools import islice
from typing import TypeAlias

import msgspec

from understudy import limits
from understudy.bell.local import LocalBell

Topic: TypeAlias = str | None  # None is every topic.

_ALL = "[]"
_COMMA = ","
_message = msgspec.json.Decoder(list[str])


class Outgoing:
    """The topics that wait for their message. One that rings again while it waits is still one."""

    def __init__(self) -> None:
        self._topics: set[Topic] = set()

    def __bool__(self) -> bool:
        return bool(self._topics)

    def add(self, *topics: Topic) -> None:
        """Let these wait."""
        self._topics.update(topics)
        if len(self._topics) > limits.BELL_TOPICS_WAITING:
            self._topics = {None}

    def take(self) -> set[Topic]:
        """What leaves now; who cannot send it adds it again."""
        taken = set(islice(self._topics, limits.BELL_TOPICS_TOGETHER))
        self._topics -= taken
        return taken


def messages(topics: Collection[Topic], most_bytes: int) -> list[str]:
    """These topics in messages of at most so many bytes."""
    names = [json.dumps(topic) for topic in topics]
    if None in topics or any(len(name) + len(_ALL) > most_bytes for name in names):
        return [_ALL]
    batches: list[list[str]] = []
    room = 0
    for name in names:
        if len(name) + len(_COMMA) > room:
            batches.append([])
            room = most_bytes - len(_ALL) + len(_COMMA)
        batches[-1].append(name)
        room -= len(name) + len(_COMMA)
    return [f"[{_COMMA.join(batch)}]" for batch in batches]


def deliver(message: str | bytes, bell: LocalBell) -> None:
    """Ring here what a message names. One that cannot be read may mean anything: all rings."""
    try:
        topics = _message.decode(message)
    except msgspec.DecodeError:  # Of a newer version, or with half of a surrogate pair in it.
        topics = []
    for topic in topics:
        bell.ring(topic)
    if not topics:
        bell.ring_all()


async def happened(news: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, or until the time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await news.wait()
