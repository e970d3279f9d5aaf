"""deploy/Caddyfile before a real server: nothing is held back, and nobody is turned away early."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from tests.crash.processes import KEY, running_provider
from tests.deploy.files import DEPLOY, program, run
from tests.fleet.fleet import Node, Shared, fleet
from tests.ports import free_port
from understudy import limits

CONFIG = DEPLOY / "Caddyfile"
START_S = 20.0
LOOK_S = 0.02
CUT_S = 20.0  # By then, a stream whose first words do not come is held back.


def arguments(command: str) -> list[str]:
    """Of Caddy, which does not guess from the file's name what is in it."""
    return [command, "--config", str(CONFIG), "--adapter", "caddyfile"]


def environment(folder: Path, api: str, site: str) -> dict[str, str]:
    """As a container has it; the balancer may write only where it is told to."""
    host, _, port = api.partition(":")
    return {
        "API_HOST": host,
        "API_PORT": port,
        "SITE": site,
        "CADDY_ADMIN": f"127.0.0.1:{free_port()}",
        "XDG_CONFIG_HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all that these tests start."""
    return tmp_path_factory.mktemp("balanced")


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[Node]:
    """A server behind the balancer."""
    with (
        running_provider(folder) as provider,
        fleet(folder, Shared(provider.url), serve=1) as nodes,
    ):
        yield nodes["serve-0"]


@pytest.fixture(scope="module")
def url(folder: Path, node: Node) -> Iterator[str]:
    """Of the balancer."""
    site = f"http://127.0.0.1:{free_port()}"
    address = node.url.removeprefix("http://").removesuffix("/v1")
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            [program("caddy"), *arguments("run")],
            env=environment(folder, address, site),
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + START_S
        while not is_up(site):
            assert process.poll() is None, (folder / "caddy.log").read_text()
            assert time.monotonic() < deadline, (folder / "caddy.log").read_text()
            time.sleep(LOOK_S)
        yield site
    finally:
        process.kill()
        process.wait()


def is_up(url: str) -> bool:
    """Whether a server is reached through it."""
    with suppress(httpx2.HTTPError):
        return httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    return False


def proxy(folder: Path) -> dict[str, Any]:  # Any: Caddy's own JSON.
    """What Caddy makes of the part that passes requests on."""
    found = json.loads(run("caddy", *arguments("adapt"), **environment(folder, "api:8000", ":80")))
    (server,) = found["apps"]["http"]["servers"].values()
    handler: dict[str, Any] = server["routes"][0]["handle"][0]
    return handler


@pytest.mark.parametrize("site", [":80", "assistants.example.com"])
def test_caddy_accepts_the_file(folder: Path, site: str) -> None:
    """With and without a name of the host's own."""
    run("caddy", *arguments("validate"), **environment(folder, "api:8000", site))


def test_idle_connections_are_closed_before_the_servers_close_them(folder: Path) -> None:
    """Else a request is sent into a connection that ends just then, and must not be repeated."""
    idle_s = proxy(folder)["transport"]["keep_alive"]["idle_timeout"] / 1e9
    assert 0 < idle_s < limits.KEEP_ALIVE_IDLE_S


def test_a_request_waits_for_a_server_that_is_replaced(url: str, node: Node) -> None:
    """It reaches nobody while the only server is away, and is made when there is one again."""
    node.stop()
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(
            httpx2.post,
            f"{url}/v1/threads",
            headers={"authorization": f"Bearer {KEY}"},
            json={},
            timeout=START_S,
            trust_env=False,
        )
        node.start()
        assert asked.result().status_code == 200


def test_events_come_through_while_the_answer_is_still_made(url: str) -> None:
    """The provider says a word and then nothing more: whoever sees the word, sees it in time."""
    client = OpenAI(base_url=f"{url}/v1", api_key=KEY, timeout=CUT_S, max_retries=0)
    script = 'rehearse: {"steps": [{"text": "Hello"}, {"silence": true}]}'
    assistant = client.beta.assistants.create(model="rehearsal")
    with client.beta.threads.create_and_run(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": script}]},
        stream=True,
    ) as events:
        said = next(event for event in events if event.event == "thread.message.delta")
    assert said.event == "thread.message.delta"


def test_a_large_file_passes(url: str) -> None:
    """Larger than what balancers let through if nobody tells them."""
    client = OpenAI(base_url=f"{url}/v1", api_key=KEY, timeout=CUT_S, max_retries=0)
    made = client.files.create(file=("large.txt", b"words " * 2_000_000), purpose="assistants")
    assert made.bytes == 12_000_000
