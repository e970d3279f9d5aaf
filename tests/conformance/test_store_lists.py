"""Lists on every Database: SPEC section 5 in both directions."""

import itertools

import pytest

from tests.conformance.shapes import OTHER, PROJECT, message, thread
from understudy.store import UnknownCursor, changes
from understudy.store.store import Order, Store

IDS = [f"msg_{n}" for n in range(10)]
ORDERS: list[Order] = ["asc", "desc"]


async def page(
    store: Store,
    *,
    limit: int = 3,
    order: Order = "asc",
    after: str | None = None,
    before: str | None = None,
    run_id: str | None = None,
) -> tuple[list[str], bool]:
    """The ids of a page of the thread's messages."""
    records, has_more = await store.list(
        "message",
        PROJECT,
        "thread_1",
        limit=limit,
        order=order,
        after=after,
        before=before,
        run_id=run_id,
    )
    return [record.id for record in records], has_more


async def fill(store: Store) -> None:
    """Ten messages, of which several share their moment, among the children of others."""
    await store.commit(
        thread(),
        *[message(id, at=100.0 + n // 4) for n, id in enumerate(IDS)],
        message("msg_of_other_thread", parent="thread_2"),
        message("msg_of_other_project", project=OTHER),
    )


async def test_the_order_is_by_moment_and_then_by_arrival(store: Store) -> None:
    await store.commit(message("msg_b", at=5.0), message("msg_a", at=5.0), message("msg_c", at=4.5))
    assert await page(store, order="asc") == (["msg_c", "msg_b", "msg_a"], False)
    assert await page(store, order="desc") == (["msg_a", "msg_b", "msg_c"], False)


@pytest.mark.parametrize("order", ORDERS)
async def test_walking_with_after_yields_each_once(store: Store, order: Order) -> None:
    await fill(store)
    expected = IDS if order == "asc" else IDS[::-1]
    seen: list[str] = []
    after, has_more = None, True
    while has_more:
        ids, has_more = await page(store, order=order, after=after)
        seen += ids
        after = ids[-1]
    assert seen == expected


@pytest.mark.parametrize("order", ORDERS)
async def test_walking_back_with_before_yields_each_once(store: Store, order: Order) -> None:
    await fill(store)
    expected = IDS if order == "asc" else IDS[::-1]
    seen = [expected[-1]]
    has_more = True
    while has_more:
        ids, has_more = await page(store, order=order, before=seen[0])
        seen = ids + seen
    assert seen == expected


@pytest.mark.parametrize("order", ORDERS)
async def test_every_interval_is_cut_as_a_list_would_be(store: Store, order: Order) -> None:
    await fill(store)
    expected = IDS if order == "asc" else IDS[::-1]
    for start, stop in itertools.product([None, *range(10)], repeat=2):
        for limit in (1, 4, 20):
            inside = expected[0 if start is None else start + 1 : stop]
            from_the_end = start is None and stop is not None
            wanted = inside[-limit:] if from_the_end else inside[:limit]
            got = await page(
                store,
                order=order,
                limit=limit,
                after=None if start is None else expected[start],
                before=None if stop is None else expected[stop],
            )
            assert got == (wanted, len(inside) > limit)


async def test_has_more_is_exact_at_the_edge(store: Store) -> None:
    await fill(store)
    assert await page(store, limit=10) == (IDS, False)
    assert await page(store, limit=9) == (IDS[:9], True)


async def test_a_deleted_cursor_keeps_its_place(store: Store) -> None:
    await fill(store)
    await store.commit(changes.delete_object("msg_4", kind="message", project=PROJECT))
    assert await page(store, after="msg_4") == (["msg_5", "msg_6", "msg_7"], True)
    assert await page(store, before="msg_4") == (["msg_1", "msg_2", "msg_3"], True)


async def test_deleting_while_walking_reaches_the_end(store: Store) -> None:
    await fill(store)
    seen: list[str] = []
    after, has_more = None, True
    while has_more:
        ids, has_more = await page(store, after=after, limit=2)
        await store.commit(
            *[changes.delete_object(id, kind="message", project=PROJECT) for id in ids]
        )
        seen += ids
        after = ids[-1]
    assert seen == IDS


@pytest.mark.parametrize(
    "cursor", ["msg_nowhere", "msg_of_other_thread", "msg_of_other_project", "thread_1"]
)
async def test_a_cursor_from_elsewhere_is_unknown(store: Store, cursor: str) -> None:
    await fill(store)
    for bounds in ({"after": cursor}, {"before": cursor}):
        with pytest.raises(UnknownCursor) as unknown:
            await page(store, **bounds)  # type: ignore[arg-type]
        assert unknown.value.id == cursor


@pytest.mark.parametrize("order", ORDERS)
async def test_messages_are_listed_by_run(store: Store, order: Order) -> None:
    await store.commit(
        *[message(id, run_id="run_1" if n % 2 else None) for n, id in enumerate(IDS)],
        message("msg_elsewhere", parent="thread_2", run_id="run_1"),
        message("msg_of_other_run", run_id="run_2"),
    )
    expected = IDS[1::2] if order == "asc" else IDS[1::2][::-1]
    assert await page(store, order=order, run_id="run_1", limit=9) == (expected, False)
    assert await page(store, order=order, run_id="run_1", after=expected[0]) == (
        expected[1:4],
        True,
    )
    assert await page(store, order=order, run_id="run_1", before=expected[4]) == (
        expected[1:4],
        True,
    )


async def test_objects_without_a_parent_make_a_list(store: Store) -> None:
    await store.commit(thread("thread_1"), thread("thread_2"), message("msg_1"))
    records, has_more = await store.list(
        "thread", PROJECT, None, limit=5, order="desc", after="thread_2", before=None
    )
    assert ([record.id for record in records], has_more) == (["thread_1"], False)
