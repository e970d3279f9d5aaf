"""A provider's failure → ModelError: what went wrong, in our words, and whether to try again.

Providers share status codes but not bodies. The shapes read here were seen at OpenAI, Azure,
Gemini (a list), OpenRouter, Ollama (a string), vLLM, llama.cpp, Mistral and FastAPI servers
(`detail`), Groq and Anthropic. The provider's own text is shown only where it helps the
reader, and only after redaction.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from understudy.model import SORRY, ModelError
from understudy.model.redaction import redact

_RETRYABLE = frozenset({408, 409, 429})

_NO_QUOTA = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "quota_exceeded",
    }
)
_REFUSED_PROMPT = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "invalid_prompt",
        "responsibleaipolicyviolation",
        "moderation",
        "data_inspection_failed",
        "sensitive_words_detected",
    }
)
_REFUSED_PROMPT_TEXT = re.compile(
    r"content management policy|usage polic|content policy|safety system|prompt was flagged"
    r"|flagged (?:as|for) potentially|prohibited_content|blocked by .{0,20}safety",
    re.IGNORECASE,
)
_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_CONTEXT_TEXT = re.compile(
    r"reduce the length of the (?:messages|prompt)|prompt is too long|input is too long"
    r"|context[ _](?:length|size|window) (?:was )?exceeded|exceeds? the (?:available )?context"
    r"|context (?:the )?overflows",
    re.IGNORECASE,
)
# Each names the window in its only group.
_WINDOWS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # OpenAI, Azure, vLLM, xAI.
        r"max(?:imum)? (?:context|model|prompt|sequence) length(?: is| of)?:?\s*\(?(\d[\d,]*)",
        r"(\d[\d,]*) (?:token )?maximum context length",  # Mistral.
        # llama.cpp, LM Studio.
        r"context (?:size|window|length)(?: of| is)?(?: only)?:?\s*\(?(\d[\d,]*)",
        r"tokens > (\d[\d,]*) maximum",  # Anthropic.
        r"maximum number of (?:input )?tokens allowed \((\d[\d,]*)\)",  # Gemini.
        r"`?inputs`? tokens.{0,40} must be <= (\d[\d,]*)",  # TGI, Together.
    )
)
_AGAIN_IN = re.compile(
    r"(?:try again|retry)(?: your request)? (?:in|after) ((?:[\d.]+\s*[a-z]+\s*)+)", re.I
)
_SPAN = re.compile(r"([\d.]+)\s*(ms|milli|h|m|s)[a-z]*", re.IGNORECASE)
_UNIT_S = {"ms": 0.001, "milli": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Said:
    """What an error body says, whatever its shape."""

    message: str = ""
    type: str = ""
    param: str = ""
    code: str = ""
    status: int | None = None
    context_tokens: int | None = None


def read_error(body: bytes) -> Said | None:
    """What the provider says; None when the body is no JSON that speaks of an error."""
    try:
        return said(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def said(found: Any) -> Said | None:
    """The same for decoded JSON. It is free JSON: every look is guarded."""
    if isinstance(found, list) and found:  # Gemini wraps its error in a list.
        found = found[0]
    if not isinstance(found, dict):
        return None
    error = found.get("error") or found.get("errors")
    if error is None and (
        found.get("object") == "error" or "detail" in found or "message" in found
    ):
        error = found
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, str):
        return Said(message=error)
    return _from_object(error) if isinstance(error, dict) else None


def _from_object(error: dict[str, Any]) -> Said:
    """The common keys of an error object, and the odd places of some."""
    message, param = error.get("message") or error.get("detail") or "", error.get("param")
    if isinstance(message, dict):  # Mistral: {"message": {"detail": [...]}}
        message = message.get("detail") or message.get("message") or ""
    if isinstance(message, list) and message and isinstance(message[0], dict):  # FastAPI.
        where = message[0].get("loc")
        param = where[-1] if isinstance(where, list) and where else param
        message = f"{message[0].get('msg', '')}: {param}"
    code = error.get("code")
    inner = error.get("innererror")
    if isinstance(inner, dict) and isinstance(inner.get("code"), str):  # Azure's content filter.
        code = inner["code"]
    return Said(
        message=_detailed(str(message), error.get("metadata")),
        type=_word(error.get("type") or error.get("status")),
        param=_word(param),
        code=_word(code),
        status=_status(error.get("code")) or _status(error.get("status_code")),
        context_tokens=_tokens(error.get("n_ctx")),
    )


def _detailed(message: str, metadata: object) -> str:
    """OpenRouter says "Provider returned error" and quotes the provider elsewhere."""
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, str):
        return message
    quoted = read_error(raw.encode())
    return f"{message}: {quoted.message if quoted else raw}"


def _word(value: object) -> str:
    """A code as text; numbers and null occur."""
    return "" if value is None else str(value)


def _status(value: object) -> int | None:
    """An HTTP status that is given as a code: a number, or a text of digits."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    return number if isinstance(number, int) and 400 <= number < 600 else None


