"""One model turn: provider chunks become happenings, message and step deltas, and the result.

Rules of this file
- Text streams live into one message. When calls follow text, the message is complete first:
  clients accept one open message and one open step at a time (SPEC 9.4, 3).
- Only the first call of a turn streams live; the others follow, whole, when the turn ends. That
  keeps all fragments of one call together even when a provider interleaves them (SPEC 9.3 B).
- A function streams live only where the run has no built-in tool: built-in calls come first
  (DECISIONS), and whether one follows is not known before the turn ends. Code streams live as the
  first call always: nothing comes before it.
- When a turn ends, all of the code that it streamed was shown, so that the machine has nothing to
  add when the call begins.
- Of a run that may search or run code, the text goes through its annotations first: what is shown
  then, and only that, is the message.
- What code drew since the last message comes first in the next one, whoever opens it.
- Nearly every chunk is a few characters of plain text after others, so these have a short way of
  their own (`_flow`): what it does is what `_write` does, for all that came together.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from understudy import limits
from understudy.machine import tokens, toolbox
from understudy.machine.annotations import Annotations, Shown
from understudy.machine.calls import Calls, PartialCall, TooMuch
from understudy.machine.happenings import CallsBegan, Happening, ModelSpoke, TextBegan, TextEnded
from understudy.machine.live_call import LiveCall, LiveCode, LiveFunction
from understudy.machine.private import Call
from understudy.wire.chat import ChatChunk, ChatUsage, Chunk, ChunkDelta, ChunkToolCall
from understudy.wire.events import Event
from understudy.wire.messages import (
    Annotation,
    Content,
    ContentDelta,
    ImageFile,
    ImageFileContent,
    ImageFileContentDelta,
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


@dataclass(frozen=True, slots=True)
class Pieces:
    """More of a message's text: each piece is a delta event of its own."""

    message_id: str
    index: int
    texts: list[str]


# A turn yields happenings (commit before sight) and delta events (show at once).
Said = Happening | Event | Pieces


