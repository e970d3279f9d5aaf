"""Every Database that the conformance suite runs against, and a Store on each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.databases import DATABASES
from understudy.store.store import Store


@pytest.fixture(params=sorted(DATABASES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store on each Database."""
    store = Store(await DATABASES[request.param](tmp_path))
    yield store
    await store.close()
