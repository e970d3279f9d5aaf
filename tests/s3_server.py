"""An S3 server of the tests' own: moto in a process that can be stopped, frozen and made to fail.

    with running_s3() as s3:
        url = s3.place()                      # s3://bucket-1/some/prefix, a bucket of its own
        blobs = open_blobs(url, s3.options)   # or a server with s3.environment in its environment

What is stored is in that process' memory: `stop` loses it, `cut_off` and `freeze` do not. The
process obeys lines on its standard input and ends with it, so that no test leaves one behind.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from tests.ports import free_port
from understudy.settings import object_store_options

_START_S = 60.0  # On a busy machine; it takes two seconds.
_STOP_S = 10.0
_ROOT = Path(__file__).resolve().parent.parent
_buckets = count(1)


class S3Server:
    """One server on a port that stays the same for as long as this object is used."""

    def __init__(self) -> None:
        self._port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self._http = httpx2.Client(timeout=10, trust_env=False)

    @property
    def url(self) -> str:
        """Where it is, for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a server to it."""
        return {
            "AWS_ACCESS_KEY_ID": "key-id-of-the-tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    @property
    def options(self) -> dict[str, str]:
        """The same as options for `open_blobs`."""
        return object_store_options(self.environment)

    # Its life.

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        assert self._process is None, "it runs already"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._port)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        watchdog = threading.Timer(_START_S, self._process.kill)
        watchdog.start()
        try:
            self._tell("listen")
        finally:
            watchdog.cancel()

    def stop(self) -> None:
        """Kill it; the port refuses connections, and what was stored is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_S)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def restart(self, *buckets: str) -> None:
        """Another process on the same port, which has these buckets and nothing in them."""
        self.stop()
        self.start()
        for bucket in buckets:
            self.make_bucket(bucket)

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._http.close()

    # Faults.

    def cut_off(self) -> None:
        """Refuse connections and break those that are open; what is stored stays."""
        self._tell("refuse")

    def reconnect(self) -> None:
        """Take connections again."""
        self._tell("listen")

    def freeze(self) -> None:
        """Connections are taken, and nothing is ever answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Answer what came meanwhile, and go on."""
        self._signal(signal.SIGCONT)

    def fail(
        self, status: int, match: str = "", *, times: int | None = None, applied: bool = False
    ) -> None:
        """Answer requests with this status. `match` is looked for in "PUT /bucket/key?query";
        `applied` does what was asked before it lies about it."""
        self._tell("fail", status=status, match=match, times=times, applied=applied)

    def heal(self) -> None:
        """Answer everything again."""
        self._tell("fail", status=None)

    def hold(self, match: str) -> None:
        """Keep requests waiting, from now on, until `release`; `match` as for `fail`."""
        self._tell("hold", match=match)

    def until_held(self) -> None:
        """Wait until a request waits."""
        self._tell("until held")

    def release(self) -> None:
        """Let them go on."""
        self._tell("release")

    def refuse_keys(self, *, refused: bool = True) -> None:
        """Whether requests need the key of a user that the server knows: it knows none."""
        after = "0" if refused else "inf"
        self._http.post(f"{self.url}/moto-api/reset-auth", content=after).raise_for_status()

    def mend(self) -> None:
        """Undo every fault."""
        self.thaw()
        self.reconnect()
        self.heal()
        self.release()
        self.refuse_keys(refused=False)

    # What it has.

    def place(self) -> str:
        """A URL for blobs, in a bucket that nobody else has."""
        bucket = f"bucket-{next(_buckets)}"
        self.make_bucket(bucket)
        return f"s3://{bucket}/some/prefix"

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket."""
        self._http.put(f"{self.url}/{bucket}").raise_for_status()

    def keys(self, place: str) -> list[str]:
        """The keys of all objects in the bucket of a place."""
        answer = self._http.get(f"{self.url}/{_bucket(place)}", params={"list-type": "2"})
        return re.findall("<Key>(.*?)</Key>", answer.raise_for_status().text)

    def uploads(self, place: str) -> list[str]:
        """The keys of all multipart uploads there that are neither completed nor aborted."""
        answer = self._http.get(f"{self.url}/{_bucket(place)}", params={"uploads": ""})
        return re.findall("<Key>(.*?)</Key>", answer.raise_for_status().text)

    def _tell(self, command: str, **more: Any) -> None:
        """Have the process do something, and wait until it has."""
        process = self._process
        assert process is not None, "it runs"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"command": command, **more}) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n", f"the S3 server did not {command}"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it runs"
        os.kill(self._process.pid, number)


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server until the end of the block."""
    server = S3Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


def _bucket(place: str) -> str:
    return place.removeprefix("s3://").split("/")[0]


# What follows is the process itself.

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Obedient:
    """An application that fails or holds some requests, as it is told."""

    def __init__(self, inner: _Wsgi) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.fault: dict[str, Any] = {"status": None}
        self.held = ""  # What is looked for in requests to hold; nothing holds none.
        self.is_held = threading.Event()
        self.is_released = threading.Event()

    def __call__(self, environ: dict[str, Any], answer: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        if self.held and self.held in asked:
            self.is_held.set()
            self.is_released.wait()
        if not self._is_to_fail(asked):
            return self._inner(environ, answer)
        status = self.fault["status"]
        if self.fault["applied"]:
            list(self._inner(environ, lambda *_: lambda _: None))
        else:  # Unread, it would break the connection under the client.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        answer(f"{status} Fault", [("Content-Length", "0"), ("Connection", "close")])
        return []

    def _is_to_fail(self, asked: str) -> bool:
        with self._lock:
            times = self.fault.get("times")
            if self.fault["status"] is None or self.fault["match"] not in asked or times == 0:
                return False
            if times is not None:
                self.fault["times"] = times - 1
            return True

    def obey(self, command: str, order: dict[str, Any]) -> None:
        """Do what a line on standard input says."""
        match command:
            case "fail":
                self.fault = order
            case "hold":
                self.is_held.clear()
                self.is_released.clear()
                self.held = order["match"]
            case "until held":
                assert self.is_held.wait(_STOP_S), "nobody asks for it"
            case "release":
                self.held = ""
                self.is_released.set()


class _Listener:
    """The door of the process: open or shut."""

    def __init__(self, application: _Wsgi, port: int) -> None:
        self._application = application
        self._port = port
        self._connections: set[socket.socket] = set()
        self._server: Any = None

    def open(self) -> None:
        """Take connections."""
        if self._server is not None:
            return
        from werkzeug.serving import WSGIRequestHandler, make_server

        connections = self._connections

        class Handler(WSGIRequestHandler):
            """Keeps connections, as S3 does, and a list of them."""

            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                connections.add(self.connection)

            def finish(self) -> None:
                connections.discard(self.connection)
                super().finish()

            def log(self, *_: Any) -> None:
                """Nobody reads it."""

        self._server = make_server(
            "127.0.0.1", self._port, self._application, threaded=True, request_handler=Handler
        )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and break those that are open."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _main(port: int) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    application = _Obedient(DomainDispatcherApplication(create_backend_app))
    listener = _Listener(application, port)
    for line in sys.stdin:
        order = json.loads(line)
        match order.pop("command"):
            case "listen":
                listener.open()
            case "refuse":
                listener.close()
            case command:
                application.obey(command, order)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
