"""The properties of ARCHITECTURE 3.6 over random happenings, and over the SDK's accumulator.

`SOAK=1` makes it 10,000 sequences of happenings.
"""

import os
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.machine.accumulator import accepts
from tests.machine.play import ALL_TOOLS, FUNCTIONS, NOW, Play, Result
from understudy import limits
from understudy.machine import toolbox
from understudy.machine.happenings import (
    CallModel,
    CancelAsked,
    Claimed,
    DeadlinePassed,
    Happening,
    ModelFailed,
    Move,
    OutputsSubmitted,
    Reclaimed,
    Rest,
    RunTool,
    State,
)
from understudy.machine.private import SandboxFile
from understudy.machine.run import ACTIVE, TERMINAL, TRANSITIONS, Illegal, apply
from understudy.wire.chat import ChatUsage, ChunkDelta, ChunkFunction, ChunkToolCall
from understudy.wire.runs import Run, RunStatus
from understudy.wire.steps import Step, StepFunctionCall, ToolCallsDetails

SEQUENCES = 10_000 if os.environ.get("SOAK") == "1" else 2_500

_texts = st.sampled_from(
    [
        "Hello",
        " world",
        "é🙂",
        "\n",
        "【4:0†source】",
        "【4:1†source",
        "】",
        "【6:",
        "0】",
        "【9:9†】",
        "sandbox:/mnt/data/a.csv",
        "(sandbox:/mnt/",
        "data/b%20",
        "c.csv)",
        "data/c.csv",
    ]
).map(lambda text: ChunkDelta(content=text))
_NAMES = ["get_weather", "get_time", "code_interpreter", "file_search", "nonsense"]
_refusals = st.just(ChunkDelta(refusal="I cannot."))
_calls = st.builds(
    lambda index, id, name, arguments: ChunkDelta(
        tool_calls=[
            ChunkToolCall(
                index=index, id=id, function=ChunkFunction(name=name, arguments=arguments)
            )
        ]
    ),
    st.sampled_from([None, 0, 0, 1]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, *_NAMES]),
    st.sampled_from(
        ["", "{}", '{"city":', '"Oslo"}', '{"code":"', "print(1)\\n", "\\ud83d", "\\ude00", '"}']
    ),
)
_pieces = st.lists(st.one_of(_texts, _texts, _refusals, _calls, _calls), max_size=5)
_usage = st.sampled_from([None, ChatUsage(prompt_tokens=11, completion_tokens=3)])
# What well-behaved providers send, so that random scripts get far.
_whole_calls = st.lists(
    st.sampled_from(_NAMES).map(
        lambda name: ChunkDelta(
            tool_calls=[ChunkToolCall(function=ChunkFunction(name=name, arguments="{}"))]
        )
    ),
    min_size=1,
    max_size=3,
)
_results = st.builds(
    lambda shown, rest, images, paths: Result(
        logs=shown + rest,
        shown=shown,
        images=tuple(images),
        files=tuple(SandboxFile(path=path, file_id=f"file-{path}") for path in paths),
    ),
    st.sampled_from(["", "", "1\n", "1"]),
    st.sampled_from(["", "2\n"]),
    st.lists(st.sampled_from(["file-i", "file-j"]), max_size=2),
    st.lists(st.sampled_from(["a.csv", "b c.csv"]), max_size=2, unique=True),
)
_ops = st.one_of(
    st.tuples(st.just("turn"), _whole_calls, st.just("tool_calls"), _usage),
    st.tuples(st.just("turn"), _whole_calls, st.just("tool_calls"), _usage),
    st.tuples(st.just("turn"), _pieces, st.sampled_from(["stop", "tool_calls", "stop"]), _usage),
    st.tuples(st.just("turn"), _pieces, st.sampled_from(["length", "content_filter"]), _usage),
    st.tuples(st.just("hear"), _pieces),
    st.sampled_from([("claim",), ("claim",), ("submit",), ("submit",), ("reclaim",)]),
    st.tuples(st.just("tool"), _results),
    st.sampled_from([("cancel",), ("deadline",), ("fail",), ("exhaust",), ("tool off",)]),
)
_claims = st.sampled_from([[("claim",)], [("claim",)], [("claim",)], []])
_scripts = st.builds(lambda first, rest: first + rest, _claims, st.lists(_ops, max_size=20))


