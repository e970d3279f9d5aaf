"""Threads (SPEC 7.2)."""

from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from understudy import limits
from understudy.api import file_ids, messages, objects, stores, tool_resources
from understudy.api.operation import Call, operation
from understudy.engine import pins, stop
from understudy.errors import ApiError
from understudy.machine.private import ThreadPrivate
from understudy.machine.transcript import Stored
from understudy.store import Conflict, Statement, changes, index_changes
from understudy.wire.base import Deleted, ListOf, given
from understudy.wire.query import ListQuery
from understudy.wire.threads import CreateThread, ModifyThread, Thread

TAG = "Threads"


@operation("POST", "/threads", tag=TAG, beta=True)
async def create_thread(call: Call, body: CreateThread | None = None) -> Thread:
    """Create a thread, with its first messages if there are any."""
    new = await new_thread(call, body or CreateThread())
    await call.commit(*new.statements, answer=new.thread)
    stores.ring(call)
    return new.thread


@dataclass(frozen=True)
class NewThread:
    """A thread with all its messages, the oldest first, and the statements that store them."""

    thread: Thread
    messages: list[Stored]
    statements: list[Statement]


async def new_thread(call: Call, body: CreateThread) -> NewThread:
    """The thread that a body makes; nothing is stored yet."""
    bodies = given(body.messages, [])
    if len(bodies) > limits.THREAD_MESSAGES:
        raise ApiError.thread_full(limits.THREAD_MESSAGES)
    attachments = await messages.attached(call, bodies)
    prepared = await tool_resources.from_helper(
        call,
        body.tool_resources,
        attachments,
        expires_after=tool_resources.OF_A_THREAD,
    )
    now = call.app.world.now()
    thread = Thread(
        id=call.app.world.new_id("thread"),
        created_at=int(now),
        metadata=given(body.metadata, {}),
        tool_resources=prepared.resources,
    )
    private = ThreadPrivate(own_stores=list(prepared.made))
    statements = [
        objects.insert(call, "thread", thread, at=now, private=private, children=len(bodies)),
        *prepared.statements,
    ]
    made = messages.new_messages(call, thread.id, bodies, at=now)
    statements += [messages.insert(call, one, at=now) for one in made]
    return NewThread(thread, made, statements)


@operation("GET", "/threads", tag=TAG, beta=True)
async def list_threads(call: Call, page: ListQuery) -> ListOf[Thread]:
    """List threads, newest first.

    An extension: the original offered this call to its own dashboard only.
    """
    return await objects.shown_page(call, "thread", Thread, page, amend=file_ids.without_gone)


@operation("GET", "/threads/{thread_id}", tag=TAG, beta=True)
async def get_thread(call: Call, thread_id: str) -> Thread:
    """Retrieve a thread."""
    loaded = await objects.load(call, "thread", thread_id, Thread)
    [shown] = await file_ids.without_gone(call, [loaded.object])
    return shown


@operation("POST", "/threads/{thread_id}", tag=TAG, beta=True)
async def modify_thread(call: Call, thread_id: str, body: ModifyThread) -> Thread:
    """Modify a thread's metadata and tool resources."""
    loaded = await objects.load(call, "thread", thread_id, Thread)
    [old] = await file_ids.without_gone(call, [loaded.object])
    resources = tool_resources.replaced(old.tool_resources, body.tool_resources)
    await tool_resources.check_references(
        call, given(body.tool_resources, tool_resources.NO_RESOURCES)
    )
    thread = replace(
        old,
        tool_resources=resources,
        metadata=objects.new_metadata(old.metadata, body.metadata),
    )
    return await objects.save(call, loaded, thread)


@operation("DELETE", "/threads/{thread_id}", tag=TAG, beta=True)
async def delete_thread(call: Call, thread_id: str) -> Deleted:
    """Delete a thread with its messages, runs and steps.

    A run that is active is stopped at once, and an open stream of it ends with an error event.
    Vector stores that were made for the thread go with it, unless something else names them, and
    so do the variables and files of its code.
    """
    app = call.app
    active = await app.store.active_run(thread_id)
    # The job comes first, as in what its driver commits: else each could wait for the other.
    ended = () if active is None else (changes.delete_job(active.id, fence=None),)
    statements: list[Statement | tuple[Statement, ...]] = [
        *ended,
        changes.delete_object(thread_id, kind="thread", project=call.project),
        _purge_job(call, thread_id),
        *await _own_stores_gone(call, thread_id),
        # A run may have begun since the look: then this is refused, and done again.
        changes.thread_free(thread_id),
    ]
    try:
        await call.commit(*statements)
    except Conflict as conflict:
        if conflict.what == "delete_object":
            # Else it was a store, which somebody else deleted in the same moment.
            await objects.require(call, "thread", thread_id)
        raise
    if active is not None:
        stop.interrupt(app, active.id, "deleted")
        app.bell.ring(f"run:{active.id}")
    app.bell.ring("jobs")
    await pins.forget_session(app, thread_id)
    return Deleted(id=thread_id, object="thread.deleted")


async def _own_stores_gone(call: Call, thread_id: str) -> list[tuple[Statement, ...]]:
    """What removes the vector stores that were made for this thread and serve nobody else."""
    record = await objects.require(call, "thread", thread_id)
    own = msgspec.json.decode(record.private or b"{}", type=ThreadPrivate).own_stores
    there = await call.app.store.get_many(stores.KIND, call.project, own) if own else []
    now = call.app.world.now()
    return [
        index_changes.forget_store(store.id, project=call.project, now=now)
        for store in there
        if not await call.app.store.store_is_referenced(call.project, store.id, besides=thread_id)
    ]


def _purge_job(call: Call, thread_id: str) -> Statement:
    """What removes the thread's messages, runs and steps in the background."""
    return changes.insert_job(
        thread_id,
        kind="purge",
        project=call.project,
        thread_id=None,
        due_at=call.app.world.now(),
        expires_at=None,
        fence=0,
        lease_owner=None,
        lease_until=None,
    )
