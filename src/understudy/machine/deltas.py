"""One model turn: provider chunks become happenings, message and step deltas, and the result.

Rules of this file
- Text streams live into one message. When calls follow text, the message is complete first:
  clients accept one open message and one open step at a time (SPEC 9.4, 3).
- Only the first call of a turn streams live; the others follow, whole, when the turn ends. That
  keeps all fragments of one call together even when a provider interleaves them (SPEC 9.3 B).
- A function streams live only where the run has no built-in tool: built-in calls come first
  (DECISIONS), and whether one follows is not known before the turn ends.
- Which call a fragment belongs to (LIBS section 1): a seen id → that call; a new id, even on a
  used index → a new call (a seen id with another index and a name too: some providers give all
  calls of a turn one id); an index without id → the call at that index; neither → the call now
  being streamed.
- Call ids are made by us: providers repeat theirs between turns.
- Of a run that may search, the text goes through its citations first: what is shown then, and
  only that, is the message.
- A call without any arguments has `{}`, as at the original: clients parse them, and so do
  providers that are shown the call again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from understudy import limits
from understudy.machine import tokens, toolbox
from understudy.machine.citations import Citations, Shown
from understudy.machine.happenings import CallsBegan, Happening, ModelSpoke, TextBegan, TextEnded
from understudy.machine.introduce import (
    first_function_delta,
    introduction,
    next_function_delta,
)
from understudy.machine.private import Call
from understudy.wire.chat import ChatChunk, ChatUsage, ChunkDelta, ChunkToolCall
from understudy.wire.events import Event
from understudy.wire.messages import (
    Annotation,
    Content,
    MessageDelta,
    MessageDeltaBody,
    RefusalContent,
    RefusalContentDelta,
    TextContent,
    TextContentDelta,
    TextDelta,
    TextValue,
)
from understudy.wire.runs import Run, Usage
from understudy.wire.steps import StepDelta, StepDeltaBody, StepToolCall, ToolCallsDetails

# A turn yields happenings (commit before sight) and delta events (show at once).
Said = Happening | Event


NO_ARGUMENTS = "{}"


class TooMuch(Exception):
    """The provider sent more than one turn may hold; the message says what."""


@dataclass
class _Part:
    """A content part being written; `kind` is text or refusal."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)

    @property
    def content(self) -> Content:
        """The part as the message holds it."""
        whole = "".join(self.pieces)
        if self.kind == "refusal":
            return RefusalContent(refusal=whole)
        return TextContent(text=TextValue(value=whole, annotations=list(self.annotations)))


@dataclass
class _Call:
    """A call being assembled."""

    id: str
    index: int | None
    provider_id: str | None
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] | None = None


