"""The first call of a turn, told to clients while the model writes it."""

from collections.abc import Sequence
from typing import Protocol

from understudy.machine.calls import NO_ARGUMENTS, PartialCall
from understudy.machine.code_input import CodeInput, code_of
from understudy.machine.introduce import (
    first_code_delta,
    first_function_delta,
    introduction,
    next_code_delta,
    next_function_delta,
)
from understudy.machine.private import Call
from understudy.wire.steps import StepToolCall


class LiveCall(Protocol):
    """A call and how much of it was shown."""

    call: PartialCall

    def first(self) -> StepToolCall:
        """What introduces it."""

    def fresh(self) -> list[StepToolCall]:
        """What came since the last look."""

    def rest(self, made: Sequence[Call], *, is_cut: bool) -> list[StepToolCall]:
        """What is left to show of its step when the turn is over; `made` are the turn's calls,
        and `is_cut` says that none of them will be made."""


class LiveFunction:
    """A function call; the other functions of the turn follow in the same step."""

    def __init__(self, call: PartialCall) -> None:
        self.call = call
        self._shown = 0  # Fragments.

    def first(self) -> StepToolCall:
        """Id and name."""
        return first_function_delta(0, self.call.id, self.call.name)

    def fresh(self) -> list[StepToolCall]:
        """The next pieces of its arguments."""
        pieces = self.call.arguments[self._shown :]
        self._shown = len(self.call.arguments)
        return [next_function_delta(0, piece) for piece in pieces]

    def rest(self, made: Sequence[Call], *, is_cut: bool) -> list[StepToolCall]:
        """The arguments of a call that has none, and the other calls."""
        deltas, _ = introduction(list(made), {})
        later = [delta for delta in deltas if delta.index != 0]
        if self.call.arguments or is_cut:
            return later
        return [next_function_delta(0, NO_ARGUMENTS), *later]


class LiveCode:
    """A code_interpreter call, alone in its step."""

    def __init__(self, call: PartialCall) -> None:
        self.call = call
        self._input = CodeInput()
        self._read = 0  # Fragments.
        self._shown = 0  # Characters of code.

    def first(self) -> StepToolCall:
        """Id and the empty lists."""
        return first_code_delta(0, self.call.id)

    def fresh(self) -> list[StepToolCall]:
        """The next piece of its code."""
        pieces = self.call.arguments[self._read :]
        self._read = len(self.call.arguments)
        return self._next("".join(self._input.feed(piece) for piece in pieces))

    def rest(self, made: Sequence[Call], *, is_cut: bool) -> list[StepToolCall]:
        """The code that could not be told from the arguments' start."""
        return [] if is_cut else self._next(code_of(made[0].arguments)[self._shown :])

    def _next(self, code: str) -> list[StepToolCall]:
        self._shown += len(code)
        return [next_code_delta(0, code)] if code else []
