"""Many commits at once in bad times: what became of each, and whether the record agrees."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from tests.conformance.shapes import PROJECT, thread
from tests.fleet.statements import fetch
from understudy.store import Conflict, Statement, Unavailable, changes
from understudy.store.store import Store

# Of what is unknown the caller was told that the store is unavailable.
Outcome: TypeAlias = Literal["applied", "refused", "unknown"]

COUNTER = thread("counter")
REFUSED = changes.require_object("gone", kind="thread", project=PROJECT)


def counted(by: int = 1) -> Statement:
    """A change of COUNTER that is seen when it is done twice."""
    return changes.grow("counter", project=PROJECT, by=by, limit=1_000_000)


async def outcome(store: Store, *statements: Statement) -> Outcome:
    """What became of a commit; any other exception than ours fails the test."""
    try:
        await store.commit(*statements)
    except Conflict:
        return "refused"
    except Unavailable:
        return "unknown"
    return "applied"


async def counted_thread(store: Store, number: int, *guards: Statement) -> Outcome:
    """What became of a commit that makes a thread and is counted."""
    return await outcome(store, thread(f"thread_{number}"), counted(), *guards)


def check(url: str, outcomes: Sequence[Outcome]) -> None:
    """Each counted thread is there if it was acknowledged, is not if it was refused, and none was
    counted twice."""
    there = ids(url)
    for number, one in enumerate(outcomes):
        is_there = f"thread_{number}" in there
        assert one == "unknown" or is_there == (one == "applied"), (number, one)
    assert count(url) == len(there)


def count(url: str) -> int:
    """How far the counter is."""
    [(children,)] = fetch(url, "select children from objects where id = 'counter'")
    return int(children)


def ids(url: str) -> set[str]:
    """All objects but the counter."""
    return {id for (id,) in fetch(url, "select id from objects where id <> 'counter'")}
