"""PowerPoint presentations: slides in their order, each with its tables, diagrams and notes."""

from collections.abc import Mapping
from pathlib import Path

from understudy.search import unreadable
from understudy.search.parse.archive import Archive
from understudy.search.parse.blocks import Blocks
from understudy.search.parse.xml import XmlReader, local, value

# Boxes that only repeat the slide's number, its date and the like.
_FURNITURE = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})
_SHAPES = frozenset({"sp", "graphicFrame", "pic", "cxnSp"})
# Parts that a slide shows or that belong to it, in the order in which they are read.
_BESIDE = ("diagramData", "chart", "notesSlide")


def read(path: Path) -> str:
    """The text of a .pptx file."""
    with Archive(path) as archive:
        main = archive.main_part()
        order = _SlideOrder()
        archive.read(main, order)
        relations = archive.relations(main)
        slides = [relations[key].target for key in order.keys if key in relations]
        if any(not archive.has(slide) for slide in slides):
            raise unreadable.damaged("a PowerPoint presentation")
        return "\n\n".join(filter(None, (_slide(archive, slide) for slide in slides)))


def _slide(archive: Archive, slide: str) -> str:
    beside = archive.relations(slide).values()
    targets = [r.target for kind in _BESIDE for r in beside if r.kind == kind]
    texts = (_text(archive, part) for part in [slide, *filter(archive.has, targets)])
    return "\n".join(filter(None, texts))


def _text(archive: Archive, part: str) -> str:
    reader = _Drawing()
    archive.read(part, reader)
    return reader.blocks.text()


class _SlideOrder(XmlReader):
    """The list of slides in the main part: ids of its relations."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """One more slide; its own number is `id` too, without a namespace."""
        if local(tag) == "sldId":
            self.keys += [v for name, v in attributes.items() if name.endswith("}id")]


class _Drawing(XmlReader):
    """A slide, a page of notes, a diagram or a chart."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self._is_text = False
        self._skipped = 0
        self._shapes: list[bool] = []  # Of each open shape: whether it is furniture.

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        match local(tag):
            case "Fallback":
                self._skipped += 1
            case name if name in _SHAPES:
                self._shapes.append(False)
            case "ph" if self._shapes and value(attributes, "type") in _FURNITURE:
                self._shapes[-1] = True
            case "t":
                self._is_text = True
            case "br":
                self._add("\n")
            case "tab":
                self._add("\t")
            case "tr":
                self.blocks.start_row()
            case "tc":
                self.blocks.start_cell()

    def end(self, tag: str) -> None:
        """An element ends."""
        match local(tag):
            case "Fallback":
                self._skipped -= 1
            case name if name in _SHAPES and self._shapes:
                self._shapes.pop()
            case "t":
                self._is_text = False
            case "p":
                self.blocks.end()
            case "tr":
                self.blocks.end_row()

    def data(self, text: str) -> None:
        """Some of the text in an element."""
        if self._is_text:
            self._add(text)

    def _add(self, text: str) -> None:
        if not self._skipped and not any(self._shapes):
            self.blocks.add(text)
