"""Statements on a crowded record: each finds its rows by an index, whatever plan is kept for it."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
import pytest_asyncio

from tests.fleet.clusters import private, schema
from understudy.store import Statement
from understudy.store.postgres_connect import connect
from understudy.store.postgres_line import Texts
from understudy.store.postgres_migrations import migrate
from understudy.store.postgres_text import batch_of
from understudy.store.statements import load_queries

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Plan: TypeAlias = dict[str, Any]
Args: TypeAlias = Mapping[str, object]

QUERIES = load_queries("postgres")
CROWD = (Path(__file__).parent / "crowd.sql").read_text()
CROWDED = {
    "chunks",
    "documents",
    "events",
    "idempotency",
    "jobs",
    "journal",
    "keys",
    "objects",
    "parts",
    "postings",
    "tombstones",
}

FIRST = {"low_at": -1e300, "low_seq": -(2**63), "high_at": 1e300, "high_seq": 2**63 - 1}
MIDDLE = FIRST | {"low_at": 2_500.0}
MESSAGES = {"kind": "message", "project": "proj_1", "parent": "thread_1", "limit": 21}
FILES = {"kind": "file", "project": "proj_0", "parent": "", "limit": 21}
PLACES = {"kind": "vector_store_file", "project": "proj_0", "parent": "vs_0", "limit": 21}
NO_FILTER = {"purpose": None, "status": None, "ids": None}
MESSAGE: dict[str, object] = {"id": "msg_5", "kind": "message", "project": "proj_1"}
HELD = [[f"run_l{number}", 1] for number in range(1, 501)]
DELTAS = [[f"run_l{number}", 1, 5, 5, 1.0, [1, 3], "me"] for number in range(1, 251)]
IDS = [f"msg_{number}" for number in range(1, 101)]
TERMS = json.dumps(["term1", "term2", "term70", "none"])
IN_STORE: dict[str, object] = {"file_id": "file-5", "store_id": "vs_0", "project": "proj_0"}

# Statement → arguments, and pages of 8 KB that it may look at; 5 a row is what an index costs.
STATEMENTS: list[tuple[str, Args, int]] = [
    ("get", MESSAGE, 10),
    ("get_many", {"ids": json.dumps(IDS), "kind": "message", "project": "proj_1"}, 500),
    ("cursor", MESSAGE | {"parent": "thread_1"}, 10),
    ("list_asc", MESSAGES | MIDDLE, 40),
    ("list_desc", MESSAGES | FIRST, 40),
    ("newest", MESSAGES | {"most_bytes": 16_384}, 40),
    ("list_run_messages_asc", MESSAGES | FIRST | {"run_id": "run_12"}, 40),
    ("list_run_messages_desc", MESSAGES | MIDDLE | {"run_id": "run_600"}, 40),
    ("list_filtered_asc", FILES | FIRST | NO_FILTER | {"purpose": "user_data"}, 80),
    ("list_filtered_desc", PLACES | FIRST | NO_FILTER | {"status": "in_progress"}, 80),
    ("update_object", MESSAGE | {"body": "{}", "private": None, "version": None}, 60),
    (
        "overwrite_object",
        MESSAGE | {"head": '{"metadata":', "tail": "}", "private": None},
        60,
    ),
    ("bury_object", MESSAGE, 30),
    ("delete_object", MESSAGE, 30),
    ("grow", {"id": "thread_1", "project": "proj_1", "by": 1, "limit": 100}, 60),
    ("require_object", {"id": "thread_1", "kind": "thread", "project": "proj_1"}, 20),
    ("purge_steps", {"parent": "thread_7", "limit": 500}, 100),
    ("purge_events", {"parent": "thread_7", "limit": 500}, 600),
    ("purge_journal", {"parent": "thread_7", "limit": 500}, 200),
    ("purge_children", {"parent": "thread_7", "limit": 500}, 400),
    ("purge_tombstones", {"parent": "thread_7", "limit": 500}, 60),
    ("job", {"id": "run_q1"}, 10),
    ("active_run", {"thread_id": "q1"}, 10),
    ("next_due", {}, 60),
    ("next_ingest", {"now": 1e5}, 60),
    (
        "claim_jobs",
        {
            "owner": "w",
            "now": 1e5,
            "lease_until": 2e5,
            "free": 50,
            "per_project": 500,
            "urgent": 100,
            "waited_since": 1e5 - 2,
            "alive_since": 1e5 - 10,
            "with_lost": True,
            "limit": 17,
            "most_bytes": 16_384,
        },
        4_000,
    ),
    (
        "claim_run",
        {
            "id": "run_q1",
            "owner": "w",
            "now": 1e5,
            "lease_until": 2e5,
            "per_project": 500,
            "waited_since": 1e5 - 2,
            "alive_since": 1e5 - 10,
            "limit": 17,
            "most_bytes": 16_384,
        },
        600,
    ),
    ("claimed", {"owner": "me", "lease_until": 2e5}, 4_000),
    ("beginning", {"id": "run_q1", "limit": 17, "most_bytes": 16_384}, 60),
    ("claim_ingest", {"owner": "w", "now": 1e5, "lease_until": 2e5, "free": 2}, 200),
    (
        "renew_leases",
        {"owner": "me", "now": 1e5, "lease_until": 2e5, "held": json.dumps(HELD)},
        12_000,
    ),
    ("thread_free", {"thread_id": "q1"}, 10),
    ("hold_job", {"id": "run_l1", "owner": "me", "fence": 1, "cancelled_ok": False}, 20),
    ("rest_job", {"id": "run_l1", "fence": 1, "due_at": 1.0}, 60),
    (
        "take_job",
        {
            "id": "run_q1",
            "fence": 0,
            "owner": "w",
            "lease_until": 2e5,
            "due_at": 1.0,
            "now": 1e5,
            "next_call": None,
        },
        60,
    ),
    ("ask_cancel", {"id": "run_q1", "now": 1.0}, 60),
    ("delete_job", {"id": "run_q1", "fence": 0}, 20),
    ("save_deltas", {"rows": json.dumps(DELTAS), "bytes": b"abc"}, 5_000),
    ("events", {"run_id": "run_5", "fence": 1, "seq": 60}, 80),
    ("prune_deltas", {"before": 12_000.0, "limit": 2_000}, 14_000),
    (
        "end_call",
        {"run_id": "run_5", "key": "turn-0", "attempt": 1, "ended_at": 1.0, "outcome": "x"},
        40,
    ),
    ("journal", {"run_id": "run_5"}, 20),
    ("answer", {"project": "proj_1", "key": "key_1"}, 10),
    ("key", {"hash": "hash_5"}, 10),
    ("touch_store", {"id": "vs_1", "now": 2.0}, 40),
    ("store_facts", {"ids": '["vs_3"]'}, 120),
    ("indexes", {"ids": '["vs_0"]', "project": "proj_0"}, 10),
    ("ready_documents", {"store": 5}, 80),
    ("document", IN_STORE, 20),
    ("file_names", {"ids": '["vs_3"]', "project": "proj_3", "limit": 50}, 120),
    ("store_referenced", {"project": "proj_1", "store_id": "vs_1", "besides": "x"}, 20),
    ("postings", {"stores": "[1]", "terms": TERMS}, 100),
    ("count_postings", {"stores": "[1]", "terms": TERMS}, 100),
    ("vectors", {"documents": json.dumps(list(range(1, 65)))}, 400),
    ("chunk_spans", {"places": json.dumps([[n, 1] for n in range(1, 51)])}, 300),
    ("chunk_texts", {"stretches": json.dumps([[n, 0, 2] for n in range(1, 51)])}, 300),
    ("text", {"document": 5, "from": 0, "limit": 1_000}, 20),
    ("set_attributes", {"file_id": "file-5", "store_id": "vs_0", "attributes": "{}"}, 60),
    ("uncount_document", IN_STORE, 60),
    ("drop_document", IN_STORE, 60),
    ("abandon_documents", {"store": 1}, 200),
    ("delete_store_files", {"file_id": "file-5", "project": "proj_0"}, 40),
    ("gone_part", {}, 20),
    ("forget_answers", {"before": 5.0, "limit": 500}, 60),
    ("drop_documents", {"store_id": "vs_5", "project": "proj_5"}, 2_000),
    ("purge_postings", {"store": 1, "document": 5, "part": 0}, 40),
    ("any_in_progress", {"store_id": "vs_0"}, 20),
]
# Where it is quicker: of jobs there are only those that are not done, and what would be looked at
# of a run is looked at only when nothing else is left to purge.
MAY_READ_ALL = {
    ("prune_deltas", "jobs"),
    ("purge_children", "objects"),
    ("purge_children", "events"),
    ("purge_children", "journal"),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A crowded record on a server of its own, whose plans depend on nobody else."""
    with private(autovacuum="off") as cluster, schema(cluster.url) as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connection(url: str) -> AsyncIterator[Connection]:
    """A connection as the store has them."""
    await migrate(url)
    made = await connect(url, 10.0, 60.0)
    await made.execute(CROWD)
    yield made
    await made.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("query", "args", "pages"), STATEMENTS, ids=[s[0] for s in STATEMENTS])
