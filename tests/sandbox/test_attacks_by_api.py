"""Hostile code through the public API: a real server, the scripted model, and neighbours at work.

Each attack is one run on a thread of its own. It must end in time and hold no canary of the server;
then its thread must still be usable, and a neighbour must have been answered at once meanwhile.
"""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.acceptance.processes import KEY, provider, serving_with
from tests.sandbox import attacks_on_limits, attacks_on_rights, attacks_on_walls
from tests.sandbox.attack import Attack

ALL = [*attacks_on_walls.ATTACKS, *attacks_on_limits.ATTACKS, *attacks_on_rights.ATTACKS]
# Those that only the time limit ends take a minute each: one of them is tried every time.
SLOW = [one for one in ALL if one.within_s == attacks_on_limits.LIMIT_S]
ATTACKS = [one for one in ALL if one not in SLOW[1:] or "SOAK" in os.environ]
CANARY = "canary-4f1d9e"
# A busy machine is slow for everybody; the soak, on a quiet one, is exact.
NEIGHBOUR_S = 1.0 if "SOAK" in os.environ else 10.0
PATIENCE = 1.0 if "SOAK" in os.environ else 3.0
TOOLS: Any = [{"type": "code_interpreter"}]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.timeout(180),
]


@dataclass
class Town:
    """A server with threads that live beside each other."""

    client: openai.OpenAI
    data: Path
    port: int
    assistant_id: str

    def thread(self) -> str:
        """A new thread."""
        return self.client.beta.threads.create().id

    def run(self, thread_id: str, code: str) -> str:
        """Run code on a thread; what its call printed."""
        turns = [[{"call": {"name": "code_interpreter", "arguments": {"code": code}}}]]
        script = json.dumps({"turns": [*turns, [{"text": "Done."}]]})
        self.client.beta.threads.messages.create(
            thread_id, role="user", content=f"rehearse: {script}"
        )
        run = self.client.beta.threads.runs.create_and_poll(
            thread_id=thread_id, assistant_id=self.assistant_id, poll_interval_ms=50
        )
        assert run.status == "completed", (run.status, run.last_error)
        steps = self.client.beta.threads.runs.steps.list(run.id, thread_id=thread_id, order="asc")
        details: Any = next(step for step in steps if step.type == "tool_calls").step_details
        outputs = details.tool_calls[0].code_interpreter.outputs
        return "".join(one.logs for one in outputs if one.type == "logs")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A server whose environment and files hold canaries."""
    data = tmp_path_factory.mktemp("town")
    (data / "secret.txt").write_text(CANARY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_SERVER", CANARY)
        with provider() as address, serving_with(address, data, "bubblewrap") as server:
            client = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)
            assistant = client.beta.assistants.create(model="rehearsal", tools=TOOLS)
            port = int(server.url.split(":")[2].split("/")[0])
            yield Town(client, data, port, assistant.id)


@pytest.fixture(scope="module")
def neighbour(town: Town) -> str:
    """Somebody else's thread, with a variable of theirs."""
    thread_id = town.thread()
    assert town.run(thread_id, "mine = 20 + 1") == ""
    return thread_id


def test_every_kind_of_attack_is_tried() -> None:
    """The list is whole."""
    assert sorted({one.kind for one in ALL}) == list(range(1, 48))


@pytest.mark.assertion(205)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: f"{one.kind:02}-{one.name}")
def test_an_attack_is_contained(town: Town, neighbour: str, attack: Attack) -> None:
    """In time, without a canary, without harm to its thread or to others."""
    code = attack.code.replace("{port}", str(town.port)).replace("{other}", "left")
    code = code.replace("{data}", str(town.data))
    thread_id = town.thread()
    slowest = 0.0
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        attacking = pool.submit(town.run, thread_id, code)
        while not attacking.done():
            asked = time.monotonic()
            assert town.run(neighbour, "print(mine * 2)") == "42\n"
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.3)
        logs = attacking.result()
    assert time.monotonic() - began < attack.within_s * PATIENCE
    assert "ESCAPED" not in logs, logs
    for secret in (CANARY, KEY, "root:x:0:0"):
        assert secret not in logs
    assert attack.says in logs, logs
    assert "2" in town.run(thread_id, "print(1 + 1)").splitlines()
    assert slowest < NEIGHBOUR_S
    assert (town.data / "secret.txt").exists()


def test_files_that_attacks_left_hold_nothing_of_the_host(town: Town) -> None:
    """What was collected of links and hostile names is their own bytes."""
    for file in town.client.files.list(purpose="assistants_output"):
        content = town.client.files.content(file.id).read()
        assert CANARY.encode() not in content and b"root:x:0:0" not in content
