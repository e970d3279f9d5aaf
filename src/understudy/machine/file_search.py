"""A file_search call: how much it may find, what of that the model reads, and its record.

The token budget is spent when the search is recorded, not when it is read: what the step shows,
what the model reads and what can be cited are the same results, also after a crash.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from understudy import limits
from understudy.machine import tokens
from understudy.machine.citations import marker, results_of
from understudy.machine.private import Call
from understudy.wire.base import given
from understudy.wire.runs import Run
from understudy.wire.steps import (
    FileSearchCall,
    FileSearchCallDetails,
    ResultText,
    SearchResult,
    StepRankingOptions,
)
from understudy.wire.tools import FileSearchOptions, FileSearchTool

RANKER = "default_2024_08_21"
NOTHING = "(no results) Nothing in the files fits. Try other words, or say that it is not there."
HOW_TO_CITE = (
    "Cite what you use: right after the statement put the marker of the result that supports it, "
    "exactly as given here, for example {example}. Use only these markers, one after the other "
    "where several results support a statement."
)
# Marker, name and line breaks of a result, beside its text.
_FRAME_TOKENS = 16


@dataclass(frozen=True)
class Scope:
    """What a run's search may bring."""

    max_results: int
    score_threshold: float
    budget_tokens: int


def scope(run: Run, context_tokens: int) -> Scope:
    """The bounds of a run's searches: its tool's own, else those of its model, whose window has
    so many tokens."""
    tools = [tool for tool in run.tools if isinstance(tool, FileSearchTool)]
    options = given(tools[0].file_search, FileSearchOptions()) if tools else FileSearchOptions()
    ranking = given(options.ranking_options, None)
    is_small = "gpt-3.5" in run.model or "gpt-35" in run.model  # The latter is Azure's spelling.
    usual = limits.SEARCH_RESULTS_SMALL if is_small else limits.SEARCH_RESULTS
    budget = limits.SEARCH_BUDGET_TOKENS_SMALL if is_small else limits.SEARCH_BUDGET_TOKENS
    return Scope(
        max_results=given(options.max_num_results, usual),
        score_threshold=ranking.score_threshold if ranking is not None else 0.0,
        budget_tokens=min(budget, context_tokens // limits.SEARCH_WINDOW_SHARE),
    )


def answered(call: Call, scope: Scope, found: Sequence[SearchResult]) -> FileSearchCall:
    """The call as its step records it; `found` is best first."""
    ranking = StepRankingOptions(ranker=RANKER, score_threshold=scope.score_threshold)
    results = fitting(found[: scope.max_results], scope.budget_tokens)
    return FileSearchCall(
        id=call.id, file_search=FileSearchCallDetails(ranking_options=ranking, results=results)
    )


def fitting(results: Sequence[SearchResult], budget_tokens: int) -> list[SearchResult]:
    """The best results that fit the budget, whole. The first is cut when it alone is larger: some
    of it is better than nothing."""
    fit: list[SearchResult] = []
    left = budget_tokens
    for result in results:
        frame = _FRAME_TOKENS + tokens.count(result.file_name)
        size = frame + _counted(text_of(result))
        if size > left and fit:
            break
        if size > left:
            cut = ResultText(text=_cut(text_of(result), max(0, left - frame)))
            return [replace(result, content=[cut])]
        fit.append(result)
        left -= size
    return fit


def size_tokens(call: FileSearchCall) -> int:
    """The size of the answer as the model reads it; its texts were counted when it was recorded."""
    return _FRAME_TOKENS * 4 + sum(
        _FRAME_TOKENS + tokens.count(result.file_name) + _counted(text_of(result))
        for result in results_of(call)
    )


def _counted(text: str) -> int:
    """Tokens of a passage; of a long one about, from samples: counting twenty whole ones takes
    longer than their search did. A sample's ends make it a little too much, never too little."""
    if len(text) <= limits.COUNTED_WHOLE_CHARS:
        return tokens.count(text)
    width = limits.COUNTED_SAMPLE_CHARS
    last = len(text) - width
    starts = (0, last // 2, last)
    sampled = sum(tokens.count(text[start : start + width]) for start in starts)
    return -(-sampled * len(text) // (len(starts) * width))


def text_of(result: SearchResult) -> str:
    """The text of a result; an imported one may have none."""
    return "\n".join(part.text for part in given(result.content, []))


def read_by_model(call: FileSearchCall, number: int) -> str:
    """The answer to the call as the model reads it."""
    results = results_of(call)
    if not results:
        return NOTHING
    blocks = [
        f"{marker(number, place)} {result.file_name}\n{text_of(result)}"
        for place, result in enumerate(results)
    ]
    return "\n\n".join([*blocks, HOW_TO_CITE.format(example=marker(number, 0))])


def _cut(text: str, budget_tokens: int) -> str:
    """The longest start of a text that has at most so many tokens, near enough."""
    fits, too_long = 0, len(text) + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if tokens.count(text[:middle]) <= budget_tokens:
            fits = middle
        else:
            too_long = middle
    return text[:fits]
