"""A death at every commit and at every write of a blob, before it or after it.

Files and uploads are made, completed, cancelled, deleted and left to expire, while the process
dies at the n-th such moment; a new one on the same record and folder goes on. For every n the end
must be that of a life without death: the same files with the same bytes, no blob more, and no work.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.engine.stage import Clock, Json, Stage, opened_stage, opened_store
from understudy import limits
from understudy.blobs import Blobs
from understudy.engine.app import App
from understudy.store import Database, Ring, Row, Statement, Told
from understudy.store.store import Store

T = TypeVar("T")

_MOST_MOMENTS = 80
_FILE = {"purpose": "vision"}
_UPLOAD = {"filename": "u", "purpose": "vision", "bytes": 6, "mime_type": "image/png"}
_EXPIRY = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}


class Dead(BaseException):
    """What a process meets that is dead and does not know it yet."""


class Fate:
    """Decides when a process dies: at its n-th moment, before or after that took effect."""

    def __init__(self, at: int | None, *, is_applied: bool) -> None:
        self._left = at
        self._is_applied = is_applied
        self.has_died = False

    async def meet(self, act: Callable[[], Awaitable[T]], *, half: Callable[[], None]) -> T:
        """One moment; `half` is what is left of it by a death amid."""
        self.check()
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                if self._is_applied:
                    await act()
                else:
                    half()
                self.has_died = True
        self.check()
        done = await act()
        self.check()
        return done

    def check(self) -> None:
        """Only the living go on."""
        if self.has_died:
            raise Dead


def _nothing() -> None:
    """Nothing is left."""


class MortalDatabase:
    """A record whose process may die at a commit."""

    def __init__(self, inner: Database, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    async def fetch(self, query: str, args: Mapping[str, object]) -> list[Row]:
        """As long as the process lives."""
        self._fate.check()
        rows = await self._inner.fetch(query, args)
        self._fate.check()
        return rows

    async def commit(
        self, statements: Sequence[Statement], told: Told | None = None, ring: Ring | None = None
    ) -> list[list[Row]]:
        """A moment."""
        return await self._fate.meet(
            lambda: self._inner.commit(statements, told, ring), half=_nothing
        )

    async def close(self) -> None:
        """The inner one is closed by who opened it."""


class MortalBlobs:
    """Blobs in a folder whose process may die at a write."""

    def __init__(self, inner: Blobs, folder: Path, fate: Fate) -> None:
        self._inner = inner
        self._folder = folder
        self._fate = fate

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """A moment; a death amid leaves what the library was writing."""

        def half() -> None:
            (self._folder / f"{key}#1").write_bytes(b"half")

        return await self._fate.meet(lambda: self._inner.put(key, pieces), half=half)

    def open(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """As the inner ones."""
        self._fate.check()
        return self._inner.open(key, start, length)

    async def delete(self, key: str) -> None:
        """A moment."""
        await self._fate.meet(lambda: self._inner.delete(key), half=_nothing)

    async def close(self) -> None:
        """As the inner ones."""
        await self._inner.close()


class Life:
    """The same work on one record and folder, by one process after the other."""

    def __init__(self, folder: Path, scene: Callable[[Stage], Awaitable[None]]) -> None:
        folder.mkdir()
        self._folder = folder
        self._scene = scene
        self._clock = Clock()

    def session(self, at: int | None, *, is_applied: bool) -> Json | None:
        """One process, in a loop of its own; the end, if it came to that."""
        with asyncio.Runner() as runner:
            return runner.run(self._session(Fate(at, is_applied=is_applied)))

    async def _session(self, fate: Fate) -> Json | None:
        def wrap(inner: Database) -> Database:
            return MortalDatabase(inner, fate)

        async with opened_store(self._folder / "record.db", wrap) as store:
            try:
                return await self._work(store, fate)
            except Dead:
                return None

    async def _work(self, store: Store, fate: Fate) -> Json:
        blobs = self._folder / "blobs"
        url = f"file://{blobs}"
        async with opened_stage(store, self._clock, blobs_url=url, works=False) as stage:
            mortal = MortalBlobs(stage.app.blobs, blobs, fate)
            object.__setattr__(stage.app, "blobs", mortal)  # Frozen, but not for its test.
            await stage.app.worker.start(stage.app)
            try:
                await self._scene(stage)
                return await _end(stage, blobs)
            finally:
                await stage.app.worker.drain(0.0)


async def files(stage: Stage) -> None:
    """One that stays, one that expires, one that is deleted."""
    await _upload(stage, "kept", b"kept bytes")
    await _upload(stage, "expiring", b"soon gone", **_EXPIRY)
    gone = await _upload(stage, "deleted", b"deleted bytes")
    await stage.http.delete(f"/files/{gone['id']}")


async def completed(stage: Stage) -> None:
    """Parts out of order, and one that is not named."""
    upload = await stage.post("/uploads", _UPLOAD, key="upload")
    second = await _part(stage, upload, b"def")
    first = await _part(stage, upload, b"abc")
    await _part(stage, upload, b"unnamed")
    path = f"/uploads/{upload['id']}/complete"
    await stage.post(path, {"part_ids": [first["id"], second["id"]]}, key="complete")


async def given_up(stage: Stage) -> None:
    """One upload that is cancelled, one that is left alone."""
    cancelled = await stage.post("/uploads", _UPLOAD, key="cancelled")
    await _part(stage, cancelled, b"in vain")
    await stage.post(f"/uploads/{cancelled['id']}/cancel", {}, key="cancel")
    left = await stage.post("/uploads", _UPLOAD, key="left")
    await _part(stage, left, b"left alone")


# What clients do, and the files and the number of blobs that are there in the end. Each request
# has its key, so that a new process can do it again.
SCENES: list[tuple[Callable[[Stage], Awaitable[None]], list[tuple[str, bytes]], int]] = [
    (files, [("kept", b"kept bytes")], 1),
    (completed, [("u", b"abcdef")], 2),
    (given_up, [], 0),
]


async def _upload(stage: Stage, name: str, data: bytes, **more: str) -> Json:
    answer = await stage.http.post(
        "/files",
        data={**_FILE, **more},
        files={"file": (name, data)},
        headers={"Idempotency-Key": f"file {name}"},
    )
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def _part(stage: Stage, upload: Json, data: bytes) -> Json:
    answer = await stage.http.post(
        f"/uploads/{upload['id']}/parts",
        files={"data": ("blob", data)},
        headers={"Idempotency-Key": f"part {data.decode()}"},
    )
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def _end(stage: Stage, blobs: Path) -> Json:
    """What is there when every job had its time."""
    later = Clock().at + limits.BLOB_CLAIM_S + 1.0
    stage.clock.at = max(stage.clock.at, later)
    async with asyncio.timeout(10):
        while await _has_work(stage.app):
            stage.app.bell.ring("jobs")
            await asyncio.sleep(0.002)
    files = (await stage.get("/files?order=asc"))["data"]
    return {
        "files": [(file["filename"], await _content(stage, file)) for file in files],
        "blobs": len(list(blobs.iterdir())),
    }


async def _has_work(app: App) -> bool:
    """Whether a job is left, or was just taken: a claim is committed before it is known here."""
    if await app.store.next_due() is None and not app.worker.live_runs:
        await asyncio.sleep(0.02)
        return app.worker.live_runs > 0
    return True


async def _content(stage: Stage, file: Json) -> bytes:
    answer = await stage.http.get(f"/files/{file['id']}/content")
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize(("scene", "there", "blobs"), SCENES)
def test_the_end_is_the_same_wherever_the_process_dies(
    tmp_path: Path,
    scene: Callable[[Stage], Awaitable[None]],
    there: list[tuple[str, bytes]],
    blobs: int,
) -> None:
    expected = {"files": there, "blobs": blobs}
    for at in range(1, _MOST_MOMENTS):
        life = Life(tmp_path / str(at), scene)
        # After one moment and before the next the record is the same, so one of them will do.
        if life.session(at, is_applied=at % 2 == 0) is not None:
            assert at > 15, "hardly anything was committed"
            return
        found = life.session(None, is_applied=False)
        assert found == expected, f"after a death at moment {at}"
    raise AssertionError(f"there are more than {_MOST_MOMENTS} moments")
