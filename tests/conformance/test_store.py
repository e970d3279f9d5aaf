"""The store's promises about commits and objects, on every Database."""

import asyncio

import msgspec
import pytest

from tests.conformance.shapes import OTHER, PROJECT, message, thread
from understudy.store import Conflict, Statement, Unavailable, changes
from understudy.store.store import Store


async def test_an_object_comes_back_as_it_was_put(store: Store) -> None:
    body, private = b'{"b":1, "a":"\xc3\xa9\\u0000"}', b'{"x": null}'
    await store.commit(
        changes.insert_object(
            "thread",
            id="thread_1",
            project=PROJECT,
            parent=None,
            created_at=1.25,
            body=body,
            private=private,
        )
    )
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert (record.id, record.kind, record.project) == ("thread_1", "thread", PROJECT)
    assert (record.parent, record.created_at, record.version, record.children) == (None, 1.25, 1, 0)
    assert (record.body, record.private) == (body, private)


async def test_a_commit_answers_with_the_rows_of_each_statement(store: Store) -> None:
    made, is_there, bury, gone = await store.commit(
        thread("thread_1"),
        changes.require_object("thread_1", kind="thread", project=PROJECT),
        changes.delete_object("thread_1", kind="thread", project=PROJECT),
    )
    assert is_there == [("thread_1",)]
    assert (made, bury, gone) == ([], [], [])
    assert await store.commit() == []


async def test_a_version_is_required(store: Store) -> None:
    await store.commit(thread("thread_1"))

    def required(version: int, *, kind: str = "thread", project: str = PROJECT) -> Statement:
        return changes.require_version("thread_1", kind=kind, project=project, version=version)

    await store.commit(required(1), message("msg_1"))
    others = (required(2), required(1, kind="run"), required(1, project=OTHER))
    for number, other in enumerate(others):
        with pytest.raises(Conflict, match="require_version"):
            await store.commit(other, message(f"msg_of_{number}"))
        assert await store.get("message", PROJECT, f"msg_of_{number}") is None
    change = changes.update_object("thread_1", project=PROJECT, body=b"{}", private=None)
    await store.commit(change)
    await store.commit(required(2))


