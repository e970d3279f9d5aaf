"""Odd texts and numbers: NULs, escapes of escapes, megabytes; PostgreSQL reads what SQLite does."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import apsw
import asyncpg
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.shapes import PROJECT, job, thread
from tests.fleet.clusters import schema
from understudy.store import changes, index_changes, open_database
from understudy.store.index_changes import record_id
from understudy.store.store import Store

NUL, NUL_IS = "\0", "\N{REPLACEMENT CHARACTER}"
# What JSON escapes, what looks like an escape, and what is neither.
LETTERS = st.sampled_from(
    [NUL, "\\", '"', "u0000", "\\u0000", "u", "0", "a", "é", "😀", "\x1f", " "]
)
TEXTS = st.lists(LETTERS, max_size=12).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers(-(2**53), 2**53) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["status", "run_id", "tools"])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A schema for all of these tests."""
    with schema() as fresh:
        yield fresh


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A store in it."""
    store = Store(await open_database(url))
    yield store
    await store.close()


class Operators:
    """The JSON operators of both databases on one text."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._postgres = self._runner.run(self._connected(url))
        self._sqlite = apsw.Connection(":memory:")

    async def _connected(self, url: str) -> "asyncpg.Connection[asyncpg.Record]":
        await (await open_database(url)).close()
        return await asyncpg.connect(url)

    def postgres(self, expression: str, body: str) -> Any:
        """What a column with this text gives."""
        sql = f"select {expression} from (select cast($1 as text) as body) as one"
        return self._runner.run(self._postgres.fetchval(sql, body))

    def sqlite(self, expression: str, body: str) -> Any:
        """The same, with a NUL as PostgreSQL has to show it."""
        [(value,)] = self._sqlite.execute(f"select {expression} from (select ? as body)", (body,))
        return value.replace(NUL, NUL_IS) if isinstance(value, str) else value

    def close(self) -> None:
        """Hang up."""
        self._runner.run(self._postgres.close())
        self._runner.close()


@pytest.fixture(scope="module")
def operators(url: str) -> Iterator[Operators]:
    """In this schema, whose operators these are."""
    made = Operators(url)
    yield made
    made.close()


@settings(deadline=None, max_examples=300)
@given(
    document=st.dictionaries(NAMES | TEXTS, VALUES, max_size=5),
    is_ascii=st.booleans(),
    is_wide=st.booleans(),
)
def test_operators_read_what_sqlites_read(
    operators: Operators, document: dict[str, object], is_ascii: bool, is_wide: bool
) -> None:
    """However the document writes its letters; and nothing in it makes them fail."""
    written = partial(
        json.dumps,
        ensure_ascii=is_ascii,
        separators=(" , ", " : ") if is_wide else (",", ":"),
    )
    body = written(document)
    for name in ("status", "run_id"):
        expression = f"body ->> '{name}'"
        found = operators.postgres(expression, body)
        if isinstance(document.get(name), str | None):
            assert found == operators.sqlite(expression, body)
        else:
            assert json.loads(found) == without_nul(document[name])
    found = operators.postgres("(body -> 'tools')::text", body)
    assert found is None or json.loads(found) == without_nul(document["tools"])
    nested = written({"tools": {"status": {"ids": [document.get("status", 1), document]}}})
    path = "body -> 'tools' -> 'status' -> 'ids' -> 1 ->> 'run_id'"
    assert operators.postgres(path, nested) == operators.postgres("body ->> 'run_id'", body)


def without_nul(value: object) -> object:
    """A value as PostgreSQL shows it; keys keep theirs, since nobody asks for such a one."""
    match value:
        case str():
            return value.replace(NUL, NUL_IS)
        case list():
            return [without_nul(one) for one in value]
        case dict():
            return {key.replace(NUL, NUL_IS): without_nul(one) for key, one in value.items()}
    return value


