"""Scripts for the rehearsal model: what a prompt or a test tells it to play (docs/rehearsal.md)."""

import json
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

MARK = "rehearse:"


class Say(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function call to make. A null id or index is left out, as some providers do."""

    name: str
    # Free JSON is encoded; text is sent as it is, even when it is no JSON.
    arguments: str | dict[str, Any] = "{}"
    id: str | None | UnsetType = UNSET
    index: int | None | UnsetType = UNSET
    pieces: int = 2
    extra_content: dict[str, Any] | None = None


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to do; each step has one kind, `every_ms`, `headers`, `body`, `times` aside."""

    text: str | UnsetType = UNSET
    words: int | UnsetType = UNSET
    every_ms: float = 0.0
    delay_ms: float | UnsetType = UNSET
    call: Say | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    # Sent as it is: the point of a script is to send what no schema foresees.
    raw_chunk: dict[str, Any] | UnsetType = UNSET
    raw_bytes: str | UnsetType = UNSET
    finish: str | None | UnsetType = UNSET
    usage: dict[str, Any] | None | UnsetType = UNSET
    done: bool | UnsetType = UNSET
    drop: bool | UnsetType = UNSET
    eof: bool | UnsetType = UNSET
    silence: bool | UnsetType = UNSET
    html: bool | UnsetType = UNSET
    refuse: str | UnsetType = UNSET
    status: int | UnsetType = UNSET
    headers: dict[str, str] = {}
    body: Any = None
    times: int | None = None


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to play in each turn; `steps` is short for a single turn."""

    turns: list[list[Step]] = []
    steps: list[Step] = []

    def turn(self, number: int) -> list[Step] | None:
        """The steps of a turn; None when the script is over."""
        turns = self.turns or [self.steps]
        return turns[number] if number < len(turns) else None


class BadScript(Exception):
    """A script that cannot be read; the message says why."""


def read_script(found: Any) -> Script:
    """A script from decoded JSON."""
    try:
        return msgspec.convert(found, Script)
    except msgspec.ValidationError as error:
        raise BadScript(f"This rehearsal script cannot be played: {error}") from None


def scripted(messages: list[dict[str, Any]]) -> Script | None:
    """The script in the last user message, else in a system message."""
    users = [message for message in messages if message.get("role") == "user"]
    systems = [m for m in messages if m.get("role") in ("system", "developer")]
    for message in [*users[-1:], *systems]:
        text = text_of(message)
        start = text.find(MARK)
        if start >= 0 and (start == 0 or text[start - 1] in "\r\n \t"):
            return _script_at(text[start + len(MARK) :].lstrip())
    return None


def _script_at(text: str) -> Script:
    """The script that this text begins with; what follows it is free."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise BadScript("The text after 'rehearse:' is not JSON.") from None
    return read_script(found)


def turn_number(messages: list[dict[str, Any]]) -> int:
    """How many times the model answered since the last user message."""
    number = 0
    for message in reversed(messages):
        if message.get("role") == "user":
            break
        number += message.get("role") == "assistant"
    return number


def text_of(message: dict[str, Any]) -> str:
    """The text of a message whose content is text, parts or null."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
