"""Content: the text that was read from a file of a vector store."""

from understudy import limits
from understudy.engine.app import App


async def text_of(app: App, project: str, store_id: str, file_id: str) -> str | None:
    """The whole text; None while the file is not indexed."""
    document = await app.store.document(project, store_id, file_id)
    if document is None or document.state != "ready":
        return None
    pieces: list[str] = []
    while len(pieces) < document.chunks:
        rows = await app.store.text(document.number, start=len(pieces), limit=limits.CONTENT_CHUNKS)
        if not rows:
            break  # It went meanwhile.
        pieces += [text for _, text in rows]
    return "".join(pieces)
