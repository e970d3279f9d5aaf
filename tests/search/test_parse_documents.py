"""Documents: what a reader sees of them comes out, in its order, and nothing else."""

# ruff: noqa: RUF001  Texts in other scripts have letters that look like ours.

import zipfile
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest

from tests.search.compound import word_document
from tests.search.hostile import RELATIONS, WORD
from understudy.search.parse import read_text
from understudy.search.unreadable import Unreadable


def read(path: Path, data: bytes | str, name: str, *, more: bool = False) -> str:
    """The text of a file of this content."""
    file = path / "file"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_text(file, name, more_types=more)


HTML = """<!doctype html><html><head><title>A &amp; B</title><style>p{}</style></head><body>
<script>if (a < b) { hidden() }</script><noscript>Switch it on</noscript>
<h1>Birds</h1><p>The <b>her</b>on\n   waits&nbsp;here.<br>It is grey.</p>
<ul><li>one<li><p>two</p></ul><pre>a  b\n  c</pre>
<table><tr><th>Name<th>Count</tr><tr><td>heron</td><td><p>3</p><p>4</p></td></tr></table>
<p hidden>unseen</p><p style="display: none">unseen</p><template>unseen</template>
<!-- unseen --><p>last"""

HTML_TEXT = """A & B
Birds
The heron waits here.
It is grey.
- one
- two
a  b
  c
Name | Count
heron | 3 4
last"""


def test_html_is_what_is_seen(tmp_path: Path) -> None:
    """Blocks are lines, cells have bars between, scripts and hidden parts are left out."""
    text = read(tmp_path, HTML, "a.html")
    assert [line for line in text.splitlines() if line] == HTML_TEXT.splitlines()


def test_html_in_the_encoding_it_declares(tmp_path: Path) -> None:
    """What is no UTF-8 is what the page says."""
    page = '<html><head><meta charset="iso-8859-2"></head><p>Zażółć gęślą jaźń</p></html>'
    assert "Zażółć gęślą jaźń" in read(tmp_path, page.encode("iso-8859-2"), "a.html")


def test_html_that_declares_another_encoding_than_it_has(tmp_path: Path) -> None:
    """UTF-8 is recognised whatever the page says."""
    page = '<html><head><meta charset="iso-8859-1"></head><p>Grüße</p></html>'
    assert read(tmp_path, page, "a.html") == "Grüße"


def test_code_that_looks_like_html_is_read_as_it_is(tmp_path: Path) -> None:
    """A template is searched for its code."""
    code = "<!DOCTYPE html>\n<html><?php echo $heron; ?></html>\n"
    assert read(tmp_path, code, "index.php") == code


def parts_of(path: Path, body: str, relations: str = "", **parts: str) -> Path:
    """A .docx of this body; parts are named by their file's stem."""
    space = f'xmlns:w="{WORD}" xmlns:mc="mc" xmlns:wps="wps" xmlns:v="v" xmlns:m="m"'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_rels/.rels", RELATIONS)
        archive.writestr(
            "word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>"
        )
        archive.writestr(
            "word/_rels/document.xml.rels", f"<Relationships>{relations}</Relationships>"
        )
        for name, part in parts.items():
            archive.writestr(f"word/{name}.xml", f"<w:x {space}>{part}</w:x>")
    return path


def paragraph(*runs: str) -> str:
    """A paragraph; what is no tag is a run of text."""
    made = (run if run.startswith("<") else f"<w:r><w:t>{run}</w:t></w:r>" for run in runs)
    return f"<w:p>{''.join(made)}</w:p>"


def relation(kind: str, target: str) -> str:
    """A relation of the document to a part."""
    return f'<Relationship Id="{target}" Type="http://x/{kind}" Target="{target}"/>'


def test_word_text_boxes_stand_once_after_their_paragraph(tmp_path: Path) -> None:
    """They are stored twice, for old and for new programs."""
    box = f"<w:txbxContent>{paragraph('In the box.')}</w:txbxContent>"
    twice = (
        f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice>"
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    )
    path = parts_of(tmp_path / "a", paragraph("Before ", twice, "and after.") + paragraph("Next."))
    assert read_text(path, "a.docx").splitlines() == ["Before and after.", "In the box.", "Next."]


