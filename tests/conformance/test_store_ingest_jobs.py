"""The jobs of ingestion on every Database: woken, claimed in turns, and apart from runs."""

import pytest

from tests.conformance.indexing import NOW
from tests.conformance.shapes import OTHER, PROJECT
from understudy.store import Conflict, Statement, changes, index_changes
from understudy.store.store import Store


def ingestion(id: str, *, project: str = PROJECT, due_at: float = NOW) -> Statement:
    """A store that has files to index."""
    return index_changes.wake_ingest(id, project=project, now=due_at)


async def claimed(store: Store, free: int, *, now: float = NOW, owner: str = "boot_a") -> list[str]:
    """The stores that a claim brings."""
    claims = await store.claim_ingest(owner=owner, now=now, lease_until=now + 15, free=free)
    return [claimed.job.id for claimed in claims]


async def test_waking_a_job_brings_it_forward_and_never_back(store: Store) -> None:
    for due_at, expected in ((110.0, 110.0), (105.0, 105.0), (120.0, 105.0)):
        await store.commit(ingestion("vs_1", due_at=due_at))
        job = await store.job("vs_1")
        assert job is not None
        assert (job.kind, job.due_at) == ("ingest", expected)


async def test_waking_a_held_job_leaves_its_lease(store: Store) -> None:
    await store.commit(ingestion("vs_1"))
    await claimed(store, 1)
    before = await store.job("vs_1")
    await store.commit(ingestion("vs_1", due_at=NOW + 9))
    assert await store.job("vs_1") == before
    assert await claimed(store, 1) == []


async def test_runs_and_ingestion_are_claimed_apart(store: Store) -> None:
    run = changes.insert_job(
        "run_1",
        kind="run",
        project=PROJECT,
        thread_id="thread_1",
        due_at=NOW,
        expires_at=None,
        fence=0,
        lease_owner=None,
        lease_until=None,
    )
    await store.commit(run, ingestion("vs_1"))
    assert await claimed(store, 5) == ["vs_1"]
    # A store that is being indexed takes nothing of the project's share of runs.
    [run_too] = await store.claim(
        owner="boot_a", now=NOW, lease_until=NOW + 15, free=5, per_project=1
    )
    assert run_too.job.id == "run_1"


async def test_the_moments_of_runs_and_ingestion_are_told_apart(store: Store) -> None:
    assert await store.next_ingest(NOW) is None
    await store.commit(ingestion("vs_1", due_at=120.0), ingestion("vs_2", due_at=110.0))
    assert await store.next_due() is None
    assert await store.next_ingest(NOW) == 110.0
    assert await claimed(store, 1, now=110.0) == ["vs_2"]
    assert await store.next_ingest(112.0) == 120.0
    assert await store.next_ingest(125.0) == 110.0  # The lease is over.
    await store.commit(index_changes.wake_clean_up(now=130.0))
    assert await store.next_due() == 130.0
    assert await store.next_ingest(112.0) == 120.0


async def test_a_project_of_one_store_does_not_wait_for_one_of_many(store: Store) -> None:
    await store.commit(*[ingestion(f"vs_{n:03}", due_at=1.0 + n / 1000) for n in range(100)])
    await store.commit(ingestion("vs_of_other", project=OTHER, due_at=99.0))
    assert sorted(await claimed(store, 2)) == ["vs_000", "vs_of_other"]
    # Whoever holds less is first, and a free slot is never left empty.
    assert await claimed(store, 1) == ["vs_001"]
    await store.commit(changes.delete_job("vs_of_other", fence=1))
    await store.commit(ingestion("vs_of_other", project=OTHER, due_at=99.5))
    assert sorted(await claimed(store, 2)) == ["vs_002", "vs_of_other"]


async def test_a_project_alone_uses_every_slot(store: Store) -> None:
    await store.commit(*[ingestion(f"vs_{n}", due_at=1.0 + n) for n in range(4)])
    assert await claimed(store, 2) == ["vs_0", "vs_1"]
    await store.commit(changes.delete_job("vs_0", fence=1))
    assert await claimed(store, 1) == ["vs_2"]


async def test_an_ingestion_whose_holder_died_is_taken_over(store: Store) -> None:
    await store.commit(ingestion("vs_1"))
    await claimed(store, 1)
    assert await claimed(store, 1, now=NOW + 14, owner="boot_b") == []
    [taken] = await store.claim_ingest(owner="boot_b", now=NOW + 15, lease_until=NOW + 30, free=1)
    job = taken.job
    assert (job.fence, job.reclaims, job.was_leased) == (2, 1, True)
    hold = changes.hold_job("vs_1", owner="boot_a", fence=1, cancelled_ok=True)
    with pytest.raises(Conflict, match="hold_job"):
        await store.commit(hold)
