"""Assistant, thread and steps → a chat request (SPEC 8.3).

The thread is read newest first, a page at a time, until the budget is spent: `Window` says when
to stop, so a thread of 100,000 messages costs no more than what fits. What the run itself did so
far (`own`) is never dropped; it is rebuilt from the run's steps, turn by turn.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

from understudy import limits
from understudy.machine import citations, code_output, file_search, tokens, toolbox
from understudy.machine.private import Call, MessagePrivate, RunPrivate, StepPrivate
from understudy.wire.chat import (
    ChatFunctionCall,
    ChatImage,
    ChatImageUrl,
    ChatMessage,
    ChatPart,
    ChatRequest,
    ChatText,
    ChatToolCall,
)
from understudy.wire.messages import (
    ImageFileContent,
    ImageUrlContent,
    Message,
    RefusalContent,
    TextContent,
)
from understudy.wire.runs import Run
from understudy.wire.steps import (
    CodeInterpreterCall,
    FileSearchCall,
    MessageCreationDetails,
    Step,
    StepFunctionCall,
    StepToolCall,
    ToolCallsDetails,
)
from understudy.wire.tools import ChooseFileSearch, JsonObjectFormat, JsonSchemaFormat


@dataclass(frozen=True)
class Stored:
    """A message of the thread with its size."""

    message: Message
    private: MessagePrivate


@dataclass(frozen=True)
class Done:
    """A step of the run with its turn."""

    step: Step
    private: StepPrivate


@dataclass(frozen=True)
class Files:
    """What the transcript says of files: names by id, images as data URLs by id, what
    file_search reaches, if anything, and what code can read."""

    names: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    unsent_images: Mapping[str, str] = field(default_factory=dict)  # Id → why not.
    searchable: toolbox.Searchable | None = None
    in_sandbox: Sequence[str] = ()  # Paths below /mnt/data.


class Window:
    """Chooses the messages that fit. `add` the thread's messages newest first while it returns
    True; then, when the thread was not read to its start, `set_first` its first message.

    `budget` counts tokens; `last` is the most messages that may be taken.
    """

    def __init__(self, *, budget: int, last: int | None) -> None:
        self.budget = budget
        self._last = last
        self._newest: list[Stored] = []
        self._first: Stored | None = None
        self._cut = False

    def add(self, stored: Stored) -> bool:
        """Takes a message if it fits; False says that older ones are not needed."""
        is_over = stored.private.tokens > self.budget
        if is_over or (self._last is not None and len(self._newest) >= self._last):
            self._cut = True
            return False
        self.budget -= stored.private.tokens
        self._newest.append(stored)
        return True

    @property
    def wants_first(self) -> bool:
        """Whether the middle was dropped, so that the first message has to be kept (auto)."""
        return self._cut and self._last is None and bool(self._newest)

    @property
    def is_empty(self) -> bool:
        """Whether not even the newest message fits."""
        return not self._newest

    def set_first(self, first: Stored) -> None:
        """Keeps the thread's first message, in place of the oldest of the newest if need be."""
        if any(kept.message.id == first.message.id for kept in self._newest):
            return
        while first.private.tokens > self.budget and len(self._newest) > 1:
            self.budget += self._newest.pop().private.tokens
        if first.private.tokens <= self.budget:
            self._first = first

    def messages(self) -> list[Message]:
        """The chosen messages, oldest first."""
        kept = [stored.message for stored in reversed(self._newest)]
        return [self._first.message, *kept] if self._first is not None else kept


