"""Searching vector stores (SPEC 7.8, assertions 196-198)."""

from typing import Any

import openai
import pytest

from tests.api.conftest import Start, client_for
from tests.api.conversation import eventually
from tests.api.shelf import Json, Shelf
from tests.api.truth import error_of

CATS = "Cats purr when they are content, and hunt mice at night."
DOGS = "Dogs bark at strangers, and guard the house at night."
TAX = "The tax return is due in May."


@pytest.mark.assertion(198)
def test_a_result_is_a_passage_of_a_file(shelf: Shelf) -> None:
    store_id = shelf.store(CATS, DOGS, TAX)
    page = shelf.ok(f"/vector_stores/{store_id}/search", {"query": "tax return"})
    found = page["data"][0]
    assert page == {
        "object": "vector_store.search_results.page",
        "search_query": ["tax return"],
        "data": page["data"],
        "has_more": False,
        "next_page": None,
    }
    assert found == {
        "file_id": shelf.file_ids(store_id, order="asc")[2],
        "filename": "2.txt",
        "score": found["score"],
        "attributes": {},
        "content": [{"type": "text", "text": TAX}],
    }


@pytest.mark.assertion(196)
def test_a_query_is_a_text_or_several(shelf: Shelf) -> None:
    store_id = shelf.store(CATS, DOGS, TAX)
    assert texts(shelf.found(store_id, "purr"))[:1] == [CATS]
    body = {"query": ["purr", "bark"], "max_num_results": 2}
    page = shelf.ok(f"/vector_stores/{store_id}/search", body)
    assert page["search_query"] == ["purr", "bark"]
    assert sorted(texts(page["data"])) == sorted([CATS, DOGS])
    for query in ("", [], [""], ["x"] * 33, 1, None):
        error_of(shelf.http.post(f"/vector_stores/{store_id}/search", json={"query": query}))


def texts(found: list[Json]) -> list[str]:
    """The passages that were found."""
    return [one["content"][0]["text"] for one in found]


@pytest.mark.assertion(196)
def test_results_are_limited_and_ordered_by_score(shelf: Shelf) -> None:
    store_id = shelf.store(*(f"Night number {number} was quiet." for number in range(12)))
    assert len(shelf.found(store_id, "night")) == 10
    assert len(shelf.found(store_id, "night", max_num_results=50)) == 12
    scores = [one["score"] for one in shelf.found(store_id, "quiet night 7", max_num_results=3)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    for number in (0, 51):
        body = {"query": "night", "max_num_results": number}
        error = error_of(shelf.http.post(f"/vector_stores/{store_id}/search", json=body))
        assert error["param"] == "max_num_results"


@pytest.mark.assertion(196)
def test_a_threshold_leaves_out_what_scores_less(shelf: Shelf) -> None:
    store_id = shelf.store(CATS, DOGS, TAX)
    found = shelf.found(store_id, "cats purr at night")
    scores = [one["score"] for one in found]
    assert len(scores) >= 2
    threshold = (scores[0] + scores[1]) / 2
    options = {"score_threshold": threshold}
    assert shelf.found(store_id, "cats purr at night", ranking_options=options) == found[:1]
    options = {"score_threshold": 0}
    assert shelf.found(store_id, "cats purr at night", ranking_options=options) == found


@pytest.mark.parametrize(
    "options",
    [
        {"ranker": "auto"},
        {"ranker": "none"},
        {"ranker": "default-2024-11-15", "score_threshold": 0.0},
        {"ranker": "default_2024_08_21"},
        {"ranker": "default-2024-08-21"},
        {"hybrid_search": {"embedding_weight": 0.5, "text_weight": 0.5}},
        {"hybrid_search": None, "score_threshold": None},
        None,
    ],
)
def test_ranking_options_of_any_year_are_taken(shelf: Shelf, options: Json | None) -> None:
    store_id = shelf.store(CATS)
    assert texts(shelf.found(store_id, "cats", ranking_options=options)) == [CATS]


@pytest.mark.assertion(197)
@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"type": "eq", "key": "year", "value": 2024}, "1"),
        ({"type": "ne", "key": "year", "value": 2024}, "023"),
        ({"type": "gt", "key": "year", "value": 2023}, "12"),
        ({"type": "gte", "key": "year", "value": 2024}, "12"),
        ({"type": "lt", "key": "year", "value": 2024}, "0"),
        ({"type": "lte", "key": "year", "value": 2024}, "01"),
        ({"type": "in", "key": "year", "value": [2023, 2025]}, "02"),
        ({"type": "nin", "key": "year", "value": [2023, 2025]}, "13"),
        ({"type": "eq", "key": "draft", "value": True}, "1"),
        ({"type": "eq", "key": "lang", "value": "de"}, "0"),
        ({"type": "eq", "key": "year", "value": "2024"}, ""),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "gte", "key": "year", "value": 2023},
                    {
                        "type": "or",
                        "filters": [
                            {"type": "eq", "key": "lang", "value": "de"},
                            {"type": "eq", "key": "draft", "value": True},
                        ],
                    },
                ],
            },
            "01",
        ),
    ],
)
def test_filters_keep_files_by_their_attributes(shelf: Shelf, filters: Json, kept: str) -> None:
    attributes: list[dict[str, Any]] = [
        {"year": 2023, "lang": "de"},
        {"year": 2024, "lang": "DE", "draft": True},
        {"year": 2025.0, "draft": False},
        {},
    ]
    files = [
        {"file_id": shelf.file("Some text.", f"{number}.txt"), "attributes": one}
        for number, one in enumerate(attributes)
    ]
    store_id = shelf.store()
    shelf.ok(f"/vector_stores/{store_id}/file_batches", {"files": files})
    shelf.settled(store_id)
    found = shelf.found(store_id, "text", filters=filters)
    assert sorted(one["filename"] for one in found) == [f"{number}.txt" for number in kept]


