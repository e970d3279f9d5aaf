"""Which sandbox a setting gets; what cannot work is off, and never something weaker."""

from pathlib import Path

import pytest

from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.choice import open_sandbox
from understudy.sandbox.jupyter import Jupyter
from understudy.sandbox.local import Local
from understudy.sandbox.off import Off


@pytest.fixture
def bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that says it is bubblewrap, and nothing else on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "bwrap"
    program.write_text("#!/bin/sh\necho bubblewrap 0.8.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return program


def with_packages(folder: Path) -> Path:
    """A folder that looks installed."""
    (folder / "site").mkdir(parents=True)
    (folder / "environment.json").write_text(
        '{"python": "/bin/sh", "prefix": "/usr", "version": "3.11", "packages": "", "full": false}'
    )
    return folder


@pytest.mark.parametrize("setting", ["auto", "bubblewrap"])
def test_the_jail_is_taken_where_its_parts_are_there(
    setting: str, bwrap: Path, tmp_path: Path
) -> None:
    sandbox = open_sandbox(setting, with_packages(tmp_path / "sandbox"))
    assert isinstance(sandbox, Bubblewrap)
    assert sandbox.state == "starting", "nothing has been tested yet"


@pytest.mark.parametrize("setting", ["auto", "bubblewrap"])
def test_without_its_parts_it_is_off(setting: str, bwrap: Path, tmp_path: Path) -> None:
    without = open_sandbox(setting, tmp_path / "empty")
    assert isinstance(without, Off)
    assert "understudy sandbox install" in without.detail
    folder = with_packages(tmp_path / "sandbox")
    bwrap.write_text("#!/bin/sh\necho bubblewrap 0.4.1\n")
    assert "too old (version 0.4.1)" in open_sandbox(setting, folder).detail
    bwrap.unlink()
    missing = open_sandbox(setting, folder)
    assert isinstance(missing, Off)
    assert "bubblewrap (bwrap) is not installed." in missing.detail


def test_the_others_are_what_they_are_called(tmp_path: Path) -> None:
    assert isinstance(open_sandbox("unsafe-local", tmp_path), Local)
    off = open_sandbox("off", tmp_path)
    assert (off.state, "UNDERSTUDY_SANDBOX=auto" in off.detail) == ("off", True)
    jupyter = open_sandbox("jupyter+https://host:8888/base?token=secret", tmp_path)
    assert isinstance(jupyter, Jupyter)
    assert "secret" not in jupyter.detail