def prompt_budget(run: Run, private: RunPrivate, own_tokens: int, context_tokens: int) -> int:
    """Tokens left for the thread's messages: the smaller of the model's window and what the
    run may still spend on prompts, less what every turn sends."""
    reserve = min(run.max_completion_tokens or limits.CONTEXT_RESERVE_TOKENS, context_tokens // 2)
    window = context_tokens - reserve
    if run.max_prompt_tokens is not None:
        window = min(window, run.max_prompt_tokens - private.prompt_tokens)
    return window - private.fixed_tokens - own_tokens - tokens.MESSAGE_OVERHEAD


def exhausted(run: Run, private: RunPrivate) -> str | None:
    """The budget that leaves no room for another turn, if one does."""
    completion, prompt = run.max_completion_tokens, run.max_prompt_tokens
    if completion is not None and private.completion_tokens >= completion:
        return "max_completion_tokens"
    if prompt is not None and private.prompt_tokens >= prompt:
        return "max_prompt_tokens"
    return None


def last_messages(run: Run) -> int | None:
    """How many messages the run's strategy allows; None is as many as fit."""
    strategy = run.truncation_strategy
    return strategy.last_messages if strategy.type == "last_messages" else None


def enters(message: Message) -> bool:
    """Whether a message belongs in a transcript. What a failed or reclaimed turn left behind
    does not: its text was never finished, and the turn was made again or lost. Neither does one
    that says nothing, which some providers refuse."""
    details = message.incomplete_details
    if message.status == "in_progress" or (details and details.reason == "run_failed"):
        return False
    return any(not isinstance(part, TextContent) or part.text.value for part in message.content)


def own_turns(messages: Mapping[str, Message], steps: Sequence[Done]) -> list[ChatMessage]:
    """What this run said and did so far, oldest first: one provider message per turn, then the
    answers to its calls. Only completed steps count; every call has its answer (LIBS 1)."""
    numbers = {
        str(call.id): number for number, call in citations.searches(one.step for one in steps)
    }
    turns: dict[int, list[Done]] = {}
    for done in steps:
        if done.step.status == "completed":
            turns.setdefault(done.private.turn, []).append(done)
    return [said for turn in sorted(turns) for said in _turn(turns[turn], messages, numbers)]


def _turn(
    steps: Sequence[Done], messages: Mapping[str, Message], numbers: Mapping[str, int]
) -> list[ChatMessage]:
    text = ""
    calls: list[ChatToolCall] = []
    answers: list[ChatMessage] = []
    for done in steps:
        details = done.step.step_details
        if isinstance(details, MessageCreationDetails):
            message = messages.get(details.message_creation.message_id)
            text += _text(message) if message is not None else ""
            continue
        assert isinstance(details, ToolCallsDetails)
        made = {call.id: call for call in done.private.calls}
        for record in details.tool_calls:
            call = made[str(record.id)]
            calls.append(_chat_call(call))
            answer = _answer(record, numbers)
            answers.append(ChatMessage(role="tool", content=answer, tool_call_id=call.id))
    if not calls and not text:
        return []
    said = ChatMessage(role="assistant", content=text or None, tool_calls=calls or UNSET)
    return [said, *answers]


def _chat_call(call: Call) -> ChatToolCall:
    function = ChatFunctionCall(name=call.name, arguments=call.arguments)
    extra = UNSET if call.extra is None else call.extra
    return ChatToolCall(id=call.id, function=function, extra_content=extra)


def _answer(record: StepToolCall, numbers: Mapping[str, int]) -> str:
    """What the model reads as the answer to its call; `numbers` are those of the searches."""
    match record:
        case StepFunctionCall():
            output = record.function.output
            return output if isinstance(output, str) else ""
        case CodeInterpreterCall():
            return code_output.read_by_model(record)
        case FileSearchCall():
            return file_search.read_by_model(record, numbers[str(record.id)])


def own_tokens(own: Sequence[ChatMessage], steps: Iterable[Done]) -> int:
    """The size of the run's own messages, which are never dropped; `steps` are what they are of."""
    searches = {
        call.id: file_search.size_tokens(call)
        for _, call in citations.searches(done.step for done in steps)
    }
    size = 0
    for message in own:
        size += tokens.MESSAGE_OVERHEAD
        if message.tool_call_id in searches:
            size += searches[message.tool_call_id]
        elif isinstance(message.content, str):
            size += tokens.count(message.content)
        for call in message.tool_calls or ():
            size += tokens.count(call.function.name) + tokens.count(call.function.arguments)
    return size


def chat_request(
    run: Run,
    private: RunPrivate,
    *,
    history: Sequence[Message],
    own: Sequence[ChatMessage],
    files: Files,
    model: str,
) -> ChatRequest:
    """The request of the next turn."""
    said: list[ChatMessage] = []
    if run.instructions:
        said.append(ChatMessage(role="system", content=run.instructions))
    said += [_chat_message(message, files) for message in history]
    said += own
    if not said:
        # A run on an empty thread is legal; a request without any message is not.
        said.append(ChatMessage(role="system", content=""))
    left = None
    if run.max_completion_tokens is not None:
        left = run.max_completion_tokens - private.completion_tokens
    request = ChatRequest(
        model=model,
        messages=said,
        stream_options={"include_usage": True},
        response_format=_response_format(run),
        temperature=UNSET if run.temperature in (None, 1.0) else run.temperature,
        top_p=UNSET if run.top_p in (None, 1.0) else run.top_p,
        reasoning_effort=run.reasoning_effort or UNSET,
        max_completion_tokens=UNSET if left is None else left,
    )
    return _with_tools(request, run, files, is_first_turn=private.turn == 0)


def _with_tools(
    request: ChatRequest, run: Run, files: Files, *, is_first_turn: bool
) -> ChatRequest:
    """tool_choice none offers nothing; a forced choice holds for the first turn only, or the
    loop would never end (SPEC 13.13). A file_search without files cannot be forced."""
    offered = toolbox.offered(run.tools, searchable=files.searchable, in_sandbox=files.in_sandbox)
    if not offered or run.tool_choice == "none":
        return request
    is_absent = isinstance(run.tool_choice, ChooseFileSearch) and files.searchable is None
    is_forced = is_first_turn and run.tool_choice != "auto" and not is_absent
    return msgspec.structs.replace(
        request,
        tools=offered,
        tool_choice=toolbox.choice(run.tool_choice, run.tools) if is_forced else UNSET,
        parallel_tool_calls=UNSET if run.parallel_tool_calls else False,
    )


def _response_format(run: Run) -> dict[str, Any] | msgspec.UnsetType:
    if isinstance(run.response_format, JsonObjectFormat | JsonSchemaFormat):
        built: dict[str, Any] = msgspec.to_builtins(run.response_format)
        return built
    return UNSET


def _chat_message(message: Message, files: Files) -> ChatMessage:
    """A thread message in the provider's shape. Assistants' images become words: providers
    take images from users only."""
    parts: list[ChatPart] = []
    for content in message.content:
        match content:
            case TextContent():
                parts.append(ChatText(text=citations.unmarked(content.text)))
            case RefusalContent():
                parts.append(ChatText(text=content.refusal))
            case ImageUrlContent() if message.role == "user":
                image = content.image_url
                parts.append(ChatImageUrl(image_url=ChatImage(url=image.url, detail=image.detail)))
            case ImageFileContent() if message.role == "user":
                parts.append(_image_file(content, files))
            case _:
                parts.append(ChatText(text="[image]"))
    if message.attachments:
        parts.append(ChatText(text=_attached(message, files)))
    if len(parts) == 1 and isinstance(parts[0], ChatText):
        return ChatMessage(role=message.role, content=parts[0].text)
    if all(isinstance(part, ChatText) for part in parts):
        texts = [part.text for part in parts if isinstance(part, ChatText)]
        return ChatMessage(role=message.role, content="\n".join(texts))
    return ChatMessage(role=message.role, content=parts)


def _image_file(content: ImageFileContent, files: Files) -> ChatPart:
    """A stored image as a data URL; a missing one is said, not hidden."""
    image = content.image_file
    url = files.images.get(image.file_id)
    if url is None:
        reason = files.unsent_images.get(image.file_id, "is not available")
        return ChatText(text=f"[The image {image.file_id} {reason}.]")
    return ChatImageUrl(image_url=ChatImage(url=url, detail=image.detail))


def _attached(message: Message, files: Files) -> str:
    """Names the attached files, so that the model knows they exist (SPEC 7.3)."""
    names = [
        f"{files.names[one.file_id]} ({one.file_id})" if one.file_id in files.names else one.file_id
        for one in message.attachments
    ]
    return "[Attached files: " + ", ".join(names) + "]"


def _text(message: Message) -> str:
    return "".join(part.text.value for part in message.content if isinstance(part, TextContent))
