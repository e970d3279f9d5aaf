"""Blobs on S3 beyond what all blobs must do: what is left there, whatever goes wrong."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from tests.s3_server import S3Server
from understudy import limits
from understudy.blobs import BlobExists, Blobs, BlobsUnavailable, NoBlob, open_blobs

LONG = 12_000_000  # Bytes: two parts and a shorter one.
# What a put of a long blob asks for, in this order.
REQUESTS = {
    "begin": "POST {key}.part?uploads",
    "first part": "PUT {key}.part?partNumber=1",
    "second part": "PUT {key}.part?partNumber=2",
    "last part": "PUT {key}.part?partNumber=3",
    "complete": "POST {key}.part?uploadId",
    "begin the copy": "POST {key}?uploads",
    "copy": "PUT {key}?partNumber=1",
    "complete the copy": "POST {key}?uploadId",
}
# Whatever these make, nobody learns the id that would undo it.
NAMELESS = {"begin", "begin the copy"}


@pytest.fixture
def url(s3: S3Server) -> str:
    """A place of the test's own."""
    return s3.place()


@pytest.fixture
def blobs(s3: S3Server, url: str, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """The blobs there; whoever tries again does so at once."""
    monkeypatch.setattr(limits, "BLOB_BACKOFF_S", 0.005)
    return open_blobs(url, s3.options)


def request_of(url: str, name: str, key: str = "blob_1") -> str:
    """How the server sees one of the requests of a put."""
    return REQUESTS[name].format(key=f"/{url.removeprefix('s3://')}/{key}")


def left(s3: S3Server, url: str) -> list[str]:
    """What is stored there, without the prefix."""
    return [key.rpartition("/")[2] for key in s3.keys(url) + s3.uploads(url)]


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """Bytes as they arrive."""
    for start in range(0, len(data), 500_000):
        yield data[start : start + 500_000]


async def read(blobs: Blobs, key: str) -> bytes:
    """A blob's bytes."""
    return b"".join([piece async for piece in blobs.open(key)])


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_put_that_fails_leaves_nothing(
    s3: S3Server, blobs: Blobs, url: str, name: str
) -> None:
    s3.fail(503, request_of(url, name))
    with pytest.raises(BlobsUnavailable):
        await blobs.put("blob_1", pieces(bytes(LONG)))
    s3.heal()
    assert left(s3, url) == []
    with pytest.raises(NoBlob):
        await read(blobs, "blob_1")


@pytest.mark.parametrize("name", sorted(REQUESTS.keys() - NAMELESS))
async def test_a_put_whose_answer_is_lost_leaves_nothing_that_its_delete_does_not_find(
    s3: S3Server, blobs: Blobs, url: str, name: str
) -> None:
    s3.fail(503, request_of(url, name), applied=True)
    with pytest.raises(BlobsUnavailable):
        await blobs.put("blob_1", pieces(bytes(LONG)))
    s3.heal()
    assert set(left(s3, url)) <= {"blob_1"}
    await blobs.delete("blob_1")
    assert left(s3, url) == []


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_put_that_is_cancelled_in_a_request_leaves_nothing(
    s3: S3Server, blobs: Blobs, url: str, name: str
) -> None:
    s3.hold(request_of(url, name))
    put = asyncio.create_task(blobs.put("blob_1", pieces(bytes(LONG))))
    await asyncio.to_thread(s3.until_held)
    put.cancel()
    await asyncio.sleep(0.01)
    s3.release()
    with pytest.raises(asyncio.CancelledError):
        await put
    await blobs.delete("blob_1")  # The copy may be there: it was asked for.
    assert left(s3, url) == []


async def test_a_short_put_that_is_cancelled_is_over_before_its_delete(
    s3: S3Server, blobs: Blobs, url: str
) -> None:
    s3.hold("PUT ")
    put = asyncio.create_task(blobs.put("blob_1", pieces(b"abc")))
    await asyncio.to_thread(s3.until_held)
    put.cancel()
    done, _ = await asyncio.wait([put], timeout=0.05)
    assert not done  # Else its delete might overtake it.
    s3.release()
    with pytest.raises(asyncio.CancelledError):
        await put
    await blobs.delete("blob_1")
    assert left(s3, url) == []


async def test_a_cancel_does_not_wait_for_a_server_that_hangs(
    s3: S3Server, blobs: Blobs, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOB_ABORT_S", 0.1)
    s3.hold("partNumber=1")
    put = asyncio.create_task(blobs.put("blob_1", pieces(bytes(LONG))))
    await asyncio.to_thread(s3.until_held)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(2.0):
            await put


async def test_a_write_that_was_answered_wrongly_once_is_not_taken_for_done(
    s3: S3Server, blobs: Blobs
) -> None:
    s3.fail(500, "PUT ", times=1, applied=True)
    with pytest.raises(BlobExists):
        await blobs.put("blob_1", pieces(b"abc"))
    await blobs.delete("blob_1")
    assert await blobs.put("blob_1", pieces(b"abc")) == 3


@pytest.mark.parametrize("name", [*REQUESTS, "look", "read"])
async def test_a_moment_of_failure_is_not_noticed(
    s3: S3Server, blobs: Blobs, url: str, name: str
) -> None:
    match = {"look": "HEAD ", "read": "GET "}.get(name) or request_of(url, name)
    s3.fail(503, match, times=2)
    data = os.urandom(LONG)
    assert await blobs.put("blob_1", pieces(data)) == LONG
    assert await read(blobs, "blob_1") == data


async def test_a_part_that_cannot_be_removed_goes_with_its_key(
    s3: S3Server, blobs: Blobs, url: str
) -> None:
    s3.fail(503, "?delete")
    assert await blobs.put("blob_1", pieces(bytes(LONG))) == LONG
    s3.heal()
    assert sorted(left(s3, url)) == ["blob_1", "blob_1.part"]
    await blobs.delete("blob_1")
    assert left(s3, url) == []


async def test_an_upload_that_another_one_overtakes_gives_way(
    s3: S3Server, blobs: Blobs, url: str
) -> None:
    s3.hold(request_of(url, "complete the copy"))
    put = asyncio.create_task(blobs.put("blob_1", pieces(bytes(LONG))))
    await asyncio.to_thread(s3.until_held)
    assert await blobs.put("blob_1", pieces(b"abc")) == 3
    s3.release()
    with pytest.raises(BlobExists):
        await put
    assert await read(blobs, "blob_1") == b"abc"
    assert left(s3, url) == ["blob_1"]


async def test_keys_are_below_the_prefix(s3: S3Server, blobs: Blobs, url: str) -> None:
    await blobs.put("blob_1", pieces(b"abc"))
    assert s3.keys(url) == ["some/prefix/blob_1"]
    bare = open_blobs(url.removesuffix("/some/prefix"), s3.options)
    await bare.put("blob_1", pieces(b"def"))
    assert sorted(s3.keys(url)) == ["blob_1", "some/prefix/blob_1"]
    assert await read(blobs, "blob_1") == b"abc"
    assert await read(bare, "blob_1") == b"def"
