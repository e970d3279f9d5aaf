"""How PostgreSQL finds rows by their keys in tables that it knows nothing about yet.

Until it has analysed a table, which it does about a minute after much was written, it goes by
guesses. Then every index on what a statement names is as good as the one of ids, and for what it
thinks are many rows it reads whole tables.
"""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from tests import postgres
from tests.conformance.shapes import PROJECT
from understudy.store import open_database
from understudy.store.postgres_text import text_of
from understudy.store.statements import load_queries

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

KINDS = ["assistant", "file", "message", "run", "thread", "vector_store", "vector_store_file"]
STATEMENTS = [
    "bury_object",
    "delete_object",
    "get",
    "grow",
    "overwrite_object",
    "require_object",
    "require_version",
    "update_object",
]
COUNT = 5_000  # Of a kind; a tenth of them is read quickly either way.
_FILL = """
insert into objects (id, kind, project, parent, created_at, body)
select $1 || '_' || number, $1, $2, 'parent', number,
  '{"id":"x","purpose":"assistants","metadata":{}}'
from generate_series(1, $3) as number
"""


_FILL_CHUNKS = """
insert into chunks (document, ordinal, start, stop, text)
select number / 50, number % 50, 0, 1000, repeat('word ', 200) from generate_series(0, $1) as number
"""
_FILL_POSTINGS = """
insert into postings (store, term, document, part, data)
select 1, 'term' || term, document, 0, 'x' from generate_series(1, 100) as document,
  generate_series(1, 100) as term
"""


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    """A connection to a record."""
    url = postgres.url_of(tmp_path)
    await (await open_database(url)).close()
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_object_is_found_by_its_id(connection: Connection, kind: str) -> None:
    """Of a commit of thousands of statements, each would else read all that the project has."""
    await connection.execute(_FILL, kind, PROJECT, COUNT)
    args = {
        "id": f"{kind}_{COUNT // 2}",
        "kind": kind,
        "project": PROJECT,
        "version": 1,
        "by": 1,
        "limit": 9,
        "body": "{}",
        "private": None,
        "head": "",
        "tail": "",
    }
    for name in STATEMENTS:
        plan = await explained(connection, name, args)
        assert "objects_id" in plan and "Rows Removed by Filter" not in plan, plan


async def test_chunks_are_found_by_their_places(connection: Connection) -> None:
    """Of ten results; there are the chunks of all stores in this table."""
    await connection.execute(_FILL_CHUNKS, 20_000)
    stretches = [[document, 3, 5] for document in range(0, 400, 40)]
    args = {"places": json.dumps([stretch[:2] for stretch in stretches])}
    assert "Seq Scan on chunks" not in await explained(connection, "chunk_spans", args)
    args = {"stretches": json.dumps(stretches)}
    assert "Seq Scan on chunks" not in await explained(connection, "chunk_texts", args)


async def test_postings_are_read_from_their_index_alone(connection: Connection) -> None:
    """Each of a term's rows is in another page of the table."""
    await connection.execute(_FILL_POSTINGS)
    await connection.execute("vacuum (analyze) postings")
    # While another test of this server holds a snapshot, the rows are not known to be seen by all,
    # and the plan would be another one.
    await connection.execute("set enable_bitmapscan = off")
    args = {"stores": "[1]", "terms": '["term7","term70"]'}
    assert "Index Only Scan" in await explained(connection, "postings", args)


async def explained(connection: Connection, name: str, args: Mapping[str, object]) -> str:
    """How a statement is performed; it is undone."""
    text = text_of(load_queries("postgres")[name])
    transaction = connection.transaction()
    await transaction.start()
    try:
        rows = await connection.fetch(f"explain analyze {text.sql}", *text.values(args))
    finally:
        await transaction.rollback()
    return "\n".join(line for (line,) in rows)