ODD = [
    "a\0b",
    "\0",
    "\\u0000",
    "\\\0",
    '"\\\\\0\\"',
    "😀\0é",
    "'; drop table objects; --",
    "$1 :id %s {} \x7f",
    "x" * 1_000_000,
    "\0" * 100_000,
    "\\" * 300_000 + "\0",
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
async def test_a_body_comes_back_byte_for_byte_and_its_fields_are_found(
    store: Store, odd: str
) -> None:
    """What is filtered by is bound by the API; the rest of a body is anything."""
    value = json.dumps(odd)
    text = odd[:40]
    body = (
        f'{{"run_id":{json.dumps(text)},"purpose":"odd","text":{value},"metadata":{{"k":{value}}}}}'
    )
    made = changes.insert_object(
        "message",
        id="msg_1",
        project=PROJECT,
        parent="thread_1",
        created_at=1.0,
        body=body.encode(),
        private=value.encode(),
    )
    await store.commit(made)
    try:
        record = await store.get("message", PROJECT, "msg_1")
        assert record is not None
        assert (record.body, record.private) == (body.encode(), value.encode())
        await finds_it(store, text)
        head = f'{{"run_id":{json.dumps(text)},"purpose":"odd","metadata":'
        await store.commit(
            changes.overwrite_object(
                "msg_1", project=PROJECT, body=f"{head}null}}".encode(), private=None
            )
        )
        record = await store.get("message", PROJECT, "msg_1")
        assert record is not None
        assert json.loads(record.body)["metadata"] == {"k": odd}
    finally:
        await store.commit(changes.delete_object("msg_1", kind="message", project=PROJECT))


async def finds_it(store: Store, run_id: str) -> None:
    """By the run and by another field."""
    for filters in ({"run_id": run_id}, {"where": {"purpose": "odd"}}, {"ids": ["msg_1"]}):
        found, has_more = await store.list(
            "message",
            PROJECT,
            "thread_1",
            limit=5,
            order="asc",
            after=None,
            before=None,
            **filters,
        )
        assert ([one.id for one in found], has_more) == (["msg_1"], False)


async def test_a_file_is_found_by_its_odd_id(store: Store) -> None:
    """In stores, by what they index, and in the tables of the search."""
    odd = 'file-\0"\\'
    body = json.dumps({"id": odd, "status": "completed", "purpose": odd, "tool_resources": {}})
    place = record_id("vs_1", odd)
    await store.commit(
        *(
            changes.insert_object(
                kind, id=id, project=PROJECT, parent=parent, created_at=1.0, body=body.encode()
            )
            for kind, id, parent in (
                ("file", odd, None),
                ("vector_store_file", place, "vs_1"),
                ("thread", "t\0", None),
            )
        ),
        index_changes.insert_store("vs_1", project=PROJECT, now=1.0),
    )
    record = await store.get("file", PROJECT, odd)
    assert record is not None
    assert (record.id, record.body) == (odd.replace(NUL, NUL_IS), body.encode())
    assert [one.id for one in await store.get_many("file", PROJECT, [odd])] == []
    assert (await store.store_counts(["vs_1"]))["vs_1"].completed == 1
    assert (await store.batch_counts([place])).completed == 1
    assert not await store.store_is_referenced(PROJECT, "vs\0", besides="x")
    await store.commit(index_changes.forget_file(odd, project=PROJECT, now=1.0))
    assert await store.get("vector_store_file", PROJECT, place) is None


async def test_chunks_terms_and_names_keep_all_but_the_nul(store: Store) -> None:
    """Positions of characters and bytes of postings are as they were."""
    odd = 'a\0\\u0000"😀\n'
    [index] = await indexed(store, "vs_2")
    [[(number,)]] = await store.commit(
        index_changes.insert_document(
            index, odd, project=PROJECT, attributes=json.dumps({"k": odd}).encode(), filename=odd
        )
    )
    postings = [bytes(range(256)), b"", b"\0\0"]
    part = index_changes.insert_part(
        index,
        number,
        0,
        chunks=[(0, 0, len(odd), odd), (1, 3, 9, odd * 3)],
        words=1,
        trust=1.0,
        terms=["a\0", "\\u0000", "😀"],
        terms_json=json.dumps(["a\0", "\\u0000", "😀"]).encode(),
        postings=postings,
        owners=b"\0\1",
        vectors=b"\0" * 8,
        size_bytes=1,
    )
    await store.commit(*part, index_changes.ready_document(number, attributes=b"{}"))
    shown = odd.replace(NUL, NUL_IS)
    assert await store.text(number, start=0, limit=9) == [(0, shown), (1, shown * 3)]
    assert await store.chunk_spans([(number, 1)]) == [(number, 1, 3, 9)]
    found = await store.postings([index], ["a\0", "\\u0000", "😀"])
    assert sorted(data for _, _, data in found) == sorted(postings)
    assert await store.vectors([number]) == [(number, b"\0\1", b"\0" * 8)]
    assert await store.file_names(PROJECT, ["vs_2"], limit=5) == ([shown], 1)
    await store.commit(index_changes.drop_document("vs_2", odd, project=PROJECT, now=1.0))
    await store.commit(index_changes.purge_part(index, number, 0))
    assert await store.postings([index], ["a\0", "\\u0000", "😀"]) == []


async def indexed(store: Store, id: str) -> list[int]:
    """The numbers of a new vector store."""
    await store.commit(index_changes.insert_store(id, project=PROJECT, now=1.0))
    return [row.number for row in await store.indexes(PROJECT, [id])]


async def test_an_answer_is_found_by_its_odd_key(store: Store) -> None:
    key, answer = "ÿ\0'\"\\", b'{"a":"\\u0000"}'
    await store.commit(
        changes.remember_answer(
            PROJECT, key=key, hash="h", created_at=1.0, answer=answer, run_id=None
        )
    )
    found = await store.answer(PROJECT, key)
    assert found is not None
    assert found.answer == answer


@pytest.mark.parametrize(
    "number", [0.1, -0.0, 1e300, -1e300, 5e-324, math.inf, -math.inf, 1_800_000_000.123456]
)
async def test_a_time_comes_back_to_the_last_bit(store: Store, number: float) -> None:
    """Read alone, and in the rows of a commit."""
    await store.commit(job("run_1", due_at=number, fence=2**63 - 1))
    try:
        found = await store.job("run_1")
        assert found is not None
        assert (found.due_at, found.fence) == (number, 2**63 - 1)
        assert math.copysign(1, found.due_at) == math.copysign(1, number)
    finally:
        await store.commit(changes.delete_job("run_1", fence=None))


async def test_no_time_at_all_is_one_of_them(store: Store) -> None:
    """PostgreSQL puts it last, SQLite makes a null of it; neither fails."""
    await store.commit(job("run_1", due_at=1.0, expires_at=math.nan))
    found = await store.job("run_1")
    assert found is not None
    assert found.expires_at is not None
    assert math.isnan(found.expires_at)
    await store.commit(changes.delete_job("run_1", fence=None))


async def test_a_thread_with_an_odd_name_is_locked_as_any_other(store: Store) -> None:
    await store.commit(job("run_1", thread_id="t\0"), thread("thread_odd"))
    active = await store.active_run("t\0")
    assert active is not None
    assert active.thread_id == "t" + NUL_IS
