"""One provider answer as it arrives: bytes → chunks, and whether it ended properly.

The content type is not trusted: providers and proxies send streams as text/plain and errors as
text/event-stream. The first byte tells: `{` or `[` begins JSON, `<` begins HTML, and no event
stream begins with either.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from understudy import limits
from understudy.model import ModelError
from understudy.model.failures import classify, failed, read_error, said
from understudy.model.shape import Shape
from understudy.model.sse import DONE, LineTooLong, SseParser
from understudy.wire.chat import (
    ChatChunk,
    ChatCompletion,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    ChunkToolCall,
    CompletionChoice,
)

_CHUNK = msgspec.json.Decoder(ChatChunk)
_CHUNKS = msgspec.json.Decoder(list[ChatChunk])
_COMPLETION = msgspec.json.Decoder(ChatCompletion)
_SHAPES = 8  # Of one answer: of some providers no two chunks are alike.
_TRIED = 2  # Chunks of one read: a role comes before the first text.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


class Reading:
    """The state of one answer: feed it with `take`, close it with `end`."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_parser",
        "_secrets",
        "_shape",
        "_shapes_left",
        "has_finish",
        "has_yielded",
        "is_done",
    )

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = secrets
        self._parser: SseParser | None = None  # Set once the body is known to be a stream.
        self._body: list[bytes] = []  # Otherwise what came so far.
        self._body_bytes = 0
        self._shape: Shape | None = None  # Of the last text.
        self._shapes_left = _SHAPES
        self.has_yielded = False
        self.has_finish = False
        self.is_done = False

    def take(self, piece: bytes) -> list[Chunk]:
        """The chunks that this piece completes."""
        parser = self._parser
        if parser is None:
            return self._first(piece)
        try:
            return self._chunks(parser.feed(piece))
        except LineTooLong:
            raise self._failed("The model provider sent an endless line.") from None

    def end(self) -> list[Chunk]:
        """The chunks that the end of the body completes; raises unless the answer is whole."""
        chunks: list[Chunk] = []
        if self._parser is not None:
            if not self.is_done:
                chunks = self._chunks(self._parser.finish())
        elif self._body:
            chunks = [self._whole(b"".join(self._body))]
        if not (self.is_done or self.has_finish):
            raise self.cut()
        if not (self.has_yielded or chunks):
            raise self._failed("The model provider answered with an empty stream.")
        return chunks

    def cut(self) -> ModelError:
        """The error for a connection that was lost before the answer was whole."""
        return failed(
            "The connection to the model provider was lost in the middle of the answer."
            if self.has_yielded
            else "The model provider closed the connection without an answer.",
            retryable=not self.has_yielded,
        )

    def _first(self, piece: bytes) -> list[Chunk]:
        """What to do with a body whose kind is not settled, or that is no stream."""
        self._body.append(piece)
        self._body_bytes += len(piece)
        if self._body_bytes > limits.MODEL_BODY_BYTES:
            raise self._failed("The model provider's answer is too long.")
        start = next((part for part in (p.lstrip() for p in self._body) if part), b"")
        if start[:1] == b"<":
            raise self._failed("The model provider answered with HTML instead of a stream.")
        if not start or start[:1] in b"{[":
            return []
        body, self._body = b"".join(self._body), []
        self._parser = SseParser(limits.MODEL_LINE_BYTES)
        return self.take(body)

    def _chunks(self, events: list[bytes]) -> list[Chunk]:
        """Decode events: the hot path."""
        if DONE in events:
            self.is_done = True
            events = events[: events.index(DONE)]
        if not events:
            return []
        chunks: list[Chunk] = []
        events = events[self._texts(events, chunks) :]
        if not events:
            return chunks
        for event in events[:_TRIED] if self._shapes_left else ():
            [chunk] = self._rest([event])
            chunks.append(chunk)
            events = events[1:]
            if shape := Shape.of(event, chunk):
                self._shape = shape
                self._shapes_left -= 1
                events = events[self._texts(events, chunks) :]
                break
        chunks += self._rest(events)
        self.has_yielded = True
        return chunks

    def _texts(self, events: list[bytes], chunks: list[Chunk]) -> int:
        """Add those that are as the last text was, from the first on; how many they are."""
        texts = self._shape.texts(events) if self._shape is not None else None
        if texts:
            chunks.append(texts)
        return len(texts or ())

    def _rest(self, events: list[bytes]) -> list[ChatChunk]:
        many = _at_once(events)
        chunks: list[ChatChunk] = []
        for place, event in enumerate(events):
            chunk = many[place] if many else self._chunk(event)
            chunks.append(chunk)
            if chunk.choices:
                if not self.has_finish and chunk.choices[0].finish_reason:
                    self.has_finish = True
            elif chunk.usage is None and chunk.error is None:
                self._look_for_error(event)
            if chunk.error is not None:
                raise self._error(_decoded(event))
        return chunks

    def _chunk(self, event: bytes) -> ChatChunk:
        try:
            return _CHUNK.decode(event)
        except _UNREADABLE:
            return self._repaired(event)

    def _repaired(self, event: bytes) -> ChatChunk:
        """A chunk whose fields have surprising types, or whose text is no Unicode."""
        try:
            return msgspec.convert(repaired(_decoded(event)), ChatChunk)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            raise self._failed("The model provider sent a stream that cannot be read.") from None

    def _look_for_error(self, event: bytes) -> None:
        """A chunk with nothing in it may be an error that is not called one (older vLLM)."""
        found = _decoded(event)
        if isinstance(found, dict) and not found.get("choices") and said(found) is not None:
            raise self._error(found)

    def _whole(self, body: bytes) -> ChatChunk:
        """A JSON body: an error that came with a 200, or an answer that was not streamed."""
        if read_error(body) is not None:
            raise self._error(msgspec.json.decode(body))
        try:
            completion = _COMPLETION.decode(body)
        except _UNREADABLE:
            raise self._failed("The model provider's answer cannot be read.") from None
        if not completion.choices:
            raise self._failed("The model provider's answer is no chat completion.")
        self.is_done = True
        return as_chunk(completion)

    def _error(self, found: Any) -> ModelError:
        """The error for an error object; retryable while nothing was yielded."""
        spoken = said(found)
        if spoken is None:
            return self._failed("The model provider reported an error in its stream.")
        status = spoken.status or _STATUS_OF_TYPE.get(spoken.type.lower(), 500)
        error = classify(status, spoken, {}, secrets=self._secrets, now=0.0)
        error.retryable = error.retryable and not self.has_yielded
        return error

    def _failed(self, cause: str) -> ModelError:
        """An answer that no second try would better."""
        return failed(cause)


