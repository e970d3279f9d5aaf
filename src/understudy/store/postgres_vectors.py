"""Vectors that PostgreSQL compares by itself: what is made for that where it has pgvector.

halves.sql says what that is. A server without the extension, or without the right to make it or
the tables, does without: nothing depends on them. Whether they are there is looked at by each new
connection, which then knows how a vector at half precision is sent.
"""

from array import array
from pathlib import Path
from struct import pack
from typing import TypeAlias

import asyncpg
import structlog
from asyncpg import exceptions

from understudy.store.postgres_troubles import AGAIN, FAILURES, REFUSALS, words_of

_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_LEAST = (0, 7)  # The first pgvector with half precision.
_SCRIPT = Path(__file__).parent / "halves.sql"

# The last thing that halves.sql makes, which goes when the extension does.
_IS_THERE = """
select exists (
  select 1 from pg_proc
  where proname = 'nearest_halves' and pronamespace = current_schema()::regnamespace
)
"""
_AVAILABLE = "select exists (select 1 from pg_available_extensions where name = 'vector')"
_INSTALLED = """
select extversion, quote_ident(nspname)
from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
where extname = 'vector'
"""
# Not into a schema of ours: other schemas of the database may come to use it, and would lose their
# vectors with it.
_HAS_PUBLIC = "select to_regnamespace('public') is not null"
_CREATE = "create extension vector"
# A role that may not use what another one made goes without.
_TYPE = """
select nspname
from pg_attribute
join pg_type on pg_type.oid = atttypid
join pg_namespace on pg_namespace.oid = typnamespace
where attrelid = to_regclass('halves') and attname = 'embedding'
  and has_table_privilege('halves', 'select') and has_table_privilege('halves', 'insert')
  and has_table_privilege('halved', 'select') and has_table_privilege('halved', 'insert')
"""


async def is_wanted(connection: _Connection) -> bool:
    """Whether it is not made yet, and might be."""
    if await connection.fetchval(_IS_THERE):
        return False
    found: bool = await connection.fetchval(_AVAILABLE)
    return found or bool(await connection.fetch(_INSTALLED))


async def script(connection: _Connection) -> str | None:
    """What makes it, with the extension in place; None where that cannot be, for which the log has
    the reason."""
    installed = await connection.fetchrow(_INSTALLED)
    if installed is None:
        where = " with schema public" if await connection.fetchval(_HAS_PUBLIC) else ""
        try:
            await connection.execute(_CREATE + where)
        except exceptions.PostgresError as error:
            # Somebody else may have made it in this moment.
            installed = await connection.fetchrow(_INSTALLED)
            if installed is None:
                refused(error)
                return None
        else:
            installed = await connection.fetchrow(_INSTALLED)
            assert installed is not None, "it was just made"
    version, schema = installed
    if _numbers(version) < _LEAST:
        _go_without(f"version {version} is too old: alter extension vector update")
        return None
    return _SCRIPT.read_text(encoding="utf-8").replace("EXTENSION", schema)


def refused(error: exceptions.PostgresError) -> None:
    """The server does not let us make it, which is told; any trouble of a server that cannot be
    used just now is raised."""
    if isinstance(error, FAILURES) and not isinstance(error, _ITS_OWN):
        raise error
    _go_without(words_of(error))


# Troubles of this alone: no right, no library, or tables that were in use all the while.
_ITS_OWN = (
    *REFUSALS,
    *AGAIN,
    exceptions.LockNotAvailableError,
    exceptions.UndefinedFileError,
)


def _go_without(reason: str) -> None:
    structlog.get_logger("store").warning(
        "pgvector is not used: searches of very large vector stores take longer", reason=reason
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in version.split(".")[:2])


async def prepare(connection: _Connection) -> bool:
    """Have the connection send vectors, if the tables are there; whether they are."""
    if not await connection.fetchval(_IS_THERE):
        return False
    schema = await connection.fetchval(_TYPE)
    if schema is None:
        return False
    await connection.set_type_codec(
        "halfvec", schema=schema, encoder=as_sent, decoder=bytes, format="binary"
    )
    return True


def as_sent(half: bytes) -> bytes:
    """A vector of little-endian halves as the server reads it: the number of dimensions, nothing,
    and big-endian halves."""
    numbers = array("H", half)
    numbers.byteswap()
    swapped = numbers.tobytes()
    return pack(">HH", len(numbers), 0) + swapped
