"""Each SDK plays its scenarios once, against a server of its own; the tests read the report."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.acceptance.processes import KEY, ROOT, environment, provider, serving
from tests.api.fleet_serving import nodes_for

PLAY_S = 240.0


@dataclass(frozen=True)
class Report:
    """What one SDK's client program said."""

    version: str
    results: dict[str, dict[str, Any]]  # Any: a line of JSON.
    ending: str


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """SDK → its report; played at the first use."""

    @cache
    def report(sdk: str) -> Report:
        data = tmp_path_factory.mktemp(sdk)
        if postgres.IS_FLEET:
            with provider() as address, nodes_for(data, f"{address}/v1", _variables()) as url:
                return play(sdk, [url, KEY, address])
        with serving(data, sandbox="auto") as server:
            return play(sdk, [server.url, KEY, server.provider])

    return report


def _variables() -> dict[str, str]:
    """What a fleet's nodes are told beside what all are."""
    told = environment(None, sandbox="auto")
    named = {name: value for name, value in told.items() if name.startswith("UNDERSTUDY_")}
    return {**named, "UNDERSTUDY_API_KEY": KEY}


def play(sdk: str, arguments: Sequence[str]) -> Report:
    """Run the client program to its end."""
    command = [*program(sdk), *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(None),
            capture_output=True,
            text=True,
            timeout=PLAY_S,
            check=False,
        )
        output, ending = done.stdout, f"exit code {done.returncode}\n{done.stderr}"
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if late.stdout else ""
        ending = f"stopped after {PLAY_S:.0f} s"
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    version = lines.pop(0)["sdk"] if lines else "none"
    return Report(version, {line["scenario"]: line for line in lines}, ending)


def program(sdk: str) -> list[str]:
    """The client program of an SDK, in the SDK's own environment."""
    home = ROOT / ".venvs" / sdk
    if not (home / ".ready").exists():
        pytest.fail(f"{sdk} is not installed: run tests/acceptance/bootstrap")
    if sdk.startswith("python"):
        return [str(home / "bin" / "python"), "-m", "tests.acceptance.client"]
    node = ROOT / ".venvs" / "node" / "bin" / "node"
    return [str(node), str(Path(__file__).parent / "node" / "main.mjs"), str(home)]
