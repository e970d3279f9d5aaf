"""`understudy demo`, as a newcomer runs it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.acceptance.processes import COMMAND, ROOT, environment

DEMO_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo makes its temporary folder."""
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def start(folder: Path, **variables: str) -> "subprocess.Popen[str]":
    """The demo, as a process."""
    return subprocess.Popen(
        [COMMAND, "demo"],
        cwd=ROOT,
        env={**environment(None), **variables, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_demo_shows_a_whole_conversation_and_cleans_up(folder: Path) -> None:
    """Settings of the caller's own server, and a provider's key, play no part in it."""
    with start(folder, OPENAI_BASE_URL="http://127.0.0.1:9/v1", UNDERSTUDY_STRICT="x") as demo:
        output, errors = demo.communicate(timeout=DEMO_S)
    assert (demo.returncode, errors) == (0, "")
    lines = [line.strip() for line in output.splitlines()]
    assert len(lines) <= 60
    assert 'it calls  get_weather({"city": "Oslo"})' in lines
    assert any(line.startswith("assistant  The get_weather call answered:") for line in lines)
    assert "record  4 messages: user, assistant, user, assistant" in lines
    assert "assistant  Yes, herons may come in【4:0†source】." in lines
    assert "citation  【4:0†source】 is handbook.md" in lines
    assert "it writes  import matplotlib.pyplot as plt" in lines
    assert "Rome    473" in lines
    assert any(
        re.fullmatch(r"chart  a PNG image of \d{4,} bytes was downloaded", line) for line in lines
    )
    assert "file  summary.csv, 29 bytes, was downloaded: sandbox:/mnt/data/summary.csv" in lines, (
        "is the sandbox installed? scripts/bootstrap sandbox"
    )
    assert any("refused with 401: Incorrect API key provided" in line for line in lines)
    assert "restart  on the same folder: all 4 messages are still there" in lines
    assert list(folder.iterdir()) == []


def test_where_code_cannot_run_the_demo_says_why_and_goes_on(folder: Path) -> None:
    """Cause and remedy, in one line."""
    with start(folder, UNDERSTUDY_SANDBOX_FOLDER=str(folder / "nothing")) as demo:
        output, errors = demo.communicate(timeout=DEMO_S)
    assert (demo.returncode, errors) == (0, "")
    [line] = [line for line in output.splitlines() if "no code" in line]
    assert "code_interpreter is off here. " in line
    assert "nstall" in line
    assert "kill -9" in output


def test_a_demo_that_is_stopped_takes_its_server_along(folder: Path) -> None:
    """SIGTERM in the middle leaves no process and no file."""
    with start(folder) as demo:
        assert demo.stdout is not None
        while "server" not in demo.stdout.readline():
            assert demo.poll() is None
        servers = psutil.Process(demo.pid).children()
        assert len(servers) == 1
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=DEMO_S)
    assert not any(server.is_running() for server in servers)
    assert list(folder.iterdir()) == []


def test_without_the_sdk_the_demo_says_how_to_get_it() -> None:
    """One line and exit code 1."""
    code = (
        "import sys; sys.modules['openai'] = None; sys.argv = ['understudy', 'demo']; "
        "from understudy.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEMO_S, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "The demo needs the official SDK: pip install 'understudy[demo]'\n"
