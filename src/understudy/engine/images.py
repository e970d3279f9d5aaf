"""Images: the image files of a conversation as data URLs, for the provider."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import aclosing

import structlog

from understudy import limits
from understudy.blobs import BlobsUnavailable, NoBlob
from understudy.engine import files
from understudy.engine.app import App
from understudy.engine.record import decoded
from understudy.store.records import Record
from understudy.wire.files import File
from understudy.wire.images import IMAGE_TYPES
from understudy.wire.messages import ImageFileContent, Message
from understudy.wire.searchable import extension_of

_log = structlog.get_logger()

_AWAY = "cannot be read now"


async def data_urls(
    app: App, project: str, history: Sequence[Message]
) -> tuple[dict[str, str], dict[str, str]]:
    """The images of these messages by file id; and of those that cannot be sent, why not.

    The newest are the ones that are sent when all together are too large. Of an image of which
    the same run makes many turns the bytes are read for each: they are not kept in memory.
    """
    ids = list(dict.fromkeys(reversed(list(_shown(history)))))
    urls: dict[str, str] = {}
    reasons: dict[str, str] = {}
    are_away = False
    left = limits.IMAGES_BYTES
    for record in await files.present(app, project, ids):
        size = sum(blob.size_bytes for blob in files.blobs_of(record))
        if size > limits.IMAGE_BYTES:
            reasons[record.id] = f"is larger than {limits.IMAGE_BYTES} bytes"
        elif size > left:
            reasons[record.id] = "does not fit beside newer images"
        elif are_away:  # Once is enough: a turn does not wait for each image.
            reasons[record.id] = _AWAY
        else:
            try:
                url = await _data_url(app, record)
            except BlobsUnavailable as away:
                _log.warning("images cannot be read", file_id=record.id, reason=str(away))
                reasons[record.id] = _AWAY
                are_away = True
                continue
            if url is not None:
                urls[record.id] = url
                left -= size
    return urls, reasons


def _shown(history: Sequence[Message]) -> Iterator[str]:
    """The ids of the image files that users show, oldest first."""
    for message in history:
        if message.role == "user":
            for part in message.content:
                if isinstance(part, ImageFileContent):
                    yield part.image_file.file_id


async def _data_url(app: App, record: Record) -> str | None:
    """The image itself; None for one that is lost, of which the model is told. Raises
    BlobsUnavailable."""
    kind = IMAGE_TYPES.get(extension_of(decoded(record, File).filename))
    blobs = files.blobs_of(record)
    if kind is None or not blobs:
        return None
    try:
        async with aclosing(files.content(app, blobs)) as pieces:
            data = b"".join([piece async for piece in pieces])
    except NoBlob as lost:
        _log.warning("an image is lost", file_id=record.id, key=lost.key)
        return None
    return f"data:{kind};base64,{b64encode(data).decode()}"
