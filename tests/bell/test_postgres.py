"""The bell between processes that have one PostgreSQL, while the way to it fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.bell.servers import Line, schema, with_schema
from tests.bell.waits import SOON_S, logged, rung
from tests.fleet.clusters import server
from tests.ports import free_port
from understudy import limits
from understudy.bell import BellUnavailable
from understudy.bell.postgres import PostgresBell, channel


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An empty schema."""
    async with schema() as url:
        yield url


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """A line to PostgreSQL that can fail."""
    parts = urlsplit(server())
    line = Line(parts.hostname or "127.0.0.1", parts.port or 5432)
    await line.open()
    yield line
    await line.cut()


def through(line: Line, url: str) -> str:
    """This URL, by way of the line."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return url.replace(host, f"127.0.0.1:{line.port}", 1)


@asynccontextmanager
async def opened(*bells: PostgresBell) -> AsyncIterator[None]:
    """These bells, open for a while."""
    for bell in bells:
        await bell.open()
    try:
        yield
    finally:
        for bell in bells:
            await bell.close()


@asynccontextmanager
async def notified(url: str) -> AsyncIterator[list[object]]:
    """The notifications of a schema's bells, as they come."""
    found: list[object] = []
    connection = await asyncpg.connect(url)
    try:
        name = channel(await connection.fetchval("SELECT current_schema()"))
        await connection.add_listener(name, lambda *heard: found.append(heard[-1]))
        yield found
    finally:
        await connection.close()


async def test_while_the_line_is_cut_it_rings_here_and_later_everywhere(
    url: str, line: Line
) -> None:
    far, near = PostgresBell(through(line, url)), PostgresBell(url)
    async with opened(far, near):
        with far.subscribe("a", "b") as here, near.subscribe("a", "c") as there:
            with capture_logs() as logs:
                await line.cut()
                far.ring("a")
                near.ring("c")
                assert await here.wait(0.0) == {"a"}
                await line.open()
                await rung(here, "a", "b")  # All, for each of them may have been missed.
                await rung(there, "a", "c")
            await logged(logs, "bell_cut_off", "bell_is_back")
            near.ring("b")
            await rung(here, "b")
            far.ring("c")
            await rung(there, "c")


async def test_a_line_that_goes_dead_is_noticed(url: str, line: Line) -> None:
    far, near = PostgresBell(through(line, url), silence_s=0.3), PostgresBell(url)
    async with opened(far, near):
        with far.subscribe("a") as here, near.subscribe("b") as there:
            line.go_dead()
            await rung(here, "a")  # Nothing was said by anybody: it asked, and made a new one.
            for _ in range(2):
                far.ring("b")
                await rung(there, "b")
                near.ring("a")
                await rung(here, "a")
                line.go_dead()  # The next ring gets lost on its way, and is sent again.


async def test_a_connection_that_the_server_ends_is_made_again(url: str) -> None:
    one, other = PostgresBell(url), PostgresBell(url)
    async with opened(one, other):
        with one.subscribe("a") as listener:
            async with asyncio.timeout(limits.BELL_SILENCE_S / 2 - 1.0):  # Before it would ask.
                await end_connection(url, one)
                await rung(listener, "a")
            other.ring("a")
            await rung(listener, "a")


async def end_connection(url: str, bell: PostgresBell) -> None:
    """End a bell's connection at the server, as an operator would."""
    assert bell._connection is not None
    pid = bell._connection.get_server_pid()
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT pg_terminate_backend($1)", pid)
    finally:
        await connection.close()


async def test_the_way_back_is_tried_until_it_is_there(url: str, line: Line) -> None:
    bell = PostgresBell(through(line, url))
    async with opened(bell):
        with bell.subscribe("a") as listener:
            await line.cut()
            line.slams = True
            await line.open()
            await line.joined(3)  # The first was the one that was cut.
            line.slams = False
            await rung(listener, "a")


async def test_closing_takes_no_longer_when_nobody_answers(url: str, line: Line) -> None:
    bell = PostgresBell(through(line, url))
    await bell.open()
    line.go_dead()
    bell.ring("a")
    async with asyncio.timeout(limits.BELL_CLOSE_S + 1.0):
        await bell.close()


async def test_closing_while_it_looks_for_the_way_back(url: str, line: Line) -> None:
    bell = PostgresBell(through(line, url))
    await bell.open()
    with capture_logs() as logs:
        await line.cut()
        await logged(logs, "bell_cut_off")
    async with asyncio.timeout(1.0):
        await bell.close()
    assert bell._task is not None and bell._task.done()


async def test_what_rings_last_is_sent_before_closing(url: str) -> None:
    one, other = PostgresBell(url), PostgresBell(url)
    async with opened(other):
        await one.open()
        with other.subscribe("a", "b") as listener:
            one.pace(60.0)
            one.ring("a")
            await rung(listener, "a")
            one.ring("b")
            await one.close()
            await rung(listener, "b")


