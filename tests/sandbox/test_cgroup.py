"""Limits by cgroup: found where a part of the tree is ours, and silently absent elsewhere."""

import os
from pathlib import Path

import pytest

from understudy.sandbox.cgroup import Groups


def tree(root: Path, controllers: str, delegated: str) -> tuple[Path, Path]:
    """A tree with our cgroup in it, and what /proc says of that."""
    own = root / "service" / "server"
    own.mkdir(parents=True)
    (root / "service" / "cgroup.subtree_control").write_text(controllers)
    (own / "cgroup.subtree_control").write_text("")
    if delegated:
        os.setxattr(root / delegated, "user.delegate", b"1")
    said = root / "cgroup"
    said.write_text("12:pids:/x\n0::/service/server\n")
    return root, said


@pytest.mark.parametrize("delegated", ["service", "service/server"])
def test_a_part_that_was_handed_over_is_ours(tmp_path: Path, delegated: str) -> None:
    """Our own cgroup, or the one above it."""
    root, own = tree(tmp_path, "cpu memory pids io", delegated)
    (root / "service/server/cgroup.subtree_control").write_text("cpu memory pids")
    groups = Groups.found(root, own)
    assert groups is not None
    assert groups.hold(1234) is not None
    assert len(list((root / delegated).glob("understudy-*/cgroup.procs"))) == 1


def test_controllers_that_cannot_be_had_are_no_part(tmp_path: Path) -> None:
    """They are asked for; this tree does not give them."""
    root, own = tree(tmp_path, "cpu", "service")
    assert Groups.found(root, own) is None
    asked = (root / "service/cgroup.subtree_control").read_text()
    assert asked == "+memory +pids +cpu"


@pytest.mark.parametrize("delegated", ["", "."])
def test_what_nobody_handed_over_is_left_alone(tmp_path: Path, delegated: str) -> None:
    """Nothing is written there."""
    root, own = tree(tmp_path, "cpu memory pids", delegated)
    assert Groups.found(root, own) is None
    assert (root / "service" / "cgroup.subtree_control").read_text() == "cpu memory pids"


@pytest.mark.parametrize("said", ["", "12:pids:/x\n", "0::/\n", "0::/gone\n"])
def test_other_systems_have_none(tmp_path: Path, said: str) -> None:
    """Version 1, the root itself, and no cgroups at all."""
    own = tmp_path / "cgroup"
    own.write_text(said)
    assert Groups.found(tmp_path, own) is None
    assert Groups.found(tmp_path, tmp_path / "missing") is None


def test_a_group_holds_a_process(tmp_path: Path) -> None:
    """With limits of memory, processes and processor."""
    group = Groups(tmp_path).hold(1234)
    assert group is not None
    (folder,) = tmp_path.iterdir()
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert written["cgroup.procs"] == "1234"
    assert int(written["memory.max"]) > 1024**3
    assert int(written["pids.max"]) == 72
    assert written["cpu.max"] == "100000 100000"


def test_a_part_that_refuses_is_no_obstacle(tmp_path: Path) -> None:
    """The session lives without it."""
    assert Groups(tmp_path / "missing").hold(1234) is None
