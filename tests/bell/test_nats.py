"""NATS on top of the bell of PostgreSQL: while it is down, hangs, or will not have us."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.bell.servers import NatsServer, schema
from tests.bell.waits import SOON_S, logged, rung
from tests.ports import free_port
from understudy import limits
from understudy.bell import open_bell
from understudy.bell.nats import NatsBell, servers
from understudy.bell.postgres import PostgresBell, channel

Enter: TypeAlias = Callable[..., Awaitable[NatsBell]]


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A NATS server that is not started yet."""
    server = NatsServer()
    yield server
    server.kill()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An empty schema."""
    async with schema() as url:
        yield url


@pytest.fixture
async def enter(url: str, server: NatsServer) -> AsyncIterator[Enter]:
    """Makes bells of one room, which are closed in the end."""
    async with AsyncExitStack() as stack:

        async def made(nats_url: str = server.url, **options: Any) -> NatsBell:
            beneath = PostgresBell(url)
            await beneath.open()
            bell = NatsBell(nats_url, beneath, "test.prefix", **options)
            stack.push_async_callback(bell.close)
            await bell.open()
            return bell

        yield made


async def carried(teller: NatsBell, hearer: NatsBell) -> None:
    """Wait until bytes of one bell are heard at the other."""
    heard = asyncio.Event()
    with hearer.hear("bytes", lambda data: heard.set()):
        async with asyncio.timeout(SOON_S):
            while not heard.is_set():
                teller.tell("bytes", b"hello")
                await asyncio.sleep(0.01)


async def test_when_the_server_dies_everything_rings_on_and_bytes_are_back_with_it(
    enter: Enter, server: NatsServer
) -> None:
    server.start()
    one, other = await enter(), await enter()
    await carried(one, other)
    heard = asyncio.Event()
    other.hear("still heard", lambda data: heard.set())
    with other.subscribe("a") as listener, capture_logs() as logs:
        server.kill()
        one.ring("a")
        await rung(listener, "a")
        async with asyncio.timeout(limits.BELL_SILENCE_S / 2 - 1.0):  # Before they would ask.
            await logged(logs, *["nats_is_down"] * 2)
        one.tell("bytes", b"dropped")
        async with asyncio.timeout(20 * limits.BELL_GAP_BENEATH_S / 2):
            for _ in range(20):  # As often as if there had never been a NATS.
                one.ring("a")
                await rung(listener, "a")
        server.start()
        await logged(logs, *["nats_is_down"] * 2, *["nats_is_back"] * 2)
        async with asyncio.timeout(SOON_S):
            while not heard.is_set():
                one.tell("still heard", b"hello")
                await asyncio.sleep(0.01)
        one.ring("a")
        await rung(listener, "a")


async def test_a_server_that_is_not_there_yet(enter: Enter, server: NatsServer) -> None:
    with capture_logs() as logs:
        one, other = await enter(), await enter()
        await logged(logs, *["nats_is_down"] * 2)
        with other.subscribe("a") as listener:
            one.ring("a")
            await rung(listener, "a")
        server.start()
        await carried(one, other)
        await carried(other, one)


async def test_a_server_that_hangs_is_noticed(enter: Enter, server: NatsServer) -> None:
    server.start()
    one, other = await enter(silence_s=0.4), await enter(silence_s=0.4)
    with other.subscribe("a") as listener, capture_logs() as logs:
        server.signal(signal.SIGSTOP)
        for _ in range(5):  # More than fits on the way; one has something to say, one has not.
            for _ in range(4_000):
                one.tell("a", bytes(1_000))
            await asyncio.sleep(0.001)
        await logged(logs, *["nats_is_down"] * 2)
        one.ring("a")
        await rung(listener, "a")
        server.signal(signal.SIGCONT)
        await carried(one, other)


async def test_telling_a_server_that_hangs_neither_waits_nor_piles_up(
    enter: Enter, server: NatsServer
) -> None:
    server.start()
    one, other = await enter(), await enter()
    await carried(one, other)
    server.signal(signal.SIGSTOP)
    for n in range(100):
        for _ in range(500):
            one.tell("a", bytes(1_000))
        one.ring(f"run:{n}")
        await asyncio.sleep(0)
    assert one._told_bytes <= limits.NATS_TOLD_BYTES
    assert len(one._told) <= limits.NATS_TOLD
    async with asyncio.timeout(1.0):
        await one.close()
    server.signal(signal.SIGCONT)
    await carried(await enter(), other)


async def test_closing_leaves_nothing_behind(enter: Enter, server: NatsServer) -> None:
    before = asyncio.all_tasks()
    server.start()
    bells = [await enter(), await enter()]
    await carried(*bells)
    bells[0].hear("a", lambda data: None)
    for bell in bells:
        await bell.close()
    await asyncio.sleep(0.01)  # Connections end in the loop's own time.
    assert asyncio.all_tasks() == before


async def test_what_nobody_hears_any_more_is_not_sent_here(
    enter: Enter, server: NatsServer
) -> None:
    server.start()
    one, other = await enter(), await enter()
    hearings = [other.hear(f"run:{n}", lambda data: None) for n in range(10)]
    await carried(one, other)
    assert len(other._client._subs) > len(hearings)
    for hearing in hearings:
        hearing.close()
    await carried(one, other)
    received = other._client.stats["in_msgs"]
    for n in range(10):
        one.tell(f"run:{n}", b"hello")
    for _ in range(3):
        await carried(one, other)
    assert other._client.stats["in_msgs"] < received + 10


async def test_postgres_is_told_less_often_while_nats_is_up(
    enter: Enter, server: NatsServer, url: str
) -> None:
    server.start()
    one, other = await enter(), await enter()
    found: list[object] = []
    connection = await asyncpg.connect(url)
    await connection.add_listener(
        channel(await connection.fetchval("SELECT current_schema()")),
        lambda *heard: found.append(heard[-1]),
    )
    with other.subscribe("a") as listener:
        for _ in range(20):
            one.ring("a")
            await rung(listener, "a")
        assert len(found) <= 2
        one.ring("b")
    with other.subscribe("b") as late:
        await rung(late, "b")  # All of it arrives there, too.
    await connection.close()


async def test_a_server_that_will_not_have_us_is_down(enter: Enter) -> None:
    guarded = NatsServer("--user", "us", "--pass", "secret")
    guarded.start()
    try:
        with capture_logs() as logs:
            one = await enter(guarded.url)
            await logged(logs, "nats_is_down")
            assert "authorization" in logs[0]["reason"].lower()
            with_password = guarded.url.replace("//", "//us:secret@")
            other, another = await enter(with_password), await enter(with_password)
            await carried(other, another)
            with another.subscribe("a") as listener:
                one.ring("a")
                await rung(listener, "a")
            await logged(logs, "nats_is_down")
    finally:
        guarded.kill()


async def test_subjects_that_are_forbidden_are_told_as_down(enter: Enter, tmp_path: Any) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(
        'authorization { users: [{user: a, password: b, permissions: {publish: "x"}}]}'
    )
    guarded = NatsServer("-c", str(config))
    guarded.start()
    try:
        with capture_logs() as logs:
            await enter(guarded.url.replace("//", "//a:b@"))
            await logged(logs, "nats_is_down")
            assert "permissions violation" in logs[0]["reason"].lower()
    finally:
        guarded.kill()


async def test_one_of_several_servers_is_enough(enter: Enter, server: NatsServer) -> None:
    server.start()
    urls = ", ".join([*[f"nats://127.0.0.1:{free_port()}"] * 4, server.url])
    with capture_logs() as logs:
        await carried(await enter(urls), await enter(urls))
    assert logs == []


async def test_a_hearer_that_fails_is_told_and_others_hear(
    enter: Enter, server: NatsServer
) -> None:
    server.start()
    one, other = await enter(), await enter()

    def fail(data: bytes) -> None:
        raise LookupError

    with capture_logs() as logs, other.hear("a", fail):
        async with asyncio.timeout(SOON_S):
            while not logs:
                one.tell("a", b"hello")
                await asyncio.sleep(0.01)
    assert {log["event"] for log in logs} == {"hearer_failed"}
    await carried(one, other)


@pytest.mark.parametrize(
    "bad", ["", "host:4222", "http://host", "nats://", "nats://a,redis://b", "nats://a:port"]
)
async def test_what_is_no_url_is_refused_before_anything_is_open(bad: str, url: str) -> None:
    with pytest.raises(ValueError, match="not a NATS URL"):
        servers(bad)
    with pytest.raises(ValueError, match="not a NATS URL"):
        await open_bell(url, bad)
