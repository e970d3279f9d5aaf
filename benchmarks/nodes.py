"""Nodes: an API node and workers of their own on one PostgreSQL, with a client, for what measures
several servers."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

from benchmarks.stage import KEY, Stage
from tests.fleet.clusters import Cluster
from tests.fleet.fleet import Fleet, Shared, fleet
from tests.fleet.statements import execute


@dataclass(frozen=True)
class Nodes:
    """A client of the API node, and what is behind it."""

    record: str
    upstream: str
    http: httpx2.AsyncClient
    assistant_id: str
    fleet: Fleet

    @property
    def port(self) -> int:
        """Of the API node."""
        return self.http.base_url.port or 0


@asynccontextmanager
async def opened_nodes(
    stage: Stage,
    cluster: Cluster,
    *,
    worker: int = 0,
    serve: int = 0,
    nats_url: str | None = None,
    model: str = "deltas-5",
    **more: str,
) -> AsyncIterator[Nodes]:
    """One API node and so many workers, or one that is both, on a schema of their own, with an
    assistant."""
    schema = f"bench_{time.monotonic_ns()}"
    execute(cluster.url, f"create schema {schema}")
    record, upstream = (
        f"{cluster.url}?search_path={schema}",
        f"http://127.0.0.1:{stage.upstream.port}",
    )
    settings = {"UNDERSTUDY_API_KEY": KEY, "UNDERSTUDY_EMBEDDING_MODEL": "off", **more}
    if nats_url is not None:
        settings["UNDERSTUDY_NATS_URL"] = nats_url
    with TemporaryDirectory(prefix="understudy-bench-") as name:
        folder = Path(name)
        shared = Shared(f"{upstream}/v1", record, f"file://{folder}/blobs", settings)
        api = 0 if serve else 1
        with fleet(folder, shared, api=api, serve=serve, worker=worker) as nodes:
            async with httpx2.AsyncClient(
                base_url=nodes.urls[0],
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=60,
                limits=httpx2.Limits(max_connections=100),
            ) as http:
                made = await http.post("/assistants", json={"model": model})
                assistant_id = made.raise_for_status().json()["id"]
                yield Nodes(record, upstream, http, assistant_id, nodes)
