"""A model's text on its way to the client: what of it may be shown now, and its annotations.

Of a run that may search, markers become citations first; of a run that may run code, links to
files become file paths then. The second step never changes a text, so the offsets that the first
one gives stay true. Any other run's text is untouched.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from understudy.wire.messages import FileCitationAnnotation, FilePathAnnotation


class Shown(msgspec.Struct, frozen=True, gc=False):
    """A piece of text to show: plain, or a whole marker or link with its annotation."""

    text: str
    annotation: FileCitationAnnotation | FilePathAnnotation | None = None


class Cites(Protocol):
    """What turns a model's pieces into what may be shown of them."""

    def feed(self, piece: str) -> list[Shown]:
        """What may be shown now."""
        ...

    def finish(self) -> list[Shown]:
        """What was held back."""
        ...


class Links(Protocol):
    """What annotates links in text that is about to be shown."""

    def feed(self, shown: Shown) -> list[Shown]:
        """What may be shown now."""
        ...

    def finish(self) -> list[Shown]:
        """What was held back."""
        ...


class Annotations:
    """One text: `feed` every piece of the model, then `finish`."""

    def __init__(self, citations: Cites | None, links: Links | None) -> None:
        self._citations = citations
        self._links = links
        self.are_none = citations is None and links is None

    def feed(self, piece: str) -> list[Shown]:
        """What may be shown now."""
        return self._linked(
            [Shown(piece)] if self._citations is None else self._citations.feed(piece)
        )

    def finish(self) -> list[Shown]:
        """What was held back."""
        rest = [] if self._citations is None else self._linked(self._citations.finish())
        return rest if self._links is None else [*rest, *self._links.finish()]

    def _linked(self, shown: Iterable[Shown]) -> list[Shown]:
        if self._links is None:
            return list(shown)
        return [after for one in shown for after in self._links.feed(one)]
