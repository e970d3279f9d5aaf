"""The Chat Completions shapes that we send to a provider and read from it.

What we read is lenient: providers add keys, leave keys out and send null for absent, so
every field has a default and unknown keys are ignored.
"""

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, UnsetType

from understudy.wire.base import Wire


class ChatFunctionCall(Wire, frozen=True, kw_only=True):
    """A call that the model made in an earlier turn."""

    name: str
    arguments: str


class ChatToolCall(Wire, frozen=True, kw_only=True):
    """A tool call of an assistant message. `extra_content` goes back as it came (Gemini)."""

    id: str
    type: Literal["function"] = "function"
    function: ChatFunctionCall
    # The provider's own JSON, never read by us.
    extra_content: dict[str, Any] | UnsetType = UNSET


class ChatText(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A text part."""

    text: str


class ChatImage(Wire, frozen=True, kw_only=True):
    """Where an image is: a URL or a data URL."""

    url: str
    detail: str | UnsetType = UNSET


class ChatImageUrl(Wire, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """An image part."""

    image_url: ChatImage


ChatPart = ChatText | ChatImageUrl


class ChatMessage(Wire, frozen=True, kw_only=True):
    """One message of a request."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[ChatPart] | None = None
    tool_calls: list[ChatToolCall] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET


class ChatFunction(Wire, frozen=True, kw_only=True):
    """A function offered to the model."""

    name: str
    description: str | UnsetType = UNSET
    # JSON Schema is free JSON: only the provider reads it.
    parameters: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class ChatTool(Wire, frozen=True, kw_only=True):
    """A tool offered to the model; every tool is a function to a provider."""

    type: Literal["function"] = "function"
    function: ChatFunction


class ChatRequest(Wire, frozen=True, kw_only=True):
    """A chat completion request. `max_completion_tokens` becomes `max_tokens` where the
    provider only knows that (learnt from its 400)."""

    model: str
    messages: list[ChatMessage]
    stream: bool = True
    # {"include_usage": true}
    stream_options: dict[str, bool] | UnsetType = UNSET
    tools: list[ChatTool] | UnsetType = UNSET
    # "none" | "auto" | "required" | {"type": "function", "function": {"name": ...}}
    tool_choice: str | dict[str, Any] | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    # The wire form of a response format, as the client gave it.
    response_format: dict[str, Any] | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    reasoning_effort: str | UnsetType = UNSET
    max_completion_tokens: int | UnsetType = UNSET
    max_tokens: int | UnsetType = UNSET


class ChunkFunction(Wire, frozen=True, kw_only=True):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class ChunkToolCall(Wire, frozen=True, kw_only=True):
    """A piece of a tool call; index and id may each be missing or wrong (machine/deltas.py)."""

    index: int | None = None
    id: str | None = None
    function: ChunkFunction | None = None
    # The provider's own JSON, sent back as it came.
    extra_content: dict[str, Any] | None = None


class ChunkDelta(Wire, frozen=True, kw_only=True):
    """What a chunk adds. Reasoning text (`reasoning_content`, `reasoning`) is not declared
    here: it is never shown as content."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ChunkToolCall] | None = None


class ChunkChoice(Wire, frozen=True, kw_only=True):
    """A choice of a chunk; only the first choice is read."""

    index: int = 0
    delta: ChunkDelta | None = None
    finish_reason: str | None = None


class ChatUsage(Wire, frozen=True, kw_only=True):
    """Tokens used by one call, as the provider counts them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class ChatChunk(Wire, frozen=True, kw_only=True):
    """One chunk of a stream."""

    model: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: ChatUsage | None = None
    # A failure in the middle of a stream, in any shape. The model floor turns it into a
    # ModelError: no chunk that it yields has one.
    error: Any = None

    def only_text(self) -> str | None:
        """The text of a chunk that says nothing else."""
        if self.usage is not None or not self.choices:
            return None
        choice = self.choices[0]
        delta = choice.delta
        if choice.finish_reason or delta is None or delta.refusal or delta.tool_calls:
            return None
        return delta.content


# Texts, none of them empty, stand for as many chunks that have nothing else, as nearly all have.
Chunk: TypeAlias = ChatChunk | list[str]


class ChatAnswer(Wire, frozen=True, kw_only=True):
    """The message of a completion that was not streamed."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ChunkToolCall] | None = None


class CompletionChoice(Wire, frozen=True, kw_only=True):
    """A choice of a completion that was not streamed."""

    index: int = 0
    message: ChatAnswer | None = None
    finish_reason: str | None = None


class ChatCompletion(Wire, frozen=True, kw_only=True):
    """A whole answer, from a provider that does not stream."""

    model: str | None = None
    choices: list[CompletionChoice] | None = None
    usage: ChatUsage | None = None
