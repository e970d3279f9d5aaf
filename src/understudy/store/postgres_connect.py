"""The way to a PostgreSQL server: a URL that can be read, and a connection as all of ours are."""

from urllib.parse import urlsplit

import asyncpg
from asyncpg import exceptions

from understudy import limits
from understudy.store.postgres_troubles import REFUSALS, TROUBLES, Refused, words_of


def check(url: str) -> None:
    """Refuse a URL that would be read as another one than was meant: its password would be taken
    for a host, asked for in the network and named in errors. ValueError."""
    try:
        parts = urlsplit(url)
        login, _, place = parts.netloc.rpartition("@")
        is_clear = "@" not in login and ("@" in parts.netloc or "@" not in parts.path)
        is_clear = is_clear and all(port.isdigit() for port in _ports(place))
    except ValueError:  # Its words may hold what it could not read.
        is_clear = False
    if not is_clear:
        raise ValueError(
            "this is no URL of a database, postgresql://user:password@host:port/name; what is "
            "special in a password is to be percent-encoded, @ as %40 and / as %2F"
        )


def _ports(place: str) -> list[str]:
    """Of one host or several, behind their names or addresses."""
    ports = [host.rpartition("]")[2].partition(":")[2] for host in place.split(",")]
    return [port for port in ports if port]


async def connect(
    url: str, wait_s: float, patience_s: float
) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection with the settings that all of ours have. After `patience_s` a statement is given
    up, by the server as well: a commit that nobody waits for must not hold its locks. Raises a
    trouble."""
    try:
        return await asyncpg.connect(
            url,
            timeout=wait_s,
            command_timeout=patience_s,
            statement_cache_size=limits.STATEMENT_CACHE,
            max_cached_statement_lifetime=0,
            server_settings={
                "application_name": "understudy",
                # What our statements are made for, whatever a role's or a database's own is.
                "default_transaction_isolation": "read committed",
                # Compiling a plan takes longer than any of our statements.
                "jit": "off",
                # The plan that is kept is right whatever the arguments. Of a claim, to make another
                # takes longer than to perform it, and beside many jobs it was made each time.
                "plan_cache_mode": "force_generic_plan",
                # The default is that of a disk that turns, for which a claim reads and sorts all
                # queued runs of a project.
                "random_page_cost": "1.1",
                "statement_timeout": f"{patience_s * 1000:.0f}",
            },
        )
    except TROUBLES as error:
        if isinstance(error, REFUSALS):
            raise Refused(words_of(error)) from error
        raise
    except (exceptions.PostgresError, ValueError) as error:  # A setting in the URL.
        raise Refused(words_of(error)) from error
    except (exceptions.InterfaceError, exceptions.InternalClientError) as error:
        raise ConnectionError(words_of(error)) from error
