"""Events, the journal, purging, idempotency and keys on every Database."""

from typing import Literal

import pytest

from tests.conformance.shapes import OTHER, PROJECT, job, message, thread
from understudy.store import Conflict, Statement, changes
from understudy.store.records import AnswerRow, EventRow, JournalRow, KeyRow
from understudy.store.store import Store


def stretch(
    fence: int,
    seq_from: int,
    seq_to: int,
    *,
    kind: Literal["life", "delta"] = "life",
    run_id: str = "run_1",
    at: float = 100.0,
) -> Statement:
    """Events of a run."""
    return changes.append_events(
        run_id,
        fence=fence,
        seq_from=seq_from,
        seq_to=seq_to,
        kind=kind,
        created_at=at,
        frames=b"event: x\ndata: \xff\x00\n\n",
    )


def child(kind: str, id: str, parent: str) -> Statement:
    """An object under another."""
    return changes.insert_object(
        kind, id=id, project=PROJECT, parent=parent, created_at=100.0, body=b"{}"
    )


async def test_events_after_a_cursor(store: Store) -> None:
    await store.commit(
        stretch(2, 1, 1), stretch(1, 1, 2), stretch(1, 3, 6, kind="delta"), stretch(10, 1, 1)
    )
    expected = {
        (0, 0): [(1, 1), (1, 3), (2, 1), (10, 1)],
        (1, 1): [(1, 1), (1, 3), (2, 1), (10, 1)],
        (1, 2): [(1, 3), (2, 1), (10, 1)],
        (1, 5): [(1, 3), (2, 1), (10, 1)],
        (1, 6): [(2, 1), (10, 1)],
        (2, 0): [(2, 1), (10, 1)],
        (2, 1): [(10, 1)],
        (10, 1): [],
    }
    for after, rows in expected.items():
        assert [(row.fence, row.seq_from) for row in await store.events("run_1", after)] == rows
    [row] = await store.events("run_1", (2, 1))
    assert row == EventRow("run_1", 10, 1, 1, "life", 100.0, b"event: x\ndata: \xff\x00\n\n")
    assert await store.events("run_2", (0, 0)) == []


async def test_a_place_in_the_log_is_taken_once(store: Store) -> None:
    await store.commit(stretch(1, 1, 2))
    with pytest.raises(Conflict, match="exists"):
        await store.commit(stretch(1, 1, 1))


async def test_old_deltas_of_runs_at_rest_are_pruned_in_batches(store: Store) -> None:
    await store.commit(
        job("run_live"),
        stretch(1, 1, 1),
        *[stretch(1, n, n, kind="delta", at=50.0) for n in range(2, 7)],
        stretch(1, 7, 7, kind="delta", at=99.0),
        stretch(1, 1, 1, kind="delta", at=50.0, run_id="run_live"),
    )
    assert await store.prune_deltas(before=60.0, limit=3) == 3
    assert await store.prune_deltas(before=60.0, limit=3) == 2
    assert await store.prune_deltas(before=60.0, limit=3) == 0
    assert [row.seq_from for row in await store.events("run_1", (0, 0))] == [1, 7]
    assert len(await store.events("run_live", (0, 0))) == 1


async def test_the_journal_says_what_was_started_and_how_it_ended(store: Store) -> None:
    start = changes.start_call("run_1", key="llm:1", attempt=1, fence=1, started_at=100.0)
    await store.commit(start)
    assert await store.journal("run_1") == [JournalRow("run_1", "llm:1", 1, 1, 100.0, None, None)]
    await store.commit(
        changes.end_call("run_1", key="llm:1", attempt=1, ended_at=101.0, outcome="lost"),
        changes.start_call("run_1", key="llm:1", attempt=2, fence=2, started_at=102.0),
    )
    assert await store.journal("run_1") == [
        JournalRow("run_1", "llm:1", 1, 1, 100.0, 101.0, "lost"),
        JournalRow("run_1", "llm:1", 2, 2, 102.0, None, None),
    ]
    assert await store.journal("run_2") == []
    with pytest.raises(Conflict, match="exists"):
        await store.commit(start)
    with pytest.raises(Conflict, match="end_call"):
        await store.commit(
            changes.end_call("run_1", key="llm:2", attempt=1, ended_at=1.0, outcome="done")
        )


