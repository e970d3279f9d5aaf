"""The loader of queries.sql, and what that file must keep to."""

import inspect
import re
from pathlib import Path

from understudy.store import (
    changes,
    claiming,
    halves,
    index_changes,
    postgres,
    sqlite,
    sqlite_tables,
    statements,
    store,
)
from understudy.store.statements import load_migrations, load_queries

TEXT = (Path(statements.__file__).parent / "queries.sql").read_text(encoding="utf-8")


def test_a_twin_is_found_by_the_name_before_its_suffix() -> None:
    text = (
        "-- x\n\n-- name: a.sqlite\n-- One.\nselect 1;\n\n-- name: a.postgres\n-- Two.\nselect 2;"
    )
    assert load_queries("sqlite", text) == {"a": "select 1"}
    assert load_queries("postgres", text) == {"a": "select 2"}


def test_a_script_keeps_the_parts_of_its_dialect() -> None:
    [(name, script), *_] = load_migrations("sqlite")
    assert name == "0001_start"
    assert "autoincrement" in script
    assert "bytea" not in script
    [(_, script), *_] = load_migrations("postgres")
    assert "bytea" in script
    assert "autoincrement" not in script


def test_every_statement_says_what_it_does() -> None:
    blocks = TEXT.split("\n-- name: ")[1:]
    assert blocks
    for block in blocks:
        assert re.match(r"[a-z_]+(\.sqlite|\.postgres)?\n-- [A-Z].*", block), block


def test_every_statement_is_used_and_every_used_one_exists() -> None:
    names = set(load_queries("sqlite"))
    users = (changes, claiming, index_changes, store, sqlite, sqlite_tables)
    source = "".join(map(inspect.getsource, users))
    used = {name for name in names if f'"{name}"' in source}
    assert names - used == set()
    ours = set(load_queries("postgres"))
    assert ours >= names
    of_postgres = "".join(map(inspect.getsource, (postgres, halves)))
    assert {name for name in ours if f'"{name}"' in of_postgres} >= ours - names
