"""Server-sent events: what an operation returns when it answers with a stream."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stream:
    """Encoded frames, and headers beside the usual ones of a stream."""

    frames: AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
