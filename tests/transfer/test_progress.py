"""How far a move is, as it is told."""

import os
import pty
import re
import select
import subprocess
import sys

import pytest

from understudy.transfer.progress import Lines, in_words


def test_lines_come_once_a_second_at_most(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = Lines()
    for step in range(50):
        now[0] += 0.125
        lines("copying objects", step * 1_000, 50_000, step * 12_345_678)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6
    assert re.fullmatch(r"understudy: copying objects: [\d,]+ of 50,000, [\d.]+ (MB|GB)", said[0])


def test_who_watches_sees_a_bar() -> None:
    """On a terminal, which this is: the same words, drawn over each other."""
    code = (
        "from understudy.transfer.progress import told\n"
        "with told() as tell:\n"
        "    tell('copying objects', 500, 1000, 2_000_000)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    said = b""
    try:
        while select.select([ours], [], [], 20)[0] and (piece := os.read(ours, 4096)):
            said += piece
    except OSError:  # The other end is closed.
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    assert b"copying objects" in said
    assert b"500 of 1,000, 2.0 MB" in said


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 KB"), (2_000_000, "2.0 MB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes_are_for_people(size_bytes: int, words: str) -> None:
    assert in_words(size_bytes) == words
