"""Migrations on PostgreSQL, applied while servers of the version before are at work.

What follows from that for a script:

- It only adds. What an old server writes must do for a new one, and the other way round.
- Whoever alters a table waits for all who use it, and everybody else waits behind that one, though
  it has not even begun. So an attempt waits for a moment only, and is made again later.
- `create index` keeps writers out of its table until it is done. For a table that grows with use
  (objects, events, chunks, postings) it has to be `create index concurrently`, which no transaction
  may hold: a script that says "concurrently" is performed statement by statement, each by itself.
  When it is cut off, all of it is performed again, and what it left is an index that nobody uses.
  So such a script holds nothing else, and each `create index concurrently` follows a
  `drop index concurrently if exists` of the same name.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeAlias

import asyncpg
import structlog
from asyncpg import exceptions

from understudy import limits
from understudy.store import postgres_vectors
from understudy.store.postgres_apply import Apply
from understudy.store.postgres_connect import check, connect
from understudy.store.postgres_text import text_of
from understudy.store.postgres_troubles import (
    AGAIN,
    FAILURES,
    REFUSALS,
    Refused,
    TrueErrors,
    unavailable,
    words_of,
)
from understudy.store.statements import load_migrations, load_queries

_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_Migrations: TypeAlias = Sequence[tuple[str, str]]

_LEAST_VERSION = 15
_MIGRATING = 0x756E6465  # The advisory lock of who migrates, within a schema.
_IS_THERE = "select to_regclass(format('%I.migrations', current_schema())) is not null"


async def migrate(
    url: str,
    migrations: _Migrations | None = None,
    queries: Mapping[str, str] | None = None,
    *,
    compares: bool = True,
) -> None:
    """Apply what is new, each migration all or not at all, one server at a time, make the function
    that performs these statements, and what a server that `compares` vectors needs, where that can
    be. ValueError is what an operator has to mend; what was applied before it stays."""
    check(url)
    try:
        connection = await connect(url, limits.CONNECT_S, limits.MIGRATION_S)
        try:
            with TrueErrors():
                await _migrate(
                    connection,
                    migrations or load_migrations("postgres"),
                    Apply(queries or load_queries("postgres")),
                    compares,
                )
        finally:
            await connection.close(timeout=limits.CONNECT_S)
    except (Refused, *REFUSALS) as error:
        raise ValueError(f"PostgreSQL refuses: {words_of(error)}") from error
    except FAILURES as error:
        raise unavailable(error) from error


async def _migrate(
    connection: _Connection, migrations: _Migrations, apply: Apply, compares: bool
) -> None:
    """Who finds nothing new takes no lock, and needs no right to make tables."""
    encoding = await connection.fetchval("show server_encoding")
    check_server(connection.get_server_version().major, encoding)
    schema = await connection.fetchval("select current_schema()")
    if schema is None:
        raise ValueError("the search_path of this database names no schema that exists")
    if (
        not await _new(connection, migrations)
        and await apply.is_there(connection)
        and not (compares and await postgres_vectors.is_wanted(connection))
    ):
        return
    queries = load_queries("postgres")
    record = text_of(queries["record_migration"]).sql
    async with _turn(connection, schema):
        new = await _new(connection, migrations)
        if new:
            await connection.execute(queries["create_migrations"])
        for name, script in new:
            try:
                if "concurrently" in script:
                    await _apart(connection, script)
                    await connection.execute(record, name)
                else:
                    await _whole(connection, name, script, record)
            except exceptions.PostgresError as error:
                if isinstance(error, FAILURES):
                    raise
                raise ValueError(f"migration {name} fails: {words_of(error)}") from error
        if not await apply.is_there(connection):
            await apply.make(connection)
        if compares:
            await _compare_vectors(connection)


async def _compare_vectors(connection: _Connection) -> None:
    """Make what compares vectors, if it is not there and the server lets us."""
    if not await postgres_vectors.is_wanted(connection):
        return
    script = await postgres_vectors.script(connection)
    if script is None:
        return
    try:
        await _whole(connection, "halves", script, patience_s=limits.HALVES_WAIT_S)
    except exceptions.PostgresError as error:
        postgres_vectors.refused(error)


def check_server(version: int, encoding: str) -> None:
    """Refuse a server that lacks what our statements use."""
    if version < _LEAST_VERSION:
        raise ValueError(f"PostgreSQL {version} is too old; {_LEAST_VERSION} or newer is needed")
    if encoding != "UTF8":
        raise ValueError(
            f"this database holds texts as {encoding}, not UTF8; make one with "
            "`create database ... encoding 'UTF8' template template0`"
        )


async def _new(connection: _Connection, migrations: _Migrations) -> _Migrations:
    """Those that were not applied."""
    if not await connection.fetchval(_IS_THERE):
        return migrations
    rows = await connection.fetch(load_queries("postgres")["applied_migrations"])
    applied = {name for (name,) in rows}
    return [(name, script) for name, script in migrations if name not in applied]


@asynccontextmanager
async def _turn(connection: _Connection, schema: str) -> AsyncIterator[None]:
    """Be the only one who migrates. Asked for again and again: a statement that waits would keep
    an index from being built concurrently, and be waited for itself. It ends with the connection,
    however that ends."""
    give_up_at = monotonic() + limits.MIGRATION_S
    taking = "select pg_try_advisory_lock($1, hashtext($2))"
    while not await connection.fetchval(taking, _MIGRATING, schema):
        if monotonic() >= give_up_at:
            raise TimeoutError("another server migrates for too long")
        await asyncio.sleep(limits.MIGRATION_LOOK_S)
    yield


async def _whole(
    connection: _Connection,
    name: str,
    script: str,
    record: str | None = None,
    *,
    patience_s: float = limits.MIGRATION_S,
) -> None:
    """A script in one transaction, as soon as nobody is in its way for long; with the statement
    that notes its name, if that is to be noted."""
    give_up_at = monotonic() + patience_s
    while True:
        try:
            async with connection.transaction():
                wait_ms = int(limits.MIGRATION_LOCK_S * 1000)
                await connection.execute(f"set local lock_timeout = {wait_ms}")
                await connection.execute(script)
                if record is not None:
                    await connection.execute(record, name)
        except (exceptions.LockNotAvailableError, *AGAIN) as error:
            if monotonic() >= give_up_at:
                raise
            log = structlog.get_logger("store")
            log.warning("migration_waits", migration=name, error=words_of(error))
            await asyncio.sleep(limits.MIGRATION_RETRY_S)
        else:
            return


async def _apart(connection: _Connection, script: str) -> None:
    """A script's statements, each by itself; they end their lines with a semicolon."""
    for statement in script.split(";\n"):
        if statement.strip():
            await connection.execute(statement)
