"""Files and uploads: sent, listed, read and deleted, whole or in parts."""

import hashlib
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai

from tests.acceptance.client.scene import Scene, refused, same, scenario

DATA = bytes(range(256)) * 1_000


@scenario(169, 172, 173, 174, 175, 176)
def files(scene: Scene) -> None:
    """From a path, from memory, under a name in any script."""
    files = scene.client.files
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "naïve 报告.txt"
        path.write_bytes(DATA)
        first = files.create(file=path, purpose="vision")
    assert first.id.startswith("file-") and len(first.id) == len("file-") + 22
    same((first.object, first.purpose, first.status), ("file", "vision", "processed"))
    same((first.bytes, first.filename), (len(DATA), "naïve 报告.txt"))
    same(files.retrieve(first.id), first)
    same(files.wait_for_processing(first.id), first)
    content = files.content(first.id)
    same((content.read(), content.response.headers["content-type"]), (DATA, "text/plain"))

    second = files.create(file=("report.json", b"{}"), purpose="assistants")
    text = "Not allowed to download files of purpose: assistants"
    with refused(openai.BadRequestError, text):
        files.content(second.id)
    found = [one.id for one in files.list(limit=1)]
    assert found.index(second.id) < found.index(first.id)
    assert first.id not in [one.id for one in files.list(purpose="assistants")]

    deleted = files.delete(first.id)
    same((deleted.id, deleted.object, deleted.deleted), (first.id, "file", True))
    with refused(openai.NotFoundError, f"No such File object: {first.id}", param="id"):
        files.retrieve(first.id)
    with refused(openai.NotFoundError, f"No such File object: {first.id}", param="id"):
        files.content(first.id)


@scenario(170, 177)
def files_have_rules(scene: Scene) -> None:
    """What a form may say, as the SDK spells it."""
    wrong: Any = "foo"
    supported = "'assistants', 'batch', 'fine-tune', 'vision', 'user_data', and 'evals'"
    text = f"Invalid value: 'foo'. Supported values are: {supported}."
    with refused(openai.BadRequestError, text, code="invalid_value", param="purpose"):
        scene.client.files.create(file=b"x", purpose=wrong)
    more: Any = {"extra_body": {"expires_after": {"anchor": "created_at", "seconds": 3600}}}
    made = scene.client.files.create(file=b"x", purpose="batch", **more)
    same((made.filename, made.bytes), ("upload", 1))
    expires_at: Any = made.to_dict()["expires_at"]
    same(expires_at, made.created_at + 3600)
    scene.client.files.delete(made.id)


@scenario(78, 79)
def images_are_shown_to_the_model(scene: Scene) -> None:
    """An uploaded image reaches the provider; what is none is refused."""
    files, messages = scene.client.files, scene.client.beta.threads.messages
    image = files.create(file=("cat.PNG", b"\x89PNG\r\n\x1a\n"), purpose="vision")
    other = files.create(file=("cat.pdf", b"%PDF-1.4"), purpose="vision")
    thread = scene.client.beta.threads.create()

    def shown(id: str) -> Any:
        return [{"type": "image_file", "image_file": {"file_id": id, "detail": "low"}}]

    messages.create(thread.id, role="user", content=shown(image.id))
    with refused(
        openai.BadRequestError,
        "Invalid message content: Expected file type to be a supported format: .jpeg, .jpg, .png, "
        ".gif, .webp but got .pdf.",
        code="invalid_image_format",
    ):
        messages.create(thread.id, role="user", content=shown(other.id))
    with refused(openai.NotFoundError, "No such File object: file-none", param="id"):
        messages.create(thread.id, role="user", content=shown("file-none"))


@scenario(179, 180, 181)
def uploads(scene: Scene) -> None:
    """Parts at once, completed in their order; sizes, digests and states are checked."""
    uploads = scene.client.uploads
    pieces = [DATA[:100_000], DATA[100_000:200_000], DATA[200_000:]]
    upload = uploads.create(
        bytes=len(DATA), filename="big.png", mime_type="image/png", purpose="vision"
    )
    same((upload.object, upload.status, upload.file), ("upload", "pending", None))
    same(upload.expires_at, upload.created_at + 3600)
    lock = threading.Lock()
    ids: dict[int, str] = {}

    def send(place: int) -> None:
        part = uploads.parts.create(upload.id, data=pieces[place])
        same((part.object, part.upload_id), ("upload.part", upload.id))
        with lock:
            ids[place] = part.id

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, [2, 0, 1]))
    order = [ids[0], ids[1], ids[2]]
    short = f"The parts have 100000 bytes together, but the upload was created with {len(DATA)}"
    with refused(openai.BadRequestError, f"{short} bytes.", code="invalid_value", param="part_ids"):
        uploads.complete(upload.id, part_ids=[order[0]])
    digest = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    done = uploads.complete(upload.id, part_ids=order, md5=digest)
    assert done.file is not None
    same((done.status, done.file.bytes, done.file.filename), ("completed", len(DATA), "big.png"))
    same(scene.client.files.content(done.file.id).read(), DATA)
    over = f"Upload '{upload.id}' is not pending."
    with refused(openai.BadRequestError, over):
        uploads.complete(upload.id, part_ids=order)

    other = uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="assistants")
    same(uploads.cancel(other.id).status, "cancelled")
    with refused(openai.BadRequestError, f"Upload '{other.id}' is not pending."):
        uploads.parts.create(other.id, data=b"abc")


@scenario(182)
def upload_file_chunked(scene: Scene) -> None:
    """The helper of the SDK sends three parts, from a path and from memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.png"
        path.write_bytes(DATA)
        from_path = scene.client.uploads.upload_file_chunked(
            file=path, mime_type="image/png", purpose="vision", part_size=100_000
        )
    from_memory = scene.client.uploads.upload_file_chunked(
        file=DATA,
        filename="big.png",
        bytes=len(DATA),
        mime_type="image/png",
        purpose="vision",
        part_size=100_000,
    )
    for done in (from_path, from_memory):
        assert done.status == "completed" and done.file is not None
        same((done.file.filename, done.file.bytes), ("big.png", len(DATA)))
        same(scene.client.files.content(done.file.id).read(), DATA)
