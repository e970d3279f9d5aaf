"""The clock of a PostgreSQL server, as seen from here: the one that all its clients go by."""

import time


class ServerClock:
    """Unix seconds of the server. Between looks it goes as this machine's monotonic clock does, so
    that a node whose own time of day is wrong is right all the same."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None  # Of the monotonic clock.
        self._error_s = 0.0  # How far off that may be.

    def heard(self, asked_at: float, heard_at: float, told: float) -> None:
        """What the server told between two moments of the monotonic clock. A look that took long
        says little: it counts only when it contradicts what is known."""
        error_s = (heard_at - asked_at) / 2
        ahead_s = told - (asked_at + heard_at) / 2
        is_known = self._ahead_s is not None
        if is_known and error_s > self._error_s:
            assert self._ahead_s is not None, "it is known"
            if abs(ahead_s - self._ahead_s) <= error_s + self._error_s:
                return
        self._ahead_s, self._error_s = ahead_s, error_s

    def now(self) -> float:
        """Unix seconds."""
        assert self._ahead_s is not None, "a look comes before the first question"
        return time.monotonic() + self._ahead_s