def test_a_bad_filter_is_named(shelf: Shelf) -> None:
    store_id = shelf.store()
    body = {"query": "x", "filters": {"type": "like", "key": "a", "value": "b"}}
    error = error_of(shelf.http.post(f"/vector_stores/{store_id}/search", json=body))
    assert (error["param"], error["code"]) == ("filters.type", "invalid_value")


def test_an_empty_store_finds_nothing(shelf: Shelf) -> None:
    assert shelf.found(shelf.store(), "anything") == []


@pytest.mark.assertion(198)
def test_a_model_may_word_the_query_anew(sdk: openai.OpenAI, shelf: Shelf) -> None:
    store_id = shelf.store(CATS, DOGS)
    shelf.server.script({"text": "cats purr\nmice"})
    page = sdk.vector_stores.search(
        store_id, query="Why do they make that sound?", rewrite_query=True
    )
    assert texts([one.model_dump() for one in page.data])[0] == CATS
    asked = shelf.ok(
        f"/vector_stores/{store_id}/search",
        {"query": "Why do they make that sound?", "rewrite_query": True},
    )
    assert asked["search_query"] == ["cats purr", "mice"]


def test_a_store_says_what_its_searches_stand_on(shelf: Shelf, start: Start) -> None:
    empty = shelf.ok("/vector_stores", {})["id"]
    answer = shelf.http.get(f"/vector_stores/{empty}")
    assert answer.headers["x-understudy-search"] == "undecided"
    by_words = shelf.store(CATS)
    assert shelf.http.get(f"/vector_stores/{by_words}").headers["x-understudy-search"] == "keywords"
    with (
        start(embedding_model="rehearsal-embedding") as server,
        client_for(server.url, server.new_key("p")) as http,
    ):
        store_id = Shelf(server, http, "p").store(CATS)
        answer = http.post(f"/vector_stores/{store_id}/search", json={"query": "purr"})
        said = answer.headers["x-understudy-search"]
        assert said == "keywords and vectors of rehearsal-embedding"


def test_a_store_of_another_model_refuses_what_it_cannot_compare(start: Start) -> None:
    with (
        start(embedding_model="rehearsal-embedding") as server,
        client_for(server.url, server.new_key("p")) as http,
    ):
        shelf = Shelf(server, http, "p")
        store_id, file_id = shelf.store(CATS), shelf.file(DOGS)
    with (
        start(embedding_model="another-model") as server,
        client_for(server.url, server.new_key("p")) as http,
    ):
        shelf = Shelf(server, http, "p")
        error = error_of(
            http.post(f"/vector_stores/{store_id}/search", json={"query": "purr"}), 502
        )
        assert "made with the embedding model 'rehearsal-embedding'" in str(error["message"])
        shelf.ok(f"/vector_stores/{store_id}/files", {"file_id": file_id})
        shelf.settled(store_id)
        place = http.get(f"/vector_stores/{store_id}/files/{file_id}").json()
        assert place["status"] == "failed"
        assert "another-model" in place["last_error"]["message"]


def test_a_deleted_store_is_not_kept_in_memory(shelf: Shelf) -> None:
    shelf.server.require_own_process()
    store = shelf.store("Plums ripen in August.")
    assert shelf.found(store, "plums")
    views = shelf.server.app.index._views

    def is_held() -> bool:
        return any(view.row.id == store for view in tuple(views.values()))

    assert is_held()
    assert shelf.http.delete(f"/vector_stores/{store}").status_code == 200
    eventually(lambda: not is_held())