async def test_a_refused_caller_does_not_harm_those_it_shares_a_batch_with(store: Store) -> None:
    await store.commit(thread("thread_0"))
    calls = [
        store.commit(
            message(f"msg_{n}"),
            changes.require_object("thread_0" if n % 3 else "gone", kind="thread", project=PROJECT),
        )
        for n in range(60)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for n, outcome in enumerate(outcomes):
        record = await store.get("message", PROJECT, f"msg_{n}")
        if n % 3:
            assert isinstance(outcome, list)
            assert record is not None
        else:
            assert isinstance(outcome, Conflict)
            assert outcome.what == "require_object"
            assert record is None


async def test_a_callers_bug_strikes_only_the_caller(store: Store) -> None:
    class NoValue:
        pass

    bug = changes.update_object("x", project=PROJECT, body=b"{}", private=None)
    bad = type(bug)("update_object", {**bug.args, "body": NoValue()})
    good, missing, unknown, fine = await asyncio.gather(
        store.commit(thread("thread_1")),
        store.commit(thread("thread_2"), bad),
        store.commit(type(bug)("no such statement", {})),
        store.commit(thread("thread_3")),
        return_exceptions=True,
    )
    assert isinstance(good, list)
    assert isinstance(fine, list)
    assert isinstance(missing, TypeError)
    assert isinstance(unknown, KeyError)
    assert await store.get("thread", PROJECT, "thread_2") is None


async def test_commits_of_one_task_are_seen_by_its_next_read(store: Store) -> None:
    for n in range(50):
        await store.commit(thread(f"thread_{n}"))
        assert await store.get("thread", PROJECT, f"thread_{n}") is not None


async def test_a_taken_id_is_a_conflict_also_across_projects(store: Store) -> None:
    await store.commit(thread("thread_1"))
    with pytest.raises(Conflict, match="exists"):
        await store.commit(thread("thread_1", project=OTHER))


async def test_a_commit_may_have_thousands_of_statements(store: Store) -> None:
    """What one of them costs must not grow with their number, or the commit would take too long.
    Ones with bytes are among them, for those go another way."""
    body = b'{"text":"%b"}' % (b"x" * 300)
    many = [
        (
            changes.insert_object(
                "message", id=f"msg_{n}", project=PROJECT, parent="t", created_at=n, body=body
            ),
            changes.append_events(
                f"run_{n // 2}",
                fence=1,
                seq_from=n,
                seq_to=n,
                kind="life",
                created_at=1.0,
                frames=b"frame %d" % n,
            ),
            changes.require_object(f"msg_{n}", kind="message", project=PROJECT),
        )
        for n in range(5_000)
    ]
    rows = await store.commit(*many)
    assert [found for found in rows if found] == [[(f"msg_{n}",)] for n in range(5_000)]
    assert [row.frames for row in await store.events("run_2499", (0, 0))] == [
        b"frame 4998",
        b"frame 4999",
    ]


async def test_an_update_at_an_old_version_is_refused(store: Store) -> None:
    await store.commit(thread("thread_1"))
    edit = changes.update_object(
        "thread_1", project=PROJECT, body=b'{"n":1}', private=None, version=1
    )
    await store.commit(edit)
    with pytest.raises(Conflict) as refused:
        await store.commit(edit)
    assert refused.value.what == "update_object"
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert (record.version, record.body) == (2, b'{"n":1}')


async def test_an_overwrite_keeps_the_metadata_that_is_there_at_any_version(store: Store) -> None:
    await store.commit(thread("thread_1"))
    there = b'{"n":1,"metadata":{"k":"\xc3\xa9\\n"}}'
    wanted = b'{"n":1.0,"metadata":{"k":"old"},"text":"\xc3\xa9\\u0001"}'
    await store.commit(
        changes.update_object("thread_1", project=PROJECT, body=there, private=b'{"p":1}')
    )
    await store.commit(
        changes.overwrite_object("thread_1", project=PROJECT, body=wanted, private=None)
    )
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert (record.version, record.private) == (3, b'{"p":1}')
    assert record.body == wanted.replace(b'{"k":"old"}', b'{"k":"\xc3\xa9\\n"}')
    with pytest.raises(Conflict):
        await store.commit(
            changes.overwrite_object("thread_1", project=OTHER, body=wanted, private=None)
        )


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "\0\0",
        "\ufffd",
        "\0\ufffd\0",
        "\\\0",
        "\\u0000",
        "\\ufffd",
        "\\\\ufffd\0\\ufffd",
        '"\0"',
        "\x01\x1f\x7f😀",
    ],
)
async def test_an_overwrite_keeps_metadata_of_any_text(store: Store, text: str) -> None:
    await store.commit(thread("thread_1"))
    there, old = ({"n": 1, "metadata": {text: text, "k": text}}, {"n": 2, "metadata": {}})
    body = msgspec.json.encode(there)
    await store.commit(
        changes.update_object("thread_1", project=PROJECT, body=body, private=None),
        changes.overwrite_object(
            "thread_1", project=PROJECT, body=msgspec.json.encode(old), private=None
        ),
    )
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert record.body == msgspec.json.encode({**there, "n": 2})


async def test_an_update_without_private_keeps_it(store: Store) -> None:
    await store.commit(thread("thread_1"))
    for body, private in [(b"1", b'{"p":1}'), (b"2", None)]:
        await store.commit(
            changes.update_object("thread_1", project=PROJECT, body=body, private=private)
        )
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert (record.body, record.private) == (b"2", b'{"p":1}')


async def test_an_update_of_nothing_is_refused(store: Store) -> None:
    with pytest.raises(Conflict):
        await store.commit(
            changes.update_object("thread_1", project=PROJECT, body=b"{}", private=None)
        )