async def purge(store: Store, parent: str, limit: int) -> list[int]:
    """How many rows each round removed, until one removes none."""
    rounds: list[int] = []
    while not rounds or rounds[-1]:
        rows = await store.commit(changes.purge_children(parent, limit=limit))
        assert all(len(removed) <= limit for removed in rows)
        rounds.append(sum(len(removed) for removed in rows))
    return rounds


async def test_purging_removes_all_that_a_deleted_thread_had_in_bounded_batches(
    store: Store,
) -> None:
    await store.commit(
        thread(),
        *[message(f"msg_{n}") for n in range(12)],
        *[child("run", f"run_{n}", "thread_1") for n in range(3)],
        *[child("step", f"step_{n}", f"run_{n % 3}") for n in range(9)],
        *[stretch(1, n, n, run_id="run_1") for n in range(1, 8)],
        changes.start_call("run_1", key="llm:1", attempt=1, fence=1, started_at=100.0),
        message("msg_elsewhere", parent="thread_2"),
        stretch(1, 1, 1, run_id="run_elsewhere"),
    )
    await store.commit(changes.delete_object("msg_0", kind="message", project=PROJECT))
    await store.commit(changes.delete_object("thread_1", kind="thread", project=PROJECT))
    assert len(await purge(store, "thread_1", 5)) > 3
    for kind, parent in (("message", "thread_1"), ("run", "thread_1"), ("step", "run_1")):
        page = await store.list(
            kind, PROJECT, parent, limit=9, order="asc", after=None, before=None
        )
        assert page == ([], False)
    assert await store.events("run_1", (0, 0)) == []
    assert await store.journal("run_1") == []
    assert await store.get("message", PROJECT, "msg_elsewhere") is not None
    assert len(await store.events("run_elsewhere", (0, 0))) == 1


async def test_purging_a_run_removes_its_steps_events_and_journal(store: Store) -> None:
    await store.commit(
        child("step", "step_1", "run_1"),
        stretch(1, 1, 1),
        changes.start_call("run_1", key="llm:1", attempt=1, fence=1, started_at=100.0),
    )
    await purge(store, "run_1", 10)
    assert await store.get("step", PROJECT, "step_1") is None
    assert await store.events("run_1", (0, 0)) == []
    assert await store.journal("run_1") == []


async def test_an_idempotency_key_is_taken_once_per_project(store: Store) -> None:
    def remember(project: str, answer: bytes) -> Statement:
        return changes.remember_answer(
            project, key="k", hash="h", created_at=100.0, answer=answer, run_id="run_1"
        )

    await store.commit(remember(PROJECT, b'{"a": 1}'), message("msg_1"))
    with pytest.raises(Conflict, match="idempotency"):
        await store.commit(message("msg_2"), remember(PROJECT, b"2"))
    await store.commit(remember(OTHER, b"3"))
    expected = AnswerRow(PROJECT, "k", "h", 100.0, b'{"a": 1}', "run_1")
    assert await store.answer(PROJECT, "k") == expected
    assert await store.answer(PROJECT, "l") is None
    assert await store.get("message", PROJECT, "msg_2") is None


async def test_old_answers_are_forgotten(store: Store) -> None:
    for key, at in (("old", 50.0), ("new", 100.0)):
        await store.commit(
            changes.remember_answer(
                PROJECT, key=key, hash="h", created_at=at, answer=b"1", run_id=None
            )
        )
    [forgotten] = await store.commit(changes.forget_answers(before=60.0))
    assert len(forgotten) == 1
    assert await store.answer(PROJECT, "old") is None
    assert await store.answer(PROJECT, "new") is not None


