"""Blobs on a move: those that the record names, whole and once, whatever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import pytest

from tests.conformance.rows import BY_NAME, fill
from tests.transfer.mortal import Dead, Fate, MortalBlobs, mortal_blobs
from tests.transfer.places import moved, opened, place, tell
from understudy import limits
from understudy.blobs import Blobs, NoBlob, open_blobs
from understudy.machine.private import BlobRef, FilePrivate
from understudy.store import Row
from understudy.store.tables import Progress
from understudy.transfer.moving import Sides, move

T = TypeVar("T")

OBJECTS = BY_NAME["objects"]
SIZES = {
    "blob_a": 0,
    "blob_b": 1,
    "blob_c": limits.BLOB_PIECE_BYTES,
    "blob_d": 2 * limits.BLOB_PIECE_BYTES + 7,
    "blob_e": 100,
    "blob_f": 3,
}


def content(key: str) -> bytes:
    """What is stored under a key."""
    return (key.encode() * (SIZES[key] // len(key) + 1))[: SIZES[key]]


def row(seq: int, kind: str, private: object) -> Row:
    """An object with something private."""
    values = {
        "seq": seq,
        "id": f"object-{seq}",
        "kind": kind,
        "project": "p",
        "parent": "",
        "created_at": 1.5,
        "version": 1,
        "children": 0,
        "body": "{}",
        "private": msgspec.json.encode(private).decode(),
    }
    return tuple(values[column] for column in OBJECTS.columns)


def ref(key: str) -> BlobRef:
    """Where a blob is."""
    return BlobRef(key=key, size_bytes=SIZES[key])


async def record(folder: Path) -> str:
    """A record of two files and an upload whose parts have become one of them, and of others that
    have no blobs: what is private to them is something else."""
    url = place("sqlite", folder)
    rows = [
        row(101, "part", ref("blob_a")),
        row(102, "part", ref("blob_b")),
        row(103, "file", FilePrivate(blobs=[ref("blob_a"), ref("blob_b")])),
        row(104, "part", ref("blob_c")),
        *(
            row(105 + n, "file", FilePrivate(blobs=[ref(key)]))
            for n, key in enumerate(["blob_d", "blob_e", "blob_f"])
        ),
        row(120, "file", FilePrivate()),
        row(121, "message", {"tokens": 1}),
    ]
    async with opened(url) as tables:
        await fill(tables, count=1)
        await tables.begin("x")
        await tables.write(OBJECTS, rows, Progress("objects"))
        await tables.finish()
    return url


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """Bytes as they arrive."""
    yield data


async def full(url: str) -> Blobs:
    """A place that has them all, and one that nobody names."""
    blobs = open_blobs(url)
    for key in SIZES:
        await blobs.put(key, pieces(content(key)))
    await blobs.put("blob_promised", pieces(b"to be deleted"))
    return blobs


async def read(blobs: Blobs, key: str) -> bytes:
    """A blob's bytes."""
    return b"".join([piece async for piece in blobs.open(key)])


async def test_blobs_that_the_record_names_move(tmp_path: Path) -> None:
    """Bytes and all; others, which the record has promised to delete, stay."""
    source = await record(tmp_path / "from")
    one, other = await full(f"file://{tmp_path}/from/blobs"), open_blobs("memory:")
    report = await moved(source, place("sqlite", tmp_path / "to"), (one, other))
    assert report.differing == 0
    for key in SIZES:
        assert await read(other, key) == content(key)
    with pytest.raises(NoBlob):
        await read(other, "blob_promised")
    line = report.lines["blobs"]
    assert line.count == 8  # Two are named twice.
    assert line.size_bytes >= sum(SIZES.values())


async def test_blobs_move_without_a_record(tmp_path: Path) -> None:
    """It stays where it is, and tells which there are."""
    source = await record(tmp_path / "from")
    one, other = await full("memory:"), open_blobs(f"file://{tmp_path}/to")
    async with opened(source) as tables:
        report = await move(Sides(tables, None, (one, other)), tell)
        assert report.lines.keys() == {"blobs"}
        assert report.differing == 0
        assert await read(other, "blob_d") == content("blob_d")
        again = await move(Sides(tables, None, (one, other)), tell)  # Nothing is left to do.
        assert again.differing == 0


