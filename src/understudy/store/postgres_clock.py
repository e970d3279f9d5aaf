"""The clock of a PostgreSQL server, as seen from here: the one that all its clients go by."""

import time

from understudy import limits


class ServerClock:
    """Unix seconds of the server. Between looks it goes as this machine's monotonic clock does, so
    that a node whose own time of day is wrong is right all the same.

    What is known is between which two numbers of seconds it is ahead of the monotonic clock. A look
    narrows that, however slow its way was; one that contradicts what is known takes its place: the
    server's clock was set, or it is another server.
    """

    def __init__(self) -> None:
        self._least_s = float("-inf")
        self._most_s = float("inf")
        self._heard_at: float | None = None

    def heard(self, asked_at: float, heard_at: float, told: float) -> None:
        """What the server told between two moments of the monotonic clock."""
        least_s, most_s = told - heard_at, told - asked_at
        if self._heard_at is not None:
            drift_s = (heard_at - self._heard_at) * limits.CLOCK_DRIFT
            known_least_s, known_most_s = self._least_s - drift_s, self._most_s + drift_s
            if known_least_s <= most_s and least_s <= known_most_s:
                least_s, most_s = max(least_s, known_least_s), min(most_s, known_most_s)
        self._least_s, self._most_s, self._heard_at = least_s, most_s, heard_at

    def now(self) -> float:
        """Unix seconds."""
        assert self._heard_at is not None, "a look comes before the first question"
        return time.monotonic() + (self._least_s + self._most_s) / 2
