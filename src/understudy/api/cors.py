"""Browsers on other origins: off unless the settings name origins."""

from collections.abc import Collection, Mapping, Sequence

from understudy import limits
from understudy.api.transport import Answer

_EXPOSED = "x-request-id, openai-processing-ms, openai-poll-after-ms, retry-after, retry-after-ms"


def allow_origin(
    origins: Collection[str], headers: Mapping[str, str], outgoing: dict[str, str]
) -> None:
    """Let the page that asks read the answer, if its origin is one of ours."""
    origin = headers.get("origin", "")
    outgoing["vary"] = "Origin"
    if origin and (origin in origins or "*" in origins):
        outgoing["access-control-allow-origin"] = origin
        outgoing["access-control-expose-headers"] = _EXPOSED


def preflight(
    allowed: Sequence[str], headers: Mapping[str, str], outgoing: Mapping[str, str]
) -> Answer:
    """The answer to OPTIONS: the methods, and to a known origin its leave to use them."""
    methods = ", ".join([*allowed, "OPTIONS"])
    answer = {"allow": methods}
    if "access-control-allow-origin" in outgoing:
        answer["access-control-allow-methods"] = methods
        answer["access-control-max-age"] = "600"
        wanted = headers.get("access-control-request-headers", "")[: limits.HEADER_VALUE_CHARS]
        if wanted:
            answer["access-control-allow-headers"] = wanted
    return Answer(204, headers=answer)
