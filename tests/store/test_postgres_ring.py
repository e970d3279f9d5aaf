"""Commits that ring: who hears finds them done, once, whatever becomes of the ring."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from tests.conformance.shapes import PROJECT, message, thread
from tests.fleet.cut import Moment, Wire, executes
from tests.fleet.statements import execute, fetch
from tests.store.storms import REFUSED, count, counted, ids
from understudy import limits
from understudy.store import Conflict, Ring, Unavailable
from understudy.store.store import Store

COMMIT = executes("call apply")
MOMENTS: list[Moment] = ["before", "after"]
SAID = "it is done"
SOON_S = 10.0


@pytest.fixture
def ring(url: str) -> Ring:
    """On a channel of the test's own: all schemas of a database share them."""
    return Ring(f"{url.rpartition('=')[2]}.test", SAID)


@pytest_asyncio.fixture
async def heard(url: str, ring: Ring) -> AsyncIterator["asyncio.Queue[object]"]:
    """What rings."""
    rings: asyncio.Queue[object] = asyncio.Queue()
    connection = await asyncpg.connect(url)
    await connection.add_listener(ring.channel, lambda *said: rings.put_nowait(said[-1]))
    yield rings
    await connection.close()


async def rung(heard: "asyncio.Queue[object]") -> None:
    """Wait for a ring."""
    async with asyncio.timeout(SOON_S):
        assert await heard.get() == SAID


def procedure(url: str) -> str:
    """The name of what performs such commits."""
    [(name,)] = fetch(
        url,
        "select proname from pg_proc "
        "where prokind = 'p' and pronamespace = current_schema()::regnamespace",
    )
    return str(name)


async def test_who_hears_of_a_commit_finds_it(
    store: Store, url: str, ring: Ring, heard: "asyncio.Queue[object]"
) -> None:
    for number in range(20):
        committing = asyncio.ensure_future(
            store.begin_commit(thread(f"thread_{number}"), counted(), ring=ring)
        )
        await rung(heard)
        assert f"thread_{number}" in ids(url)
        assert await committing == [[], []]
    assert heard.empty()


async def test_what_is_refused_rings_for_nobody(
    store: Store, ring: Ring, heard: "asyncio.Queue[object]"
) -> None:
    await store.commit(thread("thread_1"))
    with pytest.raises(Conflict, match="exists"):
        await store.begin_commit(thread("thread_1"), ring=ring)
    with pytest.raises(Conflict, match=REFUSED.query):
        await store.begin_commit(message("msg_1"), REFUSED, ring=ring)
    assert await store.get("message", PROJECT, "msg_1") is None
    await store.begin_commit(message("msg_2"), ring=ring)
    await rung(heard)
    assert heard.empty()


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_commit_whose_connection_is_cut_is_applied_once_and_rings(
    store: Store,
    wire: Wire,
    url: str,
    moment: Moment,
    ring: Ring,
    heard: "asyncio.Queue[object]",
) -> None:
    for number in range(3):
        trap = wire.cut_when(COMMIT, moment)
        outcome = await store.begin_commit(thread(f"thread_{number}"), counted(), ring=ring)
        assert trap.has_sprung
        assert outcome == [[], []]
        await rung(heard)
    assert (count(url), len(ids(url))) == (3, 3)


@pytest.mark.parametrize("code", ["53200", "53100", "40P01", "57014", "25006"])
async def test_a_ring_that_fails_leaves_the_commit_as_it_is(
    store: Store, url: str, ring: Ring, code: str
) -> None:
    """Out of memory, a full disk, a deadlock, out of time, a standby: of statements that would mean
    that nothing is left of them."""
    name = procedure(url)
    [(source,)] = fetch(url, "select pg_get_functiondef($1::text::regproc)", name)
    fails = (
        f"commit;\nif nextval('rings') = 1 then raise exception 'it' using errcode = '{code}'; "
        "end if;"
    )
    execute(url, "create sequence rings")
    execute(url, str(source).replace("commit;", fails, 1))
    assert await store.begin_commit(thread("thread_1"), counted(), ring=ring) == [[], []]
    assert (count(url), ids(url)) == (1, {"thread_1"})
    assert fetch(url, "select last_value from rings") == [(2,)]  # It was tried once more.


@pytest.mark.parametrize("code", ["53200", "53100", "25006"])
async def test_a_trouble_of_its_statements_is_told_at_once(
    store: Store, url: str, ring: Ring, code: str
) -> None:
    """What became of it needs no looking for: the ring was not reached."""
    execute(
        url,
        "create function fail() returns trigger language plpgsql as "
        f"$$ begin raise exception 'it' using errcode = '{code}'; end $$",
    )
    execute(
        url,
        "create trigger fails before insert on objects for each row "
        "when (new.id = 'thread_1') execute function fail()",
    )
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await store.begin_commit(counted(), thread("thread_1"), ring=ring)
    assert time.monotonic() - started < limits.OUTCOME_S / 2
    assert (count(url), ids(url)) == (0, set())
