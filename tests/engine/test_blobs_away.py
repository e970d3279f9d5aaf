"""While the store of blobs is away files wait, runs go on, and nothing is lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.coding import PNG, Troubled, begin, download, outputs, ran, runs, says
from tests.engine.ingesting import attach, find, make, place, settled, upload
from tests.engine.stage import Clock, Json, Stage, eventually, opened_stage
from tests.s3_server import S3Server
from understudy import limits
from understudy.blobs import open_blobs
from understudy.engine import files
from understudy.engine.index_file import MISSING
from understudy.store.store import Store

SLOTS = 4
MANY = 10
ANSWER_S = 1.0  # A busy machine answers within, when it answers at all.
ONCE_S = 5.0  # One of many was waited for, whatever else the machine does: all would take 10 s.


@pytest.fixture
def quick(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way to the S3 server, and times that a test can wait for."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(limits, "BLOB_BACKOFF_S", 0.001)
    monkeypatch.setattr(limits, "BLOB_ANSWER_S", ANSWER_S)
    monkeypatch.setattr(limits, "BLOB_REQUEST_S", ANSWER_S)
    monkeypatch.setattr(limits, "BLOB_TRY_WITHIN_S", 0.1)


@pytest.fixture
async def stage(
    s3: S3Server, quick: None, store: Store, clock: Clock, sandbox: Troubled
) -> AsyncIterator[Stage]:
    """An App at work, whose blobs are on S3; few jobs have room at once."""
    url = s3.place()
    async with opened_stage(
        store, clock, runs_at_once=SLOTS, sandbox=sandbox, blobs_url=url
    ) as stage:
        yield stage


@pytest.fixture
async def sandbox() -> AsyncIterator[Troubled]:
    """Where code runs."""
    sandbox = Troubled()
    yield sandbox
    await sandbox.close()


async def later(stage: Stage, seconds: float) -> None:
    """So much time passes, and whoever waits for it looks."""
    stage.clock.at += seconds
    for bell in ("jobs", "ingest"):
        stage.app.bell.ring(bell)


async def rested(stage: Stage, store_id: str) -> None:
    """Wait until the job of a store has had its turn, and waits for the next one."""
    async with asyncio.timeout(10):
        while True:
            job = await stage.app.store.job(store_id)
            assert job is not None
            if job.due_at > stage.clock.at and store_id not in stage.held:
                return
            await asyncio.sleep(0.005)


async def simple_run(stage: Stage) -> float:
    """How long a run without files takes."""
    began = time.monotonic()
    run = await stage.start({"steps": [{"text": "Hello."}]})
    assert (await stage.until(run))["status"] == "completed"
    return time.monotonic() - began


# Ingestion.


@pytest.mark.parametrize("fault", ["refuses", "hangs"])
async def test_files_wait_for_their_bytes_and_do_not_fail(
    s3: S3Server, stage: Stage, fault: str
) -> None:
    apple, pear = await upload(stage, "apple"), await upload(stage, "pear")
    s3.freeze() if fault == "hangs" else s3.cut_off()
    store_id = await make(stage, apple, pear)
    for _ in range(2 if fault == "hangs" else limits.INGEST_TAKEOVERS + 2):
        await rested(stage, store_id)
        counts = (await stage.get(f"/vector_stores/{store_id}"))["file_counts"]
        assert (counts["in_progress"], counts["failed"]) == (2, 0)
        await later(stage, limits.INGEST_AWAY_S)
    s3.mend()
    await later(stage, limits.INGEST_AWAY_S)
    assert (await settled(stage, store_id))["completed"] == 2
    assert await find(stage, store_id, "apple") == [apple]


async def test_a_file_that_comes_while_others_wait_is_tried_at_once(
    s3: S3Server, stage: Stage
) -> None:
    apple, pear = await upload(stage, "apple"), await upload(stage, "pear")
    s3.cut_off()
    store_id = await make(stage, apple)
    await rested(stage, store_id)
    s3.reconnect()
    await attach(stage, store_id, pear)
    assert (await settled(stage, store_id))["completed"] == 2


async def test_a_lost_blob_still_fails_its_file_alone(stage: Stage) -> None:
    lost, there = await upload(stage, "apple"), await upload(stage, "pear")
    record = await stage.app.store.get("file", "default", lost)
    assert record is not None
    [blob] = files.blobs_of(record)
    await stage.app.blobs.delete(blob.key)
    store_id = await make(stage, lost, there)
    counts = await settled(stage, store_id)
    assert (counts["completed"], counts["failed"]) == (1, 1)
    assert (await place(stage, store_id, lost))["last_error"]["message"] == MISSING


async def test_a_disk_without_room_for_a_copy_still_fails_a_file(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INGEST_BACKOFF_S", 0.001)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    store_id = await make(stage, file := await upload(stage, "apple"))
    assert (await settled(stage, store_id))["failed"] == 1
    error = (await place(stage, store_id, file))["last_error"]
    assert error["message"] == (
        "The file cannot be copied for its reader: No such file or directory."
    )


# Deletions.


async def test_runs_go_on_while_many_deletions_wait(s3: S3Server, stage: Stage) -> None:
    count = 10 * SLOTS
    ids = [await upload(stage, f"text {n}") for n in range(count)]
    s3.freeze()
    for id in ids:
        assert (await stage.http.delete(f"/files/{id}")).status_code == 200
    took_s = await simple_run(stage)
    assert took_s < count / SLOTS * limits.BLOB_ANSWER_S / 2
    s3.thaw()


async def test_what_was_deleted_meanwhile_goes_when_the_store_is_back(
    s3: S3Server, stage: Stage
) -> None:
    url = stage.app.settings.blobs_url
    assert url is not None
    ids = [await upload(stage, f"text {n}") for n in range(5)]
    s3.cut_off()
    for id in ids:
        assert (await stage.http.delete(f"/files/{id}")).status_code == 200
    for _ in range(limits.BLOB_RETRIES_COUNTED):
        await eventually(lambda: not stage.held)
        await later(stage, 2 * limits.BLOB_RETRY_S)
    s3.reconnect()
    assert len(s3.keys(url)) == 5
    async with asyncio.timeout(10):
        while s3.keys(url):
            await later(stage, limits.BLOB_RETRY_S * 2**limits.BLOB_RETRIES_COUNTED)
            await asyncio.sleep(0.01)


# Runs.


async def test_code_is_told_which_files_it_lacks_and_has_them_later(
    s3: S3Server, stage: Stage
) -> None:
    ids = [await upload(stage, f"text {n}", f"{n}.txt") for n in range(MANY)]
    thread = await stage.thread()
    code = "import os\nprint(sorted(name for name in os.listdir('/mnt/data') if '.' in name))"
    s3.freeze()
    began = time.monotonic()
    printed = await ran(stage, code, files=ids, thread=thread)
    assert time.monotonic() - began < ONCE_S
    missing = "[/mnt/data/{}.txt could not be made available: its content cannot be read now.]\n"
    assert printed == "".join(missing.format(n) for n in range(MANY)) + "[]\n"
    s3.thaw()
    printed = await ran(stage, code, files=ids, thread=thread)
    assert printed == f"{[f'{n}.txt' for n in range(MANY)]}\n"


async def test_outputs_that_cannot_be_stored_are_said_and_the_run_goes_on(
    s3: S3Server, stage: Stage, sandbox: Troubled
) -> None:
    writes = "    open(f'/mnt/data/{n}.txt', 'w').write('x')\n"
    code = f"for n in range({MANY}):\n{writes}print('written')"
    sandbox.images = [PNG]
    thread = await stage.thread()
    s3.freeze()
    began = time.monotonic()
    printed = await ran(stage, code, thread=thread)
    assert time.monotonic() - began < ONCE_S
    assert printed == "written\n" + "".join(
        f"[{name} was not saved: files cannot be stored now.]\n"
        for name in ["An image", *(f"{n}.txt" for n in range(MANY))]
    )
    assert await outputs(stage) == []
    s3.thaw()
    await ran(stage, "open('/mnt/data/0.txt', 'w').write('more')", thread=thread)
    [file] = await outputs(stage)
    assert await download(stage, file["id"]) == b"more"


async def test_a_run_whose_images_cannot_be_read_goes_on(s3: S3Server, stage: Stage) -> None:
    ids = [await upload(stage, f"image {n}", f"{n}.png") for n in range(MANY)]
    content: list[Json] = [{"type": "image_file", "image_file": {"file_id": id}} for id in ids]
    thread = await stage.post("/threads", {"messages": [{"role": "user", "content": content}]})
    assistant = await stage.post("/assistants", {"model": "m"})
    s3.freeze()
    began = time.monotonic()
    run = await stage.post(f"/threads/{thread['id']}/runs", {"assistant_id": assistant["id"]})
    assert (await stage.until(run))["status"] == "completed"
    assert time.monotonic() - began < ONCE_S
    s3.thaw()


async def test_a_cancel_does_not_wait_for_a_store_that_hangs(
    s3: S3Server, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOB_ABORT_S", 0.1)
    monkeypatch.setattr(limits, "BLOB_REQUEST_S", 60.0)
    blobs = open_blobs(s3.place(), s3.options)
    object.__setattr__(stage.app, "blobs", blobs)  # Frozen, but not for its test.
    s3.hold("PUT ")
    run = await begin(stage, [runs("open('/mnt/data/a.txt', 'w').write('x')")], [says("Done.")])
    await asyncio.to_thread(s3.until_held)
    await stage.post(f"{stage.path(run)}/cancel", {})
    assert (await stage.rested(run))["status"] == "cancelled"
