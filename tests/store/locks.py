"""Sessions that are in a store's way, and what waits for them."""

import asyncio
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

WAIT_S = 10.0
_LOOK_S = 0.01
# Of the schema's stores: commits hold a lock on the one table, reads of objects want the other.
_WAITING = """
select pid from pg_stat_activity
where wait_event_type = 'Lock' and application_name = 'understudy'
  and pid in (
    select pid from pg_locks where relation in ('commits'::regclass, 'objects'::regclass)
  )
order by query_start
"""


async def blocker(url: str, sql: str = "select 1 from objects for update") -> Connection:
    """A session in a transaction that holds all objects."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"begin; {sql}")
    return connection


async def waiting_for_locks(url: str, count: int) -> list[int]:
    """The server processes of so many callers of this schema's stores, as soon as they wait; the
    first one first."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                pids = [pid for (pid,) in await connection.fetch(_WAITING)]
                if len(pids) == count:
                    return pids
                await asyncio.sleep(_LOOK_S)
    finally:
        await connection.close()
