"""Ingestion: files become searchable, each once, whatever stops the work on them."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.ingesting import (
    LONG,
    PROJECT,
    SMALL,
    Gate,
    Obedient,
    attach,
    document,
    find,
    leftovers,
    make,
    number,
    place,
    quiet,
    settled,
    text,
    upload,
    use,
    working,
)
from tests.engine.stage import Clock, Hooked, Stage, eventually
from understudy import limits
from understudy.search import EmbedderError
from understudy.store import Unavailable
from understudy.store.store import Store


@pytest.fixture(autouse=True)
def folder_of_spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where local copies of files are."""
    folder = tmp_path / "spools"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
async def stage(store: Store, clock: Clock, tmp_path: Path) -> AsyncIterator[Stage]:
    """An App that is at work, with an embedder."""
    async with working(store, tmp_path, Obedient(), clock) as stage:
        yield stage


@pytest.fixture
def embedder(stage: Stage) -> Obedient:
    """The embedder of the App at work."""
    embedder = stage.app.embedders._chosen
    assert isinstance(embedder, Obedient)
    return embedder


# Files that nothing happens to.


async def test_a_file_becomes_completed_and_is_found(stage: Stage) -> None:
    file = await upload(stage, "The quick brown fox jumps over the lazy dog.")
    store_id = await make(stage, file)
    counts = await settled(stage, store_id)
    assert (counts["completed"], counts["total"]) == (1, 1)
    found = await place(stage, store_id, file)
    assert (found["status"], found["last_error"]) == ("completed", None)
    text_and_vector = len("The quick brown fox jumps over the lazy dog.") + 4 * 8
    assert found["usage_bytes"] == text_and_vector
    assert (await stage.get(f"/vector_stores/{store_id}"))["usage_bytes"] == text_and_vector
    assert await find(stage, store_id, "fox") == [file]
    await quiet(stage)


async def test_a_long_file_is_stored_part_by_part(stage: Stage, embedder: Obedient) -> None:
    content = text(LONG)
    file = await upload(stage, content)
    store_id = await make(stage, file, chunking_strategy=SMALL)
    await settled(stage, store_id)
    found = await document(stage, store_id, file)
    assert (found.state, found.parts) == ("ready", 3)
    assert found.chunks == len(embedder.texts)
    assert "".join(embedder.texts) == content
    assert (await find(stage, store_id, "omega"))[0] == file
    page = await stage.get(f"/vector_stores/{store_id}/files/{file}/content")
    assert "".join(piece["text"] for piece in page["data"]) == content


