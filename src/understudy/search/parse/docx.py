"""Word documents: paragraphs, lists, tables, text boxes, notes, headers and footers, in order."""

from collections.abc import Mapping
from pathlib import Path

from understudy.search.parse.archive import Archive
from understudy.search.parse.blocks import Blocks
from understudy.search.parse.xml import XmlReader, local, value

# What is no text of the document: the old twin of a text box, pronunciations over characters.
_SKIPPED = frozenset({"Fallback", "rt"})
_LITERAL = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}


def read(path: Path) -> str:
    """The text of a .docx file."""
    with Archive(path) as archive:
        main = archive.main_part()
        relations = archive.relations(main).values()
        notes = {
            (r.kind, number): text
            for r in relations
            if r.kind in _NOTES.values() and archive.has(r.target)
            for number, text in _notes(archive, r.target).items()
        }

        def margins(kind: str) -> list[str]:
            """Headers or footers; sections repeat them, so each text counts once."""
            targets = [r.target for r in relations if r.kind == kind and archive.has(r.target)]
            return list(dict.fromkeys(_text(archive, target, {}) for target in targets))

        body = _text(archive, main, notes)
        return "\n".join(filter(None, [*margins("header"), body, *margins("footer")]))


Notes = Mapping[tuple[str, str], str]


def _text(archive: Archive, part: str, notes: Notes) -> str:
    reader = _Story(notes)
    archive.read(part, reader)
    return reader.text()


def _notes(archive: Archive, part: str) -> dict[str, str]:
    reader = _NoteStories()
    archive.read(part, reader)
    return reader.found


class _Story(XmlReader):
    """A body, a header or a footer."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        # A text box stands inside a paragraph and holds paragraphs: it gets blocks of its own.
        self._stories = [Blocks()]
        self._after: list[str] = []  # Notes and boxes of the open paragraph: they follow it.
        self._is_list = [False]
        self._skipped = 0
        self._is_text = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        name = local(tag)
        if name in _SKIPPED:
            self._skipped += 1
        elif not self._skipped:
            self._start(name, attributes)

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        blocks = self._stories[-1]
        if name == "t":
            self._is_text = True
        elif name in _LITERAL:
            blocks.add(_LITERAL[name])
        elif name in _NOTES:
            note = self._notes.get((_NOTES[name], value(attributes, "id")))
            self._after += [note] if note else []
        else:
            self._start_block(blocks, name, attributes)

    def _start_block(self, blocks: Blocks, name: str, attributes: Mapping[str, str]) -> None:
        match name:
            case "p":
                self._is_list[-1] = False
            case "pStyle" if value(attributes, "val").lower().startswith(("heading", "title")):
                blocks.gap()
            case "numPr":
                self._is_list[-1] = True
            case "tr":
                blocks.start_row()
            case "tc":
                blocks.start_cell()
            case "txbxContent":
                self._stories.append(Blocks())
                self._is_list.append(False)

    def end(self, tag: str) -> None:
        """An element ends."""
        name = local(tag)
        if name in _SKIPPED:
            self._skipped -= 1
        elif name == "t":
            self._is_text = False
        elif name == "p" and not self._skipped:
            self._end_paragraph()
        elif name == "tr" and not self._skipped:
            self._stories[-1].end_row()
        elif name == "txbxContent" and not self._skipped:
            self._is_list.pop()
            self._after.append(self._stories.pop().text())

    def _end_paragraph(self) -> None:
        blocks = self._stories[-1]
        blocks.end(before="- " if self._is_list[-1] else "")
        if len(self._stories) == 1:
            for text in self._after:
                blocks.add(text)
                blocks.end()
            self._after.clear()

    def data(self, text: str) -> None:
        """Some of the text in an element; only <w:t> and <m:t> hold what is seen."""
        if self._is_text and not self._skipped:
            self._stories[-1].add(text)

    def text(self) -> str:
        """All of it."""
        return self._stories[0].text()


class _NoteStories(XmlReader):
    """The notes of a document, by their id."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._story = _Story({})
        self._id = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """A note begins, or an element in it."""
        if local(tag) in {"footnote", "endnote"}:
            self._story = _Story({})
            self._id = value(attributes, "id")
        else:
            self._story.start(tag, attributes)

    def end(self, tag: str) -> None:
        """A note ends, or an element in it."""
        if local(tag) in {"footnote", "endnote"}:
            self.found[self._id] = self._story.text()
        else:
            self._story.end(tag)

    def data(self, text: str) -> None:
        """Some of the text in an element."""
        self._story.data(text)
