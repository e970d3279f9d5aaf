"""The probes of deploy/, asked of real servers while their record is up and while it is down."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.crash.processes import running_provider
from tests.deploy.files import all_of, image_environment
from tests.deploy.manifests import servers
from tests.fleet.clusters import Cluster, private
from tests.fleet.fleet import Fleet, Shared, fleet
from tests.ports import free_port

PORT = image_environment()["UNDERSTUDY_PORT"]
LOOK_S = 0.1
AWAY_S = 30.0  # By then a server has found out that its record is down.


class Probed:
    """An API server and a worker on a record that can die; a port is where one of them listens."""

    def __init__(self, cluster: Cluster, nodes: Fleet, worker: int) -> None:
        self.cluster = cluster
        (url,) = nodes.urls
        self.api = int(url.removesuffix("/v1").rpartition(":")[2])
        self.worker = worker

    def passes(self, role: str, kind: str) -> bool:
        """Whether a probe of the manifests is content."""
        port = self.api if role == "api" else self.worker
        (_, _, container), *_ = [server for server in servers() if server[0] == role]
        probe = container[kind]
        if "exec" in probe:
            return _ends_well(probe["exec"]["command"], port)
        path = probe["httpGet"]["path"]
        answer = httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=10, trust_env=False)
        return 200 <= answer.status_code < 400


def image_check(port: int) -> bool:
    """Whether the image's own check is content."""
    (said,) = all_of("HEALTHCHECK")
    return _ends_well(json.loads(said[said.index("[") :]), port)


def _ends_well(command: list[str], port: int) -> bool:
    """A command of the image, with this environment's Python and a server's true port."""
    program, *arguments = command
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *(argument.replace(PORT, str(port)) for argument in arguments)],
        env={"UNDERSTUDY_PORT": str(port), "HTTP_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        timeout=30,
    )
    return done.returncode == 0


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probed]:
    """Both, ready."""
    folder, port = tmp_path_factory.mktemp("probed"), free_port()
    with running_provider(folder) as provider, private() as cluster:
        blobs = f"file://{Path(folder)}/blobs"
        shared = Shared(provider.url, database_url=cluster.url, blobs_url=blobs)
        own = {"worker-0": {"UNDERSTUDY_WORKER_PORT": str(port)}}
        with fleet(folder, shared, api=1, worker=1, own=own) as nodes:
            yield Probed(cluster, nodes, port)


@pytest.mark.parametrize("role", ["api", "worker"])
def test_all_probes_are_content_with_a_server_that_is_ready(probed: Probed, role: str) -> None:
    """The image's as well."""
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert probed.passes(role, kind)
    assert image_check(probed.api if role == "api" else probed.worker)


def test_none_is_content_with_a_server_that_is_not_there() -> None:
    """What they send has to arrive somewhere."""
    assert not image_check(free_port())
    for role, _, container in servers():
        if role == "worker":
            assert not _ends_well(container["livenessProbe"]["exec"]["command"], free_port())


def test_a_server_whose_record_is_down_is_not_ready_and_is_left_alone(probed: Probed) -> None:
    """Killing it would help nobody: it is back when the record is."""
    probed.cluster.crash()
    try:
        deadline = time.monotonic() + AWAY_S
        for role in ("api", "worker"):
            while probed.passes(role, "readinessProbe"):
                assert time.monotonic() < deadline
                time.sleep(LOOK_S)
            assert probed.passes(role, "livenessProbe")
        assert not image_check(probed.api)
    finally:
        probed.cluster.start()
    deadline = time.monotonic() + AWAY_S
    for role in ("api", "worker"):
        while not probed.passes(role, "readinessProbe"):
            assert time.monotonic() < deadline
            time.sleep(LOOK_S)
