"""The record of a test on PostgreSQL: a schema for each place that would otherwise have a file.

With UNDERSTUDY_TEST_DATABASE=postgres the suites of engine and API run on it, too; with `fleet`
those of the API and the SDKs run on several nodes (tests/api/fleet_serving.py).
"""

import hashlib
import os
from pathlib import Path

import asyncpg

from tests.fleet.clusters import server
from tests.fleet.statements import execute

IS_CHOSEN = os.environ.get("UNDERSTUDY_TEST_DATABASE") in ("postgres", "fleet")
IS_FLEET = os.environ.get("UNDERSTUDY_TEST_DATABASE") == "fleet"

_made: set[str] = set()


def url_of(place: Path) -> str:
    """The URL of the schema for this place; it is made if it is not there, and goes with the
    process."""
    name = f"test_{hashlib.sha256(str(place.absolute()).encode()).hexdigest()[:24]}"
    if name not in _made:
        execute(server(), f"create schema {name}")
        _made.add(name)
    return f"{server()}?search_path={name}"


def record_url(place: Path) -> str:
    """The record for a place in the database that the tests run on."""
    return url_of(place) if IS_CHOSEN else f"sqlite:///{place}"


def drop() -> None:
    """Drop what was made; each alone, since together they would take more locks than there are."""
    for name in sorted(_made):
        execute(server(), f"drop schema {name} cascade")
    _made.clear()


async def copied(place: Path, to: Path) -> None:
    """Another place with what this one holds; nobody may be at work on it. Its schema is there."""
    source, target = url_of(place), url_of(to)
    from_schema, to_schema = (url.partition("search_path=")[2] for url in (source, target))
    connection = await asyncpg.connect(target)
    try:
        tables = await connection.fetch(
            "select tablename from pg_tables where schemaname = $1 and tablename <> all ($2)",
            to_schema,
            ["halved", "halves", "migrations"],
        )
        for (table,) in tables:
            await connection.execute(
                f"insert into {table} overriding system value select * from {from_schema}.{table}"
            )
        for table, column in (("objects", "seq"), ("stores", "number"), ("documents", "number")):
            await connection.execute(
                f"select setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) "
                f"from {table}"
            )
    finally:
        await connection.close()
