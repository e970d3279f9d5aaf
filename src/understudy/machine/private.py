"""What the server keeps with an object and never shows."""

from typing import Any

from understudy.wire.base import Wire
from understudy.wire.runs import Usage

NO_USAGE = Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)


class Call(Wire, frozen=True, kw_only=True):
    """One tool call of a turn that is not answered yet. `name` is the model's word for it;
    `extra` is the provider's own JSON that goes back as it came."""

    id: str
    name: str
    arguments: str
    extra: dict[str, Any] | None = None


class SandboxFile(Wire, frozen=True, kw_only=True):
    """A file that code wrote: where it lay, below /mnt/data, and the file object of its bytes."""

    path: str
    file_id: str


class MessagePrivate(Wire, frozen=True, kw_only=True):
    """With a message: its size in tokens, counted once, and the turn that wrote it."""

    tokens: int = 0
    turn: int | None = None


class StepPrivate(Wire, frozen=True, kw_only=True):
    """With a step: its turn, so that the steps of one turn become one provider message again,
    and each call as the provider made it (call id → name and extra content). `files` are those
    that its code wrote."""

    turn: int
    calls: list[Call] = []
    files: list[SandboxFile] = []


class RunPrivate(Wire, frozen=True, kw_only=True):
    """With a run: what the next driver must know and the API does not show.

    `turn` counts the model turns that ended; `prompt_tokens` and `completion_tokens` are
    their sums; `turn_usage` is the last turn's usage until a step that closes takes it;
    `pending` are the calls of the last turn that are not answered; `fixed_tokens` is the
    size of instructions and tools, counted once; `open_step` and `open_message` are ids;
    `include_content` says that the client wants the text of search results in its events;
    `drawn` are the images (file ids) and `written` the files of code that no message has yet.
    """

    turn: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    turn_usage: Usage | None = None
    pending: list[Call] = []
    fixed_tokens: int = 0
    open_step: str | None = None
    open_message: str | None = None
    estimated: bool = False
    lost_calls: int = 0
    include_content: bool = False
    drawn: list[str] = []
    written: list[SandboxFile] = []


class BlobRef(Wire, frozen=True, kw_only=True):
    """Some bytes: their key among the blobs, and how many they are."""

    key: str
    size_bytes: int


class FilePrivate(Wire, frozen=True, kw_only=True):
    """With a file: its bytes, blob after blob. An upload's parts become its file's blobs. Of a
    file that code wrote, `path` is where it lay below /mnt/data."""

    blobs: list[BlobRef] = []
    path: str | None = None


class ThreadPrivate(Wire, frozen=True, kw_only=True):
    """With a thread: the vector stores that were made for it alone and go with it."""

    own_stores: list[str] = []


class BatchPrivate(Wire, frozen=True, kw_only=True):
    """With a batch of files of a vector store: which files, and whether it was cancelled."""

    file_ids: list[str]
    is_cancelled: bool = False


class UploadPrivate(Wire, frozen=True, kw_only=True):
    """With an upload: how long its file will last."""

    expires_after_s: int | None = None
