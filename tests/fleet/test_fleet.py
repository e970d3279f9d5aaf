"""Nodes as processes: they can be killed, frozen and started again, and their clocks can be wrong.

What is started here is `serve` on a record of its own; that nodes share one is not the harness's to
prove.
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.crash.processes import KEY, Provider, announced, running_provider
from tests.fleet.balance import Balance
from tests.fleet.clocks import skewed
from tests.fleet.clusters import lives
from tests.fleet.fleet import READY, Fleet, Shared, fleet

AHEAD_S = 3600


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all nodes."""
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def provider(folder: Path) -> Iterator[Provider]:
    """What all nodes call."""
    with running_provider(folder) as running:
        yield running


@pytest.fixture
def nodes(started: Fleet) -> Fleet:
    """All of them running, whatever the test before has done to them."""
    started.start()
    return started


@pytest.fixture(scope="module")
def started(folder: Path, provider: Provider) -> Iterator[Fleet]:
    """Two nodes, of which one has a wrong clock."""
    shared = Shared(provider.url, settings={"UNDERSTUDY_LOG_LEVEL": "debug"})
    with fleet(folder, shared, serve=2, clock_skew_s={"serve-1": AHEAD_S}) as running:
        yield running


def ask(url: str, path: str = "/models", timeout_s: float = 10.0) -> httpx2.Response:
    """One request, on a connection of its own."""
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.get(f"{url}{path}", headers=headers, timeout=timeout_s, trust_env=False)


def test_all_nodes_answer_and_a_balancer_reaches_them(nodes: Fleet) -> None:
    """Each has its own port, folder and log."""
    assert len({*nodes.urls}) == 2
    assert [ask(url).status_code for url in nodes.urls] == [200, 200]
    with Balance(nodes.urls) as balance:
        assert [ask(balance.url).status_code for _ in range(4)] == [200] * 4
        assert [seen.node for seen in balance.seen] == nodes.urls * 2
    assert "serve-1" in nodes.log_ends()


def test_a_killed_node_comes_back_at_the_same_place(nodes: Fleet) -> None:
    """With its record, and without anything of it having lived on."""
    node = nodes["serve-0"]
    made = httpx2.post(
        f"{node.url}/threads",
        headers={"authorization": f"Bearer {KEY}"},
        json={},
        trust_env=False,
    ).json()["id"]
    url, pid = node.url, node.pid
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    node.kill()
    assert not node.is_running
    assert not [process for process in family if lives(process)]
    with pytest.raises(httpx2.ConnectError):
        ask(url)
    node.start()
    assert (node.url, node.pid != pid) == (url, True)
    assert ask(url, f"/threads/{made}").json()["id"] == made


def test_a_paused_node_holds_its_connections_and_goes_on(nodes: Fleet) -> None:
    """It accepts, since the kernel does, and says nothing until it is resumed."""
    node = nodes["serve-0"]
    node.pause()
    try:
        assert node.is_running
        with pytest.raises(httpx2.ReadTimeout):
            ask(node.url, timeout_s=0.3)
    finally:
        node.resume()
    assert ask(node.url).status_code == 200


def test_a_paused_node_can_be_killed(nodes: Fleet) -> None:
    """The zombie that never wakes up."""
    node = nodes["serve-0"]
    node.pause()
    node.restart()
    assert ask(node.url).status_code == 200


def test_a_stopped_node_ends_in_order(nodes: Fleet) -> None:
    """And all are started again together."""
    node = nodes["serve-0"]
    assert node.stop() == 0
    nodes.start()
    assert ask(node.url).status_code == 200


def test_the_clock_of_one_node_is_wrong(nodes: Fleet) -> None:
    """Its objects get the wrong time, and the other node's the right one."""
    right, wrong = (seconds_ahead(url) for url in nodes.urls)
    assert abs(right) < 5
    assert abs(wrong - AHEAD_S) < 5


@pytest.mark.parametrize("skew_s", [86_400, -0.75])
def test_only_the_time_of_day_is_wrong(skew_s: float) -> None:
    """Nothing that waits by the monotonic clock takes more or less time, a plain sleep included."""
    program = """
import asyncio, threading, time, uvloop
before = time.monotonic()
time.sleep(0.05)
threading.Event().wait(0.05)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(asyncio.sleep(0.05))
print(time.time(), before, time.monotonic() - before)
"""
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **skewed(skew_s)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    now, monotonic, waited = (float(word) for word in said.split())
    assert abs(now - time.time() - skew_s) < 0.5
    assert abs(monotonic - time.monotonic()) < 5
    assert 0.15 <= waited < 1


def test_what_a_killed_node_with_a_wrong_clock_leaves_is_removed(nodes: Fleet) -> None:
    """Or a later process with its number would not start."""
    node = nodes["serve-1"]
    shared = Path("/dev/shm")
    mine = {f"faketime_shm_{node.pid}", f"sem.faketime_sem_{node.pid}"}
    assert mine <= {path.name for path in shared.iterdir()}
    node.restart()
    assert not mine & {path.name for path in shared.iterdir()}


def test_a_failing_test_shows_what_the_nodes_said(folder: Path, provider: Provider) -> None:
    """As notes of whatever failed it; and no node survives."""
    with (
        pytest.raises(ZeroDivisionError) as failure,
        fleet(folder / "failing", Shared(provider.url), serve=1) as running,
    ):
        pid = running["serve-0"].pid
        raise ZeroDivisionError
    assert any("--- serve-0" in note for note in failure.value.__notes__)
    assert not psutil.pid_exists(pid)


def test_a_node_that_does_not_start_says_why(folder: Path, provider: Provider) -> None:
    """Its own words, not a timeout's."""
    shared = Shared(provider.url, settings={"UNDERSTUDY_LOG_LEVEL": "noisy"})
    with pytest.raises(AssertionError, match="noisy"), fleet(folder / "bad", shared, serve=1):
        pass


def test_a_misspelt_name_is_no_node(folder: Path, provider: Provider) -> None:
    """A skew that nobody has would prove nothing."""
    skews = {"serve-7": 1}
    with (
        pytest.raises(AssertionError, match="there are only"),
        fleet(folder / "none", Shared(provider.url), serve=1, clock_skew_s=skews),
    ):
        pass


def test_a_worker_is_ready_when_it_says_so() -> None:
    """It has no URL; those that it prints before are of others."""
    said = "Understudy 0.1.0\n  model  http://127.0.0.1:1/v1\nWorker ready\n"
    assert announced(io.StringIO(said), READY["worker"]) == "Worker ready"
    assert announced(io.StringIO("  model  http://127.0.0.1:1/v1\n"), READY["worker"]) == ""


def seconds_ahead(url: str) -> float:
    """By what the node's clock differs, as its new objects tell."""
    response = httpx2.post(
        f"{url}/threads", headers={"authorization": f"Bearer {KEY}"}, json={}, trust_env=False
    )
    ahead: float = response.json()["created_at"] - time.time()
    return ahead