def perform(play: Play, op: tuple[Any, ...]) -> None:
    """One thing that happens; Illegal where it cannot. The model and the tools speak only when
    they were asked."""
    is_asked = play.turn is None and isinstance(play.next, CallModel)
    match op:
        case ("turn", pieces, finish, usage):
            if is_asked:
                play.hear(pieces)
            if play.turn is not None:
                play.end_turn(finish, usage)
        case ("hear", pieces) if is_asked:
            play.hear(pieces)
        case ("exhaust",) if is_asked:
            play.exhaust()
        case ("tool", *result) if isinstance(play.next, RunTool):
            play.tool(*result)
        case ("tool off",) if isinstance(play.next, RunTool):
            play.tool(works=False)
        case (name,) if name in ALWAYS:
            ALWAYS[name](play)


# What comes from outside, at any time.
ALWAYS: dict[str, Callable[[Play], object]] = {
    "claim": Play.claim,
    "reclaim": Play.reclaim,
    "submit": Play.submit,
    "cancel": lambda play: play.stop(CancelAsked),
    "deadline": lambda play: play.stop(DeadlinePassed),
    "fail": lambda play: play.stop(ModelFailed),
}


def statuses(move: Move) -> list[str]:
    """The run statuses that a move announces."""
    return [event.data.status for event in move.events if isinstance(event.data, Run)]


def check_move(before: str, happening: Happening | None, move: Move) -> None:
    """What holds for every single move."""
    run, private = move.state.run, move.state.private
    announced = statuses(move)
    if happening is not None:
        changed = run.status != before or isinstance(happening, Claimed)
        assert bool(announced) == changed, "a status change comes with its event, and only it"
        assert run.status in TRANSITIONS[before][type(happening)]  # type: ignore[index]
    assert all(name == f"thread.run.{status}" for name, status in _run_events(move) if name)
    if announced:
        assert announced[-1] == run.status
    if run.status == "requires_action":
        assert run.required_action is not None
        assert move.state.step is not None, "the calls wait in an open step"
        built_in = toolbox.built_in(run.tools)
        assert all(call.name not in built_in for call in private.pending)
        required = run.required_action.submit_tool_outputs.tool_calls
        assert {call.function.name for call in required} <= set(toolbox.functions(run.tools))
    else:
        assert run.required_action is None
    if run.status in TERMINAL:
        assert isinstance(move.next, Rest)
        assert (move.state.step, move.state.message) == (None, None)
        assert private.pending == []
        assert run.usage is not None


def _run_events(move: Move) -> list[tuple[str, str]]:
    return [
        (event.name, event.data.status)
        for event in move.events
        if isinstance(event.data, Run) and event.name != "thread.run.created"
    ]


def check_play(play: Play) -> None:
    """What holds for the whole log."""
    ends = [name for name in play.names if name.removeprefix("thread.run.") in TERMINAL]
    assert len(ends) <= 1
    if ends:
        assert play.names[-1] == ends[0], "nothing after the end"
        assert_sums_are_equal(play)
    created = Counter(
        event.data.id  # type: ignore[attr-defined]
        for event in play.events
        if event.name in ("thread.run.step.created", "thread.message.created")
    )
    assert all(times == 1 for times in created.values()), "ids are never created again"


