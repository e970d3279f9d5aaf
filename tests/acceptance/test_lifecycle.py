"""The server as a process: how it stops, and why it does not start."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.processes import (
    COMMAND,
    KEY,
    ROOT,
    Running,
    environment,
    flags,
    provider,
    serving,
    serving_with,
)

STOPS_IN_S = 10.0


@contextmanager
def connected(server: Running) -> Iterator[httpx2.Client]:
    """A client of this server; its connection stays open."""
    headers = {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"}
    # The URL ends in a slash, so that relative paths lead below /v1.
    with httpx2.Client(base_url=f"{server.url}/", headers=headers, timeout=30) as client:
        yield client


def new_run(client: httpx2.Client, *steps: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The thread of a conversation, and the body that runs it with a stream."""
    assistant = client.post("assistants", json={"model": "rehearsal"}).raise_for_status().json()
    prompt = f"rehearse: {json.dumps({'steps': steps})}"
    thread = client.post("threads", json={"messages": [{"role": "user", "content": prompt}]})
    thread_id: str = thread.raise_for_status().json()["id"]
    return thread_id, {"assistant_id": assistant["id"], "stream": True}


def terminate(server: Running) -> float:
    """Send SIGTERM; the moment of it."""
    server.process.send_signal(signal.SIGTERM)
    return time.monotonic()


def expect_exit(server: Running, asked_at: float) -> None:
    """It ends by itself, in time and successfully."""
    assert server.process.wait(STOPS_IN_S) == 0
    assert time.monotonic() - asked_at < STOPS_IN_S


def test_an_idle_server_stops_at_once(tmp_path: Path) -> None:
    """A connection that is kept alive does not hold it."""
    with serving(tmp_path) as server, connected(server) as client:
        client.get("models").raise_for_status()
        asked_at = terminate(server)
        expect_exit(server, asked_at)
        assert time.monotonic() - asked_at < 3


def test_a_run_that_ends_soon_is_streamed_to_its_end(tmp_path: Path) -> None:
    """The server waits for it."""
    with serving(tmp_path) as server, connected(server) as client:
        thread_id, body = new_run(client, {"words": 20, "every_ms": 50})
        with client.stream("POST", f"threads/{thread_id}/runs", json=body) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            asked_at = terminate(server)
            rest = list(lines)
        assert first == "event: thread.run.created"
        assert "event: thread.run.completed" in rest
        assert rest[-3:] == ["event: done", "data: [DONE]", ""]
        expect_exit(server, asked_at)


@pytest.mark.assertion(126)
def test_a_run_that_does_not_end_is_taken_up_after_a_restart(tmp_path: Path) -> None:
    """Its stream is closed properly; the next process on the folder finishes the run."""
    with provider() as address:
        with serving_with(address, tmp_path) as server, connected(server) as client:
            # The first call hangs for ever, the second one answers.
            steps = ({"silence": True, "times": 1}, {"text": "Finished."})
            thread_id, body = new_run(client, *steps)
            with client.stream("POST", f"threads/{thread_id}/runs", json=body) as stream:
                lines = stream.iter_lines()
                wait_for(lines, "event: thread.run.in_progress")
                asked_at = terminate(server)
                rest = list(lines)  # No protocol error: the body has its end.
            assert "event: thread.run.completed" not in rest
            expect_exit(server, asked_at)
        with serving_with(address, tmp_path) as server, connected(server) as client:
            run = settled(client, thread_id)
            assert run["status"] == "completed", run
            messages = client.get(f"threads/{thread_id}/messages").json()["data"]
            assert messages[0]["content"][0]["text"]["value"] == "Finished."


def wait_for(lines: Iterator[str], wanted: str) -> None:
    """Read on until this line."""
    for line in lines:
        if line == wanted:
            return
    pytest.fail(f"the stream ended before {wanted}")


def settled(client: httpx2.Client, thread_id: str) -> dict[str, Any]:
    """The thread's run, when it rests."""
    deadline = time.monotonic() + 15
    while True:
        (run,) = client.get(f"threads/{thread_id}/runs").json()["data"]
        found: dict[str, Any] = run
        if run["status"] not in ("queued", "in_progress"):
            return found
        assert time.monotonic() < deadline, run
        time.sleep(0.05)


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """With the reason, and the first one goes on."""
    with serving(tmp_path) as server, connected(server) as client:
        second = start_in_vain(*flags(tmp_path))
        assert second.returncode == 1
        assert str(tmp_path) in second.stderr
        assert "another" in second.stderr.lower() or "already" in second.stderr.lower()
        assert "Traceback" not in second.stderr
        assert len(second.stderr.splitlines()) == 1
        client.get("models").raise_for_status()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """With what to do about it."""
    with serving(tmp_path / "first") as server:
        port = int(server.url.removesuffix("/v1").rpartition(":")[2])
        second = start_in_vain(*flags(tmp_path / "second", port))
    assert second.returncode == 1
    assert second.stderr.splitlines() == [
        f"understudy: Cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another port with --port or UNDERSTUDY_PORT."
    ]


def start_in_vain(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to give up."""
    return subprocess.run(
        [COMMAND, "serve", *arguments],
        cwd=ROOT,
        env=environment(None),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
