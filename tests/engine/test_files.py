"""What happens to files by themselves: they expire, and their bytes go when nobody has them."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.engine.stage import Clock, Json, Stage, eventually, opened_stage
from understudy import limits
from understudy.blobs import BlobsUnavailable, NoBlob
from understudy.engine import files
from understudy.store import Conflict, changes
from understudy.store.store import Store

_UPLOAD = {"filename": "u", "purpose": "vision", "bytes": 3, "mime_type": "image/png"}
_EXPIRY = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
_PNG = b"\x89PNG\r\n\x1a\n"


async def upload(
    stage: Stage, name: str = "a.png", data: bytes = _PNG, more: Json | None = None
) -> Json:
    """A file."""
    answer = await stage.http.post(
        "/files", data={"purpose": "vision", **(more or {})}, files={"file": (name, data)}
    )
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def status_of(stage: Stage, method: str, path: str, **more: Any) -> int:
    """The status of an answer."""
    return (await stage.http.request(method, path, **more)).status_code


async def blob_keys(stage: Stage, file: Json) -> list[str]:
    """The blobs of a file."""
    record = await stage.app.store.get("file", "default", file["id"])
    assert record is not None
    return [blob.key for blob in files.blobs_of(record)]


async def until_no_job(stage: Stage, id: str) -> None:
    """Wait until nothing is left to do on something."""
    async with asyncio.timeout(10):
        while await stage.app.store.job(id) is not None:
            stage.app.bell.ring("jobs")
            await asyncio.sleep(0.002)


async def is_there(stage: Stage, key: str) -> bool:
    """Whether a blob is."""
    try:
        async for _ in stage.app.blobs.open(key):
            pass
    except NoBlob:
        return False
    return True


async def until_gone(stage: Stage, *keys: str) -> None:
    """Wait until blobs are deleted and no job is left of that."""
    async with asyncio.timeout(10):
        for key in keys:
            while await is_there(stage, key) or await stage.app.store.job(key) is not None:
                stage.app.bell.ring("jobs")
                await asyncio.sleep(0.002)


@pytest.mark.assertion(177)
async def test_an_expired_file_is_unknown_from_that_second_on(store: Store, clock: Clock) -> None:
    async with opened_stage(store, clock, works=False) as stage:
        file = await upload(stage, more=_EXPIRY)
        path = f"/files/{file['id']}"
        image = {"type": "image_file", "image_file": {"file_id": file["id"]}}
        message = {"role": "user", "content": [image]}
        resources = {"code_interpreter": {"file_ids": [file["id"]]}}
        thread = await stage.post("/threads", {"tool_resources": resources})
        clock.at = file["expires_at"] - 0.001
        assert await status_of(stage, "GET", path) == 200
        clock.at = file["expires_at"]
        assert await status_of(stage, "GET", path) == 404
        assert await status_of(stage, "GET", f"{path}/content") == 404
        assert await status_of(stage, "DELETE", path) == 404
        assert (await stage.get("/files"))["data"] == []
        assert await status_of(stage, "POST", "/threads", json={"messages": [message]}) == 404
        shown = await stage.get(f"/threads/{thread['id']}")
        assert shown["tool_resources"] == {"code_interpreter": {"file_ids": []}}


@pytest.mark.assertion(177)
async def test_an_expired_file_goes_with_its_bytes(stage: Stage) -> None:
    file, other = await upload(stage, more=_EXPIRY), await upload(stage)
    keys = await blob_keys(stage, file)
    stage.clock.at = file["expires_at"]
    await until_gone(stage, *keys)
    assert await stage.app.store.get("file", "default", file["id"]) is None
    assert await stage.app.store.job(file["id"]) is None
    assert await is_there(stage, *await blob_keys(stage, other))


async def test_a_file_that_is_deleted_does_not_expire_again(stage: Stage) -> None:
    file = await upload(stage, more=_EXPIRY)
    assert await status_of(stage, "DELETE", f"/files/{file['id']}") == 200
    assert await stage.app.store.job(file["id"]) is None


@pytest.mark.parametrize("works", [True, False])
async def test_an_upload_that_is_left_alone_expires(
    store: Store, clock: Clock, works: bool
) -> None:
    async with opened_stage(store, clock, works=works) as stage:
        made = await stage.post("/uploads", _UPLOAD)
        path = f"/uploads/{made['id']}"
        part = await stage.http.post(f"{path}/parts", files={"data": ("a", b"abc")})
        assert part.status_code == 200
        clock.at = made["expires_at"]
        assert await stage.get(path) == {**made, "status": "expired"}
        bodies = {"complete": {"part_ids": [part.json()["id"]]}, "cancel": {}}
        for end, body in bodies.items():
            assert await status_of(stage, "POST", f"{path}/{end}", json=body) == 400
        assert await status_of(stage, "POST", f"{path}/parts", files={"data": ("a", b"abc")}) == 400
        if works:
            await until_no_job(stage, made["id"])
            assert await stage.app.store.get_many("part", "default", [part.json()["id"]]) == []
            record = await stage.app.store.get("upload", "default", made["id"])
            assert record is not None and b'"expired"' in record.body


async def test_bytes_that_nobody_keeps_go(stage: Stage) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"

    async with files.promised(stage.app, "default") as key:
        await stage.app.blobs.put(key, pieces())
    await until_gone(stage, key)


async def test_bytes_that_are_kept_stay(stage: Stage) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"

    async with files.promised(stage.app, "default") as key:
        await stage.app.blobs.put(key, pieces())
        await stage.app.store.commit(files.kept(key))
    assert await stage.app.store.job(key) is None
    stage.clock.at += limits.BLOB_CLAIM_S + 1
    stage.app.bell.ring("jobs")
    await asyncio.sleep(0.05)
    assert await is_there(stage, key)


async def test_a_promise_that_was_carried_out_cannot_be_kept_any_more(stage: Stage) -> None:
    async with files.promised(stage.app, "default") as key:
        stage.clock.at += limits.BLOB_CLAIM_S + 1
        await until_gone(stage, key)
        with pytest.raises(Conflict):
            await stage.app.store.commit(files.kept(key))


class Away:
    """Blobs that cannot be deleted for a while."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.is_away = True
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def delete(self, key: str) -> None:
        """The inner ones', unless they are away."""
        self.tries += 1
        if self.is_away:
            raise BlobsUnavailable("away")
        await self._inner.delete(key)