def assert_sums_are_equal(play: Play) -> None:
    """The run's usage is the sum of its steps', when every turn made a step."""
    steps = [
        msgspec.json.decode(body, type=tuple[Step, object])[0]
        for id, body in play.stored.items()
        if id.startswith("step_")
    ]
    assert all(step.status != "in_progress" for step in steps)
    usage = play.state.run.usage
    assert usage is not None
    total = sum(step.usage.total_tokens for step in steps if step.usage is not None)
    assert total <= usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def play_script(script: list[tuple[Any, ...]], tools: list[Any], *, parallel: bool) -> Play:
    """Play a script; what is illegal changes nothing."""
    play = Play.start(tools, parallel=parallel)
    for op in script:
        state = play.state
        try:
            perform(play, op)
        except Illegal as illegal:
            assert play.state is state, "an illegal happening changes nothing"
            assert illegal.status == state.run.status
    return play


@settings(max_examples=SEQUENCES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=_scripts, with_built_in=st.booleans(), parallel=st.booleans())
def test_every_sequence_keeps_the_properties(
    script: list[tuple[Any, ...]], with_built_in: bool, parallel: bool
) -> None:
    play = play_script(script, ALL_TOOLS if with_built_in else FUNCTIONS, parallel=parallel)
    for before, happening, move in play.moves:
        check_move(before, happening, move)
    check_play(play)
    if not parallel:
        action = play.state.run.required_action
        assert action is None or len(action.submit_tool_outputs.tool_calls) == 1