class Turn:
    """The state of one model turn. `feed` every chunk, then `finish`, then `spoke`.

    `citations` are those of a run that has file_search; the text of any other is untouched.
    """

    def __init__(
        self,
        run: Run,
        *,
        prompt_tokens: int,
        new_id: Callable[[str], str],
        citations: Citations | None = None,
    ) -> None:
        self._functions = toolbox.functions(run.tools)
        self._can_show_calls = not toolbox.built_in(run.tools)
        self._parallel = run.parallel_tool_calls
        self._prompt_tokens = prompt_tokens
        self._new_id = new_id
        self._citations = citations
        self._parts: list[_Part] = []
        self._calls: list[_Call] = []
        self._made: list[Call] = []
        self._message_id: str | None = None
        self._message_ended = False
        self._step_id: str | None = None
        self._live: _Call | None = None
        self._shown = 0  # Fragments of the live call that were shown.
        self._size = 0
        self._finish_reason: str | None = None
        self._usage: ChatUsage | None = None

    def feed(self, chunk: ChatChunk, now: int) -> list[Said]:
        """What one chunk says. Reasoning text is not among it, by the shape of ChunkDelta."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return []
        choice = chunk.choices[0]
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
        return self._feed_delta(choice.delta, now) if choice.delta is not None else []

    def _feed_delta(self, delta: ChunkDelta, now: int) -> list[Said]:
        said: list[Said] = []
        if delta.content:
            said += self._text(delta.content, now)
        if delta.refusal:
            self._grow(len(delta.refusal))
            said += self._write("refusal", Shown(delta.refusal), now)
        for fragment in delta.tool_calls or ():
            said += self._call(fragment, now)
        return said

    def finish(self, now: int) -> list[Said]:
        """What is left to say when the stream has ended: what was held back, or the empty message
        of a model that said nothing."""
        rest = self._rest(now)
        self._made = self._calls_made()
        if not self._made and self._message_id is None:
            return self._write("text", Shown(""), now)
        if self._live is None:
            return rest
        deltas, _ = introduction(self._made, {})
        later: list[Said] = [self._step_event(delta) for delta in deltas if delta.index != 0]
        if self._live.arguments or self._finish_reason == "length":
            return later
        return [self._step_event(next_function_delta(0, NO_ARGUMENTS)), *later]

    def spoke(self, now: int, spare_id: str) -> ModelSpoke:
        """The result of the turn. `stop` with calls is a call turn all the same (Gemini)."""
        usage, estimated = self._used()
        finish = self._finish_reason or "stop"
        if finish == "length" and self._calls_whole():
            finish = "tool_calls"
        return ModelSpoke(
            now=now,
            spare_id=spare_id,
            content=self.content(),
            calls=self._made,
            finish=finish,
            usage=usage,
            estimated=estimated,
        )

    def content(self) -> list[Content]:
        """The message as far as it came."""
        return [part.content for part in self._parts]

    def usage_so_far(self) -> Usage:
        """What a turn that is cut now has used, as far as anyone can tell."""
        return self._used()[0]

    @property
    def has_spoken(self) -> bool:
        """Whether anything of an answer came."""
        return bool(self._size or self._calls)

    # Text.

    def _text(self, piece: str, now: int) -> list[Said]:
        self._grow(len(piece))
        if self._citations is None:
            return self._write("text", Shown(piece), now)
        return self._write_all(self._citations.feed(piece), now)

    def _rest(self, now: int) -> list[Said]:
        """The text that was held back because it could have become a marker."""
        return self._write_all(self._citations.finish(), now) if self._citations else []

    def _write_all(self, shown: Iterable[Shown], now: int) -> list[Said]:
        return [said for one in shown for said in self._write("text", one, now)]

    def _write(self, kind: str, shown: Shown, now: int) -> list[Said]:
        if self._message_ended or self._step_id is not None:
            # Text after calls has no place: the API cannot open a message beside their step.
            return []
        said: list[Said] = []
        if self._message_id is None:
            self._message_id = self._new_id("message")
            said.append(
                TextBegan(now=now, spare_id=self._new_id("step"), message_id=self._message_id)
            )
        part = self._part(kind)
        if shown.annotation is not None and not part.pieces:
            # The first delta of a text has no annotations (SPEC 9.3 A).
            said += self._write(kind, Shown(""), now)
        part.pieces.append(shown.text)
        if shown.annotation is not None:
            part.annotations.append(shown.annotation)
        said.append(self._message_event(part, shown))
        return said

    def _part(self, kind: str) -> _Part:
        for part in self._parts:
            if part.kind == kind:
                return part
        self._parts.append(_Part(kind))
        return self._parts[-1]

    def _message_event(self, part: _Part, shown: Shown) -> Event:
        index = self._parts.index(part)
        delta: TextContentDelta | RefusalContentDelta
        if part.kind == "refusal":
            delta = RefusalContentDelta(index=index, refusal=shown.text)
        else:
            annotations: list[Annotation] | UnsetType = [] if len(part.pieces) == 1 else UNSET
            if shown.annotation is not None:
                annotations = [replace(shown.annotation, index=len(part.annotations) - 1)]
            text = TextDelta(value=shown.text, annotations=annotations)
            delta = TextContentDelta(index=index, text=text)
        assert self._message_id is not None, "the message is open"
        body = MessageDeltaBody(content=[delta])
        return Event(
            name="thread.message.delta", data=MessageDelta(id=self._message_id, delta=body)
        )

    # Calls.

    def _call(self, fragment: ChunkToolCall, now: int) -> list[Said]:
        call = self._belongs_to(fragment)
        if fragment.extra_content is not None:
            call.extra = fragment.extra_content
        if fragment.function is not None:
            if fragment.function.name and not call.name:
                call.name = fragment.function.name
            if fragment.function.arguments:
                self._grow(len(fragment.function.arguments))
                call.arguments.append(fragment.function.arguments)
        return self._show(call, now)

    def _belongs_to(self, fragment: ChunkToolCall) -> _Call:
        if fragment.id:
            for call in self._calls:
                if call.provider_id == fragment.id and not _is_another(call, fragment):
                    return call
            return self._add(fragment)
        if fragment.index is not None:
            for call in reversed(self._calls):
                if call.index == fragment.index:
                    return call
        is_new = fragment.function is not None and bool(fragment.function.name)
        if self._calls and not is_new:
            return self._calls[-1]
        return self._add(fragment)

    def _add(self, fragment: ChunkToolCall) -> _Call:
        if len(self._calls) >= limits.MODEL_CALLS:
            raise TooMuch(f"more than {limits.MODEL_CALLS} tool calls")
        self._calls.append(
            _Call(id=self._new_id("call"), index=fragment.index, provider_id=fragment.id)
        )
        return self._calls[-1]

    def _show(self, call: _Call, now: int) -> list[Said]:
        """The live deltas of the first call, once its name is known to be a function's."""
        said = self._rest(now)
        if self._message_id is not None and not self._message_ended:
            self._message_ended = True
            said.append(TextEnded(now=now, content=self.content()))
        if self._live is None and call is self._calls[0] and self._may_show(call):
            self._live = call
            self._step_id = self._new_id("step")
            said.append(CallsBegan(now=now, spare_id=self._step_id))
            said.append(self._step_event(first_function_delta(0, call.id, call.name)))
        if call is self._live:
            fresh = call.arguments[self._shown :]
            self._shown = len(call.arguments)
            said += [self._step_event(next_function_delta(0, piece)) for piece in fresh]
        return said

    def _may_show(self, call: _Call) -> bool:
        return self._can_show_calls and call.name in self._functions

    def _step_event(self, delta: StepToolCall) -> Event:
        assert self._step_id is not None, "the step is open"
        body = StepDeltaBody(step_details=ToolCallsDetails(tool_calls=[delta]))
        return Event(name="thread.run.step.delta", data=StepDelta(id=self._step_id, delta=body))

    def _calls_made(self) -> list[Call]:
        calls = [
            Call(
                id=call.id,
                name=call.name,
                arguments="".join(call.arguments) or NO_ARGUMENTS,
                extra=call.extra,
            )
            for call in self._calls
        ]
        made = [one for call in calls for one in self._unwrapped(call)]
        return made if self._parallel else made[:1]

    def _unwrapped(self, call: Call) -> Iterable[Call]:
        """The calls inside Azure's parallel wrapper, which must not leak (SPEC 13.14)."""
        if call.name != toolbox.PARALLEL_WRAPPER or call.name in self._functions:
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
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return [call]

    def _calls_whole(self) -> bool:
        """Whether every call's arguments are whole JSON: some providers say `length` after a
        call that is complete."""
        for call in self._calls:
            try:
                msgspec.json.decode("".join(call.arguments))
            except msgspec.DecodeError:
                return False
        return bool(self._calls)

    # Bounds and counts.

    def _grow(self, by: int) -> None:
        self._size += by
        if self._size > limits.MODEL_OUTPUT_CHARS:
            raise TooMuch(f"more than {limits.MODEL_OUTPUT_CHARS} characters")

    def _used(self) -> tuple[Usage, bool]:
        """The provider's usage; what it does not say is counted by us, an estimate."""
        given = self._usage or ChatUsage()
        prompt, completion = given.prompt_tokens, given.completion_tokens
        estimated = prompt is None or completion is None
        prompt = self._prompt_tokens if prompt is None else prompt
        completion = self._count() if completion is None else completion
        usage = Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
        )
        return usage, estimated

    def _count(self) -> int:
        written = sum(tokens.count("".join(part.pieces)) for part in self._parts)
        called = sum(tokens.count(call.name + "".join(call.arguments)) for call in self._calls)
        return written + called


def _is_another(call: _Call, fragment: ChunkToolCall) -> bool:
    """Whether a fragment begins another call although the id is this one's."""
    has_name = fragment.function is not None and bool(fragment.function.name)
    return has_name and None not in (call.index, fragment.index) and call.index != fragment.index
