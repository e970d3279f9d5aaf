"""Odd values for generated requests: what databases, JSON and HTTP might not all read alike."""

import copy
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

SHORT = [
    "",
    " ",
    "a",
    "A",
    "\0",
    "a\0b",
    "\0\0",
    "\\u0000",
    "\\\0",
    "\\\\u0000\0",
    "\ufffd",
    "\\ufffd",
    "é",
    "e\u0301",  # The same to a reader.
    "\u212a",  # The sign of Kelvin, which is a k in lower case.
    "ß",
    "İ",
    "😀",
    "👩\u200d👩",
    "\u2028",
    "\x7f\x1b\x01",
    '"}{',
    "'); --",
    "%00%s$1:name",
    "null",
    "😀" * 64,
]
_LONG = ["x" * 512, "ÿ\0" * 256, "😀" * 512]
_REFUSED = ["x" * 513, "\ud800", "\udc00\ud800"]


def mostly(good: SearchStrategy[Any], bad: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Seldom what is refused: a request with one bad value asks nothing of a database."""
    return st.integers(0, 9).flatmap(lambda draw: bad if draw == 9 else good)


# Any of them is a name or a key of metadata.
short_texts = st.one_of(st.sampled_from(SHORT), st.text(max_size=8))
texts = st.one_of(short_texts, short_texts, st.sampled_from(_LONG))
bad_texts = st.one_of(texts, st.sampled_from(_REFUSED))
# Of messages, which must not be empty, and are read by a model.
words = st.one_of(st.sampled_from(["red apple", "green pear", "the Red house"]), texts.filter(bool))

_alike = st.sampled_from(["a", "A", "á", "a\0", "a\ufffd"])
metadata = mostly(
    st.one_of(
        st.dictionaries(short_texts, texts, max_size=3),
        st.dictionaries(_alike, texts, max_size=4),
        st.none(),
    ),
    st.dictionaries(bad_texts, bad_texts, min_size=1, max_size=3),
)

numbers = st.sampled_from(
    [0, 1, -1, 0.5, -0.0, 1e-9, 1e308, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30]
)
attributes = st.one_of(
    st.dictionaries(
        st.sampled_from(["size", "Size", "colour", "a\0"]),
        st.one_of(texts, st.booleans(), numbers),
        max_size=3,
    ),
    st.none(),
)

json_values: SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, bad_texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(bad_texts, inner, max_size=3)
    ),
    max_leaves=6,
)

limits = mostly(
    st.sampled_from(["1", "2", "3", "100", "+2", ""]),
    st.sampled_from(["101", "0", "-1", "1.5", "٣", "x", "\0"]),
)
orders = mostly(st.sampled_from(["asc", "desc", ""]), st.sampled_from(["ASC", "\0"]))


def or_odd(known: SearchStrategy[Any], prefix: str) -> SearchStrategy[str]:
    """An id that is known, or seldom one that no object has."""
    return mostly(known, ids(prefix))


def ids(prefix: str) -> SearchStrategy[str]:
    """Ids that no object has."""
    tails = ["", "unknown", "a\0b", "\0", "é😀", "\ufffd", "' or 1=1", "x" * 3000, "a/b", "%00"]
    known_elsewhere = ["", "thread_abc", "undefined", "\0"]
    return st.one_of(
        st.sampled_from(tails).map(lambda tail: f"{prefix}{tail}"), st.sampled_from(known_elsewhere)
    )


def quoted(text: str) -> str:
    """As it stands in a URL; a lone surrogate as its three bytes."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def query(given: dict[str, str]) -> str:
    """The query of a URL."""
    found = "&".join(f"{name}={quoted(value)}" for name, value in given.items())
    return f"?{found}" if found else ""


# Filters of searches.

_comparisons = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]),
        "key": st.sampled_from(["size", "Size", "colour", "a\0", "\ufffd"]),
        "value": st.one_of(texts, st.booleans(), numbers),
    }
)
_memberships = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["in", "nin"]),
        "key": st.sampled_from(["size", "colour"]),
        "value": st.lists(st.one_of(texts, numbers), max_size=3),
    }
)
filters: SearchStrategy[Any] = st.recursive(
    st.one_of(_comparisons, _memberships),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, max_size=3)}
    ),
    max_leaves=4,
)


# Broken bodies.


def _places(body: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(body, dict):
        for name, value in body.items():
            yield from _places(value, (*place, name))
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from _places(value, (*place, index))


@st.composite
def broken(draw: st.DrawFn, body: Any) -> Any:
    """A body with one value changed, or one name more."""
    place = draw(st.sampled_from(list(_places(body))))
    value = draw(json_values)
    if not place:
        return value if draw(st.booleans()) else {**body, draw(bad_texts): value}
    changed = copy.deepcopy(body)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return changed