@settings(max_examples=SEQUENCES // 5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=_scripts, with_built_in=st.booleans())
def test_a_reload_gives_the_same_next_action(
    script: list[tuple[Any, ...]], with_built_in: bool
) -> None:
    play = play_script(script, ALL_TOOLS if with_built_in else FUNCTIONS, parallel=True)
    reloaded = play.reload()
    assert reloaded == play.state
    if play.state.run.status not in ("queued", "in_progress"):
        return
    happening = Reclaimed(now=NOW, spare_id="step_next", reclaims=1)
    assert apply(reloaded, happening) == apply(play.state, happening)


@settings(max_examples=SEQUENCES // 5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=_scripts, with_built_in=st.booleans())
def test_outputs_once_recorded_are_never_lost(
    script: list[tuple[Any, ...]], with_built_in: bool
) -> None:
    play = Play.start(ALL_TOOLS if with_built_in else FUNCTIONS)
    recorded: dict[str, str] = {}
    for op in script:
        try:
            if op == ("submit",):
                recorded |= play.submit()
            else:
                perform(play, op)
        except Illegal:
            continue
    stored = {
        call.id: call.function.output
        for id, body in play.stored.items()
        if id.startswith("step_")
        for details in [msgspec.json.decode(body, type=tuple[Step, object])[0].step_details]
        if isinstance(details, ToolCallsDetails)
        for call in details.tool_calls
        if isinstance(call, StepFunctionCall)
    }
    assert recorded.items() <= stored.items()


@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=_scripts, with_built_in=st.booleans(), parallel=st.booleans())
def test_the_official_accumulator_accepts_every_path(
    script: list[tuple[Any, ...]], with_built_in: bool, parallel: bool
) -> None:
    play = play_script(script, ALL_TOOLS if with_built_in else FUNCTIONS, parallel=parallel)
    accepts(play.events)


@pytest.mark.parametrize("status", sorted(ACTIVE | TERMINAL))
def test_the_table_has_a_row_for_every_status(status: RunStatus) -> None:
    assert status in TRANSITIONS
    assert set(TRANSITIONS) == set(get_args(RunStatus))


def test_every_state_that_is_active_can_be_cancelled_and_expire() -> None:
    for status in ACTIVE:
        assert {CancelAsked, DeadlinePassed} <= set(TRANSITIONS[status])  # type: ignore[index]


def test_only_requires_action_takes_outputs() -> None:
    takers = [status for status, row in TRANSITIONS.items() if OutputsSubmitted in row]
    assert takers == ["requires_action"]


CLAIM, TOOL, SUBMIT, RECLAIM = ("claim",), ("tool",), ("submit",), ("reclaim",)
_CODE, _FUNCTION, _NONSENSE = (
    ("turn", [ChunkDelta(tool_calls=[ChunkToolCall(function=ChunkFunction(name=name))])], "", None)
    for name in ("code_interpreter", "get_weather", "nonsense")
)
_BOTH = ("turn", [*_CODE[1], *_FUNCTION[1]], "", None)
_TEXT = ("turn", [ChunkDelta(content="Hi")], "stop", None)
_CUT = ("turn", [ChunkDelta(content="Hi")], "length", None)
_HALF = ("hear", [ChunkDelta(content="Hi")])
_LATE_CALL = ("turn", [ChunkDelta(content="Hi"), *_FUNCTION[1]], "", None)
# One script per cell or a few, with at most two model turns allowed.
CELLS: list[list[tuple[Any, ...]]] = [
    *([*first, stop] for first in ([], [CLAIM]) for stop in (("cancel",), ("deadline",))),
    *([CLAIM, _FUNCTION, stop] for stop in (("cancel",), ("deadline",))),
    [RECLAIM, RECLAIM, RECLAIM, RECLAIM],
    [CLAIM, ("exhaust",)],
    [CLAIM, _HALF, ("fail",)],
    [CLAIM, _HALF, RECLAIM, _TEXT],
    [CLAIM, _CUT],
    [CLAIM, _LATE_CALL, SUBMIT, RECLAIM, _FUNCTION, SUBMIT, CLAIM],
    [CLAIM, _CODE, ("tool off",)],
    [CLAIM, _CODE, TOOL, _CODE, TOOL],
    [CLAIM, _CODE, RECLAIM, TOOL, _FUNCTION],
    [CLAIM, _BOTH, TOOL],
    [CLAIM, _NONSENSE, _NONSENSE],
]


def test_the_table_promises_nothing_that_cannot_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell is reached; `cancelling` rests only in imported runs. Two cells need a run to
    be taken over between a submit or an answer and the next move, at the last reclaim."""
    monkeypatch.setattr(limits, "MODEL_TURNS", 2)
    seen: set[tuple[str, str, str]] = set()
    for script, tools in product(CELLS, (ALL_TOOLS, FUNCTIONS)):
        play = play_script(script, tools, parallel=True)
        seen.update(
            (before, type(happening).__name__, move.state.run.status)
            for before, happening, move in play.moves
            if happening is not None
        )
    promised = {
        (before, happening.__name__, after)
        for before, row in TRANSITIONS.items()
        if before != "cancelling"
        for happening, afters in row.items()
        for after in afters
    }
    assert seen - promised == set()
    rare = {
        ("queued", "Reclaimed", "failed"),  # Poisoned before its first start.
        ("in_progress", "Reclaimed", "requires_action"),  # Died between the two kinds of calls.
    }
    assert promised - seen == rare


@pytest.mark.parametrize("kind", [Claimed, Reclaimed, CancelAsked, DeadlinePassed])
def test_an_imported_run_that_rests_in_cancelling_ends(kind: type[Happening]) -> None:
    state = Play.start(FUNCTIONS).state
    cancelling = State(replace(state.run, status="cancelling"), state.private)
    happening = Reclaimed(now=NOW, reclaims=1) if kind is Reclaimed else kind(now=NOW)
    move = apply(cancelling, happening)
    assert move.state.run.status == ("expired" if kind is DeadlinePassed else "cancelled")
    assert isinstance(move.next, Rest)


def test_a_run_that_was_taken_over_too_often_fails() -> None:
    play = Play.start(FUNCTIONS)
    for _ in range(limits.RECLAIMS):
        play.reclaim()
        assert play.state.run.status == "in_progress"
    play.reclaim()
    assert play.state.run.status == "failed"
    assert play.state.run.last_error is not None
    assert play.state.private.lost_calls == limits.RECLAIMS