def _tokens(value: object) -> int | None:
    """A plausible context window."""
    return value if isinstance(value, int) and 16 <= value <= 1_000_000_000 else None


def from_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Sequence[str],
    now: float,
) -> ModelError:
    """The error for an answer that is not a 2xx."""
    if 300 <= status < 400:
        return failed("The model provider answered with a redirect.", status=status)
    found = read_error(body) or Said()
    return classify(status, found, headers, secrets=secrets, now=now)


def classify(
    status: int,
    found: Said,
    headers: Mapping[str, str],
    *,
    secrets: Sequence[str],
    now: float,
) -> ModelError:
    """What kind of failure this is."""
    text = redact(found.message, secrets)
    codes = {found.code.lower(), found.type.lower()}
    if codes & _NO_QUOTA or status == 402:
        message = text or "The model provider says that the account has no quota left."
        return ModelError("rate_limit_exceeded", message, status=status)
    window = found.context_tokens or context_window(found.message)
    if status != 429 and (window or codes & _CONTEXT_CODES or _CONTEXT_TEXT.search(found.message)):
        return _too_long(window, status)
    if status == 429:
        return _rate_limited(found, text, headers, now)
    if codes & _REFUSED_PROMPT or _REFUSED_PROMPT_TEXT.search(found.message):
        return ModelError(
            "invalid_prompt", _with("The model provider refused the prompt", text), status=status
        )
    return _by_status(status, text, headers, now)


def _by_status(status: int, text: str, headers: Mapping[str, str], now: float) -> ModelError:
    """Where only the status tells."""
    if status in (401, 403):
        return failed("The model provider refused the server's credentials.", status=status)
    if status in (404, 405):
        cause = "The model provider does not know this model or this call"
        return failed(_with(cause, text), status=status)
    if status in _RETRYABLE or status >= 500:
        return failed(
            f"The model provider failed with status {status}.",
            status=status,
            retryable=headers.get("x-should-retry", "").lower() != "false",
            retry_after_s=retry_after_s(headers, "", now),
        )
    return failed(_with("The model provider refused the request", text), status=status)


def _rate_limited(found: Said, text: str, headers: Mapping[str, str], now: float) -> ModelError:
    """Too many requests: the provider's words, because apps read the waiting time in them."""
    # A request that is over the limit by itself never passes.
    hopeless = "request too large" in found.message.lower()
    return ModelError(
        "rate_limit_exceeded",
        text or "The model provider's rate limit was reached.",
        retryable=not hopeless and headers.get("x-should-retry", "").lower() != "false",
        retry_after_s=retry_after_s(headers, found.message, now),
        status=429,
    )


def _too_long(window: int | None, status: int) -> ModelError:
    """A prompt that the context window cannot hold."""
    size = f" ({window} tokens)" if window else ""
    return ModelError(
        "invalid_prompt",
        f"The prompt is longer than the model's context window{size}.",
        context_tokens=window,
        status=status,
    )


def failed(
    cause: str,
    *,
    retryable: bool = False,
    retry_after_s: float | None = None,
    status: int | None = None,
) -> ModelError:
    """A server_error with its cause in one sentence."""
    return ModelError(
        "server_error",
        f"{SORRY} {cause}",
        retryable=retryable,
        retry_after_s=retry_after_s,
        status=status,
    )


def context_window(text: str) -> int | None:
    """The window that an error text names."""
    for pattern in _WINDOWS:
        if found := pattern.search(text):
            return _tokens(int(found[1].replace(",", "")))
    return None


def retry_after_s(headers: Mapping[str, str], text: str, now: float) -> float | None:
    """How long the provider asks to wait, by header or by text."""
    if (wait := _seconds(headers.get("retry-after-ms"))) is not None:
        return wait / 1000
    after = headers.get("retry-after")
    if (wait := _seconds(after)) is not None:
        return wait
    if after and (wait := _until(after, now)) is not None:
        return wait
    found = _AGAIN_IN.search(text)
    spans = _SPAN.findall(found[1]) if found else []
    waits = [_seconds(number) for number, _ in spans]
    if not spans or None in waits:
        return None
    units = [_UNIT_S[unit.lower()] for _, unit in spans]
    return sum(wait * unit for wait, unit in zip(waits, units, strict=True) if wait is not None)


def _seconds(value: str | None) -> float | None:
    """A number that is no nonsense."""
    try:
        number = float(value or "nan")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(date: str, now: float) -> float | None:
    """The wait until an HTTP date."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _with(cause: str, text: str) -> str:
    """A cause with the provider's words, where it has any."""
    return f"{cause}: {text}" if text else f"{cause}."