def test_word_notes_follow_the_paragraph_that_refers_to_them(tmp_path: Path) -> None:
    """So that a search finds them with what they explain."""
    path = parts_of(
        tmp_path / "a",
        paragraph("A claim", '<w:footnoteReference w:id="2"/>', ".") + paragraph("Another."),
        relation("footnotes", "footnotes.xml") + relation("header", "h1.xml")
        + relation("header", "h2.xml") + relation("footer", "f.xml")
        + relation("header", "missing.xml"),
        footnotes=f'<w:footnote w:id="1">{paragraph("-")}</w:footnote>'
        f'<w:footnote w:id="2">{paragraph("A proof.")}</w:footnote>',
        h1=paragraph("Head."),
        h2=paragraph("Head."),
        f=paragraph("Foot."),
    )  # fmt: skip
    assert read_text(path, "a.docx").splitlines() == [
        "Head.", "A claim.", "A proof.", "Another.", "Foot.",
    ]  # fmt: skip


def test_word_changes_and_fields_show_what_is_seen(tmp_path: Path) -> None:
    """Deleted text and instructions are not."""
    path = parts_of(
        tmp_path / "a",
        paragraph(
            "Kept",
            "<w:del><w:r><w:delText> deleted</w:delText></w:r></w:del>",
            "<w:r><w:instrText>PAGE</w:instrText></w:r>",
            "<w:r><w:tab/><w:t>end</w:t></w:r>",
            "<m:oMath><m:r><m:t> x=1</m:t></m:r></m:oMath>",
        ),
    )
    assert read_text(path, "a.docx") == "Kept\tend x=1"


def test_word_tables_in_tables_keep_their_words(tmp_path: Path) -> None:
    """The inner row is in the outer cell."""
    document = docx.Document()
    table = document.add_table(rows=2, cols=2)
    table.cell(0, 0).text = "Outer"
    table.cell(0, 1).add_table(rows=1, cols=2).cell(0, 0).text = "Inner"
    table.cell(1, 0).text = "Second\nrow"
    document.save(str(tmp_path / "a"))
    assert read_text(tmp_path / "a", "a.docx").splitlines() == ["Outer | Inner", "Second row"]


def test_presentations_are_read_in_the_order_of_their_slides(tmp_path: Path) -> None:
    """Which is not that of their files."""
    presentation = pptx.Presentation()
    for said in ("First", "Second"):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        assert slide.shapes.title
        slide.shapes.title.text = said
    order = presentation.slides._sldIdLst
    order.append(order[0])  # lxml moves it.
    presentation.save(str(tmp_path / "a"))
    assert read_text(tmp_path / "a", "a.pptx") == "Second\n\nFirst"


def test_legacy_word_shows_results_of_fields_and_rows_of_tables(tmp_path: Path) -> None:
    """And no marks."""
    text = 'A \x13 HYPERLINK "x" \x14link\x15 here\x02.\none\x07two\x07\x07After\x0bbreak\x1eed'
    seen = read(tmp_path, word_document(text), "a.doc")
    assert seen == "A link here.\none | two\nAfter\nbreak-ed"


def test_legacy_word_in_other_scripts(tmp_path: Path) -> None:
    """One piece has one byte per character, the next has two."""
    text = "Heron “quoted” – Цапля 青鷺"
    assert read(tmp_path, word_document(text), "a.doc") == text


def test_workbooks_and_rtf_are_read_where_they_are_allowed(tmp_path: Path) -> None:
    """By the operator."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "Birds"
    book.active.append(["heron", 3, None, "grey"])
    book.save(tmp_path / "a")
    assert read_text(tmp_path / "a", "a.xlsx", more_types=True) == "Birds\nheron | 3 | grey"
    with pytest.raises(Unreadable) as caught:
        read_text(tmp_path / "a", "a.xlsx")
    assert caught.value.code == "unsupported_file"
    rtf = (
        r"{\rtf1\ansi{\fonttbl\f0 Arial;}\f0 Gr\'fc\'dfe, \u21644?\par {\pict " + "0f" * 500 + "}}"
    )
    assert read(tmp_path, rtf, "a.rtf", more=True).strip() == "Grüße, 和"
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, rtf, "a.rtf")
    assert "[.rtf]" in caught.value.message


def test_what_is_allowed_by_content_is_read_by_any_name(tmp_path: Path) -> None:
    """A PDF or a Word document called .bin is one."""
    assert read(tmp_path, word_document("A heron."), "a.bin") == "A heron."
    with pytest.raises(Unreadable, match=r"\[\.bin\]"):
        read(tmp_path, "A heron.", "a.bin")
    assert read(tmp_path, "A heron.", "a.bin", more=True) == "A heron."
