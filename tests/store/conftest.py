"""A record on PostgreSQL behind a wire that a test can cut; whose is another defines its own."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.fleet.clusters import schema
from tests.fleet.cut import Wire
from tests.store.storms import COUNTER
from understudy.store import open_database
from understudy.store.store import Store


@pytest.fixture
def url() -> Iterator[str]:
    """A schema of the test's own, reached without a wire."""
    with schema() as fresh:
        yield fresh


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    """What the store's connections go through."""
    with Wire(url) as made:
        yield made


@pytest_asyncio.fixture
async def store(wire: Wire) -> AsyncIterator[Store]:
    """A store behind the wire, with an object that commits count on."""
    store = Store(await open_database(wire.url))
    await store.commit(COUNTER)
    yield store
    await store.close()
