"""The calls of one model turn, put together from the provider's fragments.

Which call a fragment belongs to (LIBS section 1): a seen id → that call; a new id, even on a used
index → a new call (a seen id with another index and a name too: some providers give all calls of a
turn one id); an index without id → the call at that index; neither → the call now being streamed.

Call ids are made by us: providers repeat theirs between turns. A call without any arguments has
`{}`, as at the original: clients parse them, and so do providers that are shown the call again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from understudy import limits
from understudy.machine import tokens, toolbox
from understudy.machine.private import Call
from understudy.wire.chat import ChunkToolCall

NO_ARGUMENTS = "{}"


class TooMuch(Exception):
    """The provider sent more than one turn may hold; the message says what."""


@dataclass
class PartialCall:
    """A call being assembled."""

    id: str
    index: int | None
    provider_id: str | None
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] | None = None


class Calls:
    """All calls of a turn, in the order in which they began."""

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self._calls: list[PartialCall] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    @property
    def first(self) -> PartialCall:
        """The call that began first."""
        return self._calls[0]

    def add(self, fragment: ChunkToolCall) -> PartialCall:
        """The call that a fragment belongs to, with what the fragment adds to it."""
        call = self._belongs_to(fragment)
        if fragment.extra_content is not None:
            call.extra = fragment.extra_content
        if fragment.function is not None:
            if fragment.function.name and not call.name:
                call.name = fragment.function.name
            if fragment.function.arguments:
                call.arguments.append(fragment.function.arguments)
        return call

    def made(self, functions: Iterable[str]) -> list[Call]:
        """The whole calls; `functions` are the names of the client's own."""
        calls = [
            Call(
                id=call.id,
                name=call.name,
                arguments="".join(call.arguments) or NO_ARGUMENTS,
                extra=call.extra,
            )
            for call in self._calls
        ]
        return [one for call in calls for one in self._unwrapped(call, functions)]

    def are_whole(self) -> bool:
        """Whether every call's arguments are whole JSON: some providers say `length` after a
        call that is complete."""
        for call in self._calls:
            try:
                msgspec.json.decode("".join(call.arguments))
            except (msgspec.DecodeError, RecursionError):
                return False
        return bool(self._calls)

    def count_tokens(self) -> int:
        """The size of what the model wrote."""
        return sum(tokens.count(call.name + "".join(call.arguments)) for call in self._calls)

    def _belongs_to(self, fragment: ChunkToolCall) -> PartialCall:
        if fragment.id:
            for call in self._calls:
                if call.provider_id == fragment.id and not _is_another(call, fragment):
                    return call
            return self._begin(fragment)
        if fragment.index is not None:
            for call in reversed(self._calls):
                if call.index == fragment.index:
                    return call
        is_new = fragment.function is not None and bool(fragment.function.name)
        if self._calls and not is_new:
            return self._calls[-1]
        return self._begin(fragment)

    def _begin(self, fragment: ChunkToolCall) -> PartialCall:
        if len(self._calls) >= limits.MODEL_CALLS:
            raise TooMuch(f"more than {limits.MODEL_CALLS} tool calls")
        self._calls.append(
            PartialCall(id=self._new_id("call"), index=fragment.index, provider_id=fragment.id)
        )
        return self._calls[-1]

    def _unwrapped(self, call: Call, functions: Iterable[str]) -> Iterable[Call]:
        """The calls inside Azure's parallel wrapper, which must not leak (SPEC 13.14)."""
        if call.name != toolbox.PARALLEL_WRAPPER or call.name in functions:
            return [call]
        try:
            uses = msgspec.json.decode(call.arguments)["tool_uses"]
            return [
                Call(
                    id=self._new_id("call"),
                    name=str(use["recipient_name"]).removeprefix("functions."),
                    arguments=msgspec.json.encode(use.get("parameters", {})).decode(),
                )
                for use in uses
            ] or [call]
        except (msgspec.DecodeError, RecursionError, KeyError, TypeError, AttributeError):
            return [call]


def _is_another(call: PartialCall, fragment: ChunkToolCall) -> bool:
    """Whether a fragment begins another call although the id is this one's."""
    has_name = fragment.function is not None and bool(fragment.function.name)
    return has_name and None not in (call.index, fragment.index) and call.index != fragment.index
