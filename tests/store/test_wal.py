"""The write-ahead log is folded into the file beside the commits, and stays short."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.conformance.shapes import thread
from understudy import limits
from understudy.store import open_database, sqlite_writer
from understudy.store.sqlite_writer import Wal, connect

_FRAME = 4_096 + 24  # A page in the log, and its header.
_PAGES, _BEHIND = 20, 60
_LONGER = 10  # Pages of a commit or two, which may come on top.


class File:
    """A file with one table, and who writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = connect(str(path))
        self.connection.execute("create table words (word)")
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self.beside = connect(str(path))
        self.wal = Wal(self.connection, self.beside)

    def commit(self, count: int, *, pause_s: float = 0.0) -> None:
        """So many commits of a page or two, each with what is due after it."""
        for number in range(count):
            self.connection.execute("insert into words values (?)", (f"{number} " + "x" * 4_000,))
            self.wal.keep_short()
            time.sleep(pause_s)


def log_pages(path: Path) -> int:
    """The most that the log of a file has held."""
    return path.with_name(f"{path.name}-wal").stat().st_size // _FRAME


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs are folded in early."""
    monkeypatch.setattr(limits, "WAL_PAGES", _PAGES)
    monkeypatch.setattr(limits, "WAL_PAGES_BEHIND", _BEHIND)


@pytest.fixture
def file(tmp_path: Path, early: None) -> Iterator[File]:
    """A file whose log is folded in early."""
    file = File(tmp_path / "understudy.db")
    yield file
    file.wal.close()
    file.connection.close()


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who folded, each time: "beside" or "writer"."""
    found: list[str] = []
    fold = sqlite_writer._fold

    def noted(connection: apsw.Connection) -> bool:
        is_writer = threading.current_thread() is threading.main_thread()
        found.append("writer" if is_writer else "beside")
        return fold(connection)

    monkeypatch.setattr(sqlite_writer, "_fold", noted)
    return found


def test_the_log_stays_short_and_the_file_gets_everything(file: File) -> None:
    file.commit(500)
    assert log_pages(file.path) < _PAGES + _BEHIND + _LONGER
    assert file.path.stat().st_size > 400 * 4_096
    assert file.connection.execute("select count(*) from words").get == 500


def test_between_commits_that_leave_it_time_the_thread_does_all(
    file: File, folds: list[str]
) -> None:
    for _ in range(200):
        file.commit(1, pause_s=0)
        while file.wal._is_asked and not file.wal._done.is_set():
            time.sleep(0.001)  # However busy the machine is.
    assert folds.count("beside") >= 200 // (2 * _PAGES)
    assert "writer" not in folds
    assert log_pages(file.path) < 2 * _PAGES


def test_what_the_thread_leaves_is_done_between_two_commits(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = sqlite_writer._fold
    monkeypatch.setattr(sqlite_writer, "_fold", lambda some: some is not file.beside and fold(some))
    file.commit(300, pause_s=0.001)
    assert log_pages(file.path) < _PAGES + _BEHIND


def test_commits_wait_for_a_thread_that_is_far_behind(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = sqlite_writer._fold

    def slow(connection: apsw.Connection) -> bool:
        if connection is file.beside:
            time.sleep(0.2)
        return fold(connection)

    monkeypatch.setattr(sqlite_writer, "_fold", slow)
    file.commit(3 * (_PAGES + _BEHIND))
    assert log_pages(file.path) < _PAGES + _BEHIND + _LONGER


def test_no_commit_folds_it_in(file: File) -> None:
    before = file.path.stat().st_size
    for _ in range(5):
        with file.connection:
            file.connection.executemany("insert into words values (?)", [("x" * 4_000,)] * 1_000)
    assert log_pages(file.path) > 5_000, "more than SQLite's own limit, and than ours"
    assert file.path.stat().st_size == before


def test_a_reader_that_stays_holds_up_no_commit(file: File, folds: list[str]) -> None:
    with closing(connect(str(file.path))) as reader:
        reader.execute("begin")
        assert reader.execute("select count(*) from words").get == 0
        file.commit(200)
        assert log_pages(file.path) >= 200, "what the reader may still ask for is kept"
        assert folds.count("writer") <= log_pages(file.path) // _PAGES, "not at each commit"
        assert reader.execute("select count(*) from words").get == 0
        reader.execute("commit")
    file.commit(3 * _PAGES)
    grown = log_pages(file.path)
    file.commit(300)
    assert log_pages(file.path) == grown, "it began anew"


def test_commits_that_change_nothing_fold_nothing(file: File, folds: list[str]) -> None:
    file.commit(_PAGES, pause_s=0.002)
    before = folds.count("writer")
    for _ in range(50):
        file.connection.execute("delete from words where word = 'none'")
        file.wal.keep_short()
        time.sleep(0.001)
    assert folds.count("writer") <= before + 1


class _Failing:
    """A connection whose first checkpoints fail."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.left = 3

    def wal_checkpoint(self, mode: int) -> tuple[int, int]:
        self.left -= 1
        if self.left >= 0:
            raise apsw.IOError("disk I/O error")
        return self._connection.wal_checkpoint(mode=mode)

    def close(self) -> None:
        self._connection.close()


def test_a_fold_that_fails_is_tried_again(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = _Failing(file.beside)
    monkeypatch.setattr(file.wal, "_beside", failing)
    file.commit(500)
    assert failing.left < 0
    assert log_pages(file.path) < _PAGES + _BEHIND + _LONGER


@pytest.mark.usefixtures("early")
async def test_the_writer_keeps_the_log_of_its_file_short(tmp_path: Path) -> None:
    path = tmp_path / "understudy.db"
    await (await open_database(f"sqlite:///{path}")).close()  # It migrates the file.
    file = sqlite_writer._File(str(path))
    for number in range(300):
        one = thread(f"thread_{number}")
        statements = one if isinstance(one, tuple) else (one,)
        outcomes = file.write(
            [[(each.query, each.args, each.rows, each.many) for each in statements]]
        )
        assert not isinstance(outcomes[0], Exception)
        file.tidy()
    assert log_pages(path) < _PAGES + _BEHIND + 3 * _LONGER
    file.close()
    assert not path.with_name("understudy.db-wal").exists()
    with closing(connect(str(path))) as reader:
        assert reader.execute("select count(*) from objects").get == 300
