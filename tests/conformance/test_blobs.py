"""What all Blobs must do."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.s3_server import S3Server
from understudy import limits
from understudy.blobs import BlobExists, Blobs, BlobsUnavailable, NoBlob, open_blobs


@dataclass
class Place:
    """An empty place for blobs; `left` tells the names of all that is stored there."""

    url: str
    options: Mapping[str, str]
    left: Callable[[], list[str]]


def in_folder(request: pytest.FixtureRequest) -> Place:
    """A folder with a space in its name."""
    folder: Path = request.getfixturevalue("tmp_path")
    return Place(f"file://{folder}/a%20folder/blobs", {}, lambda: files_below(folder))


def in_memory(request: pytest.FixtureRequest) -> Place:
    """Memory, into which nobody can look."""
    return Place("memory:", {}, list)


def on_s3(request: pytest.FixtureRequest) -> Place:
    """A bucket of its own; what is left are objects, and uploads that nobody ended."""
    s3: S3Server = request.getfixturevalue("s3")
    url = s3.place()
    return Place(url, s3.options, lambda: s3.keys(url) + s3.uploads(url))


def on_plain_s3(request: pytest.FixtureRequest) -> Place:
    """The same for a server that knows no conditions."""
    place = on_s3(request)
    return replace(place, options={**place.options, "aws_conditional_put": "disabled"})


# Another object store is done when its line passes.
PLACES = {"file": in_folder, "memory": in_memory, "s3": on_s3, "plain s3": on_plain_s3}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    """A place of each kind."""
    return PLACES[request.param](request)


@pytest.fixture
def blobs(place: Place) -> Blobs:
    """The blobs there."""
    return open_blobs(place.url, place.options)


def files_below(folder: Path) -> list[str]:
    """The names of all files in a folder and its folders."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """Bytes as they arrive."""
    for part in parts:
        yield part


async def read(blobs: Blobs, key: str, start: int = 0, length: int | None = None) -> bytes:
    """A blob's bytes."""
    return b"".join([piece async for piece in blobs.open(key, start, length)])


async def test_what_was_put_is_read_back(blobs: Blobs) -> None:
    assert await blobs.put("blob_1", pieces(b"abc", b"", b"def")) == 6
    assert await read(blobs, "blob_1") == b"abcdef"


async def test_an_empty_blob_is_a_blob(blobs: Blobs) -> None:
    assert await blobs.put("blob_1", pieces()) == 0
    assert await read(blobs, "blob_1") == b""


async def test_large_blobs_come_in_pieces(blobs: Blobs) -> None:
    block = os.urandom(300_000)
    assert await blobs.put("blob_1", pieces(*[block] * 100)) == 30_000_000
    found = [piece async for piece in blobs.open("blob_1")]
    assert max(map(len, found)) <= limits.BLOB_PIECE_BYTES
    assert b"".join(found) == block * 100


async def test_a_range_is_read_without_the_rest(blobs: Blobs) -> None:
    await blobs.put("blob_1", pieces(b"0123456789"))
    assert await read(blobs, "blob_1", 3) == b"3456789"
    assert await read(blobs, "blob_1", 3, 4) == b"3456"
    assert await read(blobs, "blob_1", 9, 1) == b"9"
    assert await read(blobs, "blob_1", 10) == b""
    assert await read(blobs, "blob_1", 4, 0) == b""


async def test_what_is_not_there_is_said_so(blobs: Blobs) -> None:
    for length in (None, 10):
        with pytest.raises(NoBlob):
            await read(blobs, "blob_1", 0, length)


async def test_deleting_twice_is_fine(blobs: Blobs) -> None:
    await blobs.put("blob_1", pieces(b"abc"))
    await blobs.put("blob_2", pieces(b"def"))
    await blobs.delete("blob_1")
    await blobs.delete("blob_1")
    with pytest.raises(NoBlob):
        await read(blobs, "blob_1")
    assert await read(blobs, "blob_2") == b"def"


async def test_an_error_of_the_source_comes_through_and_leaves_nothing(
    blobs: Blobs, place: Place
) -> None:
    class Cut(Exception):
        """The source's own."""

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(1_000_000)
        raise Cut

    with pytest.raises(Cut):
        await blobs.put("blob_1", broken())
    with pytest.raises(NoBlob):
        await read(blobs, "blob_1")
    assert place.left() == []


async def test_a_cancelled_put_leaves_nothing(blobs: Blobs, place: Place) -> None:
    has_begun = asyncio.Event()
    is_closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            for _ in range(30):
                yield bytes(1_000_000)
            has_begun.set()
            await asyncio.sleep(100)
        finally:
            is_closed.set()

    put = asyncio.create_task(blobs.put("blob_1", endless()))
    await has_begun.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert is_closed.is_set()  # The source is not read on behind the caller's back.
    with pytest.raises(NoBlob):
        await read(blobs, "blob_1")
    assert place.left() == []


