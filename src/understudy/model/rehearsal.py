"""The rehearsal model's own part: what it answers when no script tells it.

It needs no network, thinks nothing and says so. It echoes, calls a function when the user asks
for one by name, repeats what tools answered, and makes minimal instances of schemas.
"""

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable
from typing import Any

from understudy import limits
from understudy.model.rehearsal_script import Say, Step, scripted, text_of, turn_number
from understudy.model.samples import sample
from understudy.wire.models import Model

NAME = "rehearsal"
EMBEDDING_NAME = "rehearsal-embedding"
DIMENSIONS = 64
INTRODUCTION = (
    "I am Understudy's rehearsal model: I work without a network and I do not think. "
    "Name a model provider to get real answers."
)

_ASKS = re.compile(r"\bcall\s+(?:the\s+function\s+)?[`'\"]?([A-Za-z0-9_-]{1,64})", re.IGNORECASE)
_WITH = re.compile(r"[`'\"]?(?:\(\))?\s+with\s+(?=\{)", re.IGNORECASE)
_WORD = re.compile(r"\w+")


def listed() -> list[Model]:
    """The models that it lists; it answers to any name."""
    return [Model(id=name, created=0, owned_by="understudy") for name in (NAME, EMBEDDING_NAME)]


def part(body: dict[str, Any]) -> list[Step]:
    """The steps to play for a request: its script's turn, else the model's own answer."""
    messages = messages_of(body)
    script = scripted(messages)
    steps = script.turn(turn_number(messages)) if script else None
    return own_answer(body) if steps is None else steps


def own_answer(body: dict[str, Any]) -> list[Step]:
    """What it says by itself."""
    messages = messages_of(body)
    outputs = _outputs(messages)
    if outputs:  # Answered even where tool_choice is forced: it would call for ever.
        return _formatted(body, "\n".join(outputs))
    text = next((text_of(m) for m in reversed(messages) if m.get("role") == "user"), "")
    calls = _calls(body, text)
    return [Step(call=call) for call in calls] or _formatted(
        body, f"{INTRODUCTION} You said: {text}"
    )


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a request that may be malformed."""
    messages = body.get("messages")
    return [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []


def _outputs(messages: list[dict[str, Any]]) -> list[str]:
    """A sentence for each tool message at the end, with its function's name."""
    names = {
        call.get("id"): call.get("function", {}).get("name")
        for message in messages
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict)
    }
    trailing: list[str] = []
    for message in reversed(messages):
        if message.get("role") != "tool":
            break
        name = names.get(message.get("tool_call_id"), "function")
        trailing.append(f"The {name} call answered: {text_of(message)}")
    return trailing[::-1]


def _calls(body: dict[str, Any], text: str) -> list[Say]:
    """The calls that the user asks for, or that tool_choice forces."""
    tools = body.get("tools")
    offered = {
        tool["function"]["name"]: tool["function"].get("parameters") or {}
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict)
        and isinstance(tool.get("function"), dict)
        and isinstance(tool["function"].get("name"), str)
    }
    choice = body.get("tool_choice")
    if not offered or choice == "none":
        return []
    forced = (
        choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None
    )
    calls = [
        Say(name=name, arguments=_arguments(text, end, offered[name]))
        for name, end in _asked(text)
        if name in offered and forced in (None, name)
    ]
    if not calls and (forced or choice == "required"):
        name = str(forced) if forced in offered else next(iter(offered))
        calls = [Say(name=name, arguments=_sample_arguments(offered[name]))]
    return calls[:1] if body.get("parallel_tool_calls") is False else calls


def _asked(text: str) -> Iterable[tuple[str, int]]:
    """The functions that a text asks to call, and where each name ends."""
    return ((found[1], found.end()) for found in _ASKS.finditer(text))


def _arguments(text: str, end: int, parameters: dict[str, Any]) -> str:
    """The JSON that follows "with", else a sample."""
    found = _WITH.match(text, end)
    if found is None:
        return _sample_arguments(parameters)
    try:
        _, stop = json.JSONDecoder().raw_decode(text, found.end())
    except (ValueError, RecursionError):
        return _sample_arguments(parameters)
    return text[found.end() : stop]


def _sample_arguments(parameters: dict[str, Any]) -> str:
    """Arguments that the function's schema accepts."""
    arguments = sample(parameters) if parameters else {}
    return json.dumps(arguments if isinstance(arguments, dict) else {})


def _formatted(body: dict[str, Any], text: str) -> list[Step]:
    """The text in the response format that is asked for."""
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if isinstance(wanted, dict) and kind == "json_schema":
        schema = wanted.get("json_schema")
        return [
            Step(text=json.dumps(sample(schema.get("schema") if isinstance(schema, dict) else {})))
        ]
    if kind == "json_object":
        return [Step(text=json.dumps({"answer": text}, ensure_ascii=False))]
    return [Step(text=text)]


def count(text: str) -> int:
    """Its rule for tokens: a run of characters without a space is one."""
    return len(text.split())


def prompt_tokens(body: dict[str, Any]) -> int:
    """One for each message, and the words of its text and of its calls' arguments."""
    total = 0
    for message in messages_of(body):
        total += 1 + count(text_of(message))
        for call in message.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                total += count(f"{function.get('name', '')} {function.get('arguments', '')}")
    return total


def vector(text: str | list[int], dimensions: int = DIMENSIONS) -> list[float]:
    """A hash embedding: each word adds ±1 at a place that its hash names; length 1.

    The same text has the same vector everywhere, and texts that share words are near each
    other. It knows nothing of meaning.
    """
    words = _WORD.findall(text.lower()) if isinstance(text, str) else [f"#{id}" for id in text]
    sums = [0.0] * dimensions
    for word in words or [""]:
        place, sign = struct.unpack("<QB", hashlib.blake2b(word.encode(), digest_size=9).digest())
        sums[place % dimensions] += 1.0 if sign & 1 else -1.0
    length = math.sqrt(sum(value * value for value in sums))
    if length == 0.0:  # Words that cancel out.
        return [1.0] + [0.0] * (dimensions - 1)
    return [value / length for value in sums]


def are_dimensions(found: Any) -> bool:
    """Whether vectors of this size can be made."""
    return isinstance(found, int) and 1 <= found <= limits.REHEARSAL_DIMENSIONS


def embed_inputs(found: Any) -> list[str | list[int]]:
    """The inputs of an embeddings request: a text, texts, a token array or several; else none."""
    if isinstance(found, str):
        return [found]
    if not isinstance(found, list):
        return []
    if found and all(isinstance(item, int) for item in found):
        return [found]
    are_valid = all(isinstance(item, str) or _are_tokens(item) for item in found)
    return list(found) if are_valid else []


def _are_tokens(found: Any) -> bool:
    """Whether this is a token array."""
    return isinstance(found, list) and all(isinstance(item, int) for item in found)