async def test_the_first_ring_leaves_at_once_and_those_within_the_gap_together(url: str) -> None:
    one, other = PostgresBell(url), PostgresBell(url)
    async with opened(one, other), notified(url) as notifications:
        one.pace(0.5)
        with other.subscribe("first", "last") as listener:
            async with asyncio.timeout(0.45):  # Less than the gap.
                one.ring("first")
                await listener.wait(None)
            for n in range(30):
                one.ring(f"t:{n}")
                await asyncio.sleep(0)
            one.ring("last")
            await rung(listener, "last")
            one.ring("first")
            await rung(listener, "first")
        assert len([text for text in notifications if text != '["first"]']) == 1


async def test_own_notifications_do_not_ring_twice(url: str) -> None:
    one, other = PostgresBell(url), PostgresBell(url)
    async with opened(one, other):
        with one.subscribe("a", "b") as here, other.subscribe("a") as there:
            one.ring("a")
            assert await here.wait(0.0) == {"a"}
            await rung(there, "a")
            other.ring("b")
            async with asyncio.timeout(SOON_S):
                assert await here.wait(None) == {"b"}


async def say(url: str, said: tuple[str, str] | None) -> None:
    """What the server says by itself when a commit is durable."""
    assert said is not None
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_notify($1, $2)", *said)
    await connection.close()


async def channels(bell: PostgresBell) -> set[str]:
    """What a bell's connection listens to, once it has nothing else to do."""
    await asyncio.sleep(3 * limits.BELL_GAP_S)
    assert bell._connection is not None
    return {name for (name,) in await bell._connection.fetch("SELECT pg_listening_channels()")}


async def test_of_new_runs_only_those_hear_who_listen_to_jobs(url: str) -> None:
    door, worker = PostgresBell(url), PostgresBell(url)
    async with opened(door, worker):
        with door.subscribe("run:1"), worker.subscribe("jobs") as rings:
            await rung(rings, "jobs")  # What rang before the server knew is looked for.
            assert await channels(worker) - await channels(door) == {
                channel(url.rpartition("=")[2], "jobs")
            }
            await say(url, door.with_commit("jobs#run_1"))
            await rung(rings, "jobs#run_1")
            door.ring("jobs#run_2")
            await rung(rings, "jobs#run_2")
            await end_connection(url, worker)
            await rung(rings, "jobs")
            await channels(worker)  # It listens again.
            door.ring("jobs#run_3")
            await rung(rings, "jobs#run_3")


async def test_what_leaves_with_a_commit_keeps_the_gap_as_well(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BELL_GAP_S", 0.3)
    now = asyncio.get_running_loop().time
    one, other = PostgresBell(url), PostgresBell(url)
    async with opened(one, other):
        with other.subscribe("a", "b") as listener:
            began_at = now()
            said = [one.with_commit(f"jobs#run_{number}") for number in range(3)]
            assert [each is None for each in said] == [False, True, True]
            one.ring("a")
            await rung(listener, "a")
            assert now() - began_at >= 0.3
            assert one.with_commit("jobs") is None
            await asyncio.sleep(0.3)
            one.ring("b")
            assert one.with_commit("jobs") is None  # It can leave together with the other.
            await rung(listener, "b")
            await asyncio.sleep(0.3)
            assert one.with_commit("jobs") == (channel(url.rpartition("=")[2], "jobs"), '["jobs"]')


async def test_beneath_nats_commits_ring_although_others_wait(url: str) -> None:
    """Those have left through NATS."""
    bell = PostgresBell(url)
    async with opened(bell):
        bell.pace(60.0)
        for topic in ("a", "b"):
            bell.ring(topic)
            await asyncio.sleep(3 * limits.BELL_GAP_S)
        assert bell.with_commit("jobs") is not None


async def test_a_notification_that_cannot_be_read_rings_everything(url: str) -> None:
    bell = PostgresBell(url)
    async with opened(bell), notified(url):
        with bell.subscribe("a", "b") as listener:
            connection = await asyncpg.connect(url)
            for text in ("", "{", '{"version":2}', '["half of a pair: \\ud800"]'):
                await connection.execute(
                    "SELECT pg_notify($1, $2)", channel(url.rpartition("=")[2]), text
                )
                await rung(listener, "a", "b")
            await connection.close()


async def test_a_schema_may_have_the_longest_name(url: str) -> None:
    name = url.rpartition("=")[2].ljust(62, "s")  # PostgreSQL cuts names after 63 bytes.
    async with schema(f"{name}a") as first, schema(f"{name}b") as second:
        bells = [PostgresBell(url) for url in (first, first, second)]
        async with opened(*bells):
            with bells[1].subscribe("a") as same, bells[2].subscribe("a") as other:
                bells[0].ring("a")
                await rung(same, "a")
                assert await other.wait(0.0) == set()
    assert len({bell.room for bell in bells}) == 2


async def test_a_room_is_a_schema_of_a_database(url: str) -> None:
    other_way = with_schema(server().replace("127.0.0.1", "localhost"), url.rpartition("=")[2])
    bells = [PostgresBell(url), PostgresBell(other_way), PostgresBell(server())]
    async with opened(*bells):
        assert bells[0].room == bells[1].room != bells[2].room


async def test_without_a_server_it_does_not_open() -> None:
    with pytest.raises(BellUnavailable, match="Connect"):
        await PostgresBell(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres").open()


async def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match="no URL of a PostgreSQL"):
        await PostgresBell("postgresql://h/d?sslmode=perhaps").open()
