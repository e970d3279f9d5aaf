"""Whose object comes first, where servers do not agree to the millisecond on what time it is."""

from collections.abc import AsyncIterator

import pytest

from tests.conformance.shapes import PROJECT, message
from tests.fleet.clusters import schema
from understudy.store import open_database
from understudy.store.store import Store

NOW = 100.0
BEHIND_S = 0.2


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """An empty record."""
    with schema() as url:
        store = Store(await open_database(url))
        yield store
        await store.close()


async def listed(store: Store, parent: str = "thread_1") -> list[str]:
    """The messages of a thread."""
    page, _ = await store.list(
        "message", PROJECT, parent, limit=100, order="asc", after=None, before=None
    )
    return [one.id for one in page]


async def test_what_was_acknowledged_earlier_comes_first(store: Store) -> None:
    """A client's second message is never before its first, whichever servers it asked."""
    ids = [f"msg_{n}" for n in range(6)]
    for n, id in enumerate(ids):
        await store.commit(message(id, at=NOW + n / 10 - BEHIND_S * (n % 2)))
    assert await listed(store) == ids


async def test_only_objects_of_the_same_list_count(store: Store) -> None:
    await store.commit(message("msg_other", parent="thread_2", at=NOW + BEHIND_S))
    await store.commit(message("msg_1", at=NOW), message("msg_2", at=NOW + BEHIND_S / 2))
    assert await listed(store) == ["msg_1", "msg_2"]
    stored = [await store.get("message", PROJECT, id) for id in ("msg_1", "msg_2")]
    assert [one.created_at for one in stored if one is not None] == [NOW, NOW + BEHIND_S / 2]


async def test_what_is_given_a_time_of_long_ago_keeps_it(store: Store) -> None:
    await store.commit(message("msg_now", at=NOW))
    await store.commit(message("msg_then", at=NOW - 1))
    assert await listed(store) == ["msg_then", "msg_now"]
