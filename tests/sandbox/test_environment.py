"""The sandbox's own Python environment: made, kept, made anew, and what is said when it cannot be.

The packages are tiny wheels in a folder; no index is asked.
"""

import hashlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from understudy.sandbox.environment import (
    Contents,
    contents,
    install,
    installed,
    size_bytes,
    versions,
)
from understudy.sandbox.interpreter import CannotInstall

NO_ROOM = 2**60


class Shelf:
    """A folder of wheels, and lists that pin them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def wheel(self, name: str, version: str = "1.0", code: str = "") -> str:
        """Make a wheel; its pin."""
        path = self.folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", code)
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{info}/RECORD", "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"

    def contents(self, *pins: str, needs: str = "sys", size: int = 0) -> Callable[[bool], Contents]:
        """An environment with these pins; the full one is told by its name."""
        listed = self.folder / "list.txt"
        listed.write_text("".join(pins))
        more = self.folder / "more.txt"
        more.write_text("# Nothing more.\n")
        return lambda full: Contents((listed, more) if full else (listed,), (needs,), size)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """What pip finds; nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return Shelf(folder)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it goes. pytest's own folders are closed to others, and root's sandbox is another."""
    base = tmp_path_factory.mktemp("environment")
    for one in (base, *base.parents):
        if one == Path(tempfile.gettempdir()):
            break
        one.chmod(0o755)
    return base / "below" / "sandbox"


def quiet(_what: str, _share: float | None) -> None:
    """No progress bar."""


def test_an_environment_is_made_once(shelf: Shelf, folder: Path) -> None:
    wanted = shelf.contents(shelf.wheel("tiny", code="x = 1"), needs="tiny")
    assert installed(folder) is None
    said: list[str] = []
    made = install(folder, False, lambda what, _: said.append(what), wanted)
    assert installed(folder) == made
    assert said
    assert versions(made) == {"tiny": "1.0"}
    assert size_bytes(made) > 0
    assert (made.site / "tiny" / "__init__.py").exists()
    assert made.python.exists()
    assert made.python.is_relative_to(made.prefix)
    assert list((made.site / "tiny" / "__pycache__").iterdir()), "it was compiled"
    said.clear()
    assert install(folder, False, lambda what, _: said.append(what), wanted) == made
    assert said == [], "there was nothing to do"


def test_everybody_can_read_it_whatever_the_umask(shelf: Shelf, folder: Path) -> None:
    before = os.umask(0o077)
    try:
        made = install(folder, False, quiet, shelf.contents(shelf.wheel("tiny"), needs="tiny"))
    finally:
        os.umask(before)
    for path in (made.site, *made.site.rglob("*")):
        assert path.stat().st_mode & stat.S_IROTH, path
        assert not path.is_dir() or path.stat().st_mode & stat.S_IXOTH, path
    if os.geteuid() == 0:
        assert folder.stat().st_mode & stat.S_IXOTH


def test_a_full_one_stays_full(shelf: Shelf, folder: Path) -> None:
    wanted = shelf.contents(shelf.wheel("tiny"))
    assert not install(folder, False, quiet, wanted).is_full
    assert install(folder, True, quiet, wanted).is_full
    assert install(folder, False, quiet, wanted).is_full


def test_other_pins_replace_it_and_what_is_in_use_is_kept(shelf: Shelf, folder: Path) -> None:
    install(folder, False, quiet, shelf.contents(shelf.wheel("tiny", "1.0", "x = 1")))
    opened = os.open(folder / "site", os.O_RDONLY | os.O_DIRECTORY)
    try:
        made = install(folder, False, quiet, shelf.contents(shelf.wheel("tiny", "2.0", "x = 2")))
        assert versions(made) == {"tiny": "2.0"}
        seen = os.open("tiny/__init__.py", os.O_RDONLY, dir_fd=opened)
        assert os.read(seen, 9) == b"x = 1", "a jail that has it open still can import"
        os.close(seen)
    finally:
        os.close(opened)


KILLED = """
import os, signal, sys
from pathlib import Path
from understudy.sandbox.environment import Contents, install
def progress(what, share):
    if what.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
