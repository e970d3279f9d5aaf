"""Sandbox files: what code finds under /mnt/data, and how it comes there.

The record knows which files belong there, whatever became of a session: those of the assistant
and the thread, by their original names, and what earlier code wrote, where it wrote it. A session
has notes of what it was given and what of it is stored. So a new one gets everything, an old one
what it lacks, and a file that code overwrote or deleted stays as code left it.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
import structlog

from understudy import limits
from understudy.blobs import BlobsUnavailable, NoBlob
from understudy.engine import code_logs, files
from understudy.engine.app import App
from understudy.engine.record import decoded, private_of
from understudy.machine.happenings import State
from understudy.machine.private import BlobRef, FilePrivate, SandboxFile, StepPrivate
from understudy.machine.sandbox_names import free_path, safe_name, safe_path
from understudy.sandbox import FileRefused, Note, Session
from understudy.store.records import Record
from understudy.wire.files import File
from understudy.wire.messages import Attachment
from understudy.wire.runs import Run
from understudy.wire.steps import CodeInterpreterCall, Step, ToolCallsDetails
from understudy.wire.threads import Thread
from understudy.wire.tools import CodeInterpreterTool, ToolResources

_log = structlog.get_logger()

_PAGE = 100
# The note of a session that was prepared; no file has this path.
_PREPARED = ""
_AWAY = "its content cannot be read now."


class _Attaching(msgspec.Struct):
    """As much of a message as is needed here: its text may be long."""

    role: str
    run_id: str | None
    attachments: list[Attachment]


@dataclass(frozen=True)
class Mount:
    """A file that belongs under /mnt/data. `is_input` tells those of assistant and thread from
    those that code wrote."""

    path: str
    file_id: str
    blobs: Sequence[BlobRef]
    is_input: bool


def has_code(run: Run) -> bool:
    """Whether the run can run code."""
    return any(isinstance(tool, CodeInterpreterTool) for tool in run.tools)


def links(mounts: Sequence[Mount]) -> dict[str, str]:
    """What the run may link: path or file id → file id."""
    by_id = {mount.file_id: mount.file_id for mount in mounts}
    return by_id | {mount.path: mount.file_id for mount in mounts}


async def mounts(app: App, project: str, state: State) -> list[Mount]:
    """What belongs under /mnt/data; deleted and expired files do not."""
    written = await _written(app, project, state)
    inputs = await _inputs(app, project, state.run, {mount.path for mount in written})
    return [*inputs, *written]


async def _inputs(app: App, project: str, run: Run, taken: set[str]) -> list[Mount]:
    """The files of assistant and thread, under names that are not taken: two of one name get a
    number, and so does one whose name code took for a file of its own."""
    thread = await app.store.get("thread", project, run.thread_id)
    resources = [run.tool_resources]
    if thread is not None:
        resources.append(decoded(thread, Thread).tool_resources)
    ids = list(dict.fromkeys(id for one in resources for id in _ids_in(one)))
    inputs: list[Mount] = []
    for record in await files.present(app, project, ids):
        path = free_path(safe_name(decoded(record, File).filename), taken)
        taken.add(path)
        inputs.append(Mount(path, record.id, files.blobs_of(record), is_input=True))
    return inputs


def _ids_in(resources: ToolResources) -> Sequence[str]:
    return resources.code_interpreter.file_ids if resources.code_interpreter else ()


async def _written(app: App, project: str, state: State) -> list[Mount]:
    """What code wrote before: in earlier runs, as their messages have it, and in this one. The
    last that was written at a path counts."""
    of_messages = await _attached(app, project, state.run)
    own = await _own(app, project, state)
    paths = {one.file_id: one.path for one in own}
    newest = list(dict.fromkeys(reversed([*of_messages, *paths])))[: limits.CODE_RESTORED_FILES]
    found: dict[str, Mount] = {}
    for record in reversed(await files.present(app, project, newest)):
        path = safe_path(paths.get(record.id) or _path_of(record))
        if path is not None:
            found.pop(path, None)
            found[path] = Mount(path, record.id, files.blobs_of(record), is_input=False)
    return list(found.values())


def _path_of(record: Record) -> str:
    return private_of(record, FilePrivate).path or decoded(record, File).filename


async def _attached(app: App, project: str, run: Run) -> list[str]:
    """The files that the thread's last messages of assistants have, oldest first."""
    page, _ = await app.store.list(
        "message",
        project,
        run.thread_id,
        limit=limits.CODE_MESSAGES_SEEN,
        order="desc",
        after=None,
        before=None,
    )
    messages = [decoded(record, _Attaching) for record in reversed(page)]
    return [
        one.file_id
        for message in messages
        if message.role == "assistant" and message.run_id is not None
        for one in message.attachments
    ]