# Error objects inside a 200 seldom carry a status.
_STATUS_OF_TYPE = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "tokens": 429,
    "requests": 429,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "overloaded_error": 503,
}


def _at_once(events: Sequence[bytes]) -> list[ChatChunk] | None:
    """Many chunks with one call of the decoder, which is quicker; None when one is not as usual."""
    if len(events) < 2:
        return None
    try:
        chunks = _CHUNKS.decode(b"[%b]" % b",".join(events))
    except _UNREADABLE:
        return None
    return chunks if len(chunks) == len(events) else None


def as_chunk(completion: ChatCompletion) -> ChatChunk:
    """A whole answer as the only chunk of a stream."""
    return ChatChunk(
        model=completion.model,
        choices=[_streamed(choice) for choice in completion.choices or ()],
        usage=completion.usage,
    )


def _streamed(choice: CompletionChoice) -> ChunkChoice:
    """A choice whose message is one delta; its calls are numbered in their order."""
    message = choice.message
    calls = None if message is None or message.tool_calls is None else message.tool_calls
    return ChunkChoice(
        index=choice.index,
        finish_reason=choice.finish_reason or "stop",
        delta=None
        if message is None
        else ChunkDelta(
            content=message.content,
            refusal=message.refusal,
            tool_calls=None if calls is None else [_numbered(i, c) for i, c in enumerate(calls)],
        ),
    )


def _numbered(index: int, call: ChunkToolCall) -> ChunkToolCall:
    """A whole call at its place in the list."""
    return msgspec.structs.replace(call, index=index)


def _decoded(event: bytes) -> Any:
    """JSON; half a character becomes U+FFFD.

    Gateways that cut text by UTF-16 units send an emoji as two lone surrogates, in two chunks.
    """
    try:
        return msgspec.json.decode(event)
    except _UNREADABLE:
        found = json.loads(event.decode("utf-8", "replace"))
        text = json.dumps(found, ensure_ascii=False)
        return msgspec.json.decode(
            text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )


def repaired(chunk: Any) -> Any:
    """The chunk with the types that we read. It is free JSON: every look is guarded.

    Seen: content as a list of parts (Mistral's reasoning models), arguments as an object, an
    index as text, one call outside a list, counts as floats.
    """
    if not isinstance(chunk, dict):
        return chunk
    choices = chunk.get("choices")
    usage = chunk.get("usage")
    return {
        "model": _text(chunk.get("model")),
        "choices": [_choice(choice) for choice in choices] if isinstance(choices, list) else None,
        "usage": {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")}
        if isinstance(usage, dict)
        else None,
        "error": chunk.get("error"),
    }


def _choice(choice: Any) -> dict[str, Any]:
    """A choice with a readable delta."""
    choice = choice if isinstance(choice, dict) else {}
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    calls = delta.get("tool_calls")
    calls = [calls] if isinstance(calls, dict) else calls
    return {
        "index": _count(choice.get("index")) or 0,
        "finish_reason": _text(choice.get("finish_reason")),
        "delta": {
            "content": _content(delta.get("content")),
            "refusal": _text(delta.get("refusal")),
            "tool_calls": [_call(call) for call in calls] if isinstance(calls, list) else None,
        },
    }


def _call(call: Any) -> dict[str, Any]:
    """A tool call with its arguments as text."""
    call = call if isinstance(call, dict) else {}
    function = call.get("function")
    extra = call.get("extra_content")
    if isinstance(function, dict):
        arguments = function.get("arguments")
        if isinstance(arguments, dict | list):
            arguments = msgspec.json.encode(arguments).decode()
        function = {"name": _text(function.get("name")), "arguments": _text(arguments)}
    else:
        function = None
    return {
        "index": _count(call.get("index")),
        "id": _text(call.get("id")),
        "function": function,
        "extra_content": extra if isinstance(extra, dict) else None,
    }


def _content(content: Any) -> str | None:
    """The text of content that may be a list of parts; thinking is no text."""
    if not isinstance(content, list):
        return _text(content)
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str)) or None


def _text(value: Any) -> str | None:
    """A value that should be text."""
    return None if value is None or isinstance(value, dict | list) else str(value)


def _count(value: Any) -> int | None:
    """A value that should be a whole number."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None
