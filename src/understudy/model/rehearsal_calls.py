"""What the rehearsal server was asked: a bounded list of calls that tests read."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from understudy import limits


@dataclass(slots=True)
class Call:
    """One request, and how it ended."""

    number: int
    path: str
    at: float
    call_id: str | None
    idempotency_key: str | None
    hop: str | None
    has_key: bool
    # The request as it came: free JSON, because that is what tests look at.
    body: Any
    body_bytes: int
    model: str | None
    status: int | None = None
    ended_at: float | None = None
    left_early: bool = False
    left_at: float | None = None


@dataclass(slots=True)
class Calls:
    """The most recent calls, oldest first."""

    ring: deque[Call] = field(default_factory=lambda: deque(maxlen=limits.REHEARSAL_CALLS))
    total: int = 0

    def add(
        self, path: str, headers: Mapping[str, str], body: Any, body_bytes: int, at: float
    ) -> Call:
        """Note a call that begins."""
        self.total += 1
        call = Call(
            number=self.total,
            path=path,
            at=at,
            call_id=headers.get("x-understudy-call"),
            idempotency_key=headers.get("idempotency-key"),
            hop=headers.get("x-understudy-hop"),
            has_key="authorization" in headers,
            body=body if body_bytes <= limits.REHEARSAL_BODY_BYTES else None,
            body_bytes=body_bytes,
            model=body.get("model") if isinstance(body, dict) else None,
        )
        self.ring.append(call)
        return call

    def clear(self) -> None:
        """Forget all calls."""
        self.ring.clear()
        self.total = 0
