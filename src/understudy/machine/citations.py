"""Citations: the markers of search results, and a model's text with every marker annotated.

A marker is `【n:m†source】`: n is the number of a search within its run, m the place of a result in
it (SPEC 10.1). The model is told each result's marker and repeats it after what it took from there.

Rules of this file
- Every marker in the shown text has exactly one annotation and the other way round. What only
  looks like a marker is mended when its result exists, and left out when it does not: models
  write `【4:0】`, `【4:0†report.pdf】` and `【4:0†source, 4:1†source】`, and invent sources.
- Any other use of these brackets is the author's own (`【重要】`, `【10:30】`) and stays.
- A marker is shown in one piece, whatever pieces it came in. Only what may still become one is held
  back: from its bracket on, and never more than `CITATION_CHARS`.
- Offsets are code points of the shown text, and the end is exclusive.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from understudy import limits
from understudy.machine.annotations import Shown
from understudy.wire.messages import FileCitation, FileCitationAnnotation, TextValue
from understudy.wire.steps import FileSearchCall, SearchResult, Step, ToolCallsDetails

# (n, m) → file id.
Sources = Mapping[tuple[int, int], str]

# The original numbers a run's first search 4 and the next ones 6, 8, ...
_FIRST_NUMBER = 4
_NUMBER_STEP = 2

# Models write full-width signs, too.
_SEPARATOR = "[,，;；、]"  # noqa: RUF001
_PAIR = r"([0-9]{1,9})\s*[:：]\s*([0-9]{1,9})"  # noqa: RUF001
_NUMBERS = r"[0-9:：,，;；、\s–-]*"  # noqa: RUF001
_LABEL = r"[^【】\n]*"
# What may be a marker, and how one may begin.
_WHOLE = re.compile(rf"【({_NUMBERS})(?:(†)({_LABEL}))?】")
_BEGUN = re.compile(rf"【{_NUMBERS}(?:†{_LABEL})?")
_BEGUN_AT_END = re.compile(rf"【{_NUMBERS}(?:†{_LABEL})?\Z")
_IN_NUMBERS = re.compile(_PAIR)
_IN_LABEL = re.compile(rf"{_SEPARATOR}\s*{_PAIR}(?=\s*(?:†|{_SEPARATOR}|$))")


def marker(number: int, place: int) -> str:
    """The marker of a result."""
    return f"【{number}:{place}†source】"


def searches(steps: Iterable[Step]) -> Iterator[tuple[int, FileSearchCall]]:
    """The searches that a run made, oldest first, with their numbers. Only what completed counts,
    so a search that is made again after a crash has the number that the lost one would have had."""
    number = _FIRST_NUMBER
    for step in steps:
        details = step.step_details
        if step.status != "completed" or not isinstance(details, ToolCallsDetails):
            continue
        for call in details.tool_calls:
            if isinstance(call, FileSearchCall):
                yield number, call
                number += _NUMBER_STEP


def results_of(call: FileSearchCall) -> list[SearchResult]:
    """What a search found."""
    results = call.file_search.results
    return results if isinstance(results, list) else []


def sources(steps: Iterable[Step]) -> dict[tuple[int, int], str]:
    """What the next text of a run may cite: the results of all its searches so far."""
    return {
        (number, place): result.file_id
        for number, call in searches(steps)
        for place, result in enumerate(results_of(call))
    }


class Citations:
    """One text on its way from the model to the client: `feed` every piece, then `finish`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._held = ""
        self._length = 0  # Of what was shown.
        self._tail = ""  # The end of it.

    def feed(self, piece: str) -> list[Shown]:
        """What may be shown now."""
        text, self._held = self._held + piece, ""
        shown: list[Shown] = []
        plain = at = 0  # Where the plain text that is not shown yet starts, and where we look.
        while (at := text.find("【", at)) >= 0:
            end = at + limits.CITATION_CHARS
            whole = _WHOLE.match(text, at, end)
            if whole is None and _BEGUN.fullmatch(text, at) and len(text) < end:
                self._held = text[at:]
                break
            replacement = None if whole is None else self._markers(whole)
            if whole is None or replacement is None:
                at += 1
                continue
            shown += self._plain(text[plain:at])
            shown += [self._cited(*result) for result in replacement] or self._gap()
            plain = at = whole.end()
        return shown + self._plain(text[plain : len(text) - len(self._held)])

    def finish(self) -> list[Shown]:
        """What was held back: it became no marker."""
        held, self._held = self._held, ""
        return self._plain(held)

    def _markers(self, whole: re.Match[str]) -> list[tuple[int, int]] | None:
        """The results that a candidate cites; None when it is no marker at all."""
        numbers, dagger, label = whole.groups(default="")
        pairs = _IN_NUMBERS.findall(numbers) + _IN_LABEL.findall(label)
        cited = [(int(n), int(m)) for n, m in pairs]
        known = [result for result in cited if result in self._sources]
        if known:
            return known
        if dagger:
            return [] if numbers.strip() or label.strip() == "source" else None
        is_invented = any(_may_be_search(n) for n, _ in cited)
        return [] if is_invented and not all(_is_time(n, m) for n, m in pairs) else None

    def _gap(self) -> list[Shown]:
        """What stands for an invented marker: nothing, unless the two sides of the gap could
        make a marker together."""
        return self._plain(" ") if _BEGUN_AT_END.search(self._tail) else []

    def _plain(self, text: str) -> list[Shown]:
        self._length += len(text)
        self._tail = (self._tail + text)[-limits.CITATION_CHARS :]
        return [Shown(text)] if text else []

    def _cited(self, number: int, place: int) -> Shown:
        text = marker(number, place)
        start = self._length
        self._plain(text)
        annotation = FileCitationAnnotation(
            text=text,
            start_index=start,
            end_index=self._length,
            file_citation=FileCitation(file_id=self._sources[number, place]),
        )
        return Shown(text, annotation)


def _may_be_search(number: int) -> bool:
    """Whether searches have numbers like this one; `【3:2】` is the result of a match."""
    return number >= _FIRST_NUMBER and number % _NUMBER_STEP == 0


def _is_time(hour: str, minute: str) -> bool:
    """Whether a pair of numbers reads as a time of day."""
    return int(hour) <= 24 and len(minute) == 2 and int(minute) < 60


def unmarked(text: TextValue) -> str:
    """A text without its citations' markers. What an earlier run cited means nothing to a later
    one, whose results have the same numbers again."""
    value = text.value
    for annotation in sorted(text.annotations, key=lambda one: -one.start_index):
        if isinstance(annotation, FileCitationAnnotation):
            value = value[: annotation.start_index] + value[annotation.end_index :]
    return value
