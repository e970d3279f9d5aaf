"""How PostgreSQL finds an object by its id in a table that it knows nothing about yet.

Until it has analysed a table, which it does about a minute after much was written, it goes by
guesses. Then every index on what the statement names is as good as the one of ids, and reading all
that a project has takes milliseconds for each statement of a commit of thousands.
"""

from pathlib import Path

import asyncpg
import pytest

from tests import postgres
from tests.conformance.shapes import PROJECT
from understudy.store import open_database
from understudy.store.postgres_text import text_of
from understudy.store.statements import load_queries
from understudy.store.store import Store

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


@pytest.mark.parametrize("kind", KINDS)
async def test_an_object_is_found_by_its_id(tmp_path: Path, kind: str) -> None:
    url = postgres.url_of(tmp_path)
    store = Store(await open_database(url))
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_FILL, kind, PROJECT, COUNT)
        for name in STATEMENTS:
            plan = await explained(connection, name, kind)
            assert "objects_id" in plan and "Rows Removed by Filter" not in plan, plan
    finally:
        await connection.close()
        await store.close()


async def explained(connection: "asyncpg.Connection[asyncpg.Record]", name: str, kind: str) -> str:
    """How a statement about one object is performed; it is undone."""
    args = {
        "id": f"{kind}_{COUNT // 2}",
        "kind": kind,
        "project": PROJECT,
        "parent": "parent",
        "version": 1,
        "by": 1,
        "limit": 9,
        "body": "{}",
        "private": None,
        "head": "",
        "tail": "",
    }
    text = text_of(load_queries("postgres")[name])
    transaction = connection.transaction()
    await transaction.start()
    try:
        rows = await connection.fetch(f"explain analyze {text.sql}", *text.values(args))
    finally:
        await transaction.rollback()
    return "\n".join(line for (line,) in rows)
