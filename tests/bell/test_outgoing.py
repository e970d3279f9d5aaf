"""Topics on their way to other processes, and the messages that they leave in."""

import json

from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.bell.local import LocalBell
from understudy.bell.outgoing import Outgoing, deliver, messages

# At most 20 characters, each of which becomes 12 at most, and what they are about: a message holds
# any of them. Behind "#" a ring says what it is about, so no topic has one.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="#")
TOPICS = st.dictionaries(
    st.text(CHARACTERS, max_size=20), st.sampled_from(["", "#", "#run_x", "#a#b"])
)


@given(TOPICS, st.integers(250, 500))
async def test_every_topic_arrives_in_messages_that_are_small_enough(
    topics: dict[str, str], most_bytes: int
) -> None:
    bell = LocalBell()
    rings = {topic + about for topic, about in topics.items()}
    found = messages(rings, most_bytes)
    with bell.subscribe(*topics, "another") as listener:
        for message in found:
            assert message.isascii() and len(message) <= most_bytes
            deliver(message, bell)
        assert await listener.wait(0.0) == rings


def test_messages_are_filled() -> None:
    topics = [f"run:{n:03}" for n in range(500)]
    found = messages(topics, 1_000)
    assert [topic for message in found for topic in json.loads(message)] == topics
    assert all(len(message) > 980 for message in found[:-1])
    assert messages(["x" * 96], 100) == ['["' + "x" * 96 + '"]']


async def test_what_no_message_holds_rings_everything() -> None:
    for topics in ({"x" * 97, "b"}, {None}, {None, "b"}):
        bell = LocalBell()
        with bell.subscribe("a", "b") as listener:
            for message in messages(topics, 100):
                deliver(message, bell)
            assert await listener.wait(0.0) == {"a", "b"}


def test_nothing_waiting_makes_no_message() -> None:
    outgoing = Outgoing()
    assert not outgoing
    assert messages(outgoing.take(), 100) == []


def test_what_waits_is_bounded_and_leaves_in_parts() -> None:
    outgoing = Outgoing()
    topics = {f"t:{n}" for n in range(limits.BELL_TOPICS_WAITING)}
    outgoing.add(*topics)
    outgoing.add("t:0", "t:1")
    taken: set[str | None] = set()
    while outgoing:
        part = outgoing.take()
        assert len(part) <= limits.BELL_TOPICS_TOGETHER
        taken |= part
    assert taken == topics
    outgoing.add(*topics)
    outgoing.add("one too many")
    assert outgoing.take() == {None}
    assert not outgoing