async def test_another_project_sees_and_changes_nothing(store: Store) -> None:
    await store.commit(thread("thread_1"), message("msg_1"))
    assert await store.get("thread", OTHER, "thread_1") is None
    assert await store.get_many("thread", OTHER, ["thread_1"]) == []
    page = await store.list(
        "message", OTHER, "thread_1", limit=10, order="asc", after=None, before=None
    )
    assert page == ([], False)
    for change in (
        changes.update_object("thread_1", project=OTHER, body=b"1", private=None),
        changes.delete_object("thread_1", kind="thread", project=OTHER),
        changes.grow("thread_1", project=OTHER, by=1, limit=10),
        changes.require_object("thread_1", kind="thread", project=OTHER),
    ):
        with pytest.raises(Conflict):
            await store.commit(change)
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert (record.body, record.children) == (b"{}", 0)


async def test_an_object_is_found_only_as_its_kind_and_under_its_parent(store: Store) -> None:
    await store.commit(thread("thread_1"), message("msg_1"))
    assert await store.get("run", PROJECT, "msg_1") is None
    assert await store.get("message", PROJECT, "msg_1", parent="thread_2") is None
    assert await store.get("message", PROJECT, "msg_1", parent="thread_1") is not None


async def test_several_objects_come_in_the_order_asked_for(store: Store) -> None:
    await store.commit(*[thread(f"thread_{n}") for n in range(4)])
    asked = ["thread_3", "thread_9", "thread_0", "thread_2"]
    records = await store.get_many("thread", PROJECT, asked)
    assert [record.id for record in records] == ["thread_3", "thread_0", "thread_2"]
    assert await store.get_many("thread", PROJECT, []) == []


async def test_a_deleted_object_is_gone_and_cannot_be_deleted_again(store: Store) -> None:
    await store.commit(thread("thread_1"))
    delete = changes.delete_object("thread_1", kind="thread", project=PROJECT)
    await store.commit(delete)
    assert await store.get("thread", PROJECT, "thread_1") is None
    with pytest.raises(Conflict) as refused:
        await store.commit(delete)
    assert refused.value.what == "delete_object"


async def test_an_id_may_live_and_die_twice(store: Store) -> None:
    for _ in range(2):
        await store.commit(thread("thread_1"))
        await store.commit(changes.delete_object("thread_1", kind="thread", project=PROJECT))
    assert await store.get("thread", PROJECT, "thread_1") is None


async def test_a_parent_grows_up_to_its_limit_and_never_over(store: Store) -> None:
    await store.commit(thread("thread_1"))
    grow = changes.grow("thread_1", project=PROJECT, by=1, limit=10)
    outcomes = await asyncio.gather(
        *[store.commit(grow, message(f"msg_{n}")) for n in range(15)], return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert [conflict.what for conflict in refused] == ["grow"] * 5
    record = await store.get("thread", PROJECT, "thread_1")
    assert record is not None
    assert record.children == 10
    page, _ = await store.list(
        "message", PROJECT, "thread_1", limit=100, order="asc", after=None, before=None
    )
    assert len(page) == 10


async def test_a_cancelled_caller_leaves_the_store_working(store: Store) -> None:
    task = asyncio.create_task(store.commit(thread("thread_1")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.commit(thread("thread_2"))
    assert await store.get("thread", PROJECT, "thread_2") is not None


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest(store: Store) -> None:
    calls = [asyncio.create_task(store.commit(thread(f"thread_{n}"))) for n in range(300)]
    await asyncio.sleep(0)
    await store.close()
    assert len(await asyncio.gather(*calls)) == 300
    with pytest.raises(Unavailable):
        await store.commit(thread("thread_301"))
    with pytest.raises(Unavailable):
        await store.get("thread", PROJECT, "thread_1")


async def test_a_ping_answers(store: Store) -> None:
    await store.ping()
