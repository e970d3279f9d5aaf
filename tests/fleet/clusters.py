"""PostgreSQL servers for tests: the machine's, with a schema each, and private ones that may crash.

`schema()` and `database()` are the quick ones, on one server for all tests. A schema is not alone:
advisory locks, the channels of NOTIFY and extensions belong to a database, so what is about those
takes a `database()`. `private()` is a server of the test's own, which it may kill, start again on
the same port and data, and let run out of disk.
"""

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil

from tests.fleet.installations import (
    Installation,
    Missing,
    any_installation,
    template,
    temporary_folder,
    wheel,
)
from tests.fleet.statements import execute, fetch
from tests.ports import free_port

VARIABLE = "UNDERSTUDY_TEST_POSTGRES"
_USUAL = "postgresql://postgres@127.0.0.1:5432/postgres"
_START_S = 30.0  # Of which recovery after a crash takes the most; tests write little.
_STOP_S = 20.0
_LOOK_S = 0.005
_MEGABYTE = 1024 * 1024


@cache
def server() -> str:
    """The URL of the server that all tests of this process share: the one that the environment
    names, else the machine's usual one, else a private one until the process ends. "pgvector" in
    the environment is a private one that has it."""
    named = os.environ.get(VARIABLE)
    if named == "pgvector":
        url = _own(wheel())
        execute(url, "create extension vector")
        return url
    if named:
        assert _answers(named), f"{VARIABLE}={named} does not let us in"
        return named
    if _answers(_USUAL):
        return _USUAL
    return _own(any_installation())


def _own(installation: Installation) -> str:
    cluster = Cluster(installation)
    atexit.register(cluster.close)
    cluster.start()
    return cluster.url


@contextmanager
def schema(url: str | None = None) -> Iterator[str]:
    """The URL of a fresh schema, which is dropped at the end with all that is in it. asyncpg hands
    what it does not know in a URL on to the server, as a setting of the connection."""
    name, url = _name(), url or server()
    execute(url, f"create schema {name}")
    try:
        yield f"{url}{'&' if '?' in url else '?'}search_path={name}"
    finally:
        # Who still holds a lock fails the test, instead of hanging it.
        execute(url, f"set lock_timeout = '10s'; drop schema {name} cascade")


@contextmanager
def database(url: str | None = None) -> Iterator[str]:
    """The URL of a fresh database, which is dropped at the end whoever is still connected. It
    takes a tenth of a second, and seconds where the disk is busy: those who need many make them on
    a `private()` server."""
    name, url = _name(), url or server()
    execute(url, f"create database {name}")
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        execute(url, f"drop database {name} with (force)")


@contextmanager
def private(
    installation: Installation | None = None,
    *,
    statements: bool = False,
    disk_mb: int | None = None,
    on_disk: bool = False,
    **settings: str,
) -> Iterator["Cluster"]:
    """A started server of this test's own. `statements` loads pg_stat_statements, which the wheel
    does not have; `disk_mb` puts the data, the log of writes included, on a disk of that size;
    `on_disk` is for tests that depend on what a commit costs (installations.py)."""
    if statements:
        settings |= {
            "shared_preload_libraries": "pg_stat_statements",
            "pg_stat_statements.track": "top",
        }
    where = installation or any_installation()
    cluster = Cluster(where, disk_mb=disk_mb, on_disk=on_disk, **settings)
    try:
        cluster.start()
        if statements:
            execute(cluster.url, "create extension pg_stat_statements")
        yield cluster
    finally:
        cluster.close()


