"""A search within a run: its bounds, what of it the model reads, and what may be cited."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from tests.machine.play import FOUND, Play
from understudy import limits
from understudy.machine import citations, tokens, transcript
from understudy.machine.file_search import (
    RANKER,
    Scope,
    answered,
    fitting,
    read_by_model,
    size_tokens,
    text_of,
)
from understudy.machine.file_search import scope as scope_in
from understudy.machine.introduce import without_content
from understudy.machine.private import Call, StepPrivate
from understudy.machine.transcript import Done
from understudy.wire.chat import ChunkDelta, ChunkFunction, ChunkToolCall
from understudy.wire.runs import Run
from understudy.wire.steps import (
    FileSearchCall,
    FileSearchCallDetails,
    ResultText,
    SearchResult,
    Step,
    ToolCallsDetails,
)
from understudy.wire.tools import (
    FileSearchOptions,
    FileSearchTool,
    FunctionDefinition,
    FunctionTool,
    RankingOptions,
    Tool,
)

EMPTY = FileSearchCall(id="call_1", file_search=FileSearchCallDetails(results=[]))
SEARCH = ChunkDelta(tool_calls=[ChunkToolCall(function=ChunkFunction(name="file_search"))])
FUNCTION = ChunkDelta(tool_calls=[ChunkToolCall(function=ChunkFunction(name="f"))])
TOOLS: list[Tool] = [FunctionTool(function=FunctionDefinition(name="f")), FileSearchTool()]


def result(name: str, text: str) -> SearchResult:
    return SearchResult(
        file_id=f"file-{name}", file_name=name, score=0.5, content=[ResultText(text=text)]
    )


def run_of(model: str = "m", **options: Any) -> Run:
    tool = FileSearchTool(file_search=FileSearchOptions(**options)) if options else FileSearchTool()
    return replace(Play.start([tool]).state.run, model=model)


def scope(run: Run) -> Scope:
    """The bounds with a window that leaves room."""
    return scope_in(run, limits.CONTEXT_TOKENS)


def searched(*, include_content: bool = False) -> Play:
    """A run that searches twice in one turn, beside a function, and once more in the next."""
    play = Play.start(TOOLS, include_content=include_content)
    play.claim()
    play.speak([SEARCH, FUNCTION, SEARCH])
    play.tool()
    play.tool()
    play.submit()
    play.claim()
    play.speak([SEARCH])
    play.tool()
    return play


def done(play: Play) -> list[Done]:
    """The steps as history reads them."""
    return [Done(step, StepPrivate(turn=1, calls=_calls(step))) for step in play.steps]


def _calls(step: Step) -> list[Call]:
    details = step.step_details
    assert isinstance(details, ToolCallsDetails)
    return [Call(id=str(call.id), name="x", arguments="{}") for call in details.tool_calls]


# Bounds.


def test_the_number_of_results_is_the_tools_else_the_models() -> None:
    assert scope(run_of()).max_results == 20
    assert scope(run_of("gpt-3.5-turbo")).max_results == 5
    assert scope(run_of("gpt-3.5-turbo", max_num_results=7)).max_results == 7
    assert scope(run_of(max_num_results=50)).max_results == 50


def test_small_models_read_less() -> None:
    assert scope(run_of()).budget_tokens == 16_000
    assert scope(run_of("gpt-3.5-turbo-16k")).budget_tokens == 4_000
    assert scope(run_of("gpt-35-turbo")).budget_tokens == 4_000


def test_results_leave_room_in_a_small_window() -> None:
    assert scope_in(run_of(), 8_000).budget_tokens == 2_000
    assert scope_in(run_of("gpt-3.5-turbo"), 4_096).budget_tokens == 1_024


def test_the_threshold_is_recorded() -> None:
    bound = scope(run_of(ranking_options=RankingOptions(score_threshold=0.3)))
    call = answered(Call(id="c", name="file_search", arguments="{}"), bound, FOUND)
    ranking = call.file_search.ranking_options
    assert ranking is not UNSET
    assert (ranking.ranker, ranking.score_threshold) == (RANKER, 0.3)
    assert call.file_search.results == FOUND


def test_no_more_results_are_recorded_than_asked_for() -> None:
    bound = scope(run_of(max_num_results=1))
    call = answered(Call(id="c", name="file_search", arguments="{}"), bound, FOUND)
    assert citations.results_of(call) == FOUND[:1]


def test_results_are_kept_whole_while_they_fit() -> None:
    results = [result(str(place), "word " * 100) for place in range(10)]
    fit = fitting(results, 400)
    assert fit == results[:3]
    assert fitting(results, 10_000) == results
    assert fitting([], 100) == []


def test_a_first_result_that_is_too_large_is_cut() -> None:
    (cut,) = fitting([result("a", "wörter 🙂 " * 1_000), result("b", "x")], 200)
    text = text_of(cut)
    assert ("wörter 🙂 " * 1_000).startswith(text)
    assert 150 < tokens.count(text) <= 200
    assert (cut.file_id, cut.score) == ("file-a", 0.5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=8), st.integers(0, 200))
def test_the_budget_is_never_exceeded(texts: list[str], budget: int) -> None:
    results = [result(str(place), text) for place, text in enumerate(texts)]
    fit = fitting(results, budget)
    assert bool(fit) == bool(results)
    assert [one.file_id for one in fit] == [one.file_id for one in results[: len(fit)]]
    assert sum(tokens.count(text_of(one)) for one in fit) <= budget


# Steps, numbers and what the model reads.


def test_each_search_is_a_step_of_its_own() -> None:
    play = searched()
    assert play.state.run.status == "in_progress"
    kinds = [[type(call).__name__ for call in _details(step).tool_calls] for step in play.steps]
    assert kinds == [["FileSearchCall"], ["FileSearchCall"], ["StepFunctionCall"], *kinds[:1]]
    assert all(step.status == "completed" for step in play.steps)


def _details(step: Step) -> ToolCallsDetails:
    assert isinstance(step.step_details, ToolCallsDetails)
    return step.step_details


def test_searches_are_numbered_over_all_turns() -> None:
    steps = searched().steps
    assert [number for number, _ in citations.searches(steps)] == [4, 6, 8]
    assert citations.sources(steps) == {
        (number, place): f"file-{place}" for number in (4, 6, 8) for place in (0, 1)
    }


def test_a_search_that_was_lost_gives_its_number_to_the_next() -> None:
    play = Play.start(TOOLS)
    play.claim()
    play.speak([SEARCH])
    play.reclaim()
    play.tool()
    assert [step.status for step in play.steps] == ["failed", "completed"]
    assert [number for number, _ in citations.searches(play.steps)] == [4]


def test_the_model_reads_the_markers_that_can_be_cited() -> None:
    play = searched()
    own = transcript.own_turns({}, done(play))
    answers = [str(one.content) for one in own if one.role == "tool"]
    for (number, place), file_id in citations.sources(play.steps).items():
        index = {4: 0, 6: 1, 8: 3}[number]
        name = file_id.removeprefix("file-") + ".md"
        block = f"{citations.marker(number, place)} {name}\nPassage {place}."
        assert block in answers[index]
    assert "Cite" in answers[0] and "only these markers" in answers[0]


def test_a_search_without_results_says_so() -> None:
    call = answered(Call(id="c", name="file_search", arguments="{}"), scope(run_of()), [])
    step = replace(searched().steps[0], step_details=ToolCallsDetails(tool_calls=[call]))
    own = transcript.own_turns({}, [Done(step, StepPrivate(turn=1, calls=_calls(step)))])
    assert str(own[1].content).startswith("(no results)")
    assert citations.sources([step]) == {}


@pytest.mark.parametrize("include_content", [False, True])
def test_events_hold_the_text_of_results_only_for_who_asks(include_content: bool) -> None:
    play = searched(include_content=include_content)
    shown = [event.data for event in play.events if event.name == "thread.run.step.completed"]
    for stored, event in zip(play.steps, shown, strict=True):
        assert event == (stored if include_content else without_content(stored))
    first = _details(play.steps[0]).tool_calls[0]
    assert isinstance(first, FileSearchCall) and citations.results_of(first) == FOUND
    assert all(one.content is UNSET for one in _results(without_content(play.steps[0])))


def _results(step: Step) -> list[SearchResult]:
    (call,) = _details(step).tool_calls
    assert isinstance(call, FileSearchCall)
    return citations.results_of(call)


def test_the_size_of_an_answer_is_near_what_the_model_reads() -> None:
    """It is put together from the counts of its texts, so that no turn counts them again."""
    found = [result(f"file {n}.txt", f"word{n} " * 400) for n in range(5)]
    call = answered(Call(id="call_1", name="file_search", arguments="{}"), scope(run_of()), found)
    exact = tokens.count(read_by_model(call, 4))
    assert exact <= size_tokens(call) <= exact + 300


@given(
    lines=st.lists(st.text(max_size=40), max_size=12), ends=st.sampled_from(["\n", "\n\n", "\r\n"])
)
def test_short_passages_are_counted_exactly(lines: list[str], ends: str) -> None:
    text = ends.join(lines).encode("utf-8", "replace").decode()
    [fit] = fitting([result("a", text)], 10_000)
    call = FileSearchCall(id="call_1", file_search=FileSearchCallDetails(results=[fit]))
    assert size_tokens(call) - size_tokens(EMPTY) == 16 + 1 + tokens.count(text)


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "src/understudy/store/store.py"])
def test_long_passages_are_counted_nearly(path: str) -> None:
    """Prose, tables and code, in passages of the size of a chunk."""
    whole = (Path(__file__).parents[2] / path).read_text(encoding="utf-8")
    for start in range(0, len(whole) - 3_500, 1_750):
        text = whole[start : start + 3_500]
        call = FileSearchCall(
            id="call_1", file_search=FileSearchCallDetails(results=[result("a", text)])
        )
        about = size_tokens(call) - size_tokens(EMPTY) - 17
        assert 0.85 < about / tokens.count(text) < 1.25
