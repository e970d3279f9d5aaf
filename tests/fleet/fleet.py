"""Several nodes of Understudy as processes on one record: started, killed, frozen, started again.

    shared = Shared(provider.url, database_url=url, blobs_url="s3://bucket", settings=aws)
    with fleet(tmp_path, shared, api=2, worker=2, clock_skew_s={"worker-1": -30}) as nodes:
        with Balance(nodes.urls) as balance:
            ...
            nodes["worker-0"].kill()

A node is named for its command and counted from 0. It keeps its port over its lives, so that
clients and balancers find it again. What only one node is to have (the URL of a wire that will be
cut, say) is said by its name in `own`. A test that fails shows the end of each node's log.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.processes import KEY, URL, Process
from tests.fleet.clocks import forget, skewed
from tests.ports import free_port

READY = {
    "serve": URL,
    "api": URL,
    "worker": re.compile(r"^Worker ready"),
}
_STARTED = re.compile(r'"node": "(boot_\w+)"')
_LOG_CHARS = 3_000


@dataclass(frozen=True)
class Shared:
    """What all nodes of a fleet are given. Without the two URLs a node has a record and files of
    its own, in its folder. `settings` are further variables by their full names, those that say
    where the object store is and how to log in there (AWS_...) among them."""

    provider_url: str
    database_url: str | None = None
    blobs_url: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """As the processes get it."""
        named = {
            "UNDERSTUDY_API_KEY": KEY,
            "UNDERSTUDY_UPSTREAM_URL": self.provider_url,
            "UNDERSTUDY_DATABASE_URL": self.database_url,
            "UNDERSTUDY_BLOBS_URL": self.blobs_url,
        }
        return {name: value for name, value in named.items() if value is not None} | {
            **self.settings
        }


class Node:
    """One process, over all its lives."""

    def __init__(
        self, name: str, folder: Path, environment: Mapping[str, str], clock_skew_s: float = 0
    ) -> None:
        self.name = name
        self.command = name.partition("-")[0]
        self.folder = folder
        folder.mkdir(parents=True)
        self._environment = {
            "UNDERSTUDY_PORT": str(free_port()),
            "UNDERSTUDY_DATA": str(folder / "data"),
            **environment,
            **skewed(clock_skew_s),
        }
        self._process: Process | None = None

    def start(self) -> None:
        """Start, or start again, and wait until it says that it is ready."""
        assert not self.is_running, f"{self.name} runs already"
        self._process = Process(
            [self.command], self.folder, ready=READY[self.command], **self._environment
        )

    @property
    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self._process is not None and self._process.is_running

    @property
    def pid(self) -> int:
        """Of the present life, or of the last."""
        return self._started().pid

    @property
    def url(self) -> str:
        """Of its API, the same in all lives."""
        return self._started().url

    @property
    def log(self) -> str:
        """What it said on its standard error, in all its lives."""
        path = self.folder / f"{self.command}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def id(self) -> str:
        """What the record knows its present life as."""
        return str(_STARTED.findall(self.log)[-1])

    def kill(self) -> None:
        """kill -9 of all that it is, without a word to anybody; also of a paused one."""
        self._started().kill()
        forget(self.pid)

    def stop(self) -> int:
        """SIGTERM: let it drain and end; its exit code. A paused one has to be resumed first."""
        return self._started().stop()

    def pause(self) -> None:
        """SIGSTOP: it does nothing, and all that it holds stays: connections, leases, locks."""
        self._started().pause()

    def resume(self) -> None:
        """SIGCONT: it goes on, and does not know that time has passed."""
        self._started().resume()

    def restart(self) -> None:
        """kill -9, and the next life."""
        self.kill()
        self.start()

    def _started(self) -> Process:
        assert self._process is not None, f"{self.name} was never started"
        return self._process


class Fleet:
    """The nodes by their names."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def urls(self) -> list[str]:
        """Of all nodes that have one, also of those that are down: what a balancer is given."""
        return [node.url for node in self.nodes.values() if node.command != "worker"]

    def start(self) -> None:
        """All at once, as after a power cut; those that run already are left alone."""
        down = [node for node in self.nodes.values() if not node.is_running]
        with ThreadPoolExecutor(max(1, len(down))) as threads:
            for started in [threads.submit(node.start) for node in down]:
                started.result()

    def kill(self) -> None:
        """End all of them, whatever state they are in."""
        for node in self.nodes.values():
            if node.is_running:
                node.kill()

    def log_ends(self) -> str:
        """The last words of each."""
        return "\n".join(
            f"--- {node.name}, {node.folder}\n{node.log[-_LOG_CHARS:]}"
            for node in self.nodes.values()
        )


@contextmanager
def fleet(
    folder: Path,
    shared: Shared,
    *,
    serve: int = 0,
    api: int = 0,
    worker: int = 0,
    clock_skew_s: Mapping[str, float] | None = None,
    own: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Fleet]:
    """So many nodes of each kind until the end of the block, all of them ready."""
    counts = {"serve": serve, "api": api, "worker": worker}
    names = [f"{kind}-{number}" for kind, count in counts.items() for number in range(count)]
    skews, owns = clock_skew_s or {}, own or {}
    assert {*skews, *owns} <= {*names}, f"there are only {names}"
    nodes = Fleet(
        [
            Node(
                name,
                folder / name,
                {**shared.environment(), **owns.get(name, {})},
                skews.get(name, 0),
            )
            for name in names
        ]
    )
    try:
        nodes.start()
        yield nodes
    except BaseException as error:
        error.add_note(nodes.log_ends())
        raise
    finally:
        nodes.kill()
