"""Messages (SPEC 7.3)."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from understudy import limits
from understudy.api import file_ids, objects, stores, tool_resources
from understudy.api.operation import Call, operation
from understudy.errors import ApiError
from understudy.machine.message import message_private, user_message
from understudy.machine.private import ThreadPrivate
from understudy.machine.transcript import Stored
from understudy.store import Conflict, Statement, changes
from understudy.wire.base import Deleted, ListOf, ModifyMetadata, given
from understudy.wire.messages import Attachment, CreateMessage, ImageFileContent, Message
from understudy.wire.query import ListQuery
from understudy.wire.searchable import extension_of, is_searchable
from understudy.wire.threads import Thread
from understudy.wire.tools import AttachmentCodeInterpreter, AttachmentFileSearch

TAG = "Messages"


@operation("POST", "/threads/{thread_id}/messages", tag=TAG, beta=True)
async def create_message(call: Call, thread_id: str, body: CreateMessage) -> Message:
    """Add a message to a thread.

    Refused while a run of the thread is active. Attached files become part of the thread's
    tool resources in the same moment.
    """
    # The count comes first: it knows the project, so that a stranger learns nothing of a run.
    statements: list[Statement] = [grown(call, thread_id, 1), changes.thread_free(thread_id)]
    statements += await attach(call, thread_id, [body])
    now = call.app.world.now()
    [made] = new_messages(call, thread_id, [body], at=now)
    statements.append(insert(call, made, at=now))
    try:
        await call.commit(*statements, answer=made.message)
    except Conflict as conflict:
        await explain(call, thread_id, conflict)
        raise
    stores.ring(call)
    return made.message


async def explain(call: Call, thread_id: str, conflict: Conflict) -> None:
    """Raise what a refused commit means to the client, if it means anything but: try again."""
    match conflict.what:
        case "thread_free":
            run = await call.app.store.active_run(thread_id)
            if run is not None:
                raise ApiError.thread_busy_message(thread_id, run.id) from None
        case "grow":
            await objects.require(call, "thread", thread_id)
            raise ApiError.thread_full(limits.THREAD_MESSAGES) from None


def grown(call: Call, thread_id: str, by: int) -> Statement:
    """Count messages of a thread; refused when the thread is gone or full.

    What runs write may go beyond the limit: such a thread can still run, and be thinned out.
    """
    limit = limits.THREAD_MESSAGES if by > 0 else limits.INTEGER_MAX
    return changes.grow(thread_id, project=call.project, by=by, limit=limit)


def new_messages(
    call: Call, thread_id: str, bodies: Sequence[CreateMessage], *, at: float
) -> list[Stored]:
    """The messages that these bodies make, in their order; nothing is stored yet."""
    new_id = call.app.world.new_id
    made = [
        user_message(body, id=new_id("message"), thread_id=thread_id, now=int(at))
        for body in bodies
    ]
    return [Stored(message, message_private(message)) for message in made]


def insert(call: Call, made: Stored, *, at: float) -> Statement:
    """The statement that stores a new message."""
    message = made.message
    return objects.insert(
        call, "message", message, at=at, parent=message.thread_id, private=made.private
    )


async def attach(call: Call, thread_id: str, bodies: Sequence[CreateMessage]) -> list[Statement]:
    """Check what the bodies name, and the statement that puts their files into the thread."""
    if not any(body.attachments or not isinstance(body.content, str) for body in bodies):
        return []
    loaded = await objects.load(call, "thread", thread_id, Thread)
    [shown] = await file_ids.without_gone(call, [loaded.object])
    old = shown.tool_resources
    attachments = await attached(call, bodies)
    prepared = await tool_resources.with_attachments(call, old, attachments)
    if prepared.resources == old:
        return list(prepared.statements)
    thread = replace(loaded.object, tool_resources=prepared.resources)
    kept = msgspec.json.decode(loaded.record.private or b"{}", type=ThreadPrivate)
    private = replace(kept, own_stores=[*kept.own_stores, *prepared.made])
    return [
        objects.replace(call, loaded, thread, private=private),
        *prepared.statements,
    ]


async def attached(call: Call, bodies: Sequence[CreateMessage]) -> tool_resources.Attachments:
    """The files that these bodies attach, everything named being there and fit for its tool."""
    attachments = [one for body in bodies for one in given(body.attachments, [])]
    for_code = [one.file_id for one in attachments if _is_for(one, AttachmentCodeInterpreter)]
    for_search = [one.file_id for one in attachments if _is_for(one, AttachmentFileSearch)]
    images = [id for body in bodies for id in _image_files(body)]
    named = [one.file_id for one in attachments]
    files = await stores.require_files(call, [*named, *images])
    for file_id in images:
        file_ids.check_image(files[file_id].filename, files[file_id].purpose)
    for file_id in for_search:
        name = files[file_id].filename
        if not is_searchable(name, more_types=call.app.settings.search_more_types):
            raise ApiError.unsupported_extension(extension_of(name))
    return tool_resources.Attachments(for_code, for_search)


def _is_for(attachment: Attachment, tool: type) -> bool:
    return any(isinstance(one, tool) for one in attachment.tools or ())


def _image_files(body: CreateMessage) -> list[str]:
    """The files that a message shows."""
    if isinstance(body.content, str):
        return []
    return [part.image_file.file_id for part in body.content if isinstance(part, ImageFileContent)]


@operation("GET", "/threads/{thread_id}/messages", tag=TAG, beta=True)
async def list_messages(
    call: Call, thread_id: str, page: ListQuery, run_id: str | None = None
) -> ListOf[Message]:
    """List the messages of a thread, newest first; with `run_id` only those the run made."""
    await objects.require(call, "thread", thread_id)
    return await objects.shown_page(
        call, "message", Message, page, parent=thread_id, run_id=run_id or None
    )


@operation("GET", "/threads/{thread_id}/messages/{message_id}", tag=TAG, beta=True)
async def get_message(call: Call, thread_id: str, message_id: str) -> Message:
    """Retrieve a message."""
    await objects.require(call, "thread", thread_id)
    loaded = await objects.load(call, "message", message_id, Message, parent=thread_id)
    return loaded.object


@operation("POST", "/threads/{thread_id}/messages/{message_id}", tag=TAG, beta=True)
async def modify_message(
    call: Call, thread_id: str, message_id: str, body: ModifyMetadata
) -> Message:
    """Modify a message's metadata. Its text cannot be changed."""
    await objects.require(call, "thread", thread_id)
    loaded = await objects.load(call, "message", message_id, Message, parent=thread_id)
    metadata = objects.new_metadata(loaded.object.metadata, body.metadata)
    return await objects.save(call, loaded, replace(loaded.object, metadata=metadata))


@operation("DELETE", "/threads/{thread_id}/messages/{message_id}", tag=TAG, beta=True)
async def delete_message(call: Call, thread_id: str, message_id: str) -> Deleted:
    """Delete a message, unless a run is writing it just now."""
    await objects.require(call, "thread", thread_id)
    loaded = await objects.load(call, "message", message_id, Message, parent=thread_id)
    if loaded.object.status == "in_progress":
        raise ApiError.message_being_written(message_id)
    await call.commit(
        changes.delete_object(message_id, kind="message", project=call.project),
        grown(call, thread_id, -1),
    )
    return Deleted(id=message_id, object="thread.message.deleted")
