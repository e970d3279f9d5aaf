"""A supervisor that was taken over: whatever it says, the server loses one session at most."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.conformance.sandboxes import contents, put, running
from understudy import limits
from understudy.sandbox import FileInfo, FileRefused, SandboxLost
from understudy.sandbox.channel import connected, pair
from understudy.sandbox.session import ChannelSession

PNG = b"\x89PNG\r\n\x1a\n"


def frame(head: object, blob: bytes = b"") -> bytes:
    """As it goes over the wire."""
    said = json.dumps(head).encode()
    return struct.pack("!II", len(said), len(blob)) + said + blob


class Stub:
    """Processes that end when they are killed."""

    def __init__(self, its: socket.socket) -> None:
        self._its = its
        self.is_killed = False

    def kill(self) -> None:
        """End them."""
        self.is_killed = True
        self._its.close()

    async def gone(self) -> None:
        """They are."""
        self._its.close()


class Puppet:
    """A session, and the other end of its socket in our hands."""

    def __init__(self, session: ChannelSession, its: socket.socket, life: Stub) -> None:
        self.session = session
        self.its = its
        self.life = life

    async def answer(self, *frames: bytes) -> None:
        """Wait for a question, and answer it with these frames."""
        loop = asyncio.get_running_loop()
        await loop.sock_recv(self.its, 65_536)
        for said in frames:
            await loop.sock_sendall(self.its, said)


@pytest.fixture
async def puppet() -> AsyncIterator[Puppet]:
    """A session that has said hello."""
    mine, its = pair()
    its.setblocking(False)
    its.send(b"!")
    channel, pid = await connected(mine)
    assert pid > 0
    life = Stub(its)
    session = ChannelSession(channel, life, asyncio.Semaphore(1))
    yield Puppet(session, its, life)
    await session.close()


async def _lost(puppet: Puppet, asking: Awaitable[object], *frames: bytes) -> None:
    """What was asked ends with the session, which stays lost."""
    answering = asyncio.create_task(puppet.answer(*frames))
    with pytest.raises(SandboxLost):
        await asking
    await answering
    assert puppet.session.is_lost
    with pytest.raises(SandboxLost):
        await puppet.session.files()


ENDED = {"id": 1, "type": "ended", "reason": None, "dropped_bytes": 0, "dropped_images": 0}
ANSWERS: dict[str, list[bytes]] = {
    "lengths without end": [struct.pack("!II", 1 << 31, 0)],
    "a blob without end": [struct.pack("!II", 2, 1 << 31)],
    "no json": [struct.pack("!II", 4, 0) + b"\xff\xfe\x00{"],
    "no object": [frame([1, 2, 3])],
    "a deep object": [struct.pack("!II", 200_000, 0) + b"[" * 200_000],
    "an unknown type": [frame({"id": 1, "type": "party"})],
    "no type": [frame({"id": 1})],
    "a type that is a list": [frame({"id": 1, "type": ["ended"]})],
    "too much output": [frame({"id": 1, "type": "output"}, b"x" * (limits.CODE_LOGS_BYTES + 1))],
    "output after all was said": [frame({"id": 1, "type": "output"}, b"x" * 60_000)] * 2,
    "an image that is none": [frame({"id": 1, "type": "image"}, b"GIF89a")],
    "too many images": [frame({"id": 1, "type": "image"}, PNG)] * (limits.CODE_IMAGES + 1),
    "an unknown reason": [frame({**ENDED, "reason": "because"})],
    "a reason that is a list": [frame({**ENDED, "reason": ["timeout"]})],
    "a negative count": [frame({**ENDED, "dropped_bytes": -1})],
    "a count that is a text": [frame({**ENDED, "dropped_images": "1"})],
    "no counts": [frame({"id": 1, "type": "ended"})],
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_nonsense_for_a_call_ends_the_session(puppet: Puppet, name: str) -> None:
    """It is no longer our program."""
    await _lost(puppet, running(puppet.session, "1"), *ANSWERS[name])


@pytest.mark.parametrize(
    "files",
    [
        None,
        {},
        [["a"]],
        [["a", -1, "s"]],
        [["a", "1", "s"]],
        [[1, 1, "s"]],
        [["a", 1, 2]],
        [["a", 1, "s", "more"]],
        ["abc"],
    ],
)
async def test_nonsense_for_a_listing_ends_the_session(puppet: Puppet, files: object) -> None:
    """Every entry is looked at."""
    answer = frame({"id": 1, "type": "files", "files": files})
    await _lost(puppet, puppet.session.files(), answer)
    assert puppet.life.is_killed


async def test_a_listing_is_bounded(puppet: Puppet) -> None:
    """However long it is."""
    files = [[f"f{n}", 1, "s"] for n in range(limits.CODE_FILES_SEEN + 500)]
    answering = asyncio.create_task(puppet.answer(frame({"id": 1, "files": files})))
    listed = await puppet.session.files()
    await answering
    assert len(listed) == limits.CODE_FILES_SEEN
    assert listed[0] == FileInfo("f0", 1, "s")


async def test_a_refusal_is_short(puppet: Puppet) -> None:
    """Its words may come from there, not their number."""
    said = frame({"id": 1, "type": "refused", "why": "no " * 5000})
    answering = asyncio.create_task(puppet.answer(said))
    with pytest.raises(FileRefused) as refused:
        await contents(puppet.session, "a")
    await answering
    assert len(str(refused.value)) == 300
    assert not puppet.session.is_lost


async def test_answers_to_other_questions_are_dropped(puppet: Puppet) -> None:
    """Early, late or without a number."""
    strays = [frame({"id": n, "type": "refused", "why": "no"}) for n in (0, 2, None, "1", True)]
    right = frame({**ENDED, "dropped_bytes": 7})
    answering = asyncio.create_task(puppet.answer(*strays[:-1], right))
    said = await running(puppet.session, "1")
    await answering
    assert said.result.dropped_bytes == 7


async def test_a_hang_up_is_a_loss(puppet: Puppet) -> None:
    """In the middle of a frame, too."""
    asking = asyncio.create_task(put(puppet.session, "a", b"x"))
    await puppet.answer(frame({"id": 1, "type": "done"})[:10])
    puppet.its.close()
    with pytest.raises(SandboxLost):
        await asking


async def test_silence_ends_the_session_from_outside(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has a clock of its own."""
    monkeypatch.setattr(limits, "CODE_GRACE_S", 0.1)
    monkeypatch.setattr(limits, "CODE_WATCH_S", 0.1)
    with pytest.raises(SandboxLost):
        await running(puppet.session, "1", timeout_s=0.1)
    assert puppet.life.is_killed


async def test_a_flood_waits_in_the_socket(puppet: Puppet) -> None:
    """Frames that nobody has taken yet are few."""
    heard: Callable[[str], None] = lambda _: None  # noqa: E731
    calling = asyncio.create_task(puppet.session.run("1", timeout_s=5, on_logs=heard))
    await puppet.answer()
    sent = 0
    puppet.its.setblocking(False)
    calling.cancel()  # Nobody takes anything any more.
    with pytest.raises(asyncio.CancelledError):
        await calling
    flood = frame({"id": 2, "type": "output"}, b"x" * 1000)
    for _ in range(20_000):
        try:
            sent += puppet.its.send(flood)
        except BlockingIOError:
            break
        await asyncio.sleep(0)
    assert sent < 5_000_000
