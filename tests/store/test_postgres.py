"""What only PostgreSQL promises: commits at once on many lines, callers who leave, odd values."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.conformance.shapes import PROJECT
from tests.fleet.clusters import schema
from tests.store.locks import blocker, waiting_for_locks
from understudy.store import Conflict, index_changes, open_database
from understudy.store.store import Store


@pytest.fixture
def url() -> Iterator[str]:
    """A schema of the test's own."""
    with schema() as fresh:
        yield fresh


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A store in that schema."""
    store = Store(await open_database(url))
    yield store
    await store.close()


async def test_a_document_that_is_dropped_at_the_end_of_a_clean_up_has_a_job(
    store: Store, url: str
) -> None:
    """Whoever drops it makes the job or brings it forward, in a commit that is still at work when
    the clean-up finds nothing left."""
    insert = index_changes.insert_document(
        1, "file-1", project=PROJECT, attributes=b"{}", filename="a"
    )
    await store.commit(index_changes.wake_clean_up(now=1.0), insert)
    other = await blocker(url, "update documents set state = 'gone'; update jobs set due_at = 0")
    ending = asyncio.ensure_future(store.commit(index_changes.end_clean_up(fence=0)))
    await waiting_for_locks(url, 1)
    await other.execute("commit")
    with pytest.raises(Conflict, match="any_gone"):
        await ending
    assert await store.job(index_changes.CLEAN_UP) is not None
    await other.close()
