"""`understudy migrate` as an operator meets it: what it says, and with which exit code it ends."""

from pathlib import Path

import apsw
import pytest

from tests.fleet.clusters import server
from tests.test_cli import served, understudy
from tests.transfer.places import filled, opened

POSTGRES = "postgresql://postgres@127.0.0.1:1/nobody"


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder with a record."""
    folder = tmp_path / "understudy-data"
    folder.mkdir()
    await filled(f"sqlite:///{folder}/understudy.db")
    return folder


def test_a_move_says_what_it_did_and_what_comes_next(data: Path, tmp_path: Path) -> None:
    """The checksums of both directions are the same."""
    moved = understudy("migrate", "--to", "sqlite:///moved/there.db", folder=tmp_path)
    assert (moved.returncode, moved.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in moved.stdout.splitlines()}
    assert rows["table"] == ["table", "rows", "bytes", "copied", "verified", "checksum"]
    assert rows["postings"][:4] == ["postings", "7", "247", "B"]
    assert "UNDERSTUDY_DATABASE_URL=sqlite:///moved/there.db" in moved.stdout
    assert "files stay where they are" in moved.stdout
    back = understudy(
        *("migrate", "--from", "sqlite:///moved/there.db", "--to", "sqlite:///again.db"),
        folder=tmp_path,
    )
    again = {line.split()[0]: line.split() for line in back.stdout.splitlines()}
    assert back.returncode == 0
    for name in ("keys", "objects", "jobs", "chunks"):
        assert rows[name][-1] == again[name][-1]
        assert len(rows[name][-1]) == 16


def test_one_byte_makes_the_exit_code_one(data: Path, tmp_path: Path) -> None:
    """And is named by table, key and column."""
    sides = ("--to", "sqlite:///moved.db")
    assert understudy("migrate", *sides, folder=tmp_path).returncode == 0
    same = understudy("migrate", *sides, "--verify-only", folder=tmp_path)
    assert (same.returncode, same.stderr) == (0, "")
    assert "Both sides are the same." in same.stdout
    connection = apsw.Connection(str(tmp_path / "moved.db"))
    connection.execute("update objects set body = replace(body, 'body 4', 'body 5')")
    connection.close()
    found = understudy("migrate", *sides, "--verify-only", folder=tmp_path)
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        "understudy: objects id é中😀 0004 differs in body",
        "understudy: the two sides are not the same: 1 differ.",
    ]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--from", "sqlite:///nothing.db", "--to", "sqlite:///x.db"], 1, "no database nothing.db"),
        (["--to", "sqlite:///understudy-data/understudy.db"], 2, "--from and --to are the same"),
        (["--to", "mysql://host/name"], 2, "No database for mysql:// URLs"),
        (["--to", POSTGRES], 1, "PostgreSQL cannot be used"),
        (["--to", "sqlite:///:memory:"], 2, "in memory"),
        (["--verify-only"], 2, "needs to know of what"),
        (["--to", "sqlite:///x.db", "--verify-only"], 1, "no database x.db"),
        (["--blobs-to", "ftp://host/x"], 2, "no folder"),
    ],
)
def test_a_slip_of_the_pen_is_one_line(
    data: Path, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    """And makes nothing: no database, and no folder."""
    before = {*tmp_path.rglob("*")}
    refused = understudy("migrate", *options, folder=tmp_path)
    assert refused.returncode == code
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    made = {path.name for path in {*tmp_path.rglob("*")} - before}
    assert made <= {"understudy.db.lock", "understudy.db-wal", "understudy.db-shm"}


@pytest.mark.parametrize("flag", ["--from", "--to"])
@pytest.mark.parametrize("password", ["sec/ret", "sec@ret", "secret"])
def test_no_password_is_shown(data: Path, tmp_path: Path, flag: str, password: str) -> None:
    """Whatever is wrong with the URL; one that cannot be read is not tried."""
    url = f"postgresql://me:{password}@127.0.0.1:1/nobody"
    other = {"--from": "--to", "--to": "--from"}[flag]
    refused = understudy("migrate", flag, url, other, "sqlite:///x.db", folder=tmp_path)
    assert refused.returncode in (1, 2)
    assert len(refused.stderr.splitlines()) == 1
    assert "ret" not in refused.stderr + refused.stdout


def test_a_schema_that_is_not_there_is_one_line(data: Path, tmp_path: Path) -> None:
    url = f"{server()}?search_path=nobody_made_this"
    refused = understudy("migrate", "--to", url, folder=tmp_path)
    assert refused.returncode == 2
    assert "names no schema that exists" in refused.stderr
    refused = understudy("migrate", "--from", url, "--to", "sqlite:///x.db", folder=tmp_path)
    assert refused.returncode == 1
    assert "holds no record of Understudy" in refused.stderr


async def test_no_command_opens_an_unfinished_copy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/understudy.db"
    async with opened(url) as record:
        await record.begin("x")
    for command in (["serve", "--port", "0"], ["keys", "list"], ["migrate"]):
        refused = understudy(*command, folder=tmp_path, UNDERSTUDY_DATABASE_URL=url)
        assert refused.returncode == 2
        assert "holds a copy that is not finished" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_running_server_keeps_its_record(tmp_path: Path) -> None:
    """In the words of any second start."""
    with served(tmp_path):
        refused = understudy("migrate", "--to", "sqlite:///x.db", folder=tmp_path)
    assert refused.returncode == 1
    assert "is in use by another server process" in refused.stderr
    assert not (tmp_path / "x.db").exists()


def test_the_help_names_both_things_that_it_does(tmp_path: Path) -> None:
    said = " ".join(understudy("migrate", "--help", folder=tmp_path).stdout.split())
    assert "gets this version's schema" in said
    assert "copied to another database while no server runs" in said
    assert "docs/moving.md" in said