async def _own(app: App, project: str, state: State) -> list[SandboxFile]:
    """The files that the run itself wrote, oldest first."""
    if state.private.turn == 0:
        return []
    own: list[SandboxFile] = []
    after = None
    while True:  # Bounded by the turns of a run and the calls of a turn.
        page, has_more = await app.store.list(
            "step", project, state.run.id, limit=_PAGE, order="asc", after=after, before=None
        )
        own += [file for record in page for file in private_of(record, StepPrivate).files]
        if not has_more:
            return own
        after = page[-1].id


# Into a session.


async def prepare(
    app: App, project: str, run: Run, session: Session, mounts: Sequence[Mount]
) -> list[str]:
    """Everything is where it belongs; the lines that the logs begin with. Raises SandboxLost."""
    lines: list[str] = []
    if _PREPARED not in session.notes:
        if await _ran_before(app, project, run):
            lines.append(code_logs.restarted())
        session.notes[_PREPARED] = Note("", "")
    are_away = False
    for mount in mounts:
        if _is_there(session, mount):
            continue
        if not are_away:
            try:
                lines += await _put(app, session, mount)
            except BlobsUnavailable as away:
                _log.warning("files cannot be put", file_id=mount.file_id, reason=str(away))
                are_away = True
        if are_away:  # Once is enough: a call does not wait for each file, and the next one asks.
            lines.append(code_logs.not_put(mount.path, _AWAY))
    return lines


def known_as(session: Session, path: str) -> str | None:
    """The file object of a file in a session, if it was ever stored."""
    note = session.notes.get(path)
    return None if note is None else note.file_id


def is_link(session: Session, path: str) -> bool:
    """Whether a path is another name of a file that was put."""
    return known_as(session, path) == path


def _is_there(session: Session, mount: Mount) -> bool:
    """Whether nothing has to be put. What code did to a file since is its own affair."""
    if mount.is_input:
        was_put = is_link(session, mount.file_id) and mount.path in session.notes
        return was_put or known_as(session, mount.path) == mount.file_id
    return mount.path in session.notes


async def _put(app: App, session: Session, mount: Mount) -> list[str]:
    """One file and its link by id; what the logs say when that can never be, and then only once.
    Raises BlobsUnavailable."""
    path = free_path(mount.path, session.notes) if mount.is_input else mount.path
    lines: list[str] = []
    note = Note("", mount.file_id)
    try:
        async with aclosing(files.content(app, mount.blobs)) as pieces:
            info = await session.put(path, pieces)
        note = Note(info.stamp, mount.file_id)
    except FileRefused as refused:
        lines.append(code_logs.not_put(path, str(refused)))
    except NoBlob as lost:
        _log.warning("a file is lost", file_id=mount.file_id, key=lost.key)
        lines.append(code_logs.not_put(path, "its content is lost."))
    if not lines:
        await _link(session, mount.file_id, path)
    session.notes[path] = note
    session.notes[mount.file_id] = Note("", mount.file_id)
    return lines


async def _link(session: Session, file_id: str, path: str) -> None:
    """The id as another name, as at the original. Code may have taken it."""
    try:
        await session.link(file_id, path)
    except FileRefused as refused:
        _log.info("a file has no link by its id", file_id=file_id, reason=str(refused))


async def _ran_before(app: App, project: str, run: Run) -> bool:
    """Whether code ran in the thread, so that its variables are lost with its session."""
    page, _ = await app.store.list(
        "run",
        project,
        run.thread_id,
        limit=limits.CODE_RUNS_SEEN,
        order="desc",
        after=None,
        before=None,
    )
    for record in page:
        if has_code(decoded(record, Run)) and await _has_run_code(app, project, record.id):
            return True
    return False


async def _has_run_code(app: App, project: str, run_id: str) -> bool:
    page, _ = await app.store.list(
        "step", project, run_id, limit=_PAGE, order="asc", after=None, before=None
    )
    steps = [decoded(record, Step) for record in page]
    return any(
        isinstance(call, CodeInterpreterCall)
        for step in steps
        if step.status == "completed" and isinstance(step.step_details, ToolCallsDetails)
        for call in step.step_details.tool_calls
    )