@pytest.mark.parametrize("size", [0, 10, 12_000_000])
@pytest.mark.parametrize("first_size", [0, 10, 12_000_000])
async def test_a_key_is_put_once(blobs: Blobs, place: Place, first_size: int, size: int) -> None:
    first = os.urandom(first_size)
    await blobs.put("blob_1", pieces(first))
    before = place.left()
    with pytest.raises(BlobExists):
        await blobs.put("blob_1", pieces(os.urandom(size)))
    assert await read(blobs, "blob_1") == first
    assert place.left() == before
    assert isinstance(BlobExists("blob_1"), BlobsUnavailable)  # Who cannot know it asks again.


@pytest.mark.parametrize("sizes", [(10,) * 8, (12_000_000,) * 4, (10, 12_000_000) * 3])
@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"plain s3"}), indirect=True)
async def test_of_many_puts_of_a_key_at_once_at_most_one_succeeds(
    blobs: Blobs, sizes: tuple[int, ...]
) -> None:
    contents = [bytes([n]) * size for n, size in enumerate(sizes)]
    ends = await asyncio.gather(
        *(blobs.put("blob_1", pieces(content)) for content in contents), return_exceptions=True
    )
    [winner] = [n for n, end in enumerate(ends) if not isinstance(end, BlobExists)]
    assert ends[winner] == sizes[winner]
    assert await read(blobs, "blob_1") == contents[winner]


async def test_a_deleted_key_may_be_put_again(blobs: Blobs) -> None:
    await blobs.put("blob_1", pieces(b"abc"))
    await blobs.delete("blob_1")
    assert await blobs.put("blob_1", pieces(b"def")) == 3
    assert await read(blobs, "blob_1") == b"def"


async def test_many_puts_at_once_do_not_mix(blobs: Blobs) -> None:
    sizes = await asyncio.gather(
        *(blobs.put(f"blob_{n}", pieces(*[bytes([n]) * 10_000] * 5)) for n in range(20))
    )
    assert sizes == [50_000] * 20
    for n in range(20):
        assert await read(blobs, f"blob_{n}") == bytes([n]) * 50_000


async def test_a_place_that_is_there_says_so(blobs: Blobs) -> None:
    await blobs.ping()


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"plain s3"}), indirect=True)
@pytest.mark.parametrize("is_whole", [False, True])
async def test_what_a_killed_process_left_goes_with_the_key(blobs: Blobs, is_whole: bool) -> None:
    for key in ("blob_1.part", "blob_10.part"):  # So begins a long one.
        await blobs.put(key, pieces(b"half"))
    if is_whole:
        await blobs.put("blob_1", pieces(b"done"))
    await blobs.delete("blob_1")
    for key in ("blob_1", "blob_1.part"):
        with pytest.raises(NoBlob):
            await read(blobs, key)
    assert await read(blobs, "blob_10.part") == b"half"


async def test_what_a_killed_process_left_of_a_file_goes_with_the_key(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    for name in ("blob_1#1", "blob_1#2", "blob_1.part#1", "blob_10#1"):
        (tmp_path / "blobs" / name).write_bytes(b"half")
    await blobs.delete("blob_1")
    assert files_below(tmp_path) == ["blob_10#1"]


async def test_a_folder_that_went_away_is_unavailable(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    (tmp_path / "blobs").rmdir()
    with pytest.raises(BlobsUnavailable):
        await blobs.ping()
    with pytest.raises(BlobsUnavailable):
        await blobs.put("blob_1", pieces(b"abc"))


async def test_what_was_put_is_synced_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    synced = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    await blobs.put("blob_1", pieces(b"abc"))
    assert synced == [f"{tmp_path}/blobs/blob_1", f"{tmp_path}/blobs"]


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"memory"}), indirect=True)
async def test_blobs_outlive_their_opener(blobs: Blobs, place: Place) -> None:
    await blobs.put("blob_1", pieces(b"abc"))
    await blobs.close()
    assert await read(open_blobs(place.url, place.options), "blob_1") == b"abc"


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    with pytest.raises(BlobsUnavailable):
        open_blobs(f"file://{tmp_path}/taken/blobs")


@pytest.mark.parametrize("url", ["", "file:", "file://host/x", "ftp://x/y", "s3:", "/folder"])
def test_what_is_no_place_for_blobs_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="none of"):
        open_blobs(url)


def test_object_stores_are_opened_without_being_asked_anything() -> None:
    options = {
        "aws_access_key_id": "id",
        "aws_secret_access_key": "secret",
        "aws_region": "eu-west-1",
        "aws_endpoint_url": "http://127.0.0.1:1",
    }
    open_blobs("s3://bucket/some/prefix", options)