async def test_a_second_start_goes_on_with_the_blobs_that_are_not_there(tmp_path: Path) -> None:
    """What a cut put left behind is removed, and what is there is not written again."""
    source = await record(tmp_path / "from")
    target = place("sqlite", tmp_path / "to")
    one, other = await full("memory:"), open_blobs(f"file://{tmp_path}/blobs")
    with pytest.raises(Dead):
        await moved(source, target, (one, mortal_blobs(other, Fate(3, of="half"))))
    for key in SIZES:
        (tmp_path / "blobs" / f"{key}#1").write_bytes(b"half")
    done = {path.name for path in (tmp_path / "blobs").iterdir() if path.name in SIZES}
    assert 0 < len(done) < len(SIZES)
    second = MortalBlobs(other, Fate(99))
    report = await moved(source, target, (one, cast("Blobs", second)))
    assert report.differing == 0
    assert sorted(second.puts) == sorted(SIZES.keys() - done)
    names = {path.name for path in (tmp_path / "blobs").iterdir()}
    assert names - {f"{key}#1" for key in done} == SIZES.keys()


async def test_a_copy_whose_blobs_are_not_there_is_not_finished(tmp_path: Path) -> None:
    source = await record(tmp_path / "from")
    target = place("sqlite", tmp_path / "to")
    one, other = await full("memory:"), open_blobs("memory:")
    await one.delete("blob_e")
    report = await moved(source, target, (one, other))
    assert list(map(str, report.differences)) == ["blobs blob_e is not at the source"]
    async with opened(target) as tables:
        assert await tables.copying() is not None
    await one.put("blob_e", pieces(content("blob_e")))
    assert (await moved(source, target, (one, other))).differing == 0
    async with opened(target) as tables:
        assert await tables.copying() is None


async def test_a_part_whose_upload_was_being_cleaned_up_has_no_blob(tmp_path: Path) -> None:
    """The blobs of parts go before the parts. Those that are a file's have to be there."""
    source = await record(tmp_path / "from")
    one, other = await full("memory:"), open_blobs("memory:")
    for key in ("blob_a", "blob_c"):
        await one.delete(key)
    report = await moved(source, place("sqlite", tmp_path / "to"), (one, other))
    assert list(map(str, report.differences)) == ["blobs blob_a is not at the source"]
    await one.put("blob_a", pieces(content("blob_a")))
    async with opened(source) as tables:
        await move(Sides(tables, None, (one, other)), tell)
        await one.put("blob_c", pieces(content("blob_c")))
        report = await move(Sides(tables, None, (one, other)), tell, verify_only=True)
    assert list(map(str, report.differences)) == ["blobs blob_c is not at the target"]


async def test_blobs_that_differ_are_found(tmp_path: Path) -> None:
    """By a byte, by their size, or by not being there."""
    source = await record(tmp_path / "from")
    one, other = await full("memory:"), await full("memory:")
    changed = {"blob_d": content("blob_d")[:-1] + b"?", "blob_e": content("blob_e") + b"more"}
    for key in (*changed, "blob_f"):
        await other.delete(key)
        if key in changed:
            await other.put(key, pieces(changed[key]))
    async with opened(source) as tables:
        sides = Sides(tables, None, (one, other))
        report = await move(sides, tell, verify_only=True)
    assert sorted(map(str, report.differences)) == [
        "blobs blob_d has other bytes",
        "blobs blob_e has 104 bytes, not 100",
        "blobs blob_f is not at the target",
    ]
    assert report.differing == 3


async def test_a_move_that_is_cancelled_ends_all_its_copies(tmp_path: Path) -> None:
    source = await record(tmp_path / "from")
    one = await full("memory:")
    began = asyncio.Event()
    ended: list[str] = []

    class Slow(Fate):
        """Every put takes for ever."""

        async def meet(self, name: str, change: Coroutine[Any, Any, T]) -> T:
            change.close()
            try:
                began.set()
                return await asyncio.Event().wait()  # type: ignore[return-value]
            finally:
                ended.append(name)

    blobs = one, mortal_blobs(open_blobs("memory:"), Slow(99))
    async with opened(source) as tables:
        copying = asyncio.create_task(move(Sides(tables, None, blobs), tell))
        await began.wait()
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
    assert ended
