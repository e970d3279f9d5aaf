"""Code in a call's arguments: however it is cut into fragments, what is shown is its start."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.machine.code_input import CodeInput, code_of

CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(text: str, at: list[int]) -> list[str]:
    """The text in pieces."""
    places = sorted({0, *(place for place in at if place < len(text)), len(text)})
    return [text[start:end] for start, end in pairwise(places)]


def streamed(pieces: list[str]) -> str:
    """What is shown of the code while the pieces come."""
    reader = CodeInput()
    return "".join(reader.feed(piece) for piece in pieces)


@given(st.text(st.characters(), max_size=200), st.booleans(), CUTS)
def test_code_is_decoded_from_any_fragments(code: str, is_ascii: bool, at: list[int]) -> None:
    arguments = json.dumps({"code": code}, ensure_ascii=is_ascii)
    expected = code.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if is_ascii:
        assert streamed(cut(arguments, at)) == code_of(arguments) == expected
    else:
        assert streamed(cut(arguments, at)) == code_of(arguments) == code


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    '{"code":"',
                    "{",
                    ' "code"',
                    " : ",
                    '"',
                    "\\",
                    "\\n",
                    "\\u",
                    "\\ud83d",
                    "\\ude00",
                ),
                *("d83d", "print(1)", "\n", "é🙂", "}", '{"other":1,', "\\q", "\\u12", " " * 65),
            ]
        ),
        max_size=12,
    ).map("".join),
    CUTS,
)
def test_what_was_shown_is_the_start_of_what_runs(arguments: str, at: list[int]) -> None:
    shown = streamed(cut(arguments, at))
    assert code_of(arguments).startswith(shown)
    assert shown == streamed([arguments]), "cuts make no difference"
    code_of(arguments).encode()  # Every text can be sent.


def test_every_fragment_is_shown_at_once() -> None:
    reader = CodeInput()
    pieces = [
        '{"co',
        'de": "im',
        "port os",
        "\\",
        "nprint(",
        "\\u00e9",
        "\\ud83d",
        "\\ude00",
        '"}',
        "x",
    ]
    shown = [reader.feed(piece) for piece in pieces]
    assert shown == ["", "im", "port os", "", "\nprint(", "é", "", "😀", "", ""]
    assert reader.finish() == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ('{"code":"1+1"}', "1+1"),
        (' {\n "code" :\t"1+1" }', "1+1"),
        ('{"code":""}', ""),
        ('{"code":"a\nb"}', "a\nb"),
        (r'{"code":"re.match(\d)"}', r"re.match(\d)"),
        (r'{"code":"\u12"}', r"\u12"),
        (r'{"code":"\ud83d"}', "\ufffd"),
        (r'{"code":"\ude00\ud83dx"}', "\ufffd\ufffdx"),
        (r'{"code":"\ud83d\ud83d\ude00"}', "\ufffd😀"),
        (r'{"code":"a\ud83d', "a\ufffd"),
        (r'{"code":"a\u00', "a"),
        ('{"code":"a', "a"),
        ('{"code":"a","code":"b"}', "a"),
        ('{"other":1,"code":"b"}', "b"),
        ('{"input":"b"}', "b"),
        ('"print(1)"', "print(1)"),
        ("1+1", "1+1"),
        ('{"x":1}', '{"x":1}'),
        ("[1]", "[1]"),
        ('{"code":1}', '{"code":1}'),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_code_is_found_in_its_arguments(arguments: str, code: str) -> None:
    assert code_of(arguments) == code


@pytest.mark.parametrize("arguments", ["1+1", '{"other":"x","code":"b"}', '["code"]', '{"code":1}'])
def test_arguments_of_another_shape_are_not_shown_before_they_are_whole(arguments: str) -> None:
    assert streamed(list(arguments)) == ""


def test_white_space_without_end_is_not_kept() -> None:
    reader = CodeInput()
    for _ in range(100):
        assert reader.feed(" " * 1_000) == ""
    assert reader._held == ""
