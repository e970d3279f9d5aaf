"""A data folder moves to PostgreSQL and S3, its copier is killed (-9) again and again, and the
application goes on there: the same client, the same key, the same ids.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.crash.processes import KEY, URL, Process, Provider, running_provider
from tests.fleet.clusters import schema
from tests.ports import free_port
from tests.s3_server import S3Server
from tests.transfer.life import Life

ROOT = Path(__file__).parents[2]
# Where the copier dies, life by life: each goes on where the one before was killed.
DEATHS = [
    ("begin", 1, "before"),
    ("begin", 1, "after"),
    ("write", 1, "before"),
    ("write", 3, "after"),
    ("write", 9, "before"),
    ("settle", 1, "before"),
    ("settle", 1, "after"),
    ("half", 1, "before"),  # Of nine: three notes of a piece, and six pieces that go in parts.
    ("half", 9, "before"),
    ("put", 1, "after"),
    ("finish", 1, "before"),
]


@dataclass(frozen=True)
class World:
    """Where everything is."""

    folder: Path
    provider: Provider
    port: int
    database_url: str
    blobs_url: str
    s3: S3Server

    def server(self, **settings: str) -> Process:
        """A server, on its port, for the application."""
        return Process(
            ["serve", "--port", str(self.port), "--data", str(self.data)],
            self.folder,
            URL,
            **self.environment(UNDERSTUDY_API_KEY=KEY, **settings),
        )

    @property
    def data(self) -> Path:
        """The data folder of the first server."""
        return self.folder / "data"

    def environment(self, **settings: str) -> dict[str, str]:
        """What all processes get."""
        return {
            "UNDERSTUDY_UPSTREAM_URL": self.provider.url,
            "UNDERSTUDY_EMBEDDING_MODEL": "rehearsal-embedding",
            "UNDERSTUDY_ALLOW_FILE_DOWNLOADS": "1",
            "UNDERSTUDY_MAX_RUNS": "1",
            "UNDERSTUDY_SANDBOX": "off",
            **self.s3.environment,
            **settings,
        }

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A process to its end, in the folder of the servers."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("UNDERSTUDY_", "OPENAI_", "AWS_"))
        }
        path = os.pathsep.join([str(ROOT), inherited.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": path, **self.environment(**settings)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def understudy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of ours."""
        start = "from understudy.cli import main; main()"
        return self.run("-c", start, *arguments, "--data", str(self.data))

    def moved(self, *more: str) -> subprocess.CompletedProcess[str]:
        """The move, to its end."""
        sides = ("--to", self.database_url, "--blobs-to", self.blobs_url)
        return self.understudy("migrate", *sides, *more)

    def killed(self, of: str, at: int, when: str) -> int:
        """The move, killed at a change; its exit code."""
        dying = self.run(
            *("-m", "tests.transfer.dying", of, str(at), when),
            UNDERSTUDY_DATA=str(self.data),
            MOVE_TO=self.database_url,
            MOVE_BLOBS_TO=self.blobs_url,
        )
        assert dying.stderr == "", dying.stderr
        return dying.returncode


@dataclass(frozen=True)
class Moved:
    """The application on its new server, with what it saw on the old one."""

    life: Life
    seen: dict[str, Any]
    found: list[list[tuple[str, float, str]]]
    report: str
    world: World


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Moved]:
    """A life on SQLite, a death, a move with its own deaths, and a life on PostgreSQL."""
    folder = tmp_path_factory.mktemp("moved")
    with ExitStack() as stack:
        provider = stack.enter_context(running_provider(folder))
        url = stack.enter_context(schema())
        world = World(folder, provider, free_port(), url, s3_server.place(), s3_server)
        life, seen, found = _lived(world, stack)
        codes = [world.killed(*death) for death in DEATHS]
        assert codes == [-9] * len(DEATHS)
        done = world.moved()
        assert done.returncode == 0, done.stderr
        server = world.server(UNDERSTUDY_DATABASE_URL=url, UNDERSTUDY_BLOBS_URL=world.blobs_url)
        stack.callback(server.kill)
        yield Moved(life, seen, found, done.stdout, world)


