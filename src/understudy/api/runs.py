"""Runs (SPEC 7.4, 8): create, read, modify, submit tool outputs, cancel, replay."""

import asyncio
import re

from msgspec import UNSET
from msgspec.structs import replace

from understudy import limits
from understudy.api import messages, objects, polls, recent, stores, threads, tool_resources
from understudy.api.operation import Call, operation
from understudy.api.stream import Stream, run_stream
from understudy.engine import pins, record, stop
from understudy.engine.launch import Launch, launch_again, launch_new
from understudy.errors import ApiError
from understudy.machine.begin import begin
from understudy.machine.happenings import Move, OutputsSubmitted, State
from understudy.machine.run import ACTIVE, apply
from understudy.store import Conflict, Statement
from understudy.wire.assistants import Assistant
from understudy.wire.base import ListOf, ModifyMetadata, given
from understudy.wire.events import Event
from understudy.wire.query import ListQuery
from understudy.wire.rules import check_tool_choice
from understudy.wire.runs import CreateRun, CreateThreadAndRun, Run, SubmitToolOutputs
from understudy.wire.threads import CreateThread
from understudy.wire.tools import ToolResources

TAG = "Runs"

_MOVING = ACTIVE - {"requires_action"}  # What poll helpers sit out.
_NUMBER = f"([0-9]{{1,{limits.EVENT_ID_DIGITS}}})"
_EVENT_ID = re.compile(rf"{_NUMBER}\.{_NUMBER}")


@operation("POST", "/threads/{thread_id}/runs", tag=TAG, beta=True)
async def create_run(
    call: Call, thread_id: str, body: CreateRun, include: list[str]
) -> Run | Stream:
    """Create a run.

    The thread is locked until the run ends. With `stream: true` the answer is the run's events.
    """
    if call.replayed_stream is not None:
        return _replayed(call, call.replayed_stream)
    bodies = given(body.additional_messages, [])
    more: list[Statement] = [messages.grown(call, thread_id, len(bodies))]
    try:
        move, unchanged = await _begin(call, body, thread_id, include)
        more += await messages.attach(call, thread_id, bodies)
    except ApiError:
        # A thread that is not there is told first. Nobody looks before: the commit refuses it.
        await objects.require(call, "thread", thread_id)
        raise
    now = call.app.world.now()
    made = messages.new_messages(call, thread_id, bodies, at=now)
    more += [*unchanged, *(messages.insert(call, one, at=now) for one in made)]
    may_begin = not await pins.is_elsewhere(call.app, move.state.run)
    launch = launch_new(call.app, call.project, move, more=more, may_begin=may_begin)
    return await _launch(call, launch, streams=body.stream is True)


@operation("POST", "/threads/runs", tag=TAG, beta=True)
async def create_thread_and_run(
    call: Call, body: CreateThreadAndRun, include: list[str]
) -> Run | Stream:
    """Create a thread and run it, in one request.

    If any part is wrong, neither exists.
    """
    if call.replayed_stream is not None:
        return _replayed(call, call.replayed_stream)
    new = await threads.new_thread(call, given(body.thread, CreateThread()))
    await tool_resources.check_references(call, given(body.tool_resources, ToolResources()))
    move, unchanged = await _begin(call, body, new.thread.id, include)
    created = Event(name="thread.created", data=new.thread)
    launch = launch_new(
        call.app,
        call.project,
        move,
        more=[*unchanged, *new.statements],
        before=[created],
        messages=new.messages,
    )
    return await _launch(call, launch, streams=body.stream is True)


async def _begin(
    call: Call, body: CreateRun | CreateThreadAndRun, thread_id: str, include: list[str]
) -> tuple[Move, list[Statement]]:
    """The queued run; its assistant must exist, and a forced tool must be one of its tools. With
    it what refuses the commit if the assistant was remembered and is another by now."""
    loaded, is_read = await recent.assistant(call, body.assistant_id)
    try:
        return _begun(call, body, loaded.object, thread_id, include), (
            [] if is_read else [recent.unchanged(call, loaded)]
        )
    except ApiError:
        if is_read:
            raise
    loaded = await recent.read(call, body.assistant_id)
    return _begun(call, body, loaded.object, thread_id, include), []


def _begun(
    call: Call,
    body: CreateRun | CreateThreadAndRun,
    assistant: Assistant,
    thread_id: str,
    include: list[str],
) -> Move:
    move = begin(
        body,
        assistant,
        id=call.app.world.new_id("run"),
        thread_id=thread_id,
        now=int(call.app.world.now()),
        ttl_s=call.app.settings.run_ttl_s,
        include_content=bool(include),
    )
    check_tool_choice(move.state.run.tool_choice, move.state.run.tools)
    return move


async def _launch(call: Call, launch: Launch, *, streams: bool) -> Run | Stream:
    """Commit and begin; a refused commit leaves nothing behind."""
    run = launch.run
    try:
        stream = f"{run.id}.{launch.fence}"
        commit = call.begin_commit(
            *launch.statements, answer=run, stream=stream, told=launch.told, ring=launch.ring
        )
    except BaseException:
        launch.abandon()
        raise
    committed = asyncio.ensure_future(commit)
    launch.begin(committed)
    try:
        await asyncio.shield(committed)  # The driver hears of it first: it has a model to ask.
    except Conflict as conflict:
        if conflict.what == "require_version":
            recent.forget(call, run.assistant_id)
        await _explain(call, run.thread_id, conflict)
        raise
    stores.ring(call)
    if not streams:
        return run
    return run_stream(call, run.id, (launch.fence, 0), known=launch.known)