@pytest.mark.parametrize("together", [1, 2, 8])
async def test_parts_share_commits(
    stage: Stage, database: Hooked, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(limits, "INGEST_PARTS_TOGETHER", together)
    commits: list[int] = []

    async def count(names: list[str]) -> None:
        commits.append(names.count("insert_part"))

    file = await upload(stage, text(LONG))
    database.before = count
    store_id = await make(stage, file, chunking_strategy=SMALL)
    assert (await settled(stage, store_id))["completed"] == 1
    assert [one for one in commits if one] == {1: [1, 1, 1], 2: [2, 1], 8: [3]}[together]
    assert (await document(stage, store_id, file)).parts == 3


async def test_what_is_made_is_stored_before_a_failure(
    stage: Stage, embedder: Obedient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedder that fails now and then must not undo what it did before."""
    monkeypatch.setattr(limits, "INGEST_BACKOFF_S", 0.001)
    asked = 0

    async def fail_once() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise EmbedderError("Busy.", retryable=True)

    embedder.before = fail_once
    content = text(LONG)
    store_id = await make(stage, await upload(stage, content), chunking_strategy=SMALL)
    assert (await settled(stage, store_id))["completed"] == 1
    assert (asked, "".join(embedder.texts)) == (4, content), "no part is embedded twice"


async def test_bad_files_fail_alone(stage: Stage) -> None:
    good = await upload(stage, "apple")
    files = {
        "unsupported_file": await upload(stage, b"\x7fELF" + bytes(60), "program.exe"),
        "invalid_file": await upload(stage, " \n ", "empty.txt"),
    }
    lost = await upload(stage, "pear")
    record = await stage.app.store.get("file", PROJECT, lost)
    assert record is not None
    assert record.private is not None
    await stage.app.blobs.delete(record.private.decode().split('"key":"')[1].split('"')[0])
    store_id = await make(stage, *files.values(), lost, good)
    counts = await settled(stage, store_id)
    assert (counts["completed"], counts["failed"]) == (1, 3)
    for code, file in files.items():
        assert (await place(stage, store_id, file))["last_error"]["code"] == code
    error = (await place(stage, store_id, lost))["last_error"]
    assert error["code"] == "server_error"
    assert "missing" in error["message"]
    assert await find(stage, store_id, "apple") == [good]
    await quiet(stage)
    assert await leftovers(stage, await number(stage, store_id)) == []


async def test_no_local_copy_of_a_file_stays(
    stage: Stage, embedder: Obedient, folder_of_spools: Path
) -> None:
    gate = Gate(embedder)
    store_id = await make(stage, await upload(stage, "apple"), await upload(stage, "pear", "x.exe"))
    await gate.wait()
    assert list(folder_of_spools.iterdir()) != []
    gate.opened.set()
    await settled(stage, store_id)
    await eventually(lambda: list(folder_of_spools.iterdir()) == [])


async def test_local_copies_of_a_killed_server_are_removed(
    stage: Stage, folder_of_spools: Path
) -> None:
    left = folder_of_spools / "understudy-spool-left"
    left.mkdir()
    (left / "content").write_text("of a file")
    other = folder_of_spools / "of another program"
    other.mkdir()
    await settled(stage, await make(stage, await upload(stage, "apple")))
    await quiet(stage)
    assert list(folder_of_spools.iterdir()) == [other]


# Work that is stopped.


@pytest.fixture
def each_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part has a commit of its own, so that a death costs no more than one."""
    monkeypatch.setattr(limits, "INGEST_PARTS_TOGETHER", 1)


@pytest.mark.usefixtures("each_part_alone")
async def test_a_server_that_stops_hands_over_and_the_next_goes_on(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    content = text(LONG)
    first, second = Obedient(), Obedient()
    async with working(store, tmp_path, first, clock) as stage:
        gate = Gate(first, at=3)
        file = await upload(stage, content)
        store_id = await make(stage, file, chunking_strategy=SMALL)
        await gate.wait()
        stored = (await document(stage, store_id, file)).chunks
        assert stored == 2 * limits.PART_CHUNKS
    job = await store.job(store_id)
    assert job is not None
    assert job.lease_until is not None
    assert job.lease_until <= clock.at
    async with working(store, tmp_path, second, clock) as stage:
        counts = await settled(stage, store_id)
        assert counts["completed"] == 1
        assert "".join(first.texts[:stored] + second.texts) == content
        found = await document(stage, store_id, file)
        assert (found.parts, found.chunks) == (3, stored + len(second.texts))
        postings = await store.postings([found.store], ["omega", "word1"])
        assert len(postings) == len({(term, data) for term, _, data in postings}) == 4
        await quiet(stage)


async def test_a_lost_lease_writes_nothing(
    stage: Stage, embedder: Obedient, clock: Clock, store: Store
) -> None:
    gate = Gate(embedder, at=2)
    file = await upload(stage, text(LONG))
    store_id = await make(stage, file, chunking_strategy=SMALL)
    await gate.wait()
    before = await document(stage, store_id, file)
    clock.at += limits.LEASE_S + 1
    taken = await store.claim_ingest(
        owner="another", now=clock.at, lease_until=clock.at + 99, free=1
    )
    assert [claimed.job.id for claimed in taken] == [store_id]
    gate.opened.set()
    await eventually(lambda: not stage.held)
    assert await document(stage, store_id, file) == before
    assert (await place(stage, store_id, file))["status"] == "in_progress"
    job = await store.job(store_id)
    assert job is not None
    assert job.lease_owner == "another"


async def test_a_file_at_hand_at_too_many_deaths_fails(
    store: Store, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INGEST_TAKEOVERS", 2)
    embedder = Obedient()
    async with working(store, tmp_path, embedder, clock) as stage:
        gate = Gate(embedder)
        file, other = await upload(stage, text(LONG)), await upload(stage, "apple")
        store_id = await make(stage, file, chunking_strategy=SMALL)
        await gate.wait()
        found = await document(stage, store_id, file)
    for _ in range(limits.INGEST_TAKEOVERS):
        embedder = Obedient()
        async with working(store, tmp_path, embedder, clock):
            await Gate(embedder).wait()
    async with working(store, tmp_path, Obedient(), clock) as stage:
        await attach(stage, store_id, other)
        counts = await settled(stage, store_id)
        assert (counts["completed"], counts["failed"]) == (1, 1)
        error = (await place(stage, store_id, file))["last_error"]
        assert error["code"] == "server_error"
        assert "stopped too often" in error["message"]
        await quiet(stage)
        assert await leftovers(stage, found.store, found.number) == []


@pytest.mark.usefixtures("each_part_alone")
async def test_deaths_between_parts_do_not_add_up(
    store: Store, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INGEST_TAKEOVERS", 1)
    file = store_id = ""
    for _ in range(3):
        embedder = Obedient()
        gate = Gate(embedder, at=2)
        async with working(store, tmp_path, embedder, clock) as stage:
            if not file:
                file = await upload(stage, text(2 * LONG))
                store_id = await make(stage, file, chunking_strategy=SMALL)
            await gate.wait()
    async with working(store, tmp_path, Obedient(), clock) as stage:
        assert (await settled(stage, store_id))["completed"] == 1


async def test_a_record_that_is_away_for_a_while_delays_only(
    stage: Stage, database: Hooked, store: Store
) -> None:
    refusals = 0

    async def away(names: list[str]) -> None:
        nonlocal refusals
        if "insert_part" in names and refusals < 2:
            refusals += 1
            raise Unavailable("The disk is full.", retry_after_s=0.01)

    files = [await upload(stage, f"apple {n}") for n in range(3)]
    database.before = away
    store_id = await make(stage, *files)
    counts = await settled(stage, store_id)
    assert (counts["completed"], refusals) == (3, 2)
    assert sorted(await find(stage, store_id, "apple")) == sorted(files)
    for file in files:
        assert (await document(stage, store_id, file)).attempts == 0
    await quiet(stage)


# Turns.


async def test_two_stores_share_a_slot(
    store: Store, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INGESTS_AT_ONCE", 1)
    embedder = Obedient()

    async def slowly() -> None:
        clock.at += 1.0

    embedder.before = slowly
    async with working(store, tmp_path, embedder, clock) as stage:
        gate = Gate(embedder)
        many = [await upload(stage, f"many {n}") for n in range(12)]
        one = await upload(stage, "one")
        large = await make(stage, *many)
        await gate.wait()
        small = await make(stage, one)
        gate.opened.set()
        embedder.before = slowly
        await settled(stage, large)
        await settled(stage, small)
        at = embedder.texts.index("one")
        assert at <= limits.INGEST_SLICE_S + 2 * limits.INGEST_FILES_AT_ONCE, embedder.texts
        assert sorted(embedder.texts) == sorted(["one", *(f"many {n}" for n in range(12))])
        await quiet(stage)


async def test_a_store_alone_goes_on_after_its_slice(
    stage: Stage, embedder: Obedient, clock: Clock, database: Hooked
) -> None:
    claims = 0

    async def count(names: list[str]) -> None:
        nonlocal claims
        claims += "claim_ingest" in names

    async def slowly() -> None:
        clock.at += 1.0

    files = [await upload(stage, f"apple {n}") for n in range(12)]
    embedder.before, database.before = slowly, count
    store_id = await make(stage, *files)
    assert (await settled(stage, store_id))["completed"] == 12
    await quiet(stage)
    assert claims == 1


async def test_a_long_file_lets_another_store_have_its_turn(
    store: Store, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INGESTS_AT_ONCE", 1)
    embedder = Obedient()

    async def slowly() -> None:
        clock.at += limits.INGEST_FILE_SLICE_S

    async with working(store, tmp_path, embedder, clock) as stage:
        gate = Gate(embedder)
        content = text(LONG)
        large = await make(stage, await upload(stage, content), chunking_strategy=SMALL)
        await gate.wait()
        small = await make(stage, await upload(stage, "one"))
        gate.opened.set()
        embedder.before = slowly
        await settled(stage, small)
        assert (await stage.get(f"/vector_stores/{large}"))["status"] == "in_progress"
        assert (await settled(stage, large))["completed"] == 1
        embedder.texts.remove("one")
        assert "".join(embedder.texts) == content, "no part is embedded twice"
        await quiet(stage)


async def test_a_second_store_is_indexed_at_the_same_time(stage: Stage, embedder: Obedient) -> None:
    gate = Gate(embedder)
    first = await make(stage, await upload(stage, "first"))
    await gate.wait()
    embedder.before = Obedient().before
    second = await make(stage, await upload(stage, "second"))
    await asyncio.wait_for(settled(stage, second), 20)
    assert (await stage.get(f"/vector_stores/{first}"))["status"] == "in_progress"
    gate.opened.set()
    await settled(stage, first)


async def test_a_bad_moment_for_the_embedders_is_no_matter(stage: Stage) -> None:
    use(stage, None)
    store_id = await make(stage, await upload(stage, "apple"))
    await settled(stage, store_id)
    [row] = await stage.app.store.indexes(PROJECT, [store_id])
    assert (row.embedding_model, row.dimensions) == ("", 0)
    assert await stage.app.store.vectors([1]) == []
