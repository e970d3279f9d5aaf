"""Fixtures of the engine's tests: a record with hooks, and one App that works on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.coding import Troubled
from tests.engine.stage import Clock, Hooked, Stage, opened_stage, opened_store
from understudy.store import Database
from understudy.store.store import Store


@pytest.fixture
def clock() -> Clock:
    """The time of the test."""
    return Clock()


@pytest.fixture
def hooks() -> list[Hooked]:
    """Where the record's hooks are found, once it is open."""
    return []


@pytest.fixture
async def store(tmp_path: Path, hooks: list[Hooked]) -> AsyncIterator[Store]:
    """A new record."""

    def wrap(inner: Database) -> Database:
        hooks.append(Hooked(inner))
        return hooks[0]

    async with opened_store(tmp_path / "record.db", wrap) as store:
        yield store


@pytest.fixture
def database(store: Store, hooks: list[Hooked]) -> Hooked:
    """The record's hooks."""
    return hooks[0]


@pytest.fixture
async def stage(store: Store, clock: Clock) -> AsyncIterator[Stage]:
    """An App that is at work."""
    async with opened_stage(store, clock) as stage:
        yield stage


@pytest.fixture
async def sandbox() -> AsyncIterator[Troubled]:
    """Where code runs: without a jail, which is not what these tests are about."""
    sandbox = Troubled()
    yield sandbox
    await sandbox.close()


@pytest.fixture
async def coder(store: Store, clock: Clock, sandbox: Troubled) -> AsyncIterator[Stage]:
    """An App that is at work and can run code."""
    async with opened_stage(store, clock, sandbox=sandbox) as stage:
        yield stage
