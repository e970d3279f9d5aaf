"""Ingestion with embedders that fail, change or come late: a file fails alone and says why."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.ingesting import (
    LONG,
    PROJECT,
    SMALL,
    Obedient,
    attach,
    document,
    find,
    make,
    place,
    quiet,
    settled,
    text,
    upload,
    use,
    working,
)
from tests.engine.stage import Clock, Hooked, Stage
from understudy import limits
from understudy.search import EmbedderError
from understudy.store.store import Store


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits in these tests."""
    monkeypatch.setattr(limits, "INGEST_BACKOFF_S", 0.001)


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


def failing(embedder: Obedient, times: int, *, retryable: bool = True) -> None:
    """The embedder fails the next so many calls."""
    left = times

    async def fail() -> None:
        nonlocal left
        if left:
            left -= 1
            raise EmbedderError("The provider is busy.", retryable=retryable)

    embedder.before = fail


async def error(stage: Stage, store_id: str, file: str) -> str:
    """Why a file failed, which must be the server's fault."""
    placed = await place(stage, store_id, file)
    assert placed["status"] == "failed"
    assert placed["last_error"]["code"] == "server_error"
    message: str = placed["last_error"]["message"]
    return message


async def test_a_busy_embedder_is_asked_again(stage: Stage, embedder: Obedient) -> None:
    failing(embedder, limits.INGEST_ATTEMPTS - 1)
    file = await upload(stage, "apple")
    store_id = await make(stage, file)
    assert (await settled(stage, store_id))["completed"] == 1
    assert embedder.calls == limits.INGEST_ATTEMPTS
    assert await find(stage, store_id, "apple") == [file]


async def test_an_embedder_that_stays_busy_fails_the_file(stage: Stage, embedder: Obedient) -> None:
    failing(embedder, limits.INGEST_ATTEMPTS)
    file = await upload(stage, "apple")
    store_id = await make(stage, file)
    assert (await settled(stage, store_id))["failed"] == 1
    assert await error(stage, store_id, file) == "The provider is busy."
    good = await upload(stage, "pear")
    await attach(stage, store_id, good)
    assert (await settled(stage, store_id))["completed"] == 1
    await attach(stage, store_id, file)
    assert (await settled(stage, store_id))["completed"] == 2
    assert (await place(stage, store_id, file))["last_error"] is None
    await quiet(stage)


async def test_each_part_may_fail_for_a_moment(stage: Stage, embedder: Obedient) -> None:
    async def fail() -> None:
        if embedder.calls % 3:
            raise EmbedderError("The provider is busy.", retryable=True)

    embedder.before = fail
    content = text(3 * LONG)
    file = await upload(stage, content)
    store_id = await make(stage, file, chunking_strategy=SMALL)
    assert (await settled(stage, store_id))["completed"] == 1
    found = await document(stage, store_id, file)
    assert found.parts > limits.INGEST_ATTEMPTS
    # What is stored is not embedded again, only the part that waits for the next one.
    assert len(embedder.texts) <= 2 * found.chunks
    page = await stage.get(f"/vector_stores/{store_id}/files/{file}/content")
    assert "".join(piece["text"] for piece in page["data"]) == content


async def test_an_embedder_that_refuses_is_not_asked_again(
    stage: Stage, embedder: Obedient
) -> None:
    failing(embedder, 1, retryable=False)
    bad = await upload(stage, "apple")
    store_id = await make(stage, bad)
    assert (await settled(stage, store_id))["failed"] == 1
    assert (await error(stage, store_id, bad), embedder.calls) == ("The provider is busy.", 1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Obedient("model-a", 16), ["model-a", "16 dimensions", "have 8"]),
        (Obedient("model-b", 8), ["'model-a'", "'model-b'", "UNDERSTUDY_EMBEDDING_MODEL"]),
        (None, ["'model-a'", "none"]),
    ],
    ids=["dimensions", "model", "none"],
)
async def test_vectors_of_another_kind_are_refused(
    stage: Stage, other: Obedient | None, words: list[str]
) -> None:
    first, second = await upload(stage, "apple"), await upload(stage, "pear")
    store_id = await make(stage, first)
    await settled(stage, store_id)
    use(stage, other)
    await attach(stage, store_id, second)
    assert (await settled(stage, store_id))["failed"] == 1
    message = await error(stage, store_id, second)
    assert all(word in message for word in words), message
    new = await make(stage, second)
    assert (await settled(stage, new))["completed"] == 1


async def test_an_embedder_that_comes_late_finds_a_store_of_keywords(stage: Stage) -> None:
    embedder = stage.app.embedders._chosen
    use(stage, None)
    store_id = await make(stage, await upload(stage, "apple"))
    await settled(stage, store_id)
    use(stage, embedder)
    second = await upload(stage, "pear")
    await attach(stage, store_id, second)
    assert (await settled(stage, store_id))["completed"] == 2
    assert await find(stage, store_id, "pear") == [second]


async def test_an_embedder_that_comes_amid_the_first_files_fails_none(
    stage: Stage, embedder: Obedient, database: Hooked
) -> None:
    use(stage, None)
    claims = 0

    async def come(names: list[str]) -> None:
        nonlocal claims
        claims += "claim_embedder" in names
        if claims == 1:
            use(stage, embedder)

    database.after = come
    files = [await upload(stage, f"apple {n}") for n in range(8)]
    long = await upload(stage, text(LONG))
    store_id = await make(stage)
    body = {"file_ids": [files[0], long, *files[1:]], "chunking_strategy": SMALL}
    await stage.post(f"/vector_stores/{store_id}/file_batches", body)
    assert (await settled(stage, store_id))["completed"] == 9
    [row] = await stage.app.store.indexes(PROJECT, [store_id])
    assert row.embedding_model == ""
    assert await find(stage, store_id, "omega") == [long]
