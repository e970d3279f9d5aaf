"""The operating system's packages: what is missing, what brings it, and apt doing so."""

import os
from pathlib import Path

import pytest

from understudy.sandbox.system import (
    BUBBLEWRAP,
    CJK_FONTS,
    can_install,
    command_for,
    has_bubblewrap,
    install_with_apt,
)


class Programs:
    """A PATH with nothing but the programs that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, script: str = "") -> None:
        """A shell script of this name."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """The PATH, empty at first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Programs(folder)


@pytest.mark.parametrize(
    ("manager", "command", "fonts"),
    [
        ("apt-get", "apt-get install bubblewrap", "apt-get install fonts-noto-cjk"),
        ("dnf", "dnf install bubblewrap", "dnf install google-noto-sans-cjk-fonts"),
        ("pacman", "pacman -S bubblewrap", "pacman -S noto-fonts-cjk"),
        ("apk", "apk add bubblewrap", "apk add font-noto-cjk"),
    ],
)
def test_the_command_is_that_of_the_machines_package_manager(
    programs: Programs, manager: str, command: str, fonts: str
) -> None:
    assert command_for(BUBBLEWRAP) == "apt-get install bubblewrap", "where none is known"
    programs.add(manager)
    assert command_for(BUBBLEWRAP) == command
    assert command_for(CJK_FONTS) == fonts


def test_bubblewrap_is_looked_for_where_programs_are(programs: Programs) -> None:
    assert not has_bubblewrap()
    programs.add("bwrap")
    assert has_bubblewrap()


def test_only_root_with_apt_installs(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not can_install()
    programs.add("apt-get")
    assert can_install()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not can_install()


def test_apt_is_asked_for_the_package_and_nothing_more(programs: Programs, tmp_path: Path) -> None:
    log = tmp_path / "log"
    programs.add("apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {log}')
    assert install_with_apt(BUBBLEWRAP) is None
    assert log.read_text().splitlines() == [
        "noninteractive update -q",
        "noninteractive install -q -y --no-install-recommends bubblewrap",
    ]


def test_what_apt_complains_of_is_told(programs: Programs) -> None:
    programs.add("apt-get", 'echo "reading lists"; echo "E: Unable to locate it" >&2; exit 100')
    assert install_with_apt(BUBBLEWRAP) == "E: Unable to locate it"
