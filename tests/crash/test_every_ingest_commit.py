"""A stop after every single commit of an ingestion, or of a clean-up.

As in test_every_commit.py the process "dies" at the n-th commit, and a new App on the same files
goes on. For every n the index must be the one of a work that nobody stopped. Nobody else commits
here, so a stop before a commit is one after the commit that went before.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from tests.crash.checks import reading
from tests.crash.test_every_commit import Stopping
from tests.engine.ingesting import SMALL, Obedient, make, quiet, settled, text, upload, working
from tests.engine.stage import Stage, opened_stage, opened_store
from understudy.store import Database, Unavailable, index_changes

_MOST_COMMITS = 60
Scene = Callable[[Stage], Awaitable[None]]


async def ingestion(stage: Stage) -> None:
    """A store of a file of three parts, a short one and one that cannot be read."""
    files = [
        await upload(stage, text(7_000), "long.txt"),
        await upload(stage, "short", "short.txt"),
        await upload(stage, "bad", "bad.exe"),
    ]
    await make(stage, *files, chunking_strategy=SMALL)


async def clean_up(stage: Stage) -> None:
    """A store from which a file of several parts was detached, another one that was deleted, and a
    file that went from everywhere."""
    kept, gone, deleted = [
        await upload(stage, f"{text(7_000)} {name}", f"{name}.txt")
        for name in ("kept", "gone", "deleted")
    ]
    store_id = await make(stage, kept, gone, deleted, chunking_strategy=SMALL)
    other = await make(stage, kept)
    await stage.app.worker.start(stage.app)
    await settled(stage, store_id)
    await settled(stage, other)
    await quiet(stage)
    await stage.app.worker.drain(0.0)
    for path in (
        f"/vector_stores/{store_id}/files/{gone}",
        f"/files/{deleted}",
        f"/vector_stores/{other}",
    ):
        assert (await stage.http.delete(path)).status_code == 200


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scene", [ingestion, clean_up])
def test_the_index_is_the_same_wherever_it_stops(scene: Scene, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    asyncio.run(_begin(scene, begun))
    expected = _whole(begun, tmp_path / "whole")
    for at in range(1, _MOST_COMMITS):
        folder = tmp_path / str(at)
        shutil.copytree(begun, folder)
        if asyncio.run(_session(folder, at)):
            assert at > 8, "hardly anything was committed"
            return
        assert asyncio.run(_session(folder, None))
        assert _index(folder) == expected, f"after a stop at commit {at}"
    raise AssertionError(f"the scene commits more than {_MOST_COMMITS} times")


async def _begin(scene: Scene, folder: Path) -> None:
    """The work is there, and nobody at it."""
    async with (
        opened_store(folder / "record.db") as store,
        opened_stage(store, works=False, blobs_url=f"file://{folder}/blobs") as stage,
    ):
        stage.app.embedders._chosen = Obedient()
        await scene(stage)


def _whole(begun: Path, folder: Path) -> dict[str, Any]:
    """What is there when nobody stopped it."""
    shutil.copytree(begun, folder)
    assert asyncio.run(_session(folder, None))
    return _index(folder)


async def _session(folder: Path, at: int | None) -> bool:
    """One process; whether it came to the end of the work."""
    made: list[Buried] = []

    def wrap(inner: Database) -> Database:
        made.append(Buried(inner, at, is_applied=True))
        return made[0]

    async with opened_store(folder / "record.db", wrap) as store:

        async def play() -> None:
            async with working(store, folder, Obedient()) as stage:
                await quiet(stage)

        playing = asyncio.create_task(play())
        dying = asyncio.create_task(made[0].has_died.wait())
        await asyncio.wait({playing, dying}, return_when=asyncio.FIRST_COMPLETED)
        is_whole = playing.done()
        made[0].is_over.set()
        for task in (playing, dying):
            task.cancel()
        await asyncio.gather(playing, dying, return_exceptions=True)
        if is_whole:
            playing.result()
        await asyncio.sleep(0.02)  # The pipes of the children are closed a moment after their end.
    return is_whole


class Buried(Stopping):
    """A record of a dead process that lets go of who waits for it, once nobody looks any more:
    what the process had opened can be closed."""

    def __init__(self, inner: Database, at: int | None, *, is_applied: bool) -> None:
        super().__init__(inner, at, is_applied=is_applied)
        self.is_over = asyncio.Event()

    async def _live(self) -> None:
        if self.has_died.is_set():
            await self.is_over.wait()
            raise Unavailable("The process is dead.")


def _index(folder: Path) -> dict[str, Any]:
    """The index without numbers, and what clients see of it."""
    with closing(reading(folder / "record.db")) as record:
        names = dict(record.execute("select number, filename from documents"))
        assert len(set(names.values())) == len(names), "a file is in the index twice"
        assert list(record.execute("select * from jobs")) == []
        return {
            **{what: _rows(record, query) for what, query in _TABLES.items()},
            **{what: _named(record, names, query) for what, query in _OF_DOCUMENTS.items()},
            "places": [_place(body) for (body,) in record.execute(_PLACES)],
        }


_TABLES = {
    "documents": "select filename, state, parts, chunks, words, size_bytes from documents",
    "sums": "select version, chunks, words, trust, size_bytes from stores",
}
_OF_DOCUMENTS = {
    "chunks": "select document, ordinal, start, stop, text from chunks",
    "parts": "select document, part, terms, vectors from parts",
    "postings": "select document, term, part, data from postings",
}
_PLACES = "select body from objects where kind = 'vector_store_file' order by seq"


def _rows(record: "apsw.Connection", query: str) -> list[Any]:
    return sorted(record.execute(query))


def _named(record: "apsw.Connection", names: dict[Any, Any], query: str) -> list[Any]:
    """Rows that belong to a document, by the name of its file."""
    return sorted((names[document], *rest) for document, *rest in record.execute(query))


def _place(body: Any) -> tuple[object, ...]:
    found = msgspec.json.decode(body)
    return found["status"], found["usage_bytes"], found["last_error"]


def test_the_clean_up_has_one_job() -> None:
    """The scene above counts on it: what is gone in three ways is one job's work."""
    statements = [
        index_changes.wake_clean_up(now=1.0),
        *index_changes.forget_file("file-1", project="p", now=1.0)[-1:],
        *index_changes.forget_store("vs_1", project="p", now=1.0)[-1:],
    ]
    assert {statement.args["id"] for statement in statements} == {index_changes.CLEAN_UP}
