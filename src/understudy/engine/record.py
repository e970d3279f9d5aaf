"""Record: a run's state read from the store, and a move written to it."""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from understudy.engine import frames
from understudy.machine.happenings import Move, State, Write
from understudy.machine.private import RunPrivate, StepPrivate
from understudy.store import Statement, changes
from understudy.store.records import Listed
from understudy.store.store import Store
from understudy.wire.base import given
from understudy.wire.messages import (
    Content,
    ContentDelta,
    ImageFileContent,
    ImageFileContentDelta,
    Message,
    MessageDelta,
    RefusalContent,
    RefusalContentDelta,
    TextContent,
    TextContentDelta,
    TextValue,
)
from understudy.wire.runs import Run
from understudy.wire.steps import Step

T = TypeVar("T", bound=msgspec.Struct)

_KINDS: dict[type[msgspec.Struct], str] = {Run: "run", Step: "step", Message: "message"}
# A message that a run writes always finds room: the limit is for clients.
_NO_LIMIT = 2**62


def decoded(record: Listed, type: type[T]) -> T:
    """The object of a record."""
    return msgspec.json.decode(record.body, type=type)


def private_of(record: Listed, type: type[T]) -> T:
    """What is kept beside it; defaults fill in for imported objects."""
    return msgspec.json.decode(record.private or b"{}", type=type)


class Versions:
    """The versions of the objects that a driver writes, so that a metadata edit by a client
    in between is noticed and kept."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def saw(self, id: str, version: int) -> None:
        """The object is stored at this version."""
        self._known[id] = version

    def of(self, id: str) -> int | None:
        """Its version, or None for an object not stored yet."""
        return self._known.get(id)

    def wrote(self, writes: Iterable[Write]) -> None:
        """A commit of these writes succeeded."""
        for write in writes:
            self._known[write.object.id] = self._known.get(write.object.id, 0) + 1


async def load_state(store: Store, project: str, run_id: str, versions: Versions) -> State | None:
    """The run with what it has open; None when it is gone."""
    record = await store.get("run", project, run_id)
    return None if record is None else await state_of(store, project, record, versions)


async def state_of(store: Store, project: str, record: Listed, versions: Versions) -> State:
    """The same, of a run that was read already."""
    versions.saw(record.id, record.version)
    private = private_of(record, RunPrivate)
    step = step_private = message = None
    if private.open_step is not None:
        found = await store.get("step", project, private.open_step)
        assert found is not None, "an open step is stored"
        versions.saw(found.id, found.version)
        step, step_private = decoded(found, Step), private_of(found, StepPrivate)
    if private.open_message is not None:
        found = await store.get("message", project, private.open_message)
        assert found is not None, "an open message is stored"
        versions.saw(found.id, found.version)
        message = decoded(found, Message)
    return State(decoded(record, Run), private, step, step_private, message)


def statements(
    move: Move,
    versions: Versions,
    *,
    project: str,
    created_at: float,
    at_any_version: bool = False,
) -> list[Statement]:
    """The move's writes: new objects are inserted, known ones updated at their version, or at any
    with the metadata that they have."""
    result: list[Statement] = []
    for write in move.writes:
        body = msgspec.json.encode(write.object)
        private = None if write.private is None else msgspec.json.encode(write.private)
        version = versions.of(write.object.id)
        if version is not None and at_any_version:
            result.append(
                changes.overwrite_object(
                    write.object.id, project=project, body=body, private=private
                )
            )
            continue
        if version is not None:
            result.append(
                changes.update_object(
                    write.object.id, project=project, body=body, private=private, version=version
                )
            )
            continue
        parent = _parent(write.object)
        if isinstance(write.object, Message):
            result.append(changes.grow(parent, project=project, by=1, limit=_NO_LIMIT))
        result.append(
            changes.insert_object(
                _KINDS[type(write.object)],
                id=write.object.id,
                project=project,
                parent=parent,
                created_at=created_at,
                body=body,
                private=private,
            )
        )
    return result


async def merged(store: Store, project: str, move: Move, versions: Versions) -> Move:
    """The move on top of what clients changed meanwhile: they can change metadata only."""
    fresh: dict[str, dict[str, str]] = {}
    for write in move.writes:
        if versions.of(write.object.id) is None:
            continue
        kind = _KINDS[type(write.object)]
        found = await store.get(kind, project, write.object.id)
        if found is not None:
            versions.saw(found.id, found.version)
            fresh[found.id] = msgspec.json.decode(found.body)["metadata"]

    def with_metadata(object: Any) -> Any:
        changed = object is not None and object.id in fresh
        return replace(object, metadata=fresh[object.id]) if changed else object

    state = move.state
    return Move(
        State(
            with_metadata(state.run),
            state.private,
            with_metadata(state.step),
            state.step_private,
            with_metadata(state.message),
        ),
        tuple(Write(with_metadata(write.object), write.private) for write in move.writes),
        move.events,
        move.next,
    )


async def partial_content(store: Store, state: State) -> list[Content]:
    """What the open message showed before its driver died: its deltas in the log, joined."""
    if state.message is None:
        return []
    message_id = state.message.id
    parts: dict[int, list[ContentDelta]] = {}
    for row in await store.events(state.run.id, (0, 0)):
        if row.kind != "delta":
            continue
        for frame in frames.split(row.frames):
            if frames.name_of(frame) != "thread.message.delta":
                continue
            delta = msgspec.json.decode(frame.split(b"\ndata: ", 1)[1], type=MessageDelta)
            if delta.id != message_id:
                continue
            for part in delta.delta.content:
                parts.setdefault(part.index, []).append(part)
    return [_joined(deltas) for _, deltas in sorted(parts.items())]


def _joined(deltas: list[ContentDelta]) -> Content:
    """The part that these deltas make; its annotations have no index, as in any message."""
    texts = [delta.text for delta in deltas if isinstance(delta, TextContentDelta)]
    refusals = [delta.refusal for delta in deltas if isinstance(delta, RefusalContentDelta)]
    images = [delta.image_file for delta in deltas if isinstance(delta, ImageFileContentDelta)]
    if images:
        return ImageFileContent(image_file=images[0])
    if refusals:
        return RefusalContent(refusal="".join(refusals))
    value = "".join(given(text.value, "") for text in texts)
    noted = [one for text in texts for one in given(text.annotations, [])]
    annotations = [replace(one, index=UNSET) for one in noted]
    return TextContent(text=TextValue(value=value, annotations=annotations))


def _parent(object: Run | Step | Message) -> str:
    return object.run_id if isinstance(object, Step) else object.thread_id
