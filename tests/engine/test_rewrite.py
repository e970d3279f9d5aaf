"""Queries worded anew by a model, or left as they are when no model can."""

import json
from collections.abc import Sequence

import pytest

from tests.engine.stage import Clock, opened_stage
from understudy import limits
from understudy.engine.rewrite import rewritten
from understudy.store.store import Store


async def rewrite(
    store: Store,
    clock: Clock,
    queries: Sequence[str],
    *,
    model: str | None = "m",
    url: str | None = None,
) -> tuple[list[str], int]:
    """The queries as they come back, and how often a model was asked."""
    async with opened_stage(store, clock, works=False, model=model, upstream_url=url) as stage:
        found = await rewritten(stage.app, queries)
        return found, len(stage.model.calls)


def playing(*steps: object) -> str:
    """A query that tells the rehearsal model what to answer."""
    return f"Please rehearse:{json.dumps({'steps': steps})}"


async def test_each_line_of_the_answer_is_a_query(store: Store, clock: Clock) -> None:
    query = playing({"text": "- first query\n\n* 'second query'\n"})
    assert await rewrite(store, clock, [query]) == (["first query", "second query"], 1)


async def test_the_same_line_twice_is_one_query_and_there_are_few(
    store: Store, clock: Clock
) -> None:
    lines = ["same", "same", *(f"query {n}" for n in range(9))]
    found, _ = await rewrite(store, clock, [playing({"text": "\n".join(lines)})])
    assert found == ["same", "query 0", "query 1"]
    assert len(found) == limits.REWRITTEN_QUERIES


async def test_a_text_in_pieces_is_put_together(store: Store, clock: Clock) -> None:
    query = playing({"text": "first que"}, {"text": "ry\nsecond"})
    assert (await rewrite(store, clock, [query]))[0] == ["first query", "second"]


async def test_an_endless_answer_is_cut(store: Store, clock: Clock) -> None:
    query = playing({"text": "word " * 5_000})
    [found] = (await rewrite(store, clock, [query]))[0]
    assert len(found) <= limits.SEARCH_QUERY_CHARS


@pytest.mark.parametrize(
    "step",
    [
        {"status": 500, "body": {"error": {"message": "It broke."}}},
        {"status": 401, "body": {"error": {"message": "No."}}},
        {"drop": True},
        {"text": ""},
        {"text": " \n - \n"},
        {"refusal": "I will not."},
        {"call": {"name": "search"}},
        {"unknown": 1},
    ],
)
async def test_queries_stay_as_they_are_when_the_model_has_none(
    store: Store, clock: Clock, step: dict[str, object]
) -> None:
    queries = ["first", playing(step)]
    assert await rewrite(store, clock, queries) == (queries, 1)


async def test_the_built_in_model_is_not_asked(store: Store, clock: Clock) -> None:
    queries = [playing({"text": "another"})]
    assert await rewrite(store, clock, queries, model=None) == (queries, 0)


async def test_without_a_model_of_the_operator_the_provider_s_first_is_asked(
    store: Store, clock: Clock
) -> None:
    found = await rewrite(
        store, clock, [playing({"text": "another"})], model=None, url="http://provider/v1"
    )
    assert found == (["another"], 1)
