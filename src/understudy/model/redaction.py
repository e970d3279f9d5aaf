"""A provider's text without keys, addresses and account names, short enough to show."""

import re
from collections.abc import Iterable

from understudy import limits

_GONE = "[redacted]"

# Each pattern is linear: no nested repeats.
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[^\s\"',}]+", re.IGNORECASE)
_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|tgp|csk|fw|r8)[-_][A-Za-z0-9_\-*.…]{6,}"
    r"|\bAIza[A-Za-z0-9_\-]{10,}"
)
# What follows "api key:", "token=" and the like, masked keys included.
_NAMED = re.compile(
    r"\b((?:api[-_ ]?key|token|secret|password|signature)\b(?: provided)?[\"']?\s*[:=]\s*[\"']?)"
    r"[^\s\"',}&]{4,}",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(r"\b(org|proj|acct|user)[-_][A-Za-z0-9]{8,}")
_URL = re.compile(r"\b[a-z][a-z0-9+.]{1,10}://[^\s\"'<>)\]}]+", re.IGNORECASE)
_PRIVATE_ADDRESS = re.compile(
    r"\b(?:127|10|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){1,3}(?::\d+)?\b"
    r"|\blocalhost:\d+"
)
_LONG_WORD = re.compile(r"[A-Za-z0-9_\-]{32,}")
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f]+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text that a client may see; `secrets` are exact strings that must not be in it."""
    text = _CONTROL.sub(" ", text[: limits.MODEL_ERROR_BYTES])
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = re.sub(re.escape(secret), _GONE, text, flags=re.IGNORECASE)
    text = _BEARER.sub(rf"\1 {_GONE}", text)
    text = _URL.sub(_plain_url, text)
    text = _KEY.sub(_GONE, text)
    text = _NAMED.sub(rf"\1{_GONE}", text)
    text = _ACCOUNT.sub(rf"\1-{_GONE}", text)
    text = _PRIVATE_ADDRESS.sub(_GONE, text)
    text = _LONG_WORD.sub(_without_token, text).strip()
    if len(text) > limits.MODEL_ERROR_CHARS:
        text = text[: limits.MODEL_ERROR_CHARS].rstrip() + "…"
    return text


def _plain_url(found: re.Match[str]) -> str:
    """A URL that holds neither credentials nor a query; documentation links stay whole."""
    url = found[0]
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    if scheme.lower() not in ("http", "https") or "@" in host or "." not in host:
        return _GONE
    return url.partition("?")[0] if "?" in url else url


def _without_token(found: re.Match[str]) -> str:
    """Long words of letters and digits are tokens; long words of letters are words."""
    word = found[0]
    is_token = any(map(str.isdigit, word)) and any(map(str.isalpha, word))
    return _GONE if is_token else word
