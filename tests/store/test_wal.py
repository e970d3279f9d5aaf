"""The write-ahead log is folded into the file beside the commits, and stays short."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from understudy import limits
from understudy.store import sqlite_writer
from understudy.store.sqlite_writer import Wal, connect

_FRAME = 4_096 + 24  # A page in the log, and its header.
_PAGES, _BOUND = 20, 60
_LONGER = 20  # Pages of one commit, which may come on top.


class File:
    """A file with one table, and who writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = connect(str(path))
        self.connection.execute("create table words (word)")
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self.wal = Wal(str(path), self.connection)

    def commit(self, count: int) -> None:
        """So many commits of a page or two, each with what is due after it."""
        for number in range(count):
            self.connection.execute("insert into words values (?)", (f"{number} " + "x" * 4_000,))
            self.wal.keep_short()

    def log_pages(self) -> int:
        """The most that the log has held."""
        return self.path.with_name(f"{self.path.name}-wal").stat().st_size // _FRAME


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    """It is folded in early."""
    monkeypatch.setattr(limits, "WAL_PAGES", _PAGES)
    monkeypatch.setattr(limits, "WAL_PAGES_BOUND", _BOUND)
    file = File(tmp_path / "understudy.db")
    yield file
    file.wal.close()
    file.connection.close()


def test_the_log_stays_short_and_the_file_gets_everything(file: File) -> None:
    file.commit(500)
    assert file.log_pages() < _BOUND + _LONGER
    assert file.path.stat().st_size > 400 * 4_096
    assert file.connection.execute("select count(*) from words").get == 500


def test_no_commit_folds_it_in(file: File) -> None:
    before = file.path.stat().st_size
    for _ in range(10):
        with file.connection:
            file.connection.executemany(
                "insert into words values (?)", [("x" * 4_000,)] * limits.WAL_PAGES_BOUND
            )
    assert file.path.stat().st_size == before
    while file.path.stat().st_size == before:  # The thread of the first commit that asks.
        file.commit(1)


def test_a_reader_that_stays_holds_up_no_commit(file: File) -> None:
    with closing(connect(str(file.path))) as reader:
        reader.execute("begin")
        assert reader.execute("select count(*) from words").get == 0
        file.commit(200)
        assert file.log_pages() >= 200, "what the reader may still ask for is kept"
        assert reader.execute("select count(*) from words").get == 0
        reader.execute("commit")
    file.commit(_BOUND)
    grown = file.log_pages()
    file.commit(300)
    assert file.log_pages() == grown, "it began anew"


def test_a_fold_that_fails_is_tried_again(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def failing(path: str) -> apsw.Connection:
        tries.append(path)
        if len(tries) < 3:
            raise apsw.CantOpenError("unable to open database file")
        return connect(path)

    monkeypatch.setattr(sqlite_writer, "connect", failing)
    file.commit(500)
    assert len(tries) >= 3
    assert file.log_pages() < _BOUND + _LONGER
