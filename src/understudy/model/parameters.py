"""What each model of a provider was seen to refuse, and requests without it.

The rule: a parameter that only tunes the answer may be left out for a model that refuses it;
one that the client builds on (`response_format`, `tools`, `tool_choice`) never is: the call
fails and says so.
"""

import re
from dataclasses import dataclass, replace

from msgspec import UNSET
from msgspec.structs import replace as with_fields

from understudy import limits
from understudy.model.failures import Said
from understudy.wire.chat import ChatRequest, ChatTool

NEW_CAP = "max_completion_tokens"
OLD_CAP = "max_tokens"

_OPTIONAL = (
    "stream_options",
    "parallel_tool_calls",
    "reasoning_effort",
    "temperature",
    "top_p",
)
_ALIASES = {"thinking": "reasoning_effort"}  # Ollama: "does not support thinking".
_REFUSAL = re.compile(
    r"unsupported|not supported|n[o']t support|unrecognized|unrecognised|unexpected"
    r"|unknown (?:name|field|parameter|argument|key)|not permitted|extra_forbidden"
    r"|only the default|use ['\"`]?max_(?:completion_)?tokens",
    re.IGNORECASE,
)
_REFUSAL_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"}
)
_WORD = re.compile(r"[A-Za-z_]+")
# Error texts can quote the whole request; names that far back are not what is refused.
_TEXT_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Learnt:
    """What one model refuses."""

    dropped: frozenset[str] = frozenset()
    cap: str | None = None  # The token parameter, once the first one was refused.


class Lessons:
    """What was learnt about each model, the most recent models kept."""

    def __init__(self, default_cap: str) -> None:
        self._default_cap = default_cap
        self._models: dict[str, Learnt] = {}

    def outgoing(self, request: ChatRequest) -> ChatRequest:
        """The request as this provider takes it."""
        learnt = self._models.get(request.model, Learnt())
        tools = request.tools or UNSET
        cap = next(
            (
                cap
                for cap in (request.max_completion_tokens, request.max_tokens)
                if cap is not UNSET
            ),
            UNSET,
        )
        changes: dict[str, object] = dict.fromkeys(learnt.dropped & set(_OPTIONAL), UNSET)
        changes |= {NEW_CAP: UNSET, OLD_CAP: UNSET, "stream": True, "tools": tools}
        changes[learnt.cap or self._default_cap] = cap
        if request.stream_options is UNSET and "stream_options" not in learnt.dropped:
            changes["stream_options"] = {"include_usage": True}
        if tools is UNSET:  # OpenAI refuses both without tools.
            changes |= {"tool_choice": UNSET, "parallel_tool_calls": UNSET}
        elif "strict" in learnt.dropped:
            changes["tools"] = [_lenient(tool) for tool in tools]
        return with_fields(request, **changes)

    def learn(self, sent: ChatRequest, found: Said) -> bool:
        """Whether the next call for this model will leave out or rename what was refused."""
        refused = refused_parameters(sent, found)
        if not refused:
            return False
        learnt = self._models.get(sent.model, Learnt())
        for name in (NEW_CAP, OLD_CAP):
            if name in refused:
                if learnt.cap == name:  # Both are refused: leaving the cap out would cost money.
                    return False
                learnt = replace(learnt, cap=OLD_CAP if name == NEW_CAP else NEW_CAP)
        learnt = replace(learnt, dropped=learnt.dropped | (refused - {NEW_CAP, OLD_CAP}))
        self._models.pop(sent.model, None)
        self._models[sent.model] = learnt
        if len(self._models) > limits.MODELS_LEARNT:
            del self._models[next(iter(self._models))]
        return True


def refused_parameters(sent: ChatRequest, found: Said) -> frozenset[str]:
    """The parameters of this request that the error refuses, of those that may be left out."""
    text = found.message[:_TEXT_CHARS]
    if not (_REFUSAL.search(text) or {found.code, found.type} & _REFUSAL_CODES):
        return frozenset()
    carried = {_normal(name): name for name in _carried(sent)}
    if found.param:
        root = re.split(r"[.\[]", found.param)[0]
        last = _normal(_WORD.findall(found.param)[-1]) if _WORD.search(found.param) else ""
        if last in carried:
            return frozenset({carried[last]})
        if root in ChatRequest.__struct_fields__:
            return frozenset()
    words = {_normal(_ALIASES.get(word, word)) for word in _WORD.findall(text)}
    if "responseformat" in words:
        return frozenset()
    return frozenset(name for word, name in carried.items() if word in words)


def _carried(sent: ChatRequest) -> list[str]:
    """The parameters that this request carries and that may be left out or renamed."""
    names = [name for name in (*_OPTIONAL, NEW_CAP, OLD_CAP) if getattr(sent, name) is not UNSET]
    if sent.tools and any(tool.function.strict is not UNSET for tool in sent.tools):
        names.append("strict")
    return names


def _normal(name: str) -> str:
    """Providers spell reasoning_effort as reasoningEffort."""
    return name.replace("_", "").lower()


def _lenient(tool: ChatTool) -> ChatTool:
    """The tool without `strict`."""
    return with_fields(tool, function=with_fields(tool.function, strict=UNSET))
