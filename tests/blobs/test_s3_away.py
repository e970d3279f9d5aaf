"""An S3 server that is away in every way: it is said, soon, and nothing else is raised."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.s3_server import S3Server
from understudy import limits
from understudy.blobs import BlobExists, Blobs, BlobsUnavailable, NoBlob, open_blobs

LONG = 12_000_000
SOON_S = 5.0  # With the times of `quick`; in truth the longest is BLOB_REQUEST_S and some.
ANSWER_S = 1.0  # A busy machine answers within, when it answers at all.


@pytest.fixture
def url(s3: S3Server) -> str:
    """A place of the test's own."""
    return s3.place()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that a test can wait for."""
    monkeypatch.setattr(limits, "BLOB_REQUEST_S", ANSWER_S)
    monkeypatch.setattr(limits, "BLOB_ANSWER_S", ANSWER_S)
    monkeypatch.setattr(limits, "BLOB_ABORT_S", 0.2)
    monkeypatch.setattr(limits, "BLOB_TRY_WITHIN_S", 0.4)
    monkeypatch.setattr(limits, "BLOB_BACKOFF_S", 0.005)


@pytest.fixture
async def blobs(s3: S3Server, url: str, quick: None) -> Blobs:
    """Blobs, of which one is there."""
    blobs = open_blobs(url, s3.options)
    await blobs.put("old", pieces(3))
    return blobs


async def pieces(size: int) -> AsyncIterator[bytes]:
    """So many bytes."""
    while size > 0:
        yield bytes(min(size, 1_000_000))
        size -= 1_000_000


async def read(blobs: Blobs, key: str, length: int | None) -> int:
    """How many bytes are read of a blob."""
    return sum([len(piece) async for piece in blobs.open(key, 0, length)])


OPERATIONS: dict[str, Callable[[Blobs], Awaitable[object]]] = {
    "put": lambda blobs: blobs.put("new", pieces(3)),
    "put nothing": lambda blobs: blobs.put("nothing", pieces(0)),
    "put long": lambda blobs: blobs.put("long", pieces(LONG)),
    "read": lambda blobs: read(blobs, "old", 3),
    "read all": lambda blobs: read(blobs, "old", None),
    "read what is not there": lambda blobs: read(blobs, "gone", 1),
    "delete": lambda blobs: blobs.delete("other"),
    "ping": lambda blobs: blobs.ping(),
}

Breaking = Callable[[S3Server], None]
# How it goes away, and how it comes back.
FAULTS: dict[str, tuple[Breaking, Breaking]] = {
    "refuses": (S3Server.cut_off, S3Server.reconnect),
    "hangs": (S3Server.freeze, S3Server.thaw),
    "500": (lambda s3: s3.fail(500), S3Server.heal),
    "503": (lambda s3: s3.fail(503), S3Server.heal),
    "another server": (lambda s3: s3.fail(404), S3Server.heal),
    "wrong key": (S3Server.refuse_keys, lambda s3: s3.refuse_keys(refused=False)),
}


async def assert_away(blobs: Blobs) -> None:
    """All operations say so, soon."""

    async def assert_said(operation: Callable[[Blobs], Awaitable[object]]) -> None:
        with pytest.raises(BlobsUnavailable) as away:
            await operation(blobs)
        assert not isinstance(away.value, BlobExists)

    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as group:
        for name, operation in OPERATIONS.items():
            group.create_task(assert_said(operation), name=name)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_is_away_is_said_so_and_may_come_back(
    s3: S3Server, blobs: Blobs, fault: str
) -> None:
    breaks, mends = FAULTS[fault]
    breaks(s3)
    await assert_away(blobs)
    mends(s3)
    await blobs.ping()
    assert await read(blobs, "old", None) == 3
    for key, size in (("new", 3), ("long", LONG)):
        await blobs.delete(key)  # As promised: what became of it is not known.
        assert await blobs.put(key, pieces(size)) == size
    with pytest.raises(NoBlob):
        await read(blobs, "gone", 1)


async def test_a_server_that_was_killed_comes_back_empty(
    s3: S3Server, blobs: Blobs, url: str
) -> None:
    s3.stop()
    try:
        await assert_away(blobs)
    finally:
        s3.start()
    await assert_away(blobs)  # There is no such bucket.
    s3.make_bucket(url.split("/")[2])
    with pytest.raises(NoBlob):
        await read(blobs, "old", None)
    assert await blobs.put("new", pieces(LONG)) == LONG


@pytest.mark.parametrize("place", ["s3://no-such-bucket", "s3://no-such-bucket/some/prefix"])
async def test_a_bucket_that_is_not_there_is_no_blob_that_is_not_there(
    s3: S3Server, quick: None, place: str
) -> None:
    await assert_away(open_blobs(place, s3.options))


async def test_a_server_goes_away_in_the_middle_of_a_put_and_of_a_read(
    s3: S3Server, blobs: Blobs
) -> None:
    async def cut(size: int) -> AsyncIterator[bytes]:
        async for piece in pieces(size):
            yield piece
        s3.cut_off()
        yield b"more"

    with pytest.raises(BlobsUnavailable):
        await blobs.put("new", cut(LONG))
    s3.reconnect()
    await blobs.delete("new")
    await blobs.put("new", pieces(LONG))
    reading = blobs.open("new")
    await anext(reading)
    s3.cut_off()
    with pytest.raises(BlobsUnavailable):
        await anext(reading)


async def test_keys_are_asked_of_a_machine_that_does_not_answer(
    s3: S3Server, url: str, quick: None
) -> None:
    options = {name: value for name, value in s3.options.items() if "access_key" not in name}
    blobs = open_blobs(url, {**options, "aws_metadata_endpoint": s3.url})
    s3.hold("/latest/api/token")
    await assert_away(blobs)


async def test_what_went_wrong_is_said_in_a_line(s3: S3Server, blobs: Blobs) -> None:
    async def said() -> str:
        with pytest.raises(BlobsUnavailable) as away:
            await blobs.ping()
        return str(away.value)

    s3.fail(503)
    assert await said() == (
        f"GET at {s3.url}: Server returned non-2xx status code: 503 Service Unavailable"
    )
    s3.heal()
    s3.refuse_keys()
    assert (await said()).endswith("403 Forbidden (InvalidAccessKeyId)")
    s3.refuse_keys(refused=False)
    s3.cut_off()
    assert (await said()).endswith("error sending request (Connection refused)")
    s3.reconnect()
    s3.freeze()
    assert await said() == "the object store does not answer"


async def test_many_waiters_of_a_server_that_hangs_all_end(s3: S3Server, blobs: Blobs) -> None:
    s3.freeze()
    async with asyncio.timeout(SOON_S):
        ends = await asyncio.gather(
            *(blobs.put(f"blob_{n}", pieces(3)) for n in range(50)),
            *(read(blobs, "old", 3) for _ in range(50)),
            return_exceptions=True,
        )
    assert all(isinstance(end, BlobsUnavailable) for end in ends)