lists = (Path(sys.argv[2]),)
install(Path(sys.argv[1]), False, progress, lambda full: Contents(lists, ("tiny",), 0))
"""


@pytest.mark.parametrize("moment", ["compiling", "trying"])
def test_an_install_that_was_cut_is_done_again(shelf: Shelf, folder: Path, moment: str) -> None:
    wanted = shelf.contents(shelf.wheel("tiny"), needs="tiny")
    command = [sys.executable, "-c", KILLED, str(folder), str(wanted(False).lists[0]), moment]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    assert installed(folder) is None
    said: list[str] = []
    install(folder, False, lambda what, _: said.append(what), wanted)
    assert said[0] == "clearing up after an install that was cut"
    assert versions(installed(folder) or pytest.fail("it is there")) == {"tiny": "1.0"}
    assert not list(folder.glob("new-*"))


def test_one_that_was_cut_while_it_was_put_in_place_is_done_again(
    shelf: Shelf, folder: Path
) -> None:
    wanted = shelf.contents(shelf.wheel("tiny"))
    install(folder, False, quiet, wanted)
    (folder / "environment.json").unlink()
    assert installed(folder) is None
    assert install(folder, False, quiet, wanted) == installed(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"python": 1}'])
def test_a_damaged_record_is_no_environment(shelf: Shelf, folder: Path, text: str) -> None:
    wanted = shelf.contents(shelf.wheel("tiny"))
    install(folder, False, quiet, wanted)
    (folder / "environment.json").write_text(text)
    assert installed(folder) is None
    install(folder, False, quiet, wanted)
    assert installed(folder) is not None


def test_an_interpreter_that_went_away_is_noticed(shelf: Shelf, folder: Path) -> None:
    made = install(folder, False, quiet, shelf.contents(shelf.wheel("tiny")))
    record = folder / "environment.json"
    record.write_text(record.read_text().replace(str(made.python), "/usr/bin/python3.7"))
    assert installed(folder) is None


def test_two_at_once_wait_for_each_other(shelf: Shelf, folder: Path) -> None:
    wanted = shelf.contents(shelf.wheel("tiny"))
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(install, folder, False, lambda what, _: said.append(what), wanted)
            for _ in range(2)
        ]
        first, second = (one.result(60) for one in both)
    assert first == second
    assert said.count("waiting for another install") <= 1
    assert said.count("trying the packages") == 1, "only one of them did the work"


def complaint(folder: Path, wanted: Callable[[bool], Contents]) -> str:
    """What an install says that fails; it must leave nothing behind."""
    with pytest.raises(CannotInstall) as failed:
        install(folder, False, quiet, wanted)
    assert installed(folder) is None
    assert not list(folder.glob("new-*"))
    assert failed.value.cause.endswith(".")
    assert failed.value.remedy.endswith(".")
    return str(failed.value)


def test_without_a_network_it_says_so(
    shelf: Shelf, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    pin = "elsewhere==1.0 --hash=sha256:" + "0" * 64 + "\n"
    said = complaint(folder, shelf.contents(pin))
    assert said.startswith("The package index cannot be reached.")


def test_another_content_than_the_pinned_one_is_refused(shelf: Shelf, folder: Path) -> None:
    pin = shelf.wheel("tiny")
    shelf.wheel("tiny", code="evil = 1")
    assert "other content than the pinned one" in complaint(folder, shelf.contents(pin))


def test_a_version_that_is_not_there_is_told(shelf: Shelf, folder: Path) -> None:
    pin = shelf.wheel("tiny").replace("1.0", "3.0")
    assert "no wheel of a pinned version" in complaint(folder, shelf.contents(pin))


def test_too_little_room_is_told_before_anything_is_fetched(shelf: Shelf, folder: Path) -> None:
    said = complaint(folder, shelf.contents(shelf.wheel("tiny"), size=NO_ROOM))
    assert f"There is too little room in {folder}" in said


def test_packages_that_do_not_work_are_not_taken(shelf: Shelf, folder: Path) -> None:
    pin = shelf.wheel("tiny", code="raise ImportError('libfoo.so is missing')")
    assert "libfoo.so is missing" in complaint(folder, shelf.contents(pin, needs="tiny"))


def test_a_folder_that_cannot_be_made_is_named(shelf: Shelf, folder: Path) -> None:
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("a file in the way")
    with pytest.raises(CannotInstall, match="cannot be written to"):
        install(folder, False, quiet, shelf.contents(shelf.wheel("tiny")))


WITHOUT_PIP = "import sys; sys.modules['pip'] = None\n" + KILLED


def test_uv_does_it_where_pip_is_missing(
    shelf: Shelf, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(shelf.folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    listed = shelf.contents(shelf.wheel("tiny"), needs="tiny")(False).lists[0]
    command = [sys.executable, "-c", WITHOUT_PIP, str(folder), str(listed), "never"]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = installed(folder)
    assert made is not None
    assert versions(made) == {"tiny": "1.0"}
    assert list((made.site / "tiny" / "__pycache__").iterdir()), "it was compiled"


def test_the_lists_of_the_package_pin_each_name_in_one_of_them() -> None:
    small, more = (set(names(path)) for path in contents(True).lists)
    assert contents(False).lists == contents(True).lists[:1]
    assert {"numpy", "pandas", "matplotlib", "openpyxl"} <= small
    assert {"scipy", "scikit-learn", "pillow", "python-docx", "lxml"} <= small | more
    assert not small & more


def names(path: Path) -> list[str]:
    """What a list pins."""
    return [line.split("==")[0] for line in path.read_text().splitlines() if "==" in line]