def _lived(
    world: World, stack: ExitStack
) -> tuple[Life, dict[str, Any], list[list[tuple[str, float, str]]]]:
    """What an application did until its server was killed."""
    server = world.server()
    try:
        other = world.understudy("keys", "create", "--project", "other").stdout.strip()
        clients = [
            stack.enter_context(closing(OpenAI(base_url=server.url, api_key=key, max_retries=0)))
            for key in (KEY, other)
        ]
        headers = {"authorization": f"Bearer {KEY}", "openai-beta": "assistants=v2"}
        http = httpx2.Client(base_url=server.url, headers=headers, trust_env=False, timeout=20)
        stack.callback(http.close)
        life = Life(clients[0], http, clients[1])
        refused = world.moved()
        assert refused.returncode == 1
        assert "is in use by another server process" in refused.stderr
        life.live()
        found, seen = life.found(), life.seen()
        life.leave_file()
    finally:
        server.kill()
    return life, seen, found


def test_lists_are_equal_page_by_page(moved: Moved) -> None:
    """Both ways, behind what was deleted, with all that was said; of two projects."""
    seen = moved.life.seen()
    for name, before in moved.seen.items():
        assert seen[name] == before, name
    assert len(moved.seen["messages"]) > 10


def test_searches_find_the_same(moved: Moved) -> None:
    assert moved.life.found() == moved.found
    assert all(moved.found)


def test_the_waiting_run_takes_its_outputs(moved: Moved) -> None:
    life, run = moved.life, moved.life.runs["waiting"]
    waiting = life.client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
    assert waiting.required_action is not None
    [call] = waiting.required_action.submit_tool_outputs.tool_calls
    life.client.beta.threads.runs.submit_tool_outputs(
        run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": call.id, "output": "It rains."}],
    )
    life.settled("waiting", "completed")
    assert "It rains." in life.messages("waiting")[-1]


def test_the_killed_run_is_taken_up_and_the_queued_one_runs(moved: Moved) -> None:
    """What was said of the first attempt stays, as after any death."""
    life = moved.life
    life.settled("working", "completed")
    life.settled("queued", "completed")
    *_, partly, whole = life.messages("working")
    assert whole.split()[-1] == "word40"
    assert whole.startswith(partly) or "rehearse" in partly
    assert "What is queued?" in life.messages("queued")[-1]


def test_the_file_that_was_not_indexed_yet_is_indexed(moved: Moved) -> None:
    life = moved.life
    life.wait_for_file()
    assert life.client.vector_stores.retrieve(life.late_store).file_counts.completed == 1


def test_an_idempotency_key_still_means_the_same_run(moved: Moved) -> None:
    life = moved.life
    before = life.runs["done"]
    life.run("done", "talk")
    assert life.runs["done"] == before


def test_nothing_of_a_cut_upload_stays(moved: Moved) -> None:
    keys = moved.world.s3.keys(moved.world.blobs_url)
    assert len(keys) == 4
    assert {key.rpartition("/")[2] for key in keys} == {
        path.name for path in (moved.world.data / "blobs").iterdir()
    }


def test_wrong_keys_are_refused(moved: Moved) -> None:
    for key in ("sk-wrong", KEY + "x"):
        with (
            OpenAI(base_url=moved.life.client.base_url, api_key=key, max_retries=0) as nobody,
            pytest.raises(openai.AuthenticationError),
        ):
            nobody.beta.assistants.list()


def test_what_is_new_comes_last(moved: Moved) -> None:
    """Its number is behind all that were ever given."""
    life = moved.life
    thread = life.threads["new"] = life.client.beta.threads.create().id
    texts = [f"new {number}" for number in range(5)]
    for text in texts:
        life.client.beta.threads.messages.create(thread, role="user", content=text)
    assert life.messages("new") == texts
    talk = life.threads["queued"]
    life.settled("queued", "completed")
    life.client.beta.threads.messages.create(talk, role="user", content="the last word")
    assert life.messages("queued")[-1] == "the last word"


def test_the_report_says_what_moved(moved: Moved) -> None:
    report = moved.report
    assert "rows were there from an earlier start" in report
    assert "texts have a NUL" not in report  # JSON writes it as an escape.
    assert "Both sides are the same" in report
    assert f"UNDERSTUDY_BLOBS_URL={moved.world.blobs_url}" in report
    rows = {words[0]: words[1] for line in report.splitlines() if len(words := line.split()) > 6}
    assert int(rows["objects"].replace(",", "")) > 30
    assert rows["blobs"] == "4"
    assert rows["tombstones"] == "2"


def test_a_server_stops_a_move_and_another_one_is_refused(moved: Moved) -> None:
    """That of the target is at work by now."""
    refused = moved.world.moved()
    assert refused.returncode == 1
    assert "A server is at work on the target: boot_" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
