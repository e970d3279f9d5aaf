"""KEDA's question to the record, asked of a real one: which runs are work for a worker, now."""

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types.beta import FunctionToolParam
from openai.types.beta.threads import Run

from tests.conformance.shapes import job
from tests.crash.processes import KEY, running_provider
from tests.deploy.files import ROOT, SETTINGS, Yaml
from tests.deploy.manifests import AS_IT_STANDS, named
from tests.fleet.clusters import schema
from tests.fleet.fleet import Shared, fleet
from tests.fleet.statements import fetch
from understudy.store import Statement, open_database
from understudy.store.changes import hand_over_job, keep_node, rest_job, take_job
from understudy.store.store import Store
from understudy.world import World

LATER_S = 600.0


def trigger(kind: str) -> Yaml:
    """One of those that the number of workers depends on."""
    scaled = named(AS_IT_STANDS, "ScaledObject", "understudy-worker")
    (found,) = [one for one in scaled["spec"]["triggers"] if one["type"] == kind]
    return dict(found)


@pytest.fixture
async def store() -> AsyncIterator[tuple[str, Store]]:
    """A record of its own, by its URL and as a server has it."""
    with schema() as url:
        database = await open_database(url, on_fatal=print)
        try:
            yield url, Store(database)
        finally:
            await database.close()


def count(url: str) -> int:
    """What KEDA would be told."""
    ((found,),) = fetch(url, trigger("postgresql")["metadata"]["query"])
    assert isinstance(found, int)
    return found


def leased(id: str, until: float, now: float) -> Statement:
    """A run that a worker drives, or drove."""
    return job(id, due_at=now, expires_at=now + LATER_S, owner="worker", until=until, fence=1)


async def test_runs_that_are_driven_queued_or_due_count_and_no_others(
    store: tuple[str, Store],
) -> None:
    """Each step of the lives of some runs, and work that is no run."""
    url, record = store
    now = World().now()
    later = now + LATER_S
    assert count(url) == 0
    await record.commit(leased("driven", later, now))
    assert count(url) == 1
    await record.commit(job("queued", due_at=now, expires_at=later, next_call="model:1"))
    assert count(url) == 2
    await record.commit(job("files", kind="ingest", due_at=now, owner="worker", until=later))
    await record.commit(job("blob", kind="blob", due_at=now - 1))
    assert count(url) == 2
    # It waits for its client's tool outputs, and then it has them.
    await record.commit(rest_job("driven", fence=1, due_at=later))
    assert count(url) == 1
    await record.commit(
        take_job(
            "driven",
            now=now,
            fence=1,
            owner=None,
            lease_until=None,
            due_at=now,
            next_call="model:2",
        )
    )
    assert count(url) == 2
    # Its worker goes: in good order, or it is dead, which only the end of the lease tells.
    await record.commit(leased("left", later, now))
    await record.commit(hand_over_job("left", owner="worker", fence=1, now=now))
    await record.commit(leased("lost", now - 1, now))
    assert count(url) == 4
    # Nobody has sent the tool outputs in time, so somebody has to end it.
    await record.commit(job("expired", due_at=now - 1, expires_at=now - 1))
    assert count(url) == 5


def test_it_counts_the_runs_of_real_servers(tmp_path: Path) -> None:
    """One whose provider has said nothing yet, and one that waits for its client."""
    with (
        schema() as url,
        running_provider(tmp_path) as provider,
        fleet(tmp_path, Shared(provider.url, database_url=url), serve=1) as nodes,
    ):
        client = OpenAI(base_url=nodes["serve-0"].url, api_key=KEY, timeout=20, max_retries=0)
        runs = client.beta.threads.runs
        assistant = client.beta.assistants.create(model="rehearsal")

        def start(content: str, tools: Iterable[FunctionToolParam] = ()) -> Run:
            thread = client.beta.threads.create(messages=[{"role": "user", "content": content}])
            return runs.create(thread.id, assistant_id=assistant.id, tools=tools)

        silent = start('rehearse: {"steps": [{"silence": true}]}')
        assert count(url) == 1
        asking = start("call look", [{"type": "function", "function": {"name": "look"}}])
        assert runs.poll(asking.id, thread_id=asking.thread_id).status == "requires_action"
        assert count(url) == 1
        runs.cancel(silent.id, thread_id=silent.thread_id)
        assert runs.poll(silent.id, thread_id=silent.thread_id).status == "cancelled"
        assert count(url) == 0


async def test_what_operators_are_told_to_ask_the_record_is_right(
    store: tuple[str, Store],
) -> None:
    """On the page that says what to watch."""
    url, record = store
    page = (ROOT / "docs/deploy.md").read_text()
    runs, nodes = re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)
    now = World().now()
    await record.commit(leased("driven", now + LATER_S, now))
    await record.commit(job("queued", due_at=now - 60, next_call="model:1"))
    await record.commit(job("waits", due_at=now + LATER_S))
    ((driven, waiting, longest_wait_s),) = fetch(url, runs)
    assert (driven, waiting) == (1, 1)
    assert 60 <= longest_wait_s < 90
    await record.commit(keep_node("boot_1", role="worker", version="1", live_runs=3, now=now - 60))
    ((*said, silent_s),) = fetch(url, nodes)
    assert said == ["worker", "1", 3]
    assert 60 <= silent_s < 90


def test_it_logs_in_as_servers_do() -> None:
    """With the URL in their Secret, whose name has a digest at its end."""
    name = trigger("postgresql")["authenticationRef"]["name"]
    login = named(AS_IT_STANDS, "TriggerAuthentication", name)
    (target,) = login["spec"]["secretTargetRef"]
    assert target["parameter"] == "connection"
    assert target["key"] in named(AS_IT_STANDS, "Secret", target["name"])["data"]
    assert target["key"] in SETTINGS


def test_files_and_code_count_as_well() -> None:
    """They are no runs, and keep the processor busy."""
    assert trigger("cpu")["metricType"] == "Utilization"
