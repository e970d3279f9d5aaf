"""Runs that search: what file_search costs a run beyond the search itself and the model's turn.

Three times are taken in turn: a run whose model searches once and then answers; a run whose model
calls a function that does not exist, is told so by the server, and then answers, which is one turn
more and no search; and the search alone, as a request. What is left of the first without the
others is the tool's own cost: its step, its results counted and shown to the model, its events.
The provider is the rehearsal model in a process of its own, which plays at once.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from benchmarks import texts
from benchmarks.corpus import Layout, fill, new_store
from benchmarks.figures import Figure, judged, median
from benchmarks.instant import SERVER
from benchmarks.plan import QUICK, Plan
from benchmarks.shelf import Json, Shelf
from benchmarks.stage import Stage, understudy
from understudy.assembly import opened_app
from understudy.settings import Settings

_LAYOUT = Layout(50, 40)
_RESULTS = 20  # Of a search within a run.
_WARM = 5
_ANSWER = [{"text": "That is what the files say."}]


def measure(_stage: Stage | None, plan: Plan) -> Iterator[Figure]:
    """The one figure."""
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder, ExitStack() as stack:
        store_id = asyncio.run(_filled(folder))
        port = stack.enter_context(_rehearsal())
        provider = f"http://127.0.0.1:{port}"
        server = stack.enter_context(understudy(Path(folder), provider, main=SERVER))
        shelf = stack.enter_context(closing(Shelf(server.port)))
        yield _added(shelf, port, store_id, plan)


async def _filled(folder: str) -> str:
    settings = Settings(
        data=folder, upstream_url="http://127.0.0.1:9/v1", embedding_model="off", sandbox="off"
    )
    async with opened_app(settings) as app:
        id, number = await new_store(app)
        await fill(app.store, number, _LAYOUT, seed=6)
    return id


def _added(shelf: Shelf, port: int, store_id: str, plan: Plan) -> Figure:
    resources = {"file_search": {"vector_store_ids": [store_id]}}
    assistants = [
        shelf.ask("POST", "/v1/assistants", {"model": model, **fields})["id"]
        for model, fields in (
            ("searches", {"tools": [{"type": "file_search"}], "tool_resources": resources}),
            ("errs", {"tools": []}),
        )
    ]
    rows = []
    for query in texts.queries(np.random.default_rng(8), _WARM + plan.searching_runs):
        _play(port, "searches", {"name": "file_search", "arguments": {"queries": [query]}})
        _play(port, "errs", {"name": "nothing", "arguments": {"queries": [query]}})
        searching_s, erring_s = (_run(shelf, assistant) for assistant in assistants)
        started = time.perf_counter()
        found = shelf.search(store_id, query, _RESULTS)
        rows.append((searching_s, erring_s, time.perf_counter() - started))
        assert found, "there is something to find"
    del rows[:_WARM]
    searching_s, erring_s, search_s = (median(list(column)) for column in zip(*rows, strict=True))
    added = median([row[0] - row[1] - row[2] for row in rows])
    return judged(
        Figure(
            name="a run with one search, beyond the turn and the search",
            ours=_ms(searching_s),
            baseline=f"{_ms(erring_s)} + {_ms(search_s)}",
            result=f"{_ms(added)} added",
            note=f"{len(rows)} runs; {_LAYOUT.files * _LAYOUT.chunks:,} chunks in the store",
        ),
        1000 * added,
        at_most=10,
        unit=" ms",
    )


def _run(shelf: Shelf, assistant_id: str) -> float:
    """Seconds of a streamed run in a thread of its own, which is asserted to complete."""
    said = [{"role": "user", "content": "What do the files say?"}]
    thread_id = shelf.ask("POST", "/v1/threads", {"messages": said})["id"]
    started = time.perf_counter()
    path = f"/v1/threads/{thread_id}/runs"
    events = shelf.streamed("POST", path, {"assistant_id": assistant_id, "stream": True})
    taken = time.perf_counter() - started
    assert b"event: thread.run.completed" in events, events[-600:]
    return taken


def _play(port: int, model: str, call: Json) -> None:
    """Set what the provider's model plays: one call, then an answer."""
    body = {"model": model, "script": {"turns": [[{"call": call}], _ANSWER]}}
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/rehearsal/script", json.dumps(body).encode(), headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()


@contextmanager
def _rehearsal() -> Iterator[int]:
    """The rehearsal model's process; its port."""
    main = "from understudy.cli import main; main()"
    command = [sys.executable, "-c", main, "rehearsal", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None, "opened with a pipe"
            address = process.stdout.readline().decode()
            yield int(address.rsplit(":", 1)[1].split("/")[0])
        finally:
            process.terminate()


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


if __name__ == "__main__":
    from benchmarks import report

    print(report.conditions())
    for one in measure(None, QUICK if "--quick" in sys.argv else Plan()):
        print(f"{one.name}: {one.ours} - {one.baseline} = {one.result}; {one.note}", flush=True)
