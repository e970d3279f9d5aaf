"""Alike: whether two servers answered the same, but for their ids and the time.

Ids are mapped one to one: where one server shows an id for the first time, the other must show a
new one too, and from then on these two stand for each other wherever they appear. Of times we ask
that both servers have one, about the same, and in the same order within an answer.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.api.conversation import Frame
from understudy.world import ID_FORMS

_FORMS = "|".join(
    f"{prefix}[0-9A-Za-z]{{{length}}}"
    for prefix, _, length in sorted(ID_FORMS.values(), reverse=True)
)
_ID = re.compile(rf"\b(?:{_FORMS})\b")
_SKEW_S = 60  # A busy machine may pause between the two servers' answers.
_TIMED = {"date", "openai-processing-ms"}  # Headers.
# Of a run that was cut short we count the tokens of the prompt, in which ids of files may stand.
_COUNTED = {"prompt_tokens", "total_tokens"}
_TOKENS = 100
# Files are indexed several at once, so in any order: their vectors then lie elsewhere in the
# matrix, on which the last digit of a cosine depends (engine/search.py), and equals swap places.
_SCORE = 5e-4

Json = dict[str, Any]
Place = str  # In a JSON value.


class Unlike(AssertionError):
    """Two answers that differ; the text says where."""


class Bijection:
    """Which id of the one server is which of the other."""

    def __init__(self) -> None:
        self.right: dict[str, str] = {}
        self._left: dict[str, str] = {}

    def learn(self, left: str, right: str) -> bool:
        """Whether these two stand for each other, as they do from now on if both are new. An id
        that is the same on both sides is a client's own."""
        if left == right:
            return left not in self.right and right not in self._left
        return (
            self.right.setdefault(left, right) == right
            and self._left.setdefault(right, left) == left
        )

    def translated(self, text: str) -> str:
        """A text of the left server's ids, with the right one's."""
        return _ID.sub(lambda found: self.right.get(found[0], found[0]), text)

    def same_text(self, left: str, right: str) -> bool:
        """Whether two texts differ in their ids only."""
        if _ID.sub("", left) != _ID.sub("", right):
            return False
        pairs = zip(_ID.findall(left), _ID.findall(right), strict=True)
        return all(self.learn(*pair) for pair in pairs)

    def check(self, left: Any, right: Any, place: Place = "") -> None:
        """Raise Unlike where two decoded JSON values differ."""
        times = list(self._differences(left, right, place))
        for left_at, right_at in times:
            for other_left, other_right in times:
                if left_at < other_left and right_at > other_right:
                    raise Unlike(f"{place}: times in another order: {times}")

    def _differences(self, left: Any, right: Any, place: Place) -> Iterator[tuple[int, int]]:
        """The pairs of times in it."""
        match left, right:
            case dict(), dict():
                _demand(self.same_text("\n".join(left), "\n".join(right)), place, left, right)
                for name, one, other in zip(left, left.values(), right.values(), strict=True):
                    yield from self._differences(one, other, f"{place}.{name}")
            case list(), list():
                _demand(len(left) == len(right), place, left, right)
                for index, (one, other) in enumerate(zip(left, right, strict=True)):
                    yield from self._differences(one, other, f"{place}[{index}]")
            case str(), str():
                _demand(self.same_text(left, right), place, left, right)
            case int(), int() if _name(place) in _COUNTED:
                _demand(abs(left - right) <= _TOKENS, place, left, right)
            case int(), int() if _is_time(place):
                _demand(abs(left - right) <= _SKEW_S, place, left, right)
                yield left, right
            case _:
                _demand(type(left) is type(right) and left == right, place, left, right)

    def check_results(self, left: Json, right: Json) -> None:
        """Raise Unlike where two answers to a search differ by more than equals that changed their
        places, at the end maybe for one that was not wanted any more."""
        found = [_by_passage(answer.get("data", [])) for answer in (left, right)]
        self.check({**left, "data": len(found[0])}, {**right, "data": len(found[1])})
        for name in found[0].keys() & found[1].keys():
            one, other = found[0][name], found[1][name]
            self.check({**one, "score": 0}, {**other, "score": 0}, f"result {name}")
            if abs(one["score"] - other["score"]) > _SCORE:
                raise Unlike(f"scores: {one} and {other}")
        last = min((one["score"] for one in found[0].values()), default=0)
        for name in found[0].keys() ^ found[1].keys():
            one = (found[0] | found[1])[name]
            if abs(one["score"] - last) > _SCORE:
                raise Unlike(f"found once: {one}")

    def check_headers(self, left: Mapping[str, str], right: Mapping[str, str]) -> None:
        """Raise Unlike where the heads of two answers differ."""
        self.check(_timeless(left), _timeless(right), "headers")

    def check_frames(self, left: list[Frame], right: list[Frame]) -> None:
        """Raise Unlike where two streams differ."""
        names = [[(one.name, one.id) for one in frames] for frames in (left, right)]
        if names[0] != names[1]:
            raise Unlike(f"events: {names[0]} and {names[1]}")
        self.check([one.data for one in left], [one.data for one in right], "events")


def _demand(is_so: bool, place: Place, left: Any, right: Any) -> None:
    if not is_so:
        raise Unlike(f"{place}: {left!r} and {right!r}")


def _by_passage(results: list[Json]) -> dict[tuple[str, str], Json]:
    """The results by file name and text, of which no two have both."""
    scores = [one["score"] for one in results]
    if scores != sorted(scores, reverse=True):
        raise Unlike(f"not best first: {scores}")
    found = {(one["filename"], one["content"][0]["text"]): one for one in results}
    if len(found) != len(results):
        raise Unlike(f"a passage came twice: {results}")
    return found


def _timeless(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers in the order of their names, without what depends on the moment."""
    kept = {name.lower(): value for name, value in headers.items()}
    return {name: "" if name in _TIMED else kept[name] for name in sorted(kept)}


def _is_time(place: Place) -> bool:
    name = _name(place)
    return name.endswith("_at") or name == "created"


def _name(place: Place) -> str:
    return place.rpartition(".")[2]
