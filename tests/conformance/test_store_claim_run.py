"""Leasing the one run that a server was just told of, on every Database."""

import asyncio

import pytest

from tests.conformance.shapes import PROJECT, job, message
from understudy import limits
from understudy.store import Statement, changes
from understudy.store.records import Job, Listed
from understudy.store.store import Store, newest_of

NOW = 100.0


async def claim(
    store: Store, id: str = "run_1", *, owner: str = "boot_a", per_project: int = 100
) -> Job | None:
    """Claim it for 15 seconds."""
    claimed = await store.claim_run(
        id, owner=owner, now=NOW, lease_until=NOW + 15, per_project=per_project
    )
    return None if claimed is None else claimed.job


def run(id: str, *, thread_id: str = "thread_1") -> tuple[Statement, Statement]:
    """A run that waits for a worker."""
    return (
        changes.insert_object(
            "run", id=id, project=PROJECT, parent=thread_id, created_at=NOW, body=b'{"id":"it"}'
        ),
        job(id, thread_id=thread_id, next_call="llm:1"),
    )


async def test_it_is_leased_and_journalled_and_what_it_begins_with_can_be_read(
    store: Store,
) -> None:
    many = limits.MESSAGES_READ_ALONG + 2
    await store.commit(*[message(f"msg_{n}", at=NOW + n) for n in range(many)], run("run_1"))
    await store.commit(message("msg_other", parent="thread_2"), job("run_2", next_call="llm:1"))
    taken = await claim(store)
    assert taken is not None
    assert (taken.id, taken.lease_owner, taken.lease_until) == ("run_1", "boot_a", NOW + 15)
    assert (taken.fence, taken.reclaims, taken.is_journalled) == (1, 0, True)
    begun = await store.beginning("run_1")
    assert begun.run == Listed("run_1", 1, b'{"id":"it"}', None)
    newest, has_older = newest_of(begun.newest, limits.MESSAGES_READ_ALONG)
    assert [one.id for one in newest] == [f"msg_{n}" for n in range(many - 1, 1, -1)]
    assert has_older
    [line] = await store.journal("run_1")
    assert (line.key, line.attempt, line.fence, line.started_at) == ("llm:1", 1, 1, NOW)
    assert await store.journal("run_2") == []
    [other] = await store.claim(
        owner="boot_b", now=NOW, lease_until=NOW + 15, free=9, per_project=9
    )
    assert other.job.id == "run_2"


@pytest.mark.parametrize(
    "kept",
    [
        job("run_1", next_call="llm:1", owner="boot_b", until=NOW + 9, fence=1),
        job("run_1", next_call="llm:1", owner="boot_b", until=NOW - 9, fence=1),
        job("run_1", next_call="llm:1", expires_at=NOW),
        job("run_1"),
        job("run_2", next_call="llm:1"),
    ],
    ids=["leased", "lease_ran_out", "expired", "no_call_to_begin_with", "gone"],
)
async def test_what_is_no_queued_run_is_left_to_other_claims(store: Store, kept: Statement) -> None:
    await store.commit(kept)
    before = await store.job("run_1")
    assert await claim(store) is None
    assert await store.job("run_1") == before
    assert await store.journal("run_1") == []


async def test_it_is_due_by_whatever_clock_it_was_made(store: Store) -> None:
    """The clock of who made it may be some milliseconds ahead of the claimer's."""
    await store.commit(job("run_1", next_call="llm:1", due_at=NOW + 0.01))
    assert await claim(store) is not None


async def test_one_that_is_to_be_cancelled_is_left_to_other_claims(store: Store) -> None:
    await store.commit(job("run_1", next_call="llm:1"))
    await store.commit(changes.ask_cancel("run_1", now=NOW))
    assert await claim(store) is None


async def test_of_many_who_are_told_one_gets_it(store: Store) -> None:
    await store.commit(run("run_1"))
    found = await asyncio.gather(*[claim(store, owner=f"boot_{n}") for n in range(10)])
    [taken] = [one for one in found if one is not None]
    kept = await store.job("run_1")
    assert kept is not None
    assert (kept.lease_owner, kept.fence) == (taken.lease_owner, 1)
    assert len(await store.journal("run_1")) == 1


async def test_a_project_gets_no_more_than_its_share(store: Store) -> None:
    await store.commit(
        job("run_0", next_call="llm:1", owner="boot_b", until=NOW + 9, fence=1),
        job("run_dead", next_call="llm:1", owner="boot_c", until=NOW, fence=1),
        job("vs_1", kind="ingest", owner="boot_b", until=NOW + 9, fence=1),
        job("run_1", next_call="llm:1"),
    )
    assert await claim(store, per_project=1) is None
    assert await claim(store, per_project=2) is not None


async def test_it_waits_a_moment_for_the_server_that_has_its_code(store: Store) -> None:
    await store.commit(changes.keep_pin("thread_1", node="boot_b", until=500.0), run("run_1"))
    seen = changes.keep_node("boot_b", role="worker", version="1", live_runs=0, now=NOW)
    await store.commit(seen)
    assert await claim(store) is None
    assert await claim(store, owner="boot_b") is not None


async def test_who_has_its_code_gets_it_though_all_others_ask_in_the_same_moment(
    store: Store,
) -> None:
    """They do not have it even for the moment in which they find that they may not."""
    seen = changes.keep_node("boot_0", role="worker", version="1", live_runs=0, now=NOW)
    await store.commit(seen)
    for number in range(20):
        id, thread_id = f"run_{number}", f"thread_{number}"
        pinned = changes.keep_pin(thread_id, node="boot_0", until=500.0)
        await store.commit(pinned, run(id, thread_id=thread_id))
        askers = [f"boot_{(number + place) % 8}" for place in range(8)]
        found = await asyncio.gather(*[claim(store, id, owner=owner) for owner in askers])
        [taken] = [one.lease_owner for one in found if one is not None]
        assert taken == "boot_0"


async def test_nobody_waits_for_a_server_that_is_gone(store: Store) -> None:
    gone_at = NOW - limits.NODE_ALIVE_S
    seen = changes.keep_node("boot_b", role="worker", version="1", live_runs=0, now=gone_at)
    await store.commit(seen, changes.keep_pin("thread_1", node="boot_b", until=500.0), run("run_1"))
    assert await claim(store) is not None


async def test_what_a_claim_reads_along_is_what_can_be_read(store: Store) -> None:
    """Of queued runs only; not every database reads it along."""
    for number in range(4):
        made = run(f"run_{number}", thread_id=f"thread_{number}")
        await store.commit(made, message(f"msg_{number}", parent=f"thread_{number}"))
    await store.commit(job("run_later"), job("run_lost", owner="boot_b", until=NOW - 1, fence=1))
    alone = await store.claim_run(
        "run_3", owner="boot_a", now=NOW, lease_until=NOW + 15, per_project=100
    )
    claims = await store.claim(
        owner="boot_a", now=NOW, lease_until=NOW + 15, free=9, per_project=100
    )
    assert len(claims) == 5
    for claimed in (*claims, *([alone] if alone else [])):
        if not claimed.job.is_journalled:
            assert claimed.begun is None
        elif claimed.begun is not None:
            assert claimed.begun == await store.beginning(claimed.job.id)
