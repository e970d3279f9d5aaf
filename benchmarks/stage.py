"""The stage: the server, the baselines, the upstream and the client, each a process of its own."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.jobs import Done, Job

KEY = "sk-benchmark-0123456789abcdef"
_ROOT = Path(__file__).parents[1]
_MAIN = "from understudy.cli import main; main()"
ASSISTANT_BODY = json.dumps(
    {
        "model": "deltas-5",
        "name": "Weather",
        "instructions": "You tell the weather. " * 10,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "The weather of a city.",
                    "parameters": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
                        "required": ["city"],
                    },
                },
            }
        ],
    }
)


@dataclass(frozen=True)
class Part:
    """A process of the stage; `port` is 0 for the client."""

    process: subprocess.Popen[bytes]
    port: int = 0

    def cpu_s(self) -> float:
        """CPU time so far, with that of the processes it started."""
        process = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return float(sum(time.user + time.system for time in times))


@dataclass(frozen=True)
class Run:
    """One run of a job: what came of it, and the CPU seconds of the three processes."""

    done: Done
    server_cpu_s: float
    client_busy: float  # Shares of one core.
    upstream_busy: float

    @property
    def per_second(self) -> float:
        """Requests or events per second."""
        return self.done.count / self.done.seconds

    @property
    def cpu_us(self) -> float:
        """The server's CPU for one of them, in microseconds."""
        return self.server_cpu_s / self.done.count * 1e6


@dataclass(frozen=True)
class Stage:
    """All parts, ready."""

    server: Part
    baselines: Part
    upstream: Part
    client: Part
    assistant_id: str

    def run(self, job: Job, server: Part) -> Run:
        """Let the client do a job against `server`, and watch everybody's CPU."""
        return self.watched(server, lambda: self._done(job))

    def watched(self, server: Part, work: Callable[[], Done]) -> Run:
        """What work came to, and everybody's CPU meanwhile."""
        parts = (server, self.client, self.upstream)
        before = [part.cpu_s() for part in parts]
        done = work()
        used = [part.cpu_s() - start for part, start in zip(parts, before, strict=True)]
        seconds = done.seconds or 1.0
        client_s = used[1] if done.cpu_s is None else done.cpu_s
        return Run(done, used[0], client_s / seconds, used[2] / seconds)

    def _done(self, job: Job) -> Done:
        stdin, stdout = self.client.process.stdin, self.client.process.stdout
        assert stdin is not None and stdout is not None, "opened with pipes"
        stdin.write(msgspec.json.encode(job) + b"\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError("The client process died; its reason is above.")
        return msgspec.json.decode(line, type=Done)

    def settle(self) -> None:
        """Wait until the server has nothing left to do."""
        for _ in range(50):
            before = self.server.cpu_s()
            time.sleep(0.1)
            if self.server.cpu_s() - before < 0.02:
                return
        raise RuntimeError("The server is still busy with what should be over.")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request to the server, to prepare something."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            assert answer.status == 200, found
            return found
        finally:
            connection.close()

    def thread(self, messages: int = 10) -> str:
        """A new thread with so many messages; its id."""
        said = [
            {"role": ("user", "assistant")[n % 2], "content": f"Message {n} of this thread."}
            for n in range(1, messages + 1)
        ]
        return str(self.ask("POST", "/v1/threads", {"messages": said})["id"])


@contextmanager
def opened_stage() -> Iterator[Stage]:
    """Start all parts; end them whatever happens."""
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-bench-")))
        upstream = stack.enter_context(_module("upstream"))
        url = f"http://127.0.0.1:{upstream.port}"
        server = stack.enter_context(understudy(data, url))
        baselines = stack.enter_context(_module("baselines", url, ASSISTANT_BODY))
        client = stack.enter_context(_started(_command("client", KEY), stdin=subprocess.PIPE))
        stage = Stage(server, baselines, upstream, Part(client), "")
        made = stage.ask("POST", "/v1/assistants", json.loads(ASSISTANT_BODY))
        yield Stage(server, baselines, upstream, Part(client), made["id"])


@contextmanager
def fresh_server(stage: Stage, data: Path | None = None, main: str = _MAIN) -> Iterator[Stage]:
    """The same stage with another server, on a data folder that may have something in it."""
    with ExitStack() as stack:
        if data is None:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-bench-"))
            data = Path(name)
        url = f"http://127.0.0.1:{stage.upstream.port}"
        server = stack.enter_context(understudy(data, url, main=main))
        fresh = replace(stage, server=server)
        made = fresh.ask("POST", "/v1/assistants", json.loads(ASSISTANT_BODY))
        yield replace(fresh, assistant_id=made["id"])


@contextmanager
def understudy(
    data: Path,
    upstream: str,
    *,
    embedding_model: str = "off",
    main: str = _MAIN,
    sandbox: str = "off",
    database_url: str = "",
) -> Iterator[Part]:
    """A server on a data folder, ready; its database is there, unless another one is named."""
    settings = {
        "UNDERSTUDY_API_KEY": KEY,
        "UNDERSTUDY_UPSTREAM_URL": f"{upstream}/v1",
        "UNDERSTUDY_UPSTREAM_KEY": "none",
        "UNDERSTUDY_EMBEDDING_MODEL": embedding_model,
        "UNDERSTUDY_SANDBOX": sandbox,
        "UNDERSTUDY_DATABASE_URL": database_url,
        # For a `main` of this package, and the server that lies beside it.
        "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "src")]),
    }
    command = [sys.executable, "-c", main, "serve", "--port", "0", "--data", str(data)]
    clean = {name: v for name, v in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    with _started(command, env={**clean, **settings}, cwd=data) as process:
        assert process.stdout is not None, "opened with a pipe"
        for line in process.stdout:
            if b"API base URL" in line:
                port = int(line.decode().rsplit(":", 1)[1].split("/")[0])
                yield Part(process, port)
                return
        raise RuntimeError("The server did not start; its reason is above.")


@contextmanager
def _module(name: str, *arguments: str) -> Iterator[Part]:
    """A module of this package that prints its port."""
    with _started(_command(name, *arguments)) as process:
        assert process.stdout is not None, "opened with a pipe"
        yield Part(process, int(process.stdout.readline()))


def _command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


@contextmanager
def _started(
    command: list[str],
    *,
    stdin: int = subprocess.DEVNULL,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, env=env, cwd=cwd)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
