"""Citations: markers and their annotations, however the model's text is cut into pieces."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import limits
from understudy.machine.annotations import Shown
from understudy.machine.citations import Citations, marker, unmarked
from understudy.wire.messages import FileCitationAnnotation, TextValue

SOURCES = {(4, 0): "file-a", (4, 1): "file-b", (6, 0): "file-a", (10, 12): "file-c"}
SHAPE = re.compile("【[0-9]+:[0-9]+†source】")


def shown(*pieces: str) -> list[Shown]:
    """What a client sees of a text that comes in these pieces."""
    citations = Citations(SOURCES)
    return [one for piece in pieces for one in citations.feed(piece)] + citations.finish()


def text(*pieces: str) -> str:
    """The shown text."""
    return "".join(one.text for one in shown(*pieces))


def annotations(*pieces: str) -> list[FileCitationAnnotation]:
    """Its annotations."""
    return [
        one.annotation
        for one in shown(*pieces)
        if isinstance(one.annotation, FileCitationAnnotation)
    ]


def test_a_marker_is_shown_whole_with_its_annotation() -> None:
    pieces = ["It rains 【4", ":0†sou", "rce】, they say."]
    assert [one.text for one in shown(*pieces)] == ["It rains ", "【4:0†source】", ", they say."]
    (annotation,) = annotations(*pieces)
    assert annotation.file_citation.file_id == "file-a"
    assert annotation.text == "【4:0†source】"
    assert (annotation.start_index, annotation.end_index) == (9, 21)


def test_plain_text_is_never_held_back() -> None:
    citations = Citations(SOURCES)
    for piece in ("Hello", " world", "【重", "要】", "†", "】"):
        assert [one.text for one in citations.feed(piece)] == [piece]
    assert citations.finish() == []


def test_markers_in_a_row_have_one_annotation_each() -> None:
    row = "【4:0†source】【4:1†source】【4:0†source】"
    assert text(row) == row
    assert [one.file_citation.file_id for one in annotations(row)] == ["file-a", "file-b", "file-a"]


def test_offsets_count_code_points() -> None:
    whole = "日本語🙂é\ud83d【6:0†source】"
    (annotation,) = annotations(whole)
    assert (annotation.start_index, annotation.end_index) == (6, 18)
    assert annotations(*whole) == [annotation]


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("【4:0†】", "【4:0†source】"),
        ("【4:0†report.pdf】", "【4:0†source】"),
        ("【4:0†L1-L5】", "【4:0†source】"),
        ("【4:0】", "【4:0†source】"),
        ("【 4 : 0 † source 】", "【4:0†source】"),
        ("【4：0†source】", "【4:0†source】"),  # noqa: RUF001
        ("【4:0,4:1†source】", "【4:0†source】【4:1†source】"),
        ("【4:0†source, 4:1†source】", "【4:0†source】【4:1†source】"),
        ("【4:0†a.pdf; 4:1†b.pdf】", "【4:0†source】【4:1†source】"),
        ("【4:0 4:1】", "【4:0†source】【4:1†source】"),
        ("【4:0-4:1†source】", "【4:0†source】【4:1†source】"),
        ("【4:0, 9:9†source】", "【4:0†source】"),
        ("【4:0†minutes of 4:1.pdf】", "【4:0†source】"),
        ("【10:12】", "【10:12†source】"),
        ("【【4:0†source】】", "【【4:0†source】】"),
        ("【4:0【4:1†source】", "【4:0【4:1†source】"),
    ],
)
def test_what_the_model_misspells_is_mended(written: str, becomes: str) -> None:
    assert text(written) == becomes
    assert "".join(one.text for one in annotations(written)) == "".join(SHAPE.findall(becomes))


@pytest.mark.parametrize(
    "invented",
    ["【4:2†source】", "【8:0†source】", "【4†source】", "【†source】", "【4:2】", "【8:0, 8:1】"],
)
def test_what_the_model_invents_is_left_out(invented: str) -> None:
    assert text(f"So it is{invented}.") == "So it is."
    assert annotations(invented) == []


@pytest.mark.parametrize(
    "other",
    [
        "【重要】",
        "【】",
        "【1】",
        "【2024】",
        "【10:30】",
        "【9:00-17:00】",
        "【14:05、15:00】",
        "【3:2】",
        "【†漆黒の翼†】",
        "【注†】",
        "[4:0†source]",
        "【4:0†source",
        "【4:0\n†source\n】",
        "【",
        "【4:0†" + "x" * limits.CITATION_CHARS + "】",
    ],
)
def test_other_uses_of_the_brackets_stay(other: str) -> None:
    assert text(other) == text(*other) == other
    assert annotations(other) == []


def test_a_gap_does_not_make_a_marker_of_its_sides() -> None:
    for split in (
        "【4:0【9:9†source】†source】",
        "【4【8:0】:0†source】",
        "【4:0†sou【†source】rce】",
    ):
        assert not SHAPE.search(text(split))
        assert text(*split) == text(split)


def test_what_is_held_back_is_bounded() -> None:
    citations = Citations(SOURCES)
    fed, out = "【4:0†" + "x" * 1_000, 0
    for count, sign in enumerate(fed, 1):
        out += sum(len(one.text) for one in citations.feed(sign))
        assert count - out < limits.CITATION_CHARS


def test_without_a_search_every_marker_is_invented() -> None:
    citations = Citations({})
    assert citations.feed("a【4:0†source】b") == [Shown("a"), Shown("b")]


_bits = st.one_of(
    st.sampled_from(
        [
            "【",
            "】",
            "†",
            "source",
            "4:0",
            "4:1",
            "6:0",
            "8:3",
            ":",
            ",",
            " ",
            "重要",
            "🙂",
            "\ud83d",
        ]
    ),
    st.sampled_from(
        ["【4:0†source】", "【4:1†source】", "【9:9†source】", "【6:0, 4:1】", "x" * 60]
    ),
    st.text(max_size=3),
)
_texts = st.lists(_bits, max_size=25).map("".join)


@settings(max_examples=1_000, deadline=None)
@given(whole=_texts, cuts=st.lists(st.integers(0, 200), max_size=12))
def test_any_cutting_gives_the_same_text_and_annotations(whole: str, cuts: Sequence[int]) -> None:
    bounds = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(bounds)]
    assert text(*pieces) == text(whole) == text(*whole)
    assert annotations(*pieces) == annotations(whole) == annotations(*whole)


@settings(max_examples=1_000, deadline=None)
@given(pieces=st.lists(_texts, max_size=4))
def test_markers_and_annotations_are_one_to_one(pieces: list[str]) -> None:
    final, noted = text(*pieces), annotations(*pieces)
    assert [match.span() for match in SHAPE.finditer(final)] == [
        (one.start_index, one.end_index) for one in noted
    ]
    for one in noted:
        assert final[one.start_index : one.end_index] == one.text
        number, place = map(int, one.text[1 : one.text.index("†")].split(":"))
        assert one.text == marker(number, place)
        assert one.file_citation.file_id == SOURCES[number, place]


@settings(max_examples=500, deadline=None)
@given(whole=st.text(alphabet=st.characters(exclude_characters="【"), max_size=50))
def test_text_without_the_bracket_is_untouched(whole: str) -> None:
    assert text(whole) == whole


@settings(max_examples=500, deadline=None)
@given(whole=_texts)
def test_a_later_run_sees_a_text_without_its_markers(whole: str) -> None:
    cited = TextValue(value=text(whole), annotations=list(annotations(whole)))
    assert unmarked(cited) == SHAPE.sub("", text(whole))
