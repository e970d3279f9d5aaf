"""The command line, as an operator meets it: real processes on free ports."""

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from understudy import commands, serving
from understudy.assembly import Welcome, check_settings
from understudy.cli import Options, plain_options
from understudy.serving import banner
from understudy.settings import Settings

START = [sys.executable, "-c", "from understudy.cli import main; main()"]


def environment(**variables: str) -> dict[str, str]:
    """The environment without any setting of ours but these; code runs only where it is asked."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UNDERSTUDY_", "OPENAI_"))
    }
    return kept | {"UNDERSTUDY_SANDBOX": "off"} | variables


def understudy(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*START, *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


@dataclass
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    banner: list[str]

    @property
    def url(self) -> str:
        """The base URL that the banner names."""
        found = re.search(r"http://\S+/v1", "\n".join(self.banner))
        assert found is not None
        return found.group()

    @property
    def key(self) -> str | None:
        """The key that the banner shows."""
        found = re.search(r"API key +(sk-\S+)", "\n".join(self.banner))
        return found.group(1) if found else None

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what was logged."""
        self.process.send_signal(signal.SIGTERM)
        _, logged = self.process.communicate(timeout=15)
        return self.process.returncode, logged


@contextmanager
def served(folder: Path, *arguments: str, **variables: str) -> Iterator[Served]:
    """`understudy serve` on a free port."""
    process = subprocess.Popen(
        [*START, "serve", "--port", "0", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if "client = OpenAI(" in line:
                break
        yield Served(process, lines)
    finally:
        process.kill()
        process.communicate()


def test_the_first_start_shows_a_key_once(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        assert len(server.banner) <= 12
        assert server.key is not None
        key = server.key
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx2.get(f"{server.url}/assistants", headers=headers).status_code == 200
        assert any("rehearsal" in line for line in server.banner)
        code, logged = server.stop()
        assert code == 0
        assert key not in logged
    with served(tmp_path) as server:
        assert server.key is None
        assert httpx2.get(f"{server.url}/assistants", headers=headers).status_code == 200
    for file in (tmp_path / "understudy-data").rglob("*"):
        assert file.is_dir() or key.encode() not in file.read_bytes()


def test_a_key_can_be_brought_along(tmp_path: Path) -> None:
    with served(tmp_path, UNDERSTUDY_API_KEY="sk-mine") as server:
        assert server.key is None
        headers = {"Authorization": "Bearer sk-mine"}
        assert httpx2.get(f"{server.url}/models", headers=headers).status_code == 200
        assert httpx2.get(f"{server.url}/models").status_code == 401


def test_a_second_start_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with served(tmp_path):
        for command in (["serve", "--port", "0"], ["migrate"]):
            again = understudy(*command, folder=tmp_path)
            assert again.returncode == 1
            assert "is in use by another server process" in again.stderr
            assert "Traceback" not in again.stderr


def test_keys_are_made_and_revoked_beside_a_running_server(tmp_path: Path) -> None:
    with served(tmp_path, UNDERSTUDY_API_KEY="sk-mine") as server:
        key = understudy("keys", "create", "--project", "p", folder=tmp_path).stdout.strip()
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx2.get(f"{server.url}/assistants", headers=headers).status_code == 200
        listed = understudy("keys", "list", "--project", "p", folder=tmp_path).stdout
        [id] = [word for word in listed.split() if word.startswith("key_")]
        assert understudy("keys", "revoke", id, folder=tmp_path).returncode == 0
        assert "store     ok" in understudy("check", folder=tmp_path).stdout
    with served(tmp_path, UNDERSTUDY_API_KEY="sk-mine") as server:
        assert httpx2.get(f"{server.url}/assistants", headers=headers).status_code == 401


def test_a_port_in_use_is_named_and_no_key_is_lost(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = understudy("serve", "--port", port, folder=tmp_path)
    assert failed.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use." in failed.stderr
    with served(tmp_path) as server:
        assert server.key is not None


@pytest.mark.parametrize(
    ("arguments", "variables", "complaint"),
    [
        (["serve", "--workers", "2"], {}, "needs PostgreSQL"),
        (["api"], {}, "understudy api needs PostgreSQL"),
        (["worker"], {}, "understudy worker needs PostgreSQL"),
        (
            ["serve", "--port", "8123"],
            {"UNDERSTUDY_UPSTREAM_URL": "http://localhost:8123/v1"},
            "own addr",
        ),
        (["serve"], {"UNDERSTUDY_DATABASE_URL": "oracle://x"}, "No database for oracle"),
        (["serve"], {"UNDERSTUDY_PORT": "x"}, "UNDERSTUDY_PORT must be a whole number"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], complaint: str
) -> None:
    failed = understudy(*arguments, folder=tmp_path, **variables)
    assert failed.returncode == 2
    assert complaint in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    key = understudy("keys", "create", "--project", "p", "--name", "ci", folder=tmp_path)
    assert key.returncode == 0
    assert key.stdout.startswith("sk-")
    listed = understudy("keys", "list", folder=tmp_path).stdout
    [row] = [line for line in listed.splitlines() if "key_" in line]
    id, project, _, name, state = row.split()
    assert (project, name, state) == ("p", "ci", "valid")
    assert key.stdout.strip() not in listed
    assert understudy("keys", "revoke", id, folder=tmp_path).returncode == 0
    again = understudy("keys", "revoke", id, folder=tmp_path)
    assert again.returncode == 1
    assert f"There is no valid key {id}." in again.stderr
    assert "revoked" in understudy("keys", "list", "--project", "p", folder=tmp_path).stdout


def test_check_shows_settings_with_their_origin_and_tries_the_seams(tmp_path: Path) -> None:
    checked = understudy("check", folder=tmp_path, UNDERSTUDY_API_KEY="sk-a-secret-word")
    assert checked.returncode == 0, checked.stderr
    assert "UNDERSTUDY_API_KEY" in checked.stdout
    assert "secret" not in checked.stdout
    assert "store     ok" in checked.stdout
    assert "blobs     ok" in checked.stdout
    assert "model     ok" in checked.stdout
    away = {"UNDERSTUDY_UPSTREAM_URL": "http://127.0.0.1:9/v1"}
    failed = understudy("check", folder=tmp_path, **away)
    assert failed.returncode == 1
    assert "model     failed" in failed.stdout
    bucket = {"UNDERSTUDY_BLOBS_URL": "s3://bucket", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
    failed = understudy("check", folder=tmp_path, **bucket, **keys)
    assert failed.returncode == 1
    assert "blobs     failed: GET at http://127.0.0.1:9: " in failed.stdout


def test_migrate_prepares_the_database(tmp_path: Path) -> None:
    assert understudy("migrate", folder=tmp_path).returncode == 0
    assert (tmp_path / "understudy-data" / "understudy.db").exists()


def test_logs_are_json_where_nobody_watches(tmp_path: Path) -> None:
    with served(tmp_path, UNDERSTUDY_LOG_LEVEL="debug", UNDERSTUDY_API_KEY="sk-k") as server:
        headers = {"Authorization": "Bearer sk-k", "x-portkey-metadata": "Bearer sk-abcdefghi"}
        headers["x-portkey-metadata"] += " postgresql://u:hunter22@h/d"
        httpx2.get(f"{server.url}/assistants", headers=headers)
        code, logged = server.stop()
    assert code == 0
    lines = [json.loads(line) for line in logged.splitlines()]
    [line] = [line for line in lines if line["event"] == "request"]
    assert line["path"] == "/v1/assistants"
    assert line["request_id"].startswith("req_")
    assert "abcdefghi" not in logged
    assert "hunter22" not in logged


def test_help_loads_no_server() -> None:
    asked = (
        "import sys; from understudy.commands import app; "
        "print([name for name in ('uvicorn', 'apsw', 'aiohttp') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"


def test_a_server_starts_without_what_nobody_has_asked_for_yet(tmp_path: Path) -> None:
    """Each of these takes longer to load than the record takes to open."""
    provider = "http://127.0.0.1:9/v1"
    with served(tmp_path, PYTHONPROFILEIMPORTTIME="1", UNDERSTUDY_UPSTREAM_URL=provider) as server:
        assert httpx2.get(server.url.replace("/v1", "/health")).status_code == 200
        _, logged = server.stop()
    loaded = set(re.findall(r"^import time:.*\| +(\S+)$", logged, re.MULTILINE))
    assert {"uvicorn", "apsw"} <= loaded
    unwanted = {"jsonschema_rs", "lxml", "numpy", "onnxruntime", "pydantic", "rich.console"}
    unwanted |= {"rs_bpe", "starlette", "tokenizers", "typer"}
    assert loaded & unwanted == set()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["serve"], {"role": "serve"}),
        (["serve", "--port", "0", "--data", "a b"], {"role": "serve", "port": 0, "data": "a b"}),
        (["api", "--host", "::", "--workers", "1"], {"role": "api", "host": "::", "workers": 1}),
        (["worker", "--config", "x.toml"], {"role": "worker", "config": Path("x.toml")}),
        (["serve", "--help"], None),
        (["serve", "--port"], None),
        (["serve", "--port", "http"], None),
        (["serve", "--host", "--port"], None),
        (["serve", "--port=0"], None),
        (["serve", "--prot", "0"], None),
        (["check", "--data", "x"], None),
        ([], None),
    ],
)
def test_only_plain_options_are_read_without_typer(
    arguments: list[str], options: dict[str, object] | None
) -> None:
    assert plain_options(arguments) == options


def test_the_plain_options_are_those_that_the_command_declares() -> None:
    declared = list(inspect.signature(commands.serve).parameters)
    assert declared == list(inspect.signature(commands.api).parameters)
    assert {*inspect.signature(commands.worker).parameters} <= {*declared}
    known = [*declared, "role"]
    assert known == list(inspect.signature(serving.serve).parameters)
    assert sorted(known) == sorted(Options.__annotations__)


def test_the_longest_banner_has_twelve_lines() -> None:
    found = [(name, f"http://127.0.0.1:{port}/v1") for name, port in (("a", 1), ("b", 2))] * 2
    said = Welcome("http://127.0.0.1:8000/v1", "sk-key", "keywords only", "off: no reason.")
    assert len(banner(Settings(), "serve", said, found)) <= 12
    provider = Settings(upstream_url="http://user:secret@host/v1", model="local")
    text = "\n".join(banner(provider, "serve", said, []))
    assert "secret" not in text
    assert "local for unknown names" in text
    assert "sandbox       off: no reason." in text


# The sandbox.


def test_a_sandbox_that_cannot_be_is_off_with_cause_and_remedy(tmp_path: Path) -> None:
    """In the banner, in /health and in `check`; asked for by name it fails the check."""
    variables = {
        "UNDERSTUDY_SANDBOX": "bubblewrap",
        "UNDERSTUDY_SANDBOX_FOLDER": str(tmp_path / "empty"),
        "PATH": bare_path(tmp_path, "bwrap"),
    }
    why = "The sandbox's Python packages are not installed. "
    why += "Install them with `understudy sandbox install` and restart the server."
    with served(tmp_path, **variables) as server:
        assert f"  sandbox       off: {why}" in server.banner
        health = httpx2.get(server.url.replace("/v1", "/health")).json()
        assert health["status"] == "ready"
        assert health["seams"]["sandbox"] == {"state": "off", "detail": why}
    checked = understudy("check", folder=tmp_path, **variables)
    assert checked.returncode == 1
    assert f"sandbox   off: {why}" in checked.stdout
    by_itself = understudy("check", folder=tmp_path, **variables | {"UNDERSTUDY_SANDBOX": "auto"})
    assert by_itself.returncode == 0
    assert f"sandbox   off: {why}" in by_itself.stdout


def test_without_bubblewrap_the_command_that_brings_it_is_named(tmp_path: Path) -> None:
    path = bare_path(tmp_path, "apt-get")
    with served(tmp_path, UNDERSTUDY_SANDBOX="auto", PATH=path) as server:
        [line] = [line for line in server.banner if "  sandbox  " in line]
    assert line.endswith(
        "off: bubblewrap (bwrap) is not installed. "
        "Install it with `apt-get install bubblewrap` and restart the server."
    )


def bare_path(folder: Path, *programs: str) -> str:
    """A PATH with nothing but these on it, which only say that they are bubblewrap."""
    path = folder / "bin"
    path.mkdir()
    for name in programs:
        (path / name).write_text("#!/bin/sh\necho bubblewrap 0.8.0\n")
        (path / name).chmod(0o755)
    return str(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_no_sandbox_at_all_is_for_this_machine_alone(tmp_path: Path, host: str) -> None:
    unsafe = {"UNDERSTUDY_SANDBOX": "unsafe-local"}
    failed = understudy("serve", "--port", "0", "--host", host, folder=tmp_path, **unsafe)
    assert failed.returncode == 2
    assert f"{host} can be reached from other machines" in failed.stderr
    assert "UNDERSTUDY_SANDBOX_UNSAFE_I_KNOW=1" in failed.stderr
    settings = Settings(host=host, sandbox="unsafe-local", sandbox_unsafe_i_know=True)
    check_settings(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_no_sandbox_at_all_may_be_on_loopback(host: str) -> None:
    check_settings(Settings(host=host, sandbox="unsafe-local"))


def test_an_environment_that_does_not_work_is_told_after_the_start(tmp_path: Path) -> None:
    """The banner does not wait for the self-test; what it finds is a line of its own."""
    folder = tmp_path / "sandbox"
    (folder / "site").mkdir(parents=True)
    record = {"python": "/bin/false", "prefix": "/usr", "version": "3.11", "packages": ""}
    (folder / "environment.json").write_text(json.dumps({**record, "full": False}))
    variables = {"UNDERSTUDY_SANDBOX": "bubblewrap", "UNDERSTUDY_SANDBOX_FOLDER": str(folder)}
    with served(tmp_path, **variables) as server:
        assert "  sandbox       bubblewrap (starting)" in server.banner
        assert server.process.stdout is not None
        line = server.process.stdout.readline()
        assert line.startswith("  sandbox       off: The sandbox does not start: ")
        seam = httpx2.get(server.url.replace("/v1", "/health")).json()["seams"]["sandbox"]
        assert seam["state"] == "off"
        assert line.strip().endswith(f"off: {seam['detail']}")


def test_a_sandbox_that_cannot_be_installed_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = str(tmp_path / "file" / "sandbox")
    failed = understudy("sandbox", "install", folder=tmp_path, UNDERSTUDY_SANDBOX_FOLDER=folder)
    assert failed.returncode == 1
    [line] = failed.stderr.splitlines()
    assert line.startswith(f"understudy: The sandbox's packages cannot be written to {folder}")
