"""Recent: assistants as they were a moment ago, so that a run need not read its own.

What is remembered is never trusted: the commit of the run makes sure that the assistant is still
at this version (`require_version`), and is refused otherwise; then the call is done again with what
the record has. A refusal costs more than a read, so who changes an assistant makes it forgotten.
"""

from understudy import limits
from understudy.api import objects
from understudy.api.objects import Loaded
from understudy.api.operation import Call
from understudy.store import Statement, changes
from understudy.wire.assistants import Assistant

_KIND = "assistant"
# By process, project and id. One for all, as the objects that are remembered by their JSON are.
_seen: dict[tuple[str, str, str], Loaded[Assistant]] = {}


async def assistant(call: Call, id: str) -> tuple[Loaded[Assistant], bool]:
    """The assistant, or the 404, and whether it was just read."""
    known = _seen.get(_place(call, id))
    if known is not None:
        return known, False
    return await read(call, id), True


async def read(call: Call, id: str) -> Loaded[Assistant]:
    """The same, from the record."""
    forget(call, id)
    loaded = await objects.load(call, _KIND, id, Assistant)
    if len(loaded.record.body) <= limits.DECODED_BYTES:
        if len(_seen) >= limits.DECODED_OBJECTS:
            del _seen[next(iter(_seen))]  # The one that was read first.
        _seen[_place(call, id)] = loaded
    return loaded


def forget(call: Call, id: str) -> None:
    """It is not what it was."""
    _seen.pop(_place(call, id), None)


def unchanged(call: Call, loaded: Loaded[Assistant]) -> Statement:
    """Refuses a commit when the assistant is gone, or another than it was."""
    return changes.require_version(
        loaded.record.id, kind=_KIND, project=call.project, version=loaded.version
    )


def _place(call: Call, id: str) -> tuple[str, str, str]:
    return call.app.boot_id, call.project, id