async def test_a_statement_reads_little(
    connection: Connection, query: str, args: Args, pages: int
) -> None:
    """With its first plan, with the one that is kept after some times, and within a commit."""
    texts = Texts(QUERIES)
    text = texts.alone[query]
    ways: list[tuple[str, str, list[Any]]] = [
        (text.sql, "force_custom_plan", text.values(args)),
        (text.sql, "force_generic_plan", text.values(args)),
    ]
    if query in texts.apply.numbers:
        part = await texts.part(query, connection, timeout_s=10.0)
        batch = batch_of([(part, Statement(query, args))], texts.apply.numbers)
        in_commit = part.sql.replace("_texts[_t + ", "($1::text[])[")
        in_commit = in_commit.replace("_bytes[_b + ", f"(${2 if batch.texts else 1}::bytea[])[")
        lists: list[Any] = [given for given in (batch.texts, batch.bytes) if given]
        ways.append((in_commit, "force_generic_plan", lists))
    for sql, mode, values in ways:
        plan = await explained(connection, sql, mode, values)
        read_whole = {
            node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"
        }
        assert {(query, table) for table in read_whole & CROWDED} <= MAY_READ_ALL
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= pages


async def explained(connection: Connection, sql: str, mode: str, values: list[Any]) -> Plan:
    """The plan, performed and undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"set local plan_cache_mode = {mode}")
        [(told,)] = await connection.fetch(
            f"explain (analyze, buffers, timing off, format json) {sql}", *values
        )
    finally:
        await transaction.rollback()
    plan: Plan = json.loads(told)[0]["Plan"]
    return plan


def nodes(plan: Plan) -> Iterator[Plan]:
    """The plan's steps, all of them."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)
