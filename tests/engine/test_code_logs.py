"""The logs of a call: what is shown of them while they grow, and the lines that we add."""

import asyncio

import pytest

from tests.engine.stage import eventually
from understudy import limits
from understudy.engine.code_logs import Logs, ended
from understudy.sandbox import Result


async def test_a_ticks_worth_of_text_is_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DELTA_TICK_S", 0.01)
    shown: list[str] = []
    logs = Logs(shown.append)
    for piece in ("a", "", "b"):
        logs.hear(piece)
    assert (shown, logs.shown) == ([], "")
    await eventually(lambda: bool(shown))
    logs.hear("c")
    logs.stop()
    logs.say("Said.")
    await asyncio.sleep(0.05)
    assert shown == ["ab"], "nothing is shown after the end"
    assert logs.shown == "ab"
    assert logs.text == "abc\n[Said.]\n"


async def test_lines_of_ours_are_lines_of_their_own() -> None:
    logs = Logs(lambda piece: None)
    logs.say("One.", "Two.")
    logs.hear("x\n")
    logs.say("Three.")
    logs.hear("y")
    logs.say()
    logs.stop()
    assert logs.text == "[One.]\n[Two.]\nx\n[Three.]\ny"


async def test_what_a_sandbox_sends_is_bounded_and_can_be_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CODE_LOGS_BYTES", 5)
    logs = Logs(lambda piece: None)
    logs.hear("\ud83dé")
    logs.hear("éx")
    logs.hear("more")
    logs.say("Said.")
    logs.stop()
    assert logs.text == "?éé\n[Said.]\n"
    assert logs.dropped_bytes == 5


@pytest.mark.parametrize("reason", ["timeout", "memory", "died", "protocol", "interrupted"])
@pytest.mark.parametrize("is_state_lost", [False, True])
def test_every_end_is_told_with_what_it_cost(reason: str, is_state_lost: bool) -> None:
    result = Result(reason=reason, is_state_lost=is_state_lost)  # type: ignore[arg-type]
    (line,) = ended(result, 60.0)
    assert ("All variables are lost" in line) == is_state_lost
    assert ("Variables and files are kept" in line) != is_state_lost
    assert ("60 seconds" in line) == (reason == "timeout")


def test_an_end_by_itself_is_told_only_when_variables_are_lost() -> None:
    assert ended(Result(), 60.0) == []
    assert len(ended(Result(is_state_lost=True), 60.0)) == 1