def _replayed(call: Call, stream: str) -> Stream:
    """The stream that an earlier request with this idempotency key began."""
    run_id, _, fence = stream.partition(".")
    return run_stream(call, run_id, (int(fence or 0), 0))


async def _explain(call: Call, thread_id: str, conflict: Conflict) -> None:
    """Raise what a refused commit means to the client, if it means anything but: try again."""
    if conflict.what == "thread_lock":
        active = await call.app.store.active_run(thread_id)
        if active is not None:
            raise ApiError.thread_busy_run(thread_id, active.id) from None
    await messages.explain(call, thread_id, conflict)


@operation("GET", "/threads/{thread_id}/runs", tag=TAG, beta=True)
async def list_runs(call: Call, thread_id: str, page: ListQuery) -> ListOf[Run]:
    """List the runs of a thread, newest first."""
    await objects.require(call, "thread", thread_id)
    return await objects.shown_page(call, "run", Run, page, parent=thread_id)


@operation("GET", "/threads/{thread_id}/runs/{run_id}", tag=TAG, beta=True)
async def get_run(call: Call, thread_id: str, run_id: str) -> Run:
    """Retrieve a run.

    The poll helpers of the SDKs are answered when it needs them or is over. While it is active,
    `openai-poll-after-ms` tells when to look again.
    """

    async def look() -> Run:
        return (await load_run(call, thread_id, run_id)).object

    return await polls.settled(call, f"run:{run_id}", look, lambda run: run.status in _MOVING)


async def load_run(call: Call, thread_id: str, run_id: str) -> objects.Loaded[Run]:
    """The run of an existing thread, or the 404."""
    await objects.require(call, "thread", thread_id)
    return await objects.load(call, "run", run_id, Run, parent=thread_id)


@operation("POST", "/threads/{thread_id}/runs/{run_id}", tag=TAG, beta=True)
async def modify_run(call: Call, thread_id: str, run_id: str, body: ModifyMetadata) -> Run:
    """Modify a run's metadata, in any state."""
    loaded = await load_run(call, thread_id, run_id)
    metadata = objects.new_metadata(loaded.object.metadata, body.metadata)
    return await objects.save(call, loaded, replace(loaded.object, metadata=metadata))


@operation("POST", "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", tag=TAG, beta=True)
async def submit_tool_outputs(
    call: Call, thread_id: str, run_id: str, body: SubmitToolOutputs
) -> Run | Stream:
    """Submit the outputs of all function calls that the run waits for, in one request."""
    if call.replayed_stream is not None:
        return _replayed(call, call.replayed_stream)
    await load_run(call, thread_id, run_id)
    versions = record.Versions()
    state = await record.load_state(call.app.store, call.project, run_id, versions)
    assert state is not None, "it was loaded a moment ago"
    now = int(call.app.world.now())
    outputs = _outputs(state, body, now)
    job = await call.app.store.job(run_id)
    if job is None:
        raise Conflict("take_job")  # It moved on between the two reads.
    if job.cancel_asked_at is not None:
        raise ApiError.outputs_not_accepted("cancelling")
    happening = OutputsSubmitted(now=now, outputs=outputs)
    may_begin = not await pins.is_elsewhere(call.app, state.run)
    move = apply(state, happening)
    launch = launch_again(call.app, job, move, versions, may_begin=may_begin)
    return await _launch(call, launch, streams=body.stream is True)


def _outputs(state: State, body: SubmitToolOutputs, now: int) -> dict[str, str]:
    """Call id → output, for exactly the pending calls; a missing output is an empty one."""
    run = state.run
    if run.status != "requires_action" or run.required_action is None:
        raise ApiError.outputs_not_accepted(run.status)
    if run.expires_at is not None and now >= run.expires_at:
        raise ApiError.outputs_not_accepted("expired")
    expected = [one.id for one in run.required_action.submit_tool_outputs.tool_calls]
    got = [one.tool_call_id for one in body.tool_outputs if one.tool_call_id is not UNSET]
    if sorted(map(str, got)) != sorted(expected) or len(got) != len(body.tool_outputs):
        raise ApiError.outputs_incomplete(expected, [str(id) for id in got])
    return {str(one.tool_call_id): given(one.output, "") for one in body.tool_outputs}


@operation("POST", "/threads/{thread_id}/runs/{run_id}/cancel", tag=TAG, beta=True)
async def cancel_run(call: Call, thread_id: str, run_id: str) -> Run:
    """Cancel an active run.

    The answer says `cancelling`; the run is `cancelled` within moments, and its thread free.
    """
    await load_run(call, thread_id, run_id)
    return await stop.cancel(call.app, call.project, run_id, call.remembered)


@operation("GET", "/threads/{thread_id}/runs/{run_id}/events", tag=TAG, beta=True)
async def replay_run_events(
    call: Call, thread_id: str, run_id: str, after: str | None = None
) -> Run | Stream:
    """Replay a run's events after an event id, then follow it live.

    An extension beside the original API. `after` (or the header `Last-Event-ID`) is the id of
    the last event that the client has; without it the replay begins at the first event. Text
    deltas are kept for an hour after the run ended, its other events as long as the run.
    """
    await load_run(call, thread_id, run_id)
    given_id = after or call.headers.get("last-event-id") or "0.0"
    return run_stream(call, run_id, _place(given_id), is_replay=True)


def _place(event_id: str) -> tuple[int, int]:
    """An event id, `<fence>.<sequence>`."""
    match = _EVENT_ID.fullmatch(event_id)
    if match is None:
        raise ApiError.invalid(
            "after", f"Invalid 'after': '{event_id[:64]}'. Expected an event ID such as '1.42'."
        )
    return int(match[1]), int(match[2])