@dataclass
class _Part:
    """A content part being written; `kind` is text, refusal or image (the piece is its id)."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)

    @property
    def content(self) -> Content:
        """The part as the message holds it."""
        whole = "".join(self.pieces)
        if self.kind == "refusal":
            return RefusalContent(refusal=whole)
        if self.kind == "image":
            return ImageFileContent(image_file=ImageFile(file_id=whole))
        return TextContent(text=TextValue(value=whole, annotations=list(self.annotations)))


class Turn:
    """The state of one model turn. `hear` every chunk, then `finish`, then `spoke`.

    `annotations` are what the run's text goes through; `images` are those that a message of this
    turn shows first.
    """

    def __init__(
        self,
        run: Run,
        *,
        prompt_tokens: int,
        new_id: Callable[[str], str],
        annotations: Annotations | None = None,
        images: Sequence[str] = (),
    ) -> None:
        self._functions = toolbox.functions(run.tools)
        self._built_in = toolbox.built_in(run.tools)
        self._parallel = run.parallel_tool_calls
        self._prompt_tokens = prompt_tokens
        self._new_id = new_id
        self._annotations = annotations or Annotations(None, None)
        self._images = images
        self._parts: list[_Part] = []
        self._calls = Calls(new_id)
        self._made: list[Call] = []
        self._message_id: str | None = None
        self._message_ended = False
        self._step_id: str | None = None
        self._live: LiveCall | None = None
        self._size = 0
        self._finish_reason: str | None = None
        self._usage: ChatUsage | None = None
        self._flowing: tuple[int, _Part] | None = None  # The open text that plain pieces join.

    def hear(self, chunks: Sequence[Chunk], now: int) -> Iterator[Said]:
        """What chunks that came together say. Reasoning text is not among it, by the shape of
        ChunkDelta. Raises TooMuch, after what came before that."""
        heard = 0
        while heard < len(chunks):
            count, texts = self._plain(chunks, heard)
            if count:
                yield self._flow(texts)
                heard += count
            else:
                yield from self._single(chunks[heard], now)
                heard += 1

    def _single(self, chunk: Chunk, now: int) -> Iterator[Said]:
        if isinstance(chunk, list):
            for text in chunk:
                yield from self._text(text, now)
        else:
            yield from self.feed(chunk, now)

    def feed(self, chunk: ChatChunk, now: int) -> list[Said]:
        """What one chunk says, each piece of it an Event."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return []
        choice = chunk.choices[0]
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
        return self._feed_delta(choice.delta, now) if choice.delta is not None else []

    def _feed_delta(self, delta: ChunkDelta, now: int) -> list[Said]:
        said = self._text(delta.content, now) if delta.content else []
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
        made = self._calls.made(self._functions)
        self._made = made if self._parallel else made[:1]
        if not self._made and self._message_id is None:
            return self._write("text", Shown(""), now)
        if self._live is None:
            return rest
        left = self._live.rest(self._made, is_cut=self._finish() == "length")
        return [self._step_event(delta) for delta in left]

    def spoke(self, now: int, spare_id: str) -> ModelSpoke:
        """The result of the turn. `stop` with calls is a call turn all the same (Gemini)."""
        usage, estimated = self._used()
        return ModelSpoke(
            now=now,
            spare_id=spare_id,
            content=self.content(),
            calls=self._made,
            finish=self._finish(),
            usage=usage,
            estimated=estimated,
        )

    def _finish(self) -> str:
        """Why the turn is over; a provider that says `length` after whole calls means them."""
        finish = self._finish_reason or "stop"
        return "tool_calls" if finish == "length" and self._calls.are_whole() else finish

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
        return self._write_all(self._annotations.feed(piece), now)

    def _plain(self, chunks: Sequence[Chunk], start: int) -> tuple[int, list[str]]:
        """How many chunks from `start` on are texts and nothing else, and their texts."""
        texts: list[str] = []
        count = 0
        if self._flowing is None:
            return count, texts
        room = limits.MODEL_OUTPUT_CHARS - self._size
        for chunk in chunks[start:] if start else chunks:
            if isinstance(chunk, list):
                room -= sum(map(len, chunk))
                more = chunk
            else:
                text = chunk.only_text()
                if not text:
                    break
                room -= len(text)
                more = [text]
            if room < 0:
                break
            texts += more
            count += 1
        return count, texts

    def _flow(self, texts: list[str]) -> Pieces:
        """More of a text that nothing has to be looked for in."""
        assert self._flowing is not None and self._message_id is not None, "the message is open"
        index, part = self._flowing
        self._size += sum(map(len, texts))
        part.pieces += texts
        return Pieces(self._message_id, index, texts)

    def _rest(self, now: int) -> list[Said]:
        """The text that was held back because it could have become a marker or a link."""
        return self._write_all(self._annotations.finish(), now)

    def _write_all(self, shown: Iterable[Shown], now: int) -> list[Said]:
        return [said for one in shown for said in self._write("text", one, now)]

    def _write(self, kind: str, shown: Shown, now: int) -> list[Said]:
        if self._message_ended or self._step_id is not None:
            # Text after calls has no place: the API cannot open a message beside their step.
            return []
        said = self._begin_message(now) if self._message_id is None else []
        part = self._part(kind)
        if shown.annotation is not None and not part.pieces:
            # The first delta of a text has no annotations (SPEC 9.3 A).
            said += self._write(kind, Shown(""), now)
        part.pieces.append(shown.text)
        if shown.annotation is not None:
            part.annotations.append(shown.annotation)
        said.append(self._message_event(part, shown))
        if kind == "text" and self._annotations.are_none:
            self._flowing = self._parts.index(part), part
        return said

    def _begin_message(self, now: int) -> list[Said]:
        """The message, and the images that it shows first, each in one piece (SPEC 9.3 G)."""
        self._message_id = self._new_id("message")
        said: list[Said] = [
            TextBegan(now=now, spare_id=self._new_id("step"), message_id=self._message_id)
        ]
        for index, file_id in enumerate(self._images):
            self._parts.append(_Part("image", [file_id]))
            image = ImageFileContentDelta(index=index, image_file=ImageFile(file_id=file_id))
            said.append(self._message_delta(image))
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
        return self._message_delta(delta)

    def _message_delta(self, delta: ContentDelta) -> Event:
        assert self._message_id is not None, "the message is open"
        body = MessageDeltaBody(content=[delta])
        return Event(
            name="thread.message.delta", data=MessageDelta(id=self._message_id, delta=body)
        )

    # Calls.

    def _call(self, fragment: ChunkToolCall, now: int) -> list[Said]:
        if fragment.function is not None and fragment.function.arguments:
            self._grow(len(fragment.function.arguments))
        return self._show(self._calls.add(fragment), now)

    def _show(self, call: PartialCall, now: int) -> list[Said]:
        """The live deltas of the first call, once its name is known."""
        said = self._rest(now)
        self._flowing = None
        if self._message_id is not None and not self._message_ended:
            self._message_ended = True
            said.append(TextEnded(now=now, content=self.content()))
        if self._live is None and call is self._calls.first:
            self._live = self._watched(call)
            if self._live is not None:
                self._step_id = self._new_id("step")
                said.append(CallsBegan(now=now, spare_id=self._step_id))
                said.append(self._step_event(self._live.first()))
        if self._live is not None and call is self._live.call:
            said += [self._step_event(delta) for delta in self._live.fresh()]
        return said

    def _watched(self, call: PartialCall) -> LiveCall | None:
        """How clients watch the turn's first call, if they may."""
        if self._built_in.get(call.name) == "code_interpreter":
            return LiveCode(call)
        if call.name in self._functions and not self._built_in:
            return LiveFunction(call)
        return None

    def _step_event(self, delta: StepToolCall) -> Event:
        assert self._step_id is not None, "the step is open"
        body = StepDeltaBody(step_details=ToolCallsDetails(tool_calls=[delta]))
        return Event(name="thread.run.step.delta", data=StepDelta(id=self._step_id, delta=body))

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
        written = sum(
            tokens.count("".join(part.pieces)) for part in self._parts if part.kind != "image"
        )
        return written + self._calls.count_tokens()
