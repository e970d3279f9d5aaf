"""Links to files in a text: one annotation each, however the text is cut into pieces."""

from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits, sandbox
from understudy.machine.annotations import Annotations, Shown
from understudy.machine.citations import Citations
from understudy.machine.file_paths import FOLDER, FilePaths
from understudy.wire.messages import FileCitationAnnotation, FilePathAnnotation

FILES = {
    "x.csv": "file-x",
    "x.csv.gz": "file-z",
    "a b.csv": "file-b",
    "a": "file-a",
    "out/report (2).pdf": "file-r",
    "売上.csv": "file-u",
    "50%.txt": "file-p",
}
TO = f"sandbox:{FOLDER}/"


def shown(*pieces: str) -> list[Shown]:
    """What a client sees of a text that comes in these pieces."""
    paths = FilePaths(FILES)
    return [one for piece in pieces for one in paths.feed(Shown(piece))] + paths.finish()


def links(*pieces: str) -> list[tuple[str, str]]:
    """(link, file id) of every annotation."""
    found: list[tuple[str, str]] = []
    for one in shown(*pieces):
        if one.annotation is not None:
            assert isinstance(one.annotation, FilePathAnnotation)
            assert one.text == one.annotation.text
            found.append((one.annotation.text, one.annotation.file_path.file_id))
    return found


def test_the_folder_is_that_of_the_sandbox() -> None:
    assert FOLDER == sandbox.FOLDER


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{TO}x.csv", [("x.csv", "file-x")]),
        (f"See {TO}x.csv.", [("x.csv", "file-x")]),
        (f"[Download]({TO}x.csv)", [("x.csv", "file-x")]),
        (f"[Download]({TO}a b.csv)", [("a b.csv", "file-b")]),
        (f"[Download]({TO}a%20b.csv)", [("a%20b.csv", "file-b")]),
        (f"[Download](<{TO}a b.csv>)", [("a b.csv", "file-b")]),
        (f"({TO}out/report (2).pdf)", [("out/report (2).pdf", "file-r")]),
        (f"({TO}out/report%20%282%29.pdf)", [("out/report%20%282%29.pdf", "file-r")]),
        (f"({TO}out%2Freport%20(2).pdf)", [("out%2Freport%20(2).pdf", "file-r")]),
        (
            f"{TO}x.csv.gz and {TO}x.csv, {TO}a",
            [("x.csv.gz", "file-z"), *[("x.csv", "file-x")], ("a", "file-a")],
        ),
        (f"{TO}売上.csvです", [("売上.csv", "file-u")]),
        (f"{TO}{quote('売上.csv').lower()}", [(quote("売上.csv").lower(), "file-u")]),
        (f"{TO}50%.txt {TO}50%25.txt", [("50%.txt", "file-p"), ("50%25.txt", "file-p")]),
        (f"`{TO}x.csv` **{TO}x.csv**", [("x.csv", "file-x")] * 2),
        (f"{TO}{TO}x.csv", [("x.csv", "file-x")]),
        (f"{TO}x.csvv {TO}x.csv.bak {TO}x.csv_ {TO}y.csv {TO}x.cs {TO}", []),
        (f"sandbox:/mnt/x.csv {FOLDER}/x.csv SANDBOX:{FOLDER}/x.csv", []),
    ],
)
def test_what_is_a_link(text: str, expected: list[tuple[str, str]]) -> None:
    wanted = [(TO + name, file_id) for name, file_id in expected]
    assert links(text) == links(*text) == wanted


_TEXTS = st.lists(
    st.sampled_from(
        [
            *(TO, *(TO + name for name in FILES), TO + quote("a b.csv"), "sandbox:", "/mnt/data/"),
            *(
                "sandbox",
                ":/mnt",
                ".",
                ".gz",
                " b",
                "%20",
                "x.csv",
                " ",
                ")",
                "🙂",
                "【4:0†source】",
            ),
        ]
    ),
    max_size=10,
).map("".join)


@given(_TEXTS, st.lists(st.integers(0, 200), max_size=8))
def test_every_cut_gives_the_same(text: str, at: list[int]) -> None:
    places = sorted({0, *(place for place in at if place < len(text)), len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert "".join(one.text for one in shown(*pieces)) == text, "the text is never changed"
    assert links(*pieces) == links(text)
    for one in shown(*pieces):
        if one.annotation is not None:
            note = one.annotation
            assert text[note.start_index : note.end_index] == note.text == one.text


@given(_TEXTS, st.lists(st.integers(0, 200), max_size=8))
def test_citations_and_links_stand_side_by_side(text: str, at: list[int]) -> None:
    places = sorted({0, *(place for place in at if place < len(text)), len(text)})
    both = Annotations(Citations({(4, 0): "file-c"}), FilePaths(FILES))
    seen = [one for start, end in pairwise(places) for one in both.feed(text[start:end])]
    seen += both.finish()
    assert "".join(one.text for one in seen) == text
    notes = [one.annotation for one in seen if one.annotation is not None]
    for note in notes:
        assert text[note.start_index : note.end_index] == note.text
    assert all(one.end_index <= two.start_index for one, two in pairwise(notes))
    cited = [note for note in notes if isinstance(note, FileCitationAnnotation)]
    assert len(cited) == text.count("【4:0†source】")


def test_plain_text_is_held_back_only_while_it_may_become_a_link() -> None:
    paths = FilePaths(FILES)

    def said(piece: str) -> str:
        return "".join(one.text for one in paths.feed(Shown(piece)))

    assert said("Hello") == "Hello"
    assert said(" sand") == " "
    assert said("y") == "sandy"
    assert said(f" {TO}x.") == " "
    assert said("pdf") == f"{TO}x.pdf"
    assert said(f"{TO}a") == ""
    assert said(" c") == f"{TO}a c"


def test_a_link_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILE_LINK_CHARS", 10)
    paths = FilePaths({"n" * 100: "file-n"})
    assert paths.feed(Shown(TO + "n" * 9)) == []
    assert [one.text for one in paths.feed(Shown("n"))] == [TO + "n" * 10]


def test_a_run_without_these_tools_says_what_the_model_says() -> None:
    plain = Annotations(None, None)
    text = f"【4:0†source】 {TO}x.csv"
    assert plain.feed(text) == [Shown(text)]
    assert plain.finish() == []