async def test_blobs_that_are_away_are_deleted_later(stage: Stage) -> None:
    away = Away(stage.app.blobs)
    object.__setattr__(stage.app, "blobs", away)
    file = await upload(stage)
    [key] = await blob_keys(stage, file)
    assert await status_of(stage, "DELETE", f"/files/{file['id']}") == 200
    await eventually(lambda: away.tries > 0 and key not in stage.held)
    job = await stage.app.store.job(key)
    assert job is not None and job.due_at == stage.clock.at + limits.BLOB_RETRY_S
    assert job.lease_owner is None
    away.is_away = False
    stage.clock.at += limits.BLOB_RETRY_S
    await until_gone(stage, key)


async def test_parts_that_cannot_be_deleted_wait_for_their_upload(stage: Stage) -> None:
    away = Away(stage.app.blobs)
    object.__setattr__(stage.app, "blobs", away)
    made = await stage.post("/uploads", _UPLOAD)
    part = await stage.http.post(f"/uploads/{made['id']}/parts", files={"data": ("a", b"abc")})
    await stage.post(f"/uploads/{made['id']}/cancel", {})
    await eventually(lambda: away.tries > 0 and made["id"] not in stage.held)
    assert await stage.app.store.get_many("part", "default", [part.json()["id"]]) != []
    away.is_away = False
    stage.clock.at += 2 * limits.BLOB_RETRY_S  # The cancel has taken a fence of its own.
    await until_no_job(stage, made["id"])
    assert await stage.app.store.get_many("part", "default", [part.json()["id"]]) == []


async def test_a_part_that_comes_while_the_upload_ends_is_refused(stage: Stage) -> None:
    made = await stage.post("/uploads", _UPLOAD)
    now = stage.clock.at
    await stage.app.store.commit(
        changes.take_job(
            made["id"], now=now, fence=0, owner=None, lease_until=None, due_at=now + 1000
        )
    )
    answer = await stage.http.post(f"/uploads/{made['id']}/parts", files={"data": ("a", b"abc")})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"Upload '{made['id']}' is not pending."


# Images.


async def asked(stage: Stage, *file_ids: str) -> list[Any]:
    """The parts of the message that the provider gets for a message that shows these."""
    images = [{"type": "image_file", "image_file": {"file_id": id}} for id in file_ids]
    content = [{"type": "text", "text": "What is this?"}, *images]
    thread = await stage.post("/threads", {"messages": [{"role": "user", "content": content}]})
    assistant = await stage.post("/assistants", {"model": "m"})
    path = f"/threads/{thread['id']}/runs"
    requests = []
    stream = stage.model.stream

    def noted(request: Any, **more: Any) -> Any:
        requests.append(request)
        return stream(request, **more)

    stage.model.stream = noted  # type: ignore[method-assign]
    await stage.until(await stage.post(path, {"assistant_id": assistant["id"]}))
    [request] = requests
    parts = request.messages[-1].content
    return [parts] if isinstance(parts, str) else list(parts)


async def test_an_image_reaches_the_model_as_a_data_url(stage: Stage) -> None:
    file = await upload(stage, "a.JPG", _PNG)
    _, image = await asked(stage, file["id"])
    data = b64encode(_PNG).decode()
    assert image.image_url.url == f"data:image/jpeg;base64,{data}"


async def test_an_image_that_was_deleted_is_said_to_be_missing(stage: Stage) -> None:
    file = await upload(stage)
    content = [{"type": "image_file", "image_file": {"file_id": file["id"]}}]
    await stage.post("/threads", {"messages": [{"role": "user", "content": content}]})
    keys = await blob_keys(stage, file)
    await stage.app.blobs.delete(keys[0])
    [text] = await asked(stage, file["id"])
    assert f"[The image {file['id']} is not available.]" in text


async def test_images_that_are_too_large_are_said_in_words(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAGE_BYTES", 100)
    monkeypatch.setattr(limits, "IMAGES_BYTES", 150)
    sizes = (60, 80, 70, 101)
    made = [(await upload(stage, data=bytes(size)))["id"] for size in sizes]
    _, first, second, third, fourth = await asked(stage, *made)
    assert first.text == f"[The image {made[0]} does not fit beside newer images.]"
    assert second.image_url.url.startswith("data:image/png;base64,")
    assert third.image_url.url.startswith("data:image/png;base64,")
    assert fourth.text == f"[The image {made[3]} is larger than 100 bytes.]"