class Cluster:
    """A server whose port and data outlive its death. What it syncs, it syncs: fsync is on."""

    def __init__(
        self,
        installation: Installation,
        *,
        disk_mb: int | None = None,
        on_disk: bool = False,
        **settings: str,
    ) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._installation = installation
        self._folder = temporary_folder(installation, on_disk=on_disk)
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # Goes with the folder, whatever happens.
            **settings,
        }
        self._disk: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._data = self._make_data(disk_mb)
        except BaseException:
            self.close()
            raise

    def _make_data(self, disk_mb: int | None) -> Path:
        """The data folder, copied as its owner has to have it."""
        parent = self._folder
        if disk_mb is not None:
            parent = parent / "disk"
            parent.mkdir()
            _mount(parent, disk_mb)
            self._disk = parent
        data = parent / "data"
        # Owners and rights as well, and in a fifth of the time that shutil takes.
        made = template(self._installation)
        subprocess.run(["cp", "--archive", str(made), str(data)], check=True)
        return data

    @property
    def is_running(self) -> bool:
        """Whether its first process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of its first process, in this life or in the last."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said, over all its lives."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start, or start again, and wait until it lets clients in."""
        assert not self.is_running, "it runs already"
        arguments = ["postgres", "-D", str(self._data)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("ab") as log:
            self._process = self._installation.start(arguments, log)
        deadline = time.monotonic() + _START_S
        while not self._is_ready():
            code = self._process.poll()
            assert code is None, f"PostgreSQL ended with {code}: {self.log[-2000:]}"
            assert time.monotonic() < deadline, f"PostgreSQL is not ready: {self.log[-2000:]}"
            time.sleep(_LOOK_S)

    def _is_ready(self) -> bool:
        """As pg_ctl finds out: the file of its process id, whose last line is its state. After a
        crash that of its former life is still there."""
        assert self._process is not None
        lines = self._postmaster()
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7] == "ready"

    def _postmaster(self) -> list[str]:
        try:
            text = (self._data / "postmaster.pid").read_text()
        except FileNotFoundError:
            return []
        return [line.strip() for line in text.splitlines()]

    def crash(self) -> None:
        """kill -9 of all its processes in one moment, as a power cut ends them. What it had given
        to the kernel is there afterwards; only a machine that loses its memory loses that."""
        assert self._process is not None and self.is_running, "it does not run"
        leader = psutil.Process(self._process.pid)
        leader.suspend()  # Or it would make new ones, or end the others in its own way.
        everybody = [leader, *leader.children()]
        for process in everybody:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(_STOP_S)
        deadline = time.monotonic() + _STOP_S
        while any(lives(process) for process in everybody):
            assert time.monotonic() < deadline, "processes of it survive kill -9"
            time.sleep(_LOOK_S)

    def stop_at_once(self) -> None:
        """`pg_ctl stop -m immediate`: no checkpoint, and its clients are told. What follows is
        recovery, as after a crash."""
        self._stop(signal.SIGQUIT)

    def stop(self) -> None:
        """`pg_ctl stop -m fast`: what is open is rolled back, clients are told, all is synced."""
        self._stop(signal.SIGINT)

    def _stop(self, how: signal.Signals) -> None:
        assert self._process is not None and self.is_running, "it does not run"
        self._process.send_signal(how)
        self._process.wait(_STOP_S)

    def wait(self) -> None:
        """Until it has ended by itself."""
        assert self._process is not None, "it was never started"
        self._process.wait(_STOP_S)

    def fill_disk(self, leave_bytes: int = 0) -> None:
        """Take the rest of its small disk. A statement that needs a new page fails then; one that
        needs a new file of the log of writes ends the server, until there is room again."""
        assert self._disk is not None, "only a cluster with disk_mb has a disk of its own"
        with (self._disk / "ballast").open("ab", buffering=0) as ballast, suppress(OSError):
            while (room := shutil.disk_usage(self._disk).free - leave_bytes) > 0:
                ballast.write(bytes(min(room, _MEGABYTE)))

    def free_disk(self) -> None:
        """Give the room back."""
        assert self._disk is not None, "only a cluster with disk_mb has a disk of its own"
        (self._disk / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        """End it, and remove everything that was its own."""
        if self.is_running:
            self.crash()
        if self._process is not None:
            self._remove_shared_memory()
        if self._disk is not None:
            subprocess.run(["umount", "--lazy", str(self._disk)], check=True)
            self._disk = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _remove_shared_memory(self) -> None:
        """A killed server leaves a block of it, by which its next life knows that the former one
        is over; without a next life it would stay. Its number is the seventh line's second."""
        lines = self._postmaster()
        if len(lines) > 6 and lines[6]:
            subprocess.run(["ipcrm", "--shmem-id", lines[6].split()[-1]], check=False)


def _mount(folder: Path, size_mb: int) -> None:
    """A disk in memory. This needs root: without it the test fails, and is not left out."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0755", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(
            f"a disk that can be full needs root, who may mount: {done.stderr.splitlines()[:1]}"
        )


def _answers(url: str) -> bool:
    """Whether a server lets us in, which one with passwords does not."""
    try:
        return fetch(url, "select 1") == [(1,)]
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False


def lives(process: psutil.Process) -> bool:
    """One that is only not yet collected by its new parent holds nothing any more."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _name() -> str:
    """Of a schema or a database, unlike that of any other test process on this server."""
    return f"understudy_test_{os.getpid()}_{secrets.token_hex(4)}"
