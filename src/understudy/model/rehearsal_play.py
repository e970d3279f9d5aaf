"""Steps → what goes over the wire: chunks, pauses, and the ways in which a provider fails.

Pure: the server and the in-process model perform the same emissions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from understudy.model.rehearsal import count, prompt_tokens
from understudy.model.rehearsal_script import Say, Step
from understudy.world import World

HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
_PIECES = re.compile(r"\s*\S+\s?|\s+")
_SCRIPTS_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no stream."""

    status: int
    headers: dict[str, str]
    body: bytes
    content_type: str = "application/json"


# "drop": close abruptly · "silence": nothing until the client leaves.
# A dict is a chunk, bytes are sent as they are.
Emission = dict[str, Any] | bytes | Pause | Refusal | Literal["drop", "silence"]


@dataclass(slots=True)
class Plays:
    """How often each step that has `times` was played."""

    counts: dict[str, int] = field(default_factory=dict)

    def may_play(self, step: Step) -> bool:
        """Whether this step's turn has come once more; counts it."""
        if step.times is None:
            return True
        key = repr(step)
        played = self.counts.get(key, 0)
        if len(self.counts) >= _SCRIPTS_COUNTED:
            self.counts.clear()
        self.counts[key] = played + 1
        return played < step.times


class Performance:
    """One answer being played; it knows how many words are left and what was said."""

    def __init__(self, body: dict[str, Any], world: World, plays: Plays) -> None:
        self._body = body
        self._world = world
        self._plays = plays
        self._head = {
            "id": "chatcmpl-" + world.new_id("call").removeprefix("call_"),
            "object": "chat.completion.chunk",
            "created": int(world.now()),
            "model": str(body.get("model") or "rehearsal"),
        }
        cap = body.get("max_completion_tokens") or body.get("max_tokens")
        self._left = cap if isinstance(cap, int) else None
        self._said = 0  # Words.
        self._calls = 0
        self._has_begun = False
        self._finish: str | None | Literal[False] = False  # False: not sent yet.
        self._usage: dict[str, Any] | None | Literal[False] = False
        self._has_done = True

    def emissions(self, steps: list[Step]) -> Iterator[Emission]:
        """Everything that happens, the tail included."""
        for step in steps:
            if not self._plays.may_play(step):
                continue
            if step.eof is True:
                return
            for emission in self._step(step):
                yield emission
                if isinstance(emission, Refusal | str):
                    return
            if self._left is not None and self._left <= 0:
                break
        yield from self._tail()

    def _step(self, step: Step) -> Iterator[Emission]:
        """One step of any kind."""
        if step.text is not UNSET:
            yield from self._text("content", step.text, step.every_ms)
        elif step.words is not UNSET:
            text = " ".join(f"word{number}" for number in range(1, step.words + 1))
            yield from self._text("content", text, step.every_ms)
        elif step.refusal is not UNSET:
            yield from self._text("refusal", step.refusal, step.every_ms)
        elif step.reasoning is not UNSET:
            yield from self._text("reasoning_content", step.reasoning, step.every_ms)
        elif step.call is not UNSET:
            yield from self._call(step.call)
        elif step.delay_ms is not UNSET:
            yield Pause(step.delay_ms / 1000)
        elif step.raw_chunk is not UNSET:
            yield step.raw_chunk
        elif step.raw_bytes is not UNSET:
            yield step.raw_bytes.encode("utf-8", "surrogatepass")
        elif step.finish is not UNSET:
            yield from self._finished(step.finish)
        else:
            yield from self._ending(step)

    def _ending(self, step: Step) -> Iterator[Emission]:
        """The steps that end an answer, or say how it ends."""
        if step.usage is not UNSET:
            self._usage = step.usage
        elif step.done is not UNSET:
            self._has_done = step.done
        elif step.drop is True:
            yield "drop"
        elif step.silence is True:
            yield "silence"
        elif step.html is True:
            yield Refusal(200, step.headers, HTML, "text/html")
        elif step.refuse is not UNSET:
            if step.refuse in self._body:
                yield refused_parameter(step.refuse)
        elif step.status is not UNSET:
            body = step.body
            yield Refusal(
                step.status,
                step.headers,
                body.encode() if isinstance(body, str) else msgspec.json.encode(body),
            )

    def _text(self, key: str, text: str, every_ms: float) -> Iterator[Emission]:
        """A text word by word, until the allowed tokens are used up."""
        for number, word in enumerate(_PIECES.findall(text)):
            if self._left is not None:
                if self._left <= 0:
                    return
                self._left -= count(word)
            if every_ms and number:
                yield Pause(every_ms / 1000)
            self._said += count(word)
            yield self._delta({key: word})

    def _call(self, say: Say) -> Iterator[Emission]:
        """A function call: its name first, then its arguments in pieces."""
        encoded = say.arguments if isinstance(say.arguments, str) else ""
        arguments = encoded or msgspec.json.encode(say.arguments).decode()
        self._said += count(f"{say.name} {arguments}")
        place = self._calls if say.index is UNSET else say.index
        self._calls += 1
        where = {} if place is None else {"index": place}
        id = self._world.new_id("call") if say.id is UNSET else say.id
        head: dict[str, Any] = {**where, "type": "function"}
        if id is not None:
            head["id"] = id
        if say.extra_content is not None:
            head["extra_content"] = say.extra_content
        if say.pieces <= 1:
            function = {"name": say.name, "arguments": arguments}
            yield self._delta({"tool_calls": [{**head, "function": function}]})
            return
        yield self._delta(
            {"tool_calls": [{**head, "function": {"name": say.name, "arguments": ""}}]}
        )
        size = max(1, -(-len(arguments) // (say.pieces - 1)))
        for start in range(0, len(arguments), size):
            piece = {"arguments": arguments[start : start + size]}
            yield self._delta({"tool_calls": [{**where, "function": piece}]})

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        """A chunk that adds something; the first one names the role."""
        if not self._has_begun:
            self._has_begun = True
            delta = {"role": "assistant", **delta}
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Any chunk."""
        return {**self._head, "choices": choices}

    def _finished(self, reason: str | None) -> Iterator[Emission]:
        """The chunk with the finish reason, once; null sends none."""
        self._finish = reason
        if reason is not None:
            yield self._chunk([{"index": 0, "delta": {}, "finish_reason": reason}])

    def _tail(self) -> Iterator[Emission]:
        """What ends a proper answer: the reason, the usage if it is asked for, [DONE]."""
        if self._finish is False:
            is_cut = self._left is not None and self._left <= 0
            own = "length" if is_cut else "tool_calls" if self._calls else "stop"
            yield from self._finished(own)
        usage = self.usage()
        options = self._body.get("stream_options")
        is_asked = isinstance(options, dict) and options.get("include_usage") is True
        if usage is not None and (is_asked or self._usage is not False):
            yield {**self._chunk([]), "usage": usage}
        if self._has_done:
            yield b"data: [DONE]\n\n"

    def usage(self) -> dict[str, Any] | None:
        """The scripted usage, else the honest count."""
        if self._usage is not False:
            return self._usage
        prompt = prompt_tokens(self._body)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._said,
            "total_tokens": prompt + self._said,
        }


def refused_parameter(name: str) -> Refusal:
    """The 400 of a provider that does not know a parameter."""
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
    hint = f" Use '{other[name]}' instead." if name in other else ""
    return refusal(
        400,
        f"Unsupported parameter: '{name}' is not supported with this model.{hint}",
        code="unsupported_parameter",
        param=name,
    )


def refusal(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> Refusal:
    """An error in the envelope that providers share."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Refusal(status, {}, msgspec.json.encode({"error": error}))


def frame(chunk: dict[str, Any]) -> bytes:
    """A chunk as one server-sent event."""
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def completion(chunks: list[dict[str, Any]], usage: dict[str, Any] | None) -> dict[str, Any]:
    """The chunks of an answer as one completion."""
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    calls: dict[Any, dict[str, Any]] = {}
    for delta in deltas:
        for piece in delta.get("tool_calls", ()):
            call = calls.setdefault(piece.get("index"), {"function": {"arguments": ""}})
            function = {**call["function"], **piece["function"]}
            function["arguments"] = call["function"]["arguments"] + piece["function"]["arguments"]
            call |= {key: value for key, value in piece.items() if key != "index"}
            call["function"] = function
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    for key in ("content", "refusal"):
        if any(key in delta for delta in deltas):
            message[key] = "".join(delta.get(key) or "" for delta in deltas)
    if calls:
        message["tool_calls"] = list(calls.values())
    reason = next((reason for reason in reasons if reason), "stop")
    head = {key: chunks[0][key] for key in ("id", "created", "model")} if chunks else {}
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
