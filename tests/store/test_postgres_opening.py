"""What an operator hears when PostgreSQL cannot be opened: the reason in one line, no secret."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.conformance.shapes import thread
from tests.fleet.clusters import Cluster, private
from tests.fleet.statements import execute, fetch
from tests.ports import free_port
from tests.test_cli import START, environment, served
from understudy.store import Database, Unavailable, open_database
from understudy.store.postgres_migrations import check_server
from understudy.store.store import Store

SECRET = "hunter2"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A server that asks everybody but its superuser for a password."""
    with private() as cluster:
        [(rules,)] = fetch(cluster.url, "show hba_file")
        lines = "values ('host all postgres all trust'), ('host all all all scram-sha-256')"
        execute(
            cluster.url,
            f"create role app login password '{SECRET}'",
            "create role clerk login password 'clerk'",
            "create schema app authorization app",
            f"copy ({lines}) to '{rules}'",
            "select pg_reload_conf()",
        )
        yield cluster


def url_of(cluster: Cluster, login: str, rest: str = "postgres?search_path=app") -> str:
    """A URL with this user and password."""
    return f"postgresql://{login}@127.0.0.1:{cluster.port}/{rest}"


async def opened(url: str) -> Database:
    """A database, closed again."""
    database = await open_database(url)
    await database.close()
    return database


@pytest.mark.parametrize(
    ("login", "rest", "words"),
    [
        (f"app:{SECRET}x", "postgres", 'password authentication failed for user "app"'),
        (f"nobody:{SECRET}", "postgres", 'password authentication failed for user "nobody"'),
        (f"app:{SECRET}", "missing", 'database "missing" does not exist'),
        (f"app:{SECRET}", "postgres?search_path=missing", "names no schema that exists"),
        (f"app:{SECRET}", "postgres?search_path=public", "permission denied for schema public"),
        (f"app:{SECRET}", "postgres?no_such=1", "unrecognized configuration parameter"),
        (f"app:{SECRET}", "postgres?sslmode=maybe", "`sslmode` parameter must be one of"),
        (f"app:{SECRET}", "postgres?client_encoding=x", "invalid value for parameter"),
        (f"app:{SECRET}@x", "postgres", "what is special in a password is to be percent-encoded"),
        (f"app:{SECRET}/x", "postgres", "what is special in a password is to be percent-encoded"),
        (f"app:{SECRET}[x", "postgres", "what is special in a password is to be percent-encoded"),
    ],
)
async def test_what_an_operator_has_to_mend_is_named(
    guarded: Cluster, login: str, rest: str, words: str
) -> None:
    """As a mistake in the settings; and the password is not in it."""
    with pytest.raises(ValueError) as refused:
        await opened(url_of(guarded, login, rest))
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)


async def test_a_password_may_hold_anything_that_is_encoded(guarded: Cluster) -> None:
    execute(guarded.url, "create role odd login password 'a@b/c:d#e?f%g'", "grant app to odd")
    execute(guarded.url, "create schema odd authorization odd")
    login = "odd:a%40b%2Fc%3Ad%23e%3Ff%25g"
    await opened(url_of(guarded, login, "postgres?search_path=odd"))


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Now, and maybe not later."""
    with pytest.raises(Unavailable, match="Connect call failed"):
        await opened(f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d")


async def test_a_role_without_rights_to_make_tables_may_serve_what_was_migrated(
    guarded: Cluster,
) -> None:
    """Whoever migrates is another one, as operators like it."""
    await opened(url_of(guarded, f"app:{SECRET}"))
    execute(
        guarded.url,
        "grant usage on schema app to clerk",
        "grant select, insert, update, delete on all tables in schema app to clerk",
    )
    store = Store(await open_database(url_of(guarded, "clerk:clerk")))
    await store.commit(thread())
    await store.ping()
    await store.close()


async def test_a_password_that_changes_is_a_trouble_of_a_running_server(guarded: Cluster) -> None:
    """Whose callers hear that the record is unavailable, until it is let in again."""
    url = url_of(guarded, f"app:{SECRET}")
    store = Store(await open_database(url))
    execute(guarded.url, "alter role app password 'another'")
    end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'"
    execute(guarded.url, end)
    for _ in range(2):
        with pytest.raises(Unavailable, match="password authentication failed"):
            await store.keys(None)
        with pytest.raises(Unavailable, match="password authentication failed"):
            await store.free_leases(owner="w", now=1.0)
    execute(guarded.url, f"alter role app password '{SECRET}'")
    assert await store.keys(None) == []
    await store.close()


async def test_a_database_of_another_encoding_is_refused(guarded: Cluster) -> None:
    """It could not hold what clients write."""
    execute(guarded.url, "create database latin encoding 'LATIN1' locale 'C' template template0")
    with pytest.raises(ValueError, match="holds texts as LATIN1, not UTF8"):
        await opened(url_of(guarded, "postgres", "latin"))


def test_an_old_server_is_refused() -> None:
    check_server(15, "UTF8")
    with pytest.raises(ValueError, match="PostgreSQL 14 is too old; 15 or newer is needed"):
        check_server(14, "UTF8")


async def test_commands_say_in_one_line_why_they_cannot_open_it(
    guarded: Cluster, tmp_path: Path
) -> None:
    """2 for what is wrong in the settings, 1 for what may pass; never a traceback."""
    wrong = url_of(guarded, f"app:{SECRET}x")
    away = f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/d"
    mended = "understudy: UNDERSTUDY_DATABASE_URL: PostgreSQL refuses: password authentication"
    failures = await asyncio.gather(
        asyncio.to_thread(failed, tmp_path, "serve", wrong),
        asyncio.to_thread(failed, tmp_path, "worker", wrong),
        asyncio.to_thread(failed, tmp_path, "check", wrong),
        asyncio.to_thread(failed, tmp_path, "api", away),
    )
    for done, code, begin in zip(
        failures, (2, 2, 2, 1), (mended, mended, mended, "understudy: PostgreSQL"), strict=True
    ):
        assert done.returncode == code
        assert done.stderr.startswith(begin)
        assert len(done.stderr.splitlines()) == 1
        assert SECRET not in done.stdout + done.stderr


def test_neither_banner_nor_logs_nor_health_show_the_password(
    guarded: Cluster, tmp_path: Path
) -> None:
    """Also while the database is away, of which all three speak."""
    url = url_of(guarded, f"app:{SECRET}")
    with served(tmp_path, UNDERSTUDY_DATABASE_URL=url, UNDERSTUDY_LOG_LEVEL="debug") as server:
        guarded.stop()
        health = httpx2.get(server.url.replace("/v1", "/health"))
        guarded.start()
        _, logged = server.stop()
    assert health.status_code == 503
    assert "PostgreSQL cannot be used" in health.text
    assert url.replace(SECRET, "…") in "".join(server.banner)
    assert SECRET not in health.text + logged + "".join(server.banner)


def failed(folder: Path, command: str, url: str) -> "subprocess.CompletedProcess[str]":
    """A command on this record, at its end."""
    return subprocess.run(
        [*START, command],
        cwd=folder,
        env=environment(UNDERSTUDY_DATABASE_URL=url, UNDERSTUDY_PORT=str(free_port())),
        capture_output=True,
        text=True,
        timeout=60,
    )
