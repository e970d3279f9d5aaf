"""Makes files of every type that file_search takes, with sentences that are known beforehand."""

import html
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docx
import pptx
from pptx.util import Inches
from reportlab.pdfgen.canvas import Canvas

from tests.search.compound import word_document
from understudy.wire.searchable import SEARCHABLE_EXTENSIONS

EXTENSIONS = sorted(SEARCHABLE_EXTENSIONS)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le")


@dataclass(frozen=True)
class Made:
    """A file, and what a reader must find in it, up to white space."""

    path: Path
    sentences: list[str]


def make_corpus(folder: Path, count: int = 220, seed: int = 1) -> list[Made]:
    """So many files over all extensions, every third with its extension in upper case."""
    source = random.Random(seed)
    made = []
    for number in range(count):
        extension = EXTENSIONS[number % len(EXTENSIONS)]
        turn = number // len(EXTENSIONS)
        write = WRITERS.get(extension, write_text)
        shown = extension.upper() if (number + turn) % 3 == 2 else extension
        path = folder / f"{name(source)}-{number}{shown}"
        language = "en" if extension == ".pdf" else LANGUAGES[turn % len(LANGUAGES)]
        sentences = [sentence(source) for _ in range(source.randint(3, 8))]
        sentences[1] = sentence(source, language)
        write(path, sentences, turn)
        made.append(Made(path, sentences))
    return made


# Each with places for: a name, another name, a number. No two sentences of a corpus are alike.
PATTERNS = {
    "en": [
        "The bridge of {} was opened in {} by the engineer {}.",
        "{} keeps {} horses in the valley behind {}.",
        "Error {1} means that the valve {0} of pump {2} is stuck.",
        "Doctor {} measured {} degrees in the cellar of {}.",
    ],
    "de": ["Die Brücke über die {} wurde {} von {} eröffnet und heißt seither Königsbrücke."],
    "fr": ["Le pont de {} a été inauguré en {} par l'ingénieur {} à l'été."],
    "ru": ["Мост через реку {} был открыт в {} году инженером {}."],
    "ja": ["{}の橋は{}年に技師の{}によって開通しました。"],
    "zh": ["{}大桥于{}年由工程师{}主持建成通车。"],
}
LANGUAGES = tuple(PATTERNS)
SYLLABLES = "ka zor vel tin mar qui lo pes dra fen gul hob ish jun wex yar"


def name(source: random.Random) -> str:
    """A word that is nowhere else."""
    return "".join(source.choice(SYLLABLES.split()) for _ in range(4)).capitalize()


def sentence(source: random.Random, language: str = "en") -> str:
    """A sentence that is nowhere else."""
    pattern = source.choice(PATTERNS[language])
    return pattern.format(name(source), source.randint(1000, 99999), name(source))


def write_text(path: Path, sentences: list[str], turn: int) -> None:
    """Plain text and Markdown, in several encodings."""
    text = "# Notes\n\n" + "\n\n".join(sentences) + "\n"
    encoding = ENCODINGS[turn % len(ENCODINGS)] if path.suffix.lower() == ".txt" else "utf-8"
    try:
        path.write_bytes(text.encode(encoding))
    except UnicodeEncodeError:
        path.write_text(text)


# How a language says a remark; {} is the sentence.
REMARKS = {
    "/* {} */": ".c .cpp .css .go .java .js .php .ts",
    "// {}": ".cs",
    "# {}": ".py .rb .sh",
    "% {}": ".tex",
}
HEADS = {".php": "<?php\n", ".py": '"""A module."""\n', ".sh": "#!/bin/sh\n"}


def write_code(path: Path, sentences: list[str], turn: int) -> None:
    """Code with the sentences as remarks."""
    extension = path.suffix.lower()
    remark = next(shape for shape, used in REMARKS.items() if extension in used.split())
    lines = [HEADS.get(extension, "")]
    for number, said in enumerate(sentences):
        lines += [remark.format(said), f"value_{number} = {turn};", ""]
    path.write_text("\n".join(lines))


def write_json(path: Path, sentences: list[str], turn: int) -> None:
    """JSON with the sentences as values."""
    value = {"turn": turn, "notes": [{"id": n, "text": said} for n, said in enumerate(sentences)]}
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False))


def write_html(path: Path, sentences: list[str], turn: int) -> None:
    """A page with a title, a list, a table and a script that must not be found."""
    first, *rest = [html.escape(said) for said in sentences]
    items = "".join(f"<li>{said}" for said in rest[:-1])
    page = f"""<!DOCTYPE html><html><head><title>Page {turn}</title><script>var hidden = 1;</script>
<style>p {{ color: red }}</style></head><body><h1>Notes &amp; more</h1><p>{first}</p>
<ul>{items}</ul><table><tr><td>{turn}<td>{rest[-1]}</tr></table></body></html>"""
    path.write_text(page)


def write_pdf(path: Path, sentences: list[str], turn: int) -> None:
    """A PDF with some sentences on each page."""
    canvas = Canvas(str(path), invariant=1)
    for number, said in enumerate(sentences):
        canvas.drawString(60, 780 - 40 * (number % 3), said)
        if number % 3 == 2:
            canvas.drawString(60, 60, f"Page {number // 3 + 1} of report {turn}")
            canvas.showPage()
    canvas.drawString(60, 60, "The end.")
    canvas.save()


def write_docx(path: Path, sentences: list[str], turn: int) -> None:
    """A Word document with a header, a heading, a list and a table."""
    document = docx.Document()
    first, second, *rest = sentences
    document.sections[0].header.paragraphs[0].text = first
    document.add_heading(f"Report {turn}", level=1)
    paragraph = document.add_paragraph()
    for word in second.split(" "):  # Word parts a sentence into runs wherever it likes.
        paragraph.add_run(word + " ")
    for said in rest[:-1]:
        document.add_paragraph(said, style="List Bullet")
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text = str(turn)
    table.cell(0, 1).text = rest[-1]
    document.save(str(path))


def write_pptx(path: Path, sentences: list[str], turn: int) -> None:
    """A presentation with text, a table and notes."""
    presentation = pptx.Presentation()
    first, second, third, *rest = sentences
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    assert slide.shapes.title
    slide.shapes.title.text = f"Report {turn}"
    slide.placeholders[1].text_frame.text = first
    assert slide.notes_slide.notes_text_frame
    slide.notes_slide.notes_text_frame.text = second
    grid = [Inches(1), Inches(4), Inches(8), Inches(1)]
    table = slide.shapes.add_table(1, 2, *grid).table
    table.cell(0, 1).text = third
    for said in rest:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.placeholders[1].text_frame.text = said
    presentation.save(str(path))


def write_doc(path: Path, sentences: list[str], turn: int) -> None:
    """A Word 97-2003 document."""
    path.write_bytes(word_document("\n".join([f"Report {turn}", *sentences])))


Writer = Callable[[Path, list[str], int], None]
WRITERS: dict[str, Writer] = {
    ".doc": write_doc,
    ".docx": write_docx,
    ".html": write_html,
    ".json": write_json,
    ".pdf": write_pdf,
    ".pptx": write_pptx,
    **{extension: write_code for used in REMARKS.values() for extension in used.split()},
}
