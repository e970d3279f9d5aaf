"""kill -9 of a real server while it indexes files: each file is in the index once, or failed.

A store of many small files and a few large ones is made, and the server's process group is killed
at random moments until all of them are indexed. Then the next store is made of the same files and
the last one deleted, so that ingestion and clean-up are killed together. `SOAK=1` makes it 500
files and 100 kills.
"""

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from tests.crash.checks import reading
from tests.crash.client import Client, Refused
from tests.crash.processes import KEY, Process

IS_SOAK = os.environ.get("SOAK") == "1"
KILLS = 100 if IS_SOAK else 5
SMALL_FILES = 490 if IS_SOAK else 56
LARGE_FILES = 6 if IS_SOAK else 2
LARGE_WORDS = 120_000 if IS_SOAK else 30_000
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**9))
# A file at hand at INGEST_TAKEOVERS deaths in a row, without a part stored between them, is failed:
# most lives must last for longer than a reading child needs to start.
_LIFE_S = 3.0 if IS_SOAK else 1.2
_ROUND_S = 120.0 if IS_SOAK else 40.0
_CHUNKS = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 80}}
_WORDS = ["river", "stone", "cloud", "bread", "lamp", "forest", "winter", "garden"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """A file that was uploaded; `word` stands in it alone, at its end."""

    word: str
    name: str
    content: bytes
    fails: bool = False


class Deleting(Client):
    """A client that also deletes."""

    async def delete(self, path: str) -> None:
        """A DELETE that may have happened already."""
        try:
            await self._ask("DELETE", path, None, {})
        except Refused as refused:
            assert refused.status == 404, refused


@dataclass
class Theatre:
    """The server, what it was sent, and the counts."""

    folder: Path
    client: Deleting
    rng: random.Random
    server: Process | None = None
    sent: dict[str, Sent] = field(default_factory=dict)  # File id → the file.
    pids: list[int] = field(default_factory=list)
    kills: int = 0
    amid_files: int = 0

    @property
    def record(self) -> Path:
        """The SQLite file."""
        return self.folder / "data" / "understudy.db"

    @property
    def spools(self) -> Path:
        """Where the server has its temporary files."""
        return self.folder / "tmp"

    async def start(self) -> None:
        """A server on the same folder, as a supervisor would start it."""
        self.server = await asyncio.to_thread(
            lambda: Process(
                ["serve", "--port", "0", "--data", str(self.folder / "data")],
                self.folder,
                UNDERSTUDY_API_KEY=KEY,
                UNDERSTUDY_EMBEDDING_MODEL="rehearsal-embedding",
                TMPDIR=str(self.spools),
            )
        )
        self.pids.append(self.server.pid)
        await self.client.use(self.server.url)

    async def kill(self) -> None:
        """Kill the group now."""
        assert self.server is not None
        self.client.expect_loss()
        await asyncio.to_thread(self.server.kill)
        self.kills += 1
        await self.client.lose()
        self.amid_files += self._is_amid_file()

    def _is_amid_file(self) -> bool:
        """Whether a file is in the index in part."""
        with closing(reading(self.record)) as record:
            return bool(list(record.execute("select 1 from documents where state = 'building'")))

    async def upload(self, files: list[Sent]) -> None:
        """Send files while nobody kills the server."""
        assert self.server is not None
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(
            base_url=self.server.url, headers=headers, timeout=60
        ) as http:
            for file in files:
                answer = await http.post(
                    "/files",
                    files={"file": (file.name, file.content)},
                    data={"purpose": "assistants"},
                )
                assert answer.status_code == 200, answer.text
                self.sent[answer.json()["id"]] = file

    async def round(self) -> str:
        """A new store, indexed under kills; its id."""
        ids = list(self.sent)
        self.rng.shuffle(ids)
        body = {"file_ids": ids, "chunking_strategy": _CHUNKS}
        store: str = (await self.client.post("/vector_stores", body))["id"]
        give_up_at = time.monotonic() + _ROUND_S * (1 + KILLS / 5)
        while await self._waiting(store):
            assert time.monotonic() < give_up_at, self.why(store)
            if self.kills < KILLS:
                await self._live()
                await self.kill()
                await self.start()
            else:
                await asyncio.sleep(0.1)
        return store

    async def _live(self) -> None:
        """Until the next kill: a random time, and until one has met a file, that long or until a
        file is half done."""
        die_at = time.monotonic() + self.rng.uniform(0.0, _LIFE_S)
        if not self.amid_files:
            die_at += _LIFE_S
        while (  # noqa: ASYNC110 (what another process does is no event)
            time.monotonic() < die_at and (self.amid_files or not self._is_amid_file())
        ):
            await asyncio.sleep(0.01)

    async def _waiting(self, store: str) -> int:
        found = await self.client.get(f"/vector_stores/{store}")
        waiting: int = found["file_counts"]["in_progress"]
        return waiting

    def why(self, store: str) -> str:
        """What is left to do, for a failure."""
        with closing(reading(self.record)) as record:
            rows: list[object] = list(record.execute("select * from jobs"))
            rows += record.execute("select * from documents where state <> 'ready'")
        return f"{store} does not end: {rows}"

    async def idle(self) -> None:
        """Until nothing is left to do in the background."""
        async with asyncio.timeout(_ROUND_S):
            while self._jobs():  # noqa: ASYNC110 (what another process does is no event)
                await asyncio.sleep(0.05)

    def _failures(self) -> Counter[str]:
        with closing(reading(self.record)) as record:
            return Counter(
                str(row[0])
                for row in record.execute(
                    "select body -> 'last_error' from objects where kind = 'vector_store_file'"
                )
            )

    def _jobs(self) -> list[Any]:
        with closing(reading(self.record)) as record:
            return list(record.execute("select id, kind from jobs"))

    async def check(self, store: str) -> None:
        """What clients see of a store: every file's state, and every file found by its word."""
        found = await self.client.get(f"/vector_stores/{store}")
        failing = sum(file.fails for file in self.sent.values())
        counts = found["file_counts"]
        assert counts["total"] == len(self.sent), counts
        assert (counts["failed"], counts["in_progress"]) == (failing, 0), self._failures()
        for id, file in self.sent.items():
            if file.fails:
                placed = await self.client.get(f"/vector_stores/{store}/files/{id}")
                assert placed["last_error"]["code"] in ("invalid_file", "unsupported_file")
            else:
                page = await self.client.post(
                    f"/vector_stores/{store}/search", {"query": file.word}
                )
                assert id in [one["file_id"] for one in page["data"]], file.word


def files(rng: random.Random) -> Iterator[Sent]:
    """Small and large files, and some that cannot be read."""
    for n in range(SMALL_FILES + LARGE_FILES):
        length = rng.randrange(20, 900) if n < SMALL_FILES else LARGE_WORDS
        word = f"unique{n:04}word"
        content = " ".join([*rng.choices(_WORDS, k=length), word])
        yield Sent(word, f"file-{n}.txt", content.encode())
    yield Sent("", "program.exe", b"MZ" + bytes(100), fails=True)
    yield Sent("", "blank.txt", b"  \n ", fails=True)


@pytest.mark.timeout(3600 if IS_SOAK else 240)
async def test_kill_9_amid_ingestion_leaves_each_file_once_in_the_index(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    theatre = Theatre(tmp_path, Deleting(), rng)
    theatre.spools.mkdir()
    try:
        await theatre.start()
        await theatre.upload(list(files(rng)))
        await _play(theatre)
    except BaseException as error:
        error.add_note(f"again with CRASH_SEED={SEED}; this was kill {theatre.kills}")
        raise
    finally:
        if theatre.server is not None:
            await asyncio.to_thread(theatre.server.kill)
        await theatre.client.lose()


async def _play(theatre: Theatre) -> None:
    store = await theatre.round()
    while theatre.kills < KILLS:
        _log.info("%d kills", theatre.kills)
        old, store = store, ""
        await theatre.client.delete(f"/vector_stores/{old}")
        store = await theatre.round()
    await theatre.check(store)
    await theatre.idle()
    assert theatre.server is not None
    assert await asyncio.to_thread(theatre.server.stop) == 0
    check_index(theatre.record, theatre.sent)
    assert list(theatre.spools.iterdir()) == []
    assert theatre.amid_files > 0, "every kill was between two files"
    _log.info("%d kills, %d amid files", theatre.kills, theatre.amid_files)
    async with asyncio.timeout(10):
        while _readers_of(theatre.pids):  # noqa: ASYNC110 (nor is it here)
            await asyncio.sleep(0.05)


def check_index(record: Path, sent: dict[str, Sent]) -> None:
    """The index of a stopped server that has one store of these files."""
    with closing(reading(record)) as connection:

        def rows(query: str) -> list[Any]:
            return list(connection.execute(query))

        assert rows("select * from jobs") == []
        good = {id for id, file in sent.items() if not file.fails}
        documents = rows("select number, file_id, state, parts, chunks, words from documents")
        assert sorted(row[1] for row in documents) == sorted(good)
        assert {row[2] for row in documents} == {"ready"}
        ordinals: dict[int, list[int]] = {row[0]: [] for row in documents}
        texts = dict.fromkeys(ordinals, "")
        for document, ordinal, piece in rows(
            "select document, ordinal, text from chunks order by document, ordinal"
        ):
            ordinals[document].append(ordinal)
            texts[document] += piece
        parts = Counter(row[0] for row in rows("select document from parts"))
        for number, file, _, part_count, chunk_count, _ in documents:
            assert ordinals[number] == list(range(chunk_count)), file
            assert parts.pop(number) == part_count, file
            assert texts[number].encode() == sent[file].content, file
        assert not parts, "parts of documents that are no more"
        assert {row[0] for row in rows("select document from postings")} == set(ordinals)
        _check_sums(rows)
        _check_words(rows, documents, sent)


def _check_sums(rows: Any) -> None:
    [sums] = rows("select chunks, words, size_bytes from stores")
    [added] = rows("select sum(chunks), sum(words), sum(size_bytes) from documents")
    assert sums == added
    [usage] = rows(
        "select sum(body ->> 'usage_bytes') from objects where kind = 'vector_store_file'"
    )
    assert usage == (sums[2],)
    statuses = Counter(
        msgspec.json.decode(row[0])["status"]
        for row in rows("select body from objects where kind = 'vector_store_file'")
    )
    assert set(statuses) == {"completed", "failed"}


def _check_words(rows: Any, documents: list[Any], sent: dict[str, Sent]) -> None:
    """The word of each file has postings in that file, and each stands there once."""
    found = rows("select term, document, part from postings where term like 'unique%word'")
    by_word = {file.word: id for id, file in sent.items() if not file.fails}
    file_of = {row[0]: row[1] for row in documents}
    assert len(found) == len(by_word)
    for term, document, _ in found:
        assert by_word[term] == file_of[document]


def _readers_of(pids: list[int]) -> list[str]:
    """The reading children of servers that are no more."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # It ended meanwhile.
        if b"understudy.search.reading" in line and int(line[-2]) in pids:
            found.append(process.name)
    return found
