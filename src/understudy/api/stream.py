"""Server-sent events: what an operation returns when it answers with a stream."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from understudy.engine import frames, stop
from understudy.engine.tail import Tail
from understudy.errors import ApiError

if TYPE_CHECKING:
    from understudy.api.operation import Call

EVENT_IDS_HEADER = "x-understudy-event-ids"
CANCEL_HEADER = "x-cancel-on-disconnect"


@dataclass(frozen=True)
class Stream:
    """Encoded frames, where they come from, and headers beside the usual ones of a stream."""

    frames: AsyncGenerator[bytes]
    tail: Tail
    headers: Mapping[str, str] = field(default_factory=dict)


def run_stream(
    call: "Call",
    run_id: str,
    after: tuple[int, int],
    *,
    is_replay: bool = False,
    known: Sequence[bytes] = (),
) -> Stream:
    """The events of a run after a place, with `done`. A replay has event ids, and goes on where the
    client answered a requires_action. `known` are the first frames after the place, if they are.

    A client that goes away does not stop the run (SPEC 8.5), unless it asked for that with
    `x-cancel-on-disconnect: true`.
    """
    with_ids = is_replay or call.headers.get(EVENT_IDS_HEADER) == "1"
    cancels = call.headers.get(CANCEL_HEADER, "").lower() == "true"
    tail = call.app.log.tail(call.project, run_id, after, with_ids=with_ids, goes_on=is_replay)
    tail.known = known
    return Stream(_cancelling(call, run_id, tail) if cancels else tail.frames(), tail)


async def _cancelling(call: "Call", run_id: str, tail: Tail) -> AsyncGenerator[bytes]:
    """The same; a client that goes away before the end takes the run with it."""
    is_whole = False
    try:
        async with aclosing(tail.frames()) as chunks:
            async for chunk in chunks:
                is_whole = chunk.endswith(frames.DONE)
                yield chunk
        is_whole = True
    finally:
        # The streams of runs that wait are cut when the server stops, and their clients never left.
        if not is_whole and call.app.worker.goes_on_with(run_id):
            await _cancel(call, run_id)


async def _cancel(call: "Call", run_id: str) -> None:
    """The client is gone and wanted the run to go with it; a run that is over stays as it is."""
    try:
        await stop.cancel(call.app, call.project, run_id)
    except ApiError:
        return