async def test_a_key_opens_until_it_is_revoked(store: Store) -> None:
    def insert(id: str, project: str, hash: str, at: float) -> Statement:
        return changes.insert_key(
            id, project=project, hash=hash, prefix="sk-ab", name="laptop", created_at=at
        )

    await store.commit(insert("key_2", PROJECT, "hash 2", 2.0))
    await store.commit(insert("key_1", OTHER, "hash 1", 1.0))
    with pytest.raises(Conflict, match="exists"):
        await store.commit(insert("key_3", OTHER, "hash 1", 1.0))
    expected = KeyRow("key_1", OTHER, "hash 1", "sk-ab", "laptop", 1.0, None)
    assert await store.key("hash 1") == expected
    assert await store.keys(OTHER) == [expected]
    assert [key.id for key in await store.keys(None)] == ["key_1", "key_2"]
    await store.commit(changes.revoke_key("key_1", now=9.0))
    assert await store.key("hash 1") is None
    assert [key.revoked_at for key in await store.keys(OTHER)] == [9.0]
    with pytest.raises(Conflict):
        await store.commit(changes.revoke_key("key_1", now=10.0))


def deltas(run_id: str, *, fence: int = 1, first: int = 1, owner: str = "w1") -> changes.Stretch:
    """Three deltas of a run."""
    return changes.Stretch(run_id, fence, first, first + 2, f"{run_id} {first}".encode(), owner)


async def test_deltas_of_many_runs_are_saved_together(store: Store) -> None:
    for number in range(3):
        await store.commit(job(f"run_{number}", owner="w1", fence=1))
    await store.commit(changes.save_deltas([deltas(f"run_{n}") for n in range(3)], created_at=5.0))
    await store.commit(changes.save_deltas([deltas("run_1", first=4)], created_at=6.0))
    for number in range(3):
        rows = await store.events(f"run_{number}", (0, 0))
        assert rows[0] == EventRow(
            f"run_{number}", 1, 1, 3, "delta", 5.0, f"run_{number} 1".encode()
        )
        assert len(rows) == (2 if number == 1 else 1)


async def test_deltas_are_saved_only_of_runs_that_are_still_held(store: Store) -> None:
    await store.commit(
        job("run_1", owner="w1", fence=1),
        job("run_2", owner="w2", fence=2),
        job("run_3", owner="w1", fence=2),
    )
    batch = [deltas(f"run_{number}") for number in range(1, 6)]
    await store.commit(changes.save_deltas(batch, created_at=5.0))
    saved = [len(await store.events(f"run_{number}", (0, 0))) for number in range(1, 6)]
    assert saved == [1, 0, 0, 0, 0]


async def test_deltas_that_are_saved_again_with_more_are_there_once(store: Store) -> None:
    """The answer to the first save was lost; whoever saves next has what came meanwhile, too."""
    await store.commit(job("run_1", owner="w1", fence=1))
    first, longer = deltas("run_1"), deltas("run_1")._replace(seq_to=5, frames=b"more")
    for stretch in (first, longer, first):
        await store.commit(changes.save_deltas([stretch], created_at=5.0))
    [row] = await store.events("run_1", (0, 0))
    assert (row.seq_from, row.seq_to, row.frames) == (1, 5, b"more")
    for seq_to in (7, 4):
        appended = changes.append_deltas(
            "run_1", fence=1, seq_from=1, seq_to=seq_to, created_at=6.0, frames=b"most"
        )
        await store.commit(appended)
    [row] = await store.events("run_1", (1, 5))
    assert (row.seq_from, row.seq_to, row.kind, row.frames) == (1, 7, "delta", b"most")


async def test_deltas_that_are_saved_twice_are_there_once(store: Store) -> None:
    await store.commit(job("run_1", owner="w1", fence=1))
    for _ in range(2):
        await store.commit(changes.save_deltas([deltas("run_1")], created_at=5.0))
    assert len(await store.events("run_1", (0, 0))) == 1
