"""XML of office files, read as a stream of tags: no tree, no entities, nothing fetched."""

from collections.abc import Iterable, Mapping

from lxml import etree

from understudy import limits
from understudy.search import unreadable


class XmlReader:
    """Takes what a parser sees; a subclass overrides what it wants to know."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""

    def end(self, tag: str) -> None:
        """An element ends."""

    def data(self, text: str) -> None:
        """Some of the text in an element."""


def local(tag: str) -> str:
    """A name without its namespace, which differs between editions of the format."""
    return tag.rpartition("}")[2]


def value(attributes: Mapping[str, str], name: str) -> str:
    """An attribute by its local name; empty when it is not there."""
    return next((said for tag, said in attributes.items() if local(tag) == name), "")


def read_xml(pieces: Iterable[bytes], reader: XmlReader) -> None:
    """Feed XML to a reader; raises Unreadable when it is broken or hostile."""
    parser = etree.XMLParser(
        target=_Target(reader),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=True,  # Nothing is built; depth is counted and bytes are, too.
    )
    try:
        for piece in pieces:
            parser.feed(piece)
        parser.close()
    except etree.XMLSyntaxError as broken:
        raise unreadable.damaged("an office file") from broken


class _Target:
    """What lxml calls."""

    def __init__(self, reader: XmlReader) -> None:
        self._reader = reader
        self._depth = 0
        self.data = reader.data

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > limits.XML_DEPTH:
            raise unreadable.nested_too_deeply(limits.XML_DEPTH)
        self._reader.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._reader.end(tag)

    def doctype(self, *_: object) -> None:
        raise unreadable.entities()

    def close(self) -> None: ...
