"""What the model is told of the tools, and how its words become queries."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.machine.toolbox import Searchable, offered, queries_of
from understudy.wire.tools import FileSearchTool


def description(searchable: Searchable) -> str:
    (tool,) = offered([FileSearchTool()], searchable=searchable)
    assert isinstance(tool.function.description, str)
    return tool.function.description


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [
        ('{"queries": ["red bikes", "blue bikes"]}', ["red bikes", "blue bikes"]),
        ('{"queries": "red bikes"}', ["red bikes"]),
        ('{"query": "red bikes"}', ["red bikes"]),
        ('{"queries": [], "query": "red bikes"}', ["red bikes"]),
        ('{"search": "red bikes"}', ["red bikes"]),
        ('{"queries": [{"text": "red bikes"}]}', ["red bikes"]),
        ('{"queries": ["a", "a", " a ", "", "  ", null, true, "b"]}', ["a", "b"]),
        ('{"queries": ["1","2","3","4","5","6","7"]}', ["1", "2", "3", "4", "5"]),
        ('["red", "blue"]', ["red", "blue"]),
        ('"red bikes"', ["red bikes"]),
        ("red bikes\n of Oslo", ["red bikes of Oslo"]),
        ('{"queries": ["red bik', ['{"queries": ["red bik']),
        ("2024", ["2024"]),
        ("{}", ["what was asked"]),
        ("", ["what was asked"]),
        ("null", ["what was asked"]),
        ('{"queries": []}', ["what was asked"]),
    ],
)
def test_queries_are_found_however_the_model_puts_them(arguments: str, queries: list[str]) -> None:
    assert queries_of(arguments, "what was asked") == queries


def test_without_anything_to_ask_there_is_no_query() -> None:
    assert queries_of("{}") == queries_of("", "  ") == []


_keys = st.sampled_from(["queries", "query", "x"])
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), st.floats(allow_nan=False), st.integers()),
    lambda inner: st.lists(inner) | st.dictionaries(_keys, inner),
)


@given(arguments=st.one_of(st.text(), _json.map(json.dumps)))
def test_any_arguments_give_bounded_queries(arguments: str) -> None:
    queries = queries_of(arguments)
    assert len(queries) <= limits.SEARCH_QUERIES
    assert len(set(queries)) == len(queries)
    assert all(0 < len(query) <= limits.SEARCH_QUERY_CHARS for query in queries)


def test_absurd_arguments_are_bounded() -> None:
    assert queries_of("[" * 100_000) == ["[" * limits.SEARCH_QUERY_CHARS]
    assert queries_of('{"queries":' + "[" * 500 + "]" * 500 + "}") == []


def test_the_model_is_told_the_names_of_the_files() -> None:
    assert description(Searchable(["a.md", "b\n.pdf"], 2)).endswith(" The files: a.md, b .pdf.")
    assert "The files" not in description(Searchable())


def test_many_names_are_counted_and_long_ones_cut() -> None:
    names = [f"{number}.md" for number in range(limits.SEARCH_FILE_NAMES)]
    assert description(Searchable(names, 1_000)).endswith("49.md, and 950 more.")
    assert description(Searchable(names, len(names))).endswith("48.md, 49.md.")
    long = description(Searchable(["x" * 1_000], 1))
    assert len(long) < len(description(Searchable())) + 2 * limits.SEARCH_FILE_NAME_CHARS
