"""The least that indexing and searching can be: one process, one SQLite file, no bookkeeping.

The same chunks and the same terms as ours, in an FTS5 table; vectors as blobs beside it, and as one
matrix in memory for searches. Durable like ours: WAL, and a sync with the commit.
"""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import apsw
import numpy as np
from numpy.typing import NDArray

from understudy import limits
from understudy.search import Embedder
from understudy.search.chunk import chunks
from understudy.search.words import words

_SCHEMA = """
pragma journal_mode = wal;
pragma synchronous = full;
pragma cache_size = -65536;
create virtual table terms using fts5(text, content='', tokenize="unicode61 tokenchars '.'");
create table chunks (number integer primary key, start integer, stop integer, text text);
create table vectors (number integer primary key, vector blob);
"""
_BATCH = 64  # Texts embedded at once.
_TOP = 50


class Bare:
    """An index in a file."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.execute(_SCHEMA).fetchall()
        self._next = 1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def ingest(self, text: str, embedder: Embedder) -> int:
        """Cut a text, tokenise and embed its chunks, insert all in one transaction; how many."""
        spans = list(chunks(text, limits.CHUNK_TOKENS, limits.CHUNK_OVERLAP_TOKENS))
        pieces = [text[span.start : span.stop] for span in spans]
        rows = []
        for at in range(0, len(pieces), _BATCH):
            some = pieces[at : at + _BATCH]
            embedded = asyncio.run(embedder.embed(some, is_query=False))
            rows += [vector.tobytes() for vector in embedded.vectors]
        places = [(span.start, span.stop) for span in spans]
        with self._connection:
            self._insert(pieces)
            self._connection.executemany(
                "insert into chunks (start, stop, text) values (?, ?, ?)",
                [(*place, piece) for place, piece in zip(places, pieces, strict=True)],
            )
            self._connection.executemany(
                "insert into vectors (vector) values (?)", [(row,) for row in rows]
            )
        return len(spans)

    def fill(self, pieces: Iterable[str]) -> None:
        """Only the terms of these chunks."""
        with self._connection:
            self._insert(pieces)
            self._connection.execute("insert into terms(terms) values ('optimize')")

    def _insert(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self._connection.execute(
                "insert into terms (rowid, text) values (?, ?)",
                (self._next, " ".join(words(piece))),
            )
            self._next += 1

    def search(self, query: str) -> Sequence[tuple[object, ...]]:
        """The best chunks for any of a query's terms, by BM25."""
        match = " or ".join(f'"{term}"' for term in dict.fromkeys(words(query)))
        return self._connection.execute(
            "select rowid, rank from terms where terms match ? order by rank limit ?",
            (match.replace(" or ", " OR "), _TOP),
        ).fetchall()


def product(matrix: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """How alike a query and each row are: numpy's exact product."""
    found: NDArray[np.float32] = matrix @ query
    return found
