"""What all bells must do, within a process and between two."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from tests.bell.servers import NatsServer
from tests.conformance.bells import ROOMS, Room
from understudy import limits
from understudy.bell import Bell, Subscription

SOON_S = 10.0  # For what takes milliseconds, on a busy machine.
ODD = [
    "",
    " a b ",
    "run:a.b..c.>",
    "*",
    "null",
    "[]",
    "'\"\\$1%s;--",
    "line\nline\r\n",
    "\x00\x1f",
    "ключ🔔",
    "\ud800",
    "long" * 20_000,
]


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    """A NATS server for all tests of this file."""
    server = NatsServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=sorted(ROOMS))
async def rooms(request: pytest.FixtureRequest) -> AsyncIterator[list[Room]]:
    """Two rooms of each kind; the bells that entered them are closed in the end."""

    def nats() -> NatsServer:
        server: NatsServer = request.getfixturevalue("nats_server")
        return server

    async with AsyncExitStack() as stack:

        async def made() -> Room:
            room = await stack.enter_async_context(ROOMS[request.param](nats))

            async def enter() -> Bell:
                bell = await room()
                stack.push_async_callback(bell.close)
                return bell

            return enter

        yield [await made(), await made()]


@pytest.fixture
def room(rooms: list[Room]) -> Room:
    """A room of each kind."""
    return rooms[0]


@pytest.fixture
async def bell(room: Room) -> Bell:
    """A bell that is alone in its room."""
    return await room()


async def rung(listener: Subscription, topics: set[str]) -> None:
    """Wait until all of these have rung, and nothing else has."""
    missing = set(topics)
    async with asyncio.timeout(SOON_S):
        while missing:
            heard = await listener.wait(None)
            assert heard <= topics
            missing -= heard


async def test_a_ring_between_two_waits_is_not_lost(bell: Bell) -> None:
    with bell.subscribe("a", "b") as listener:
        bell.ring("a")
        bell.ring("b")
        bell.ring("c")
        assert await listener.wait(1.0) == {"a", "b"}
        assert await listener.wait(0.0) == set()
        bell.ring("b")
        assert await listener.wait(1.0) == {"b"}


async def test_a_ring_may_say_what_it_is_about(room: Room) -> None:
    one, other = await room(), await room()
    with one.subscribe("a") as here, other.subscribe("a") as there, other.subscribe("b") as beside:
        one.ring("b#a")
        one.ring("a#1:#2")
        assert await here.wait(0.0) == {"a#1:#2"}
        await rung(there, {"a#1:#2"})
        await rung(beside, {"b#a"})


async def test_a_ring_here_does_not_wait_for_the_others(bell: Bell) -> None:
    with bell.subscribe("a") as listener:
        bell.ring("a")
        assert await listener.wait(0.0) == {"a"}


async def test_a_ring_wakes_everyone_who_waits(bell: Bell) -> None:
    waits = [asyncio.create_task(bell.wait(["a"], 5.0)) for _ in range(3)]
    await asyncio.sleep(0)
    bell.ring("a")
    assert await asyncio.gather(*waits) == [{"a"}] * 3


async def test_waiting_ends_with_the_time(bell: Bell) -> None:
    assert await bell.wait(["a"], 0.001) == set()


async def test_a_closed_subscription_hears_nothing(bell: Bell) -> None:
    listener = bell.subscribe("a")
    other = bell.subscribe("a")
    listener.close()
    listener.close()
    bell.ring("a")
    assert await listener.wait(0.0) == set()
    assert await other.wait(0.0) == {"a"}
    other.close()


async def test_a_cancelled_wait_is_cancelled(bell: Bell) -> None:
    task = asyncio.create_task(bell.wait(["a"], None))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_closing_twice_is_harmless_and_leaves_nothing_behind(room: Room) -> None:
    before = asyncio.all_tasks()
    bell = await room()
    bell.subscribe("a")
    bell.hear("a", lambda data: None)
    bell.ring("a")
    await bell.close()
    await bell.close()
    bell.ring("a")
    bell.tell("a", b"bytes")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_ring_wakes_who_waits_in_another_process(room: Room) -> None:
    one, other = await room(), await room()
    with one.subscribe("a") as here, other.subscribe("b") as there:
        for _ in range(30):  # Some while a message is on its way, some after quiet times.
            one.ring("b")
            await rung(there, {"b"})
            other.ring("a")
            await rung(here, {"a"})


async def test_all_others_hear(room: Room) -> None:
    bells = [await room() for _ in range(4)]
    listeners = [bell.subscribe("a") for bell in bells]
    bells[0].ring("a")
    await asyncio.gather(*(rung(listener, {"a"}) for listener in listeners))


async def test_a_ring_from_elsewhere_between_look_and_wait_is_kept(room: Room) -> None:
    one, other = await room(), await room()
    with other.subscribe("a") as early, other.subscribe("a") as late:
        one.ring("a")
        await rung(early, {"a"})
        assert await late.wait(0.0) == {"a"}


async def test_only_what_is_listened_to_wakes(room: Room) -> None:
    one, other = await room(), await room()
    with other.subscribe("last") as listener, other.subscribe("first") as quiet:
        for n in range(100):
            one.ring(f"no:{n}")
        one.ring("last")
        await rung(listener, {"last"})
        assert await quiet.wait(0.0) == set()


async def test_topics_that_leave_together_all_arrive(room: Room) -> None:
    one, other = await room(), await room()
    topics = {f"run:{n}" for n in range(500)}
    with other.subscribe(*topics) as listener:
        for n, topic in enumerate(sorted(topics)):
            one.ring(topic)
            if n % 7 == 0:
                await asyncio.sleep(0)
        await rung(listener, topics)


async def test_the_last_ring_of_many_is_not_lost(room: Room) -> None:
    one, other = await room(), await room()
    with other.subscribe("often", "last") as listener:
        for _ in range(300):
            one.ring("often")
            await asyncio.sleep(0)
        await rung(listener, {"often"})
        one.ring("last")
        async with asyncio.timeout(SOON_S):
            while "last" not in await listener.wait(None):
                pass


async def test_thousands_of_topics_at_once_arrive(room: Room) -> None:
    one, other = await room(), await room()
    topics = {f"run:run_{n:024}" for n in range(limits.BELL_TOPICS_WAITING)}
    with other.subscribe(*topics) as listener:
        for topic in topics:
            one.ring(topic)
        await rung(listener, topics)


async def test_more_topics_than_can_be_named_arrive(room: Room) -> None:
    one, other = await room(), await room()
    count = limits.BELL_TOPICS_WAITING + 1_000
    with other.subscribe("t:0", f"t:{count - 1}") as listener:
        for n in range(count):
            one.ring(f"t:{n}")
        await rung(listener, {"t:0", f"t:{count - 1}"})


@pytest.mark.parametrize("topic", ODD, ids=ascii)
async def test_a_topic_may_have_any_characters(room: Room, topic: str) -> None:
    one, other = await room(), await room()
    with other.subscribe(topic) as listener:
        one.ring(topic)
        await rung(listener, {topic})


async def test_rooms_do_not_hear_each_other(rooms: list[Room]) -> None:
    one, same, other = await rooms[0](), await rooms[0](), await rooms[1]()
    with same.subscribe("a") as here, other.subscribe("a", "b") as elsewhere:
        one.ring("a")
        await rung(here, {"a"})
        other.ring("b")
        await rung(elsewhere, {"b"})


class Ear:
    """Hears one topic, and keeps what it heard."""

    def __init__(self, bell: Bell, topic: str) -> None:
        self.heard: list[bytes] = []
        self._topic = topic
        self._news = asyncio.Event()
        self._hearing = bell.hear(topic, self._hear)

    def _hear(self, data: bytes) -> None:
        self.heard.append(data)
        self._news.set()

    async def until(self, data: bytes) -> list[bytes]:
        """Wait until this has been heard; what came before it, since the last wait."""
        async with asyncio.timeout(SOON_S):
            while data not in self.heard:
                self._news.clear()
                await self._news.wait()
        place = self.heard.index(data)
        before, self.heard = self.heard[:place], self.heard[place + 1 :]
        return before

    async def opened(self, teller: Bell) -> None:
        """Wait until it hears what this bell tells: tell it something until it does."""
        async with asyncio.timeout(SOON_S):
            while b"hello" not in self.heard:
                teller.tell(self._topic, b"hello")
                await asyncio.sleep(0.005)
        teller.tell(self._topic, b"now")
        await self.until(b"now")

    def close(self) -> None:
        """Hear nothing any more."""
        self._hearing.close()


CARRY = ["nats"]
carries = pytest.mark.parametrize("rooms", CARRY, indirect=True)


@pytest.mark.parametrize("rooms", sorted(set(ROOMS) - set(CARRY)), indirect=True)
async def test_a_bell_that_carries_no_bytes_is_silent(room: Room) -> None:
    one, other = await room(), await room()
    assert not one.carries_bytes
    hearing = other.hear("a", lambda data: pytest.fail("heard something"))
    with hearing, other.subscribe("a") as listener:
        one.tell("a", b"bytes")
        one.ring("a")
        await rung(listener, {"a"})
    hearing.close()


@pytest.fixture
async def pair(room: Room) -> tuple[Bell, Bell]:
    """Two bells of a room that carries bytes."""
    one, other = await room(), await room()
    assert one.carries_bytes
    return one, other


@carries
async def test_bytes_arrive_whole_and_in_order(pair: tuple[Bell, Bell]) -> None:
    one, other = pair
    ear = Ear(other, "a")
    await ear.opened(one)
    # No more than may wait, for a machine that is slow to hand them on.
    sent = [b"\r\n\x00%d " % n + bytes(n % 50) for n in range(limits.NATS_HEARD - 1)]
    for n, data in enumerate(sent):
        one.tell("a", data)
        if n % 100 == 0:
            await asyncio.sleep(0)
    one.tell("a", b"")
    assert await ear.until(b"") == sent


@carries
async def test_bytes_come_to_all_who_hear_and_to_nobody_else(pair: tuple[Bell, Bell]) -> None:
    one, other = pair
    first, second, elsewhere, at_home = (
        Ear(other, "a"),
        Ear(other, "a"),
        Ear(other, "b"),
        Ear(one, "a"),
    )
    await first.opened(one)
    await elsewhere.opened(one)
    one.tell("a", b"for a")
    one.tell("b", b"for b")
    assert await elsewhere.until(b"for b") == []
    assert await first.until(b"for a") == []
    assert b"for b" not in await second.until(b"for a")
    assert at_home.heard == []


@carries
async def test_who_ceased_to_hear_hears_no_more(pair: tuple[Bell, Bell]) -> None:
    one, other = pair
    first, second = Ear(other, "a"), Ear(other, "a")
    await first.opened(one)
    first.close()
    first.close()
    await second.opened(one)
    second.close()
    again = Ear(other, "a")
    await again.opened(one)
    assert first.heard == second.heard == []


@carries
async def test_bytes_that_are_too_many_are_dropped_alone(pair: tuple[Bell, Bell]) -> None:
    one, other = pair
    ear = Ear(other, "a")
    await ear.opened(one)
    one.tell("a", b"before")
    one.tell("a", bytes(2 * 1024 * 1024))  # NATS takes 1 MiB, unless it is told to take more.
    one.tell("a", b"after")
    assert await ear.until(b"after") == [b"before"]


@carries
@pytest.mark.parametrize("topic", ODD, ids=ascii)
async def test_bytes_of_a_topic_with_any_characters(pair: tuple[Bell, Bell], topic: str) -> None:
    one, other = pair
    await Ear(other, topic).opened(one)


@carries
async def test_bytes_stay_in_their_room(rooms: list[Room]) -> None:
    one, other, another = await rooms[0](), await rooms[1](), await rooms[1]()
    ear = Ear(other, "a")
    await ear.opened(another)
    one.tell("a", b"ours")
    with other.subscribe("a") as listener:
        for bell in (one, another):
            bell.ring("a")
        await rung(listener, {"a"})
    another.tell("a", b"theirs")
    assert await ear.until(b"theirs") == []


async def test_a_ring_that_is_for_here_stays_here(room: Room) -> None:
    first, second = await room(), await room()
    with first.subscribe("a") as here, second.subscribe("a", "b") as there:
        first.ring_here("a")
        assert await here.wait(5.0) == {"a"}
        first.ring("b")
        heard = await there.wait(5.0)
    assert heard == ({"a", "b"} if first is second else {"b"})
