"""Query parameters: pages of lists, and `include`."""

import pytest

from understudy.errors import ApiError
from understudy.wire.query import SEARCH_CONTENT, ListQuery, include, list_query


def refused(name: str, value: str) -> tuple[str | None, str | None, str]:
    """Param, code and text of the error for one parameter."""
    with pytest.raises(ApiError) as caught:
        list_query([(name, value)], prefix="msg")
    return caught.value.param, caught.value.code, caught.value.message


def test_a_list_has_defaults() -> None:
    assert list_query([]) == ListQuery(limit=20, order="desc", after=None, before=None)
    assert list_query([], default=10_000, maximum=10_000).limit == 10_000


def test_every_parameter_is_read() -> None:
    query = [("limit", "100"), ("order", "asc"), ("after", "msg_1"), ("before", "msg_2")]
    page = ListQuery(limit=100, order="asc", after="msg_1", before="msg_2")
    assert list_query(query, prefix="msg") == page
    assert list_query(query) == page


def test_empty_and_unknown_parameters_are_ignored() -> None:
    query = [("limit", ""), ("order", ""), ("after", ""), ("before", ""), ("colour", "red")]
    assert list_query(query, prefix="msg") == list_query([])


def test_the_last_of_a_repeated_parameter_counts() -> None:
    assert list_query([("limit", "abc"), ("limit", "+7")]).limit == 7


@pytest.mark.parametrize(
    ("name", "value", "code", "text"),
    [
        ("limit", "0", "integer_below_min_value",
         "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead."),
        ("limit", "-5", "integer_below_min_value",
         "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got -5 "
         "instead."),
        ("limit", "101", "integer_above_max_value",
         "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 "
         "instead."),
        ("limit", "9" * 40, "integer_above_max_value",
         "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got "
         f"{'9' * 40} instead."),
        *(("limit", text, "invalid_type",
           "Invalid type for 'limit': expected an integer, but got a string instead.")
          for text in ("abc", "1.5", "1_0", " 1", "٣", "9" * 5_000, "true")),
        ("order", "up", "invalid_value",
         "Invalid value: 'up'. Supported values are: 'asc' and 'desc'."),
        ("order", "ASC", "invalid_value",
         "Invalid value: 'ASC'. Supported values are: 'asc' and 'desc'."),
        ("after", "run_1", "invalid_value",
         "Invalid 'after': 'run_1'. Expected an ID that begins with 'msg'."),
        ("before", "x", "invalid_value",
         "Invalid 'before': 'x'. Expected an ID that begins with 'msg'."),
    ],
)  # fmt: skip
def test_a_bad_parameter_has_its_exact_words(name: str, value: str, code: str, text: str) -> None:
    assert refused(name, value) == (name, code, text)


def test_a_cursor_holds_no_control_characters() -> None:
    assert refused("after", "msg_\x00")[0] == "after"
    with pytest.raises(ApiError):
        list_query([("before", "msg_\x00")])


def test_files_may_have_longer_pages() -> None:
    assert list_query([("limit", "10000")], maximum=10_000).limit == 10_000


@pytest.mark.parametrize("name", ["include", "include[]", "include[0]"])
def test_include_is_read_in_every_spelling(name: str) -> None:
    assert include([(name, SEARCH_CONTENT), (name, SEARCH_CONTENT)]) == [SEARCH_CONTENT]


def test_nothing_is_included_unasked() -> None:
    assert include([("include", ""), ("included", "x"), ("limit", "3")]) == []


def test_an_unknown_include_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        include([("include[]", "everything")])
    assert (caught.value.param, caught.value.code) == ("include", "invalid_value")
    assert caught.value.message == (
        f"Invalid value: 'everything'. Supported values are: '{SEARCH_CONTENT}'."
    )
