"""The bodies of vector stores: what decoding and the rules refuse, in the API's words."""

from typing import Any

import msgspec
import pytest

from understudy import limits
from understudy.errors import ApiError
from understudy.wire.base import Body
from understudy.wire.decode import decode
from understudy.wire.rules import check_body
from understudy.wire.vector_stores import (
    AndFilter,
    AttachFile,
    CreateFileBatch,
    CreateVectorStore,
    EqualFilter,
    ModifyAttributes,
    SearchVectorStore,
)


def read(type: type[Body], **fields: Any) -> Body:
    """A body that is right."""
    body = decode(msgspec.json.encode(fields), type)
    check_body(body)
    return body


def refused(type: type[Body], **fields: Any) -> tuple[str | None, str | None]:
    """What is said of a body that is wrong: param and code."""
    with pytest.raises(ApiError) as caught:
        read(type, **fields)
    assert caught.value.status == 400
    return caught.value.param, caught.value.code


def static(size: int, overlap: int) -> dict[str, Any]:
    """A chunking strategy."""
    sizes = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}
    return {"type": "static", "static": sizes}


@pytest.mark.assertion(188)
def test_chunks_have_100_to_4096_tokens_of_which_half_may_overlap() -> None:
    for size, overlap in [(100, 0), (100, 50), (4096, 2048)]:
        read(CreateVectorStore, chunking_strategy=static(size, overlap))
    where = "chunking_strategy.static"
    for size, overlap, param, code in [
        (99, 0, "max_chunk_size_tokens", "integer_below_min_value"),
        (4097, 0, "max_chunk_size_tokens", "integer_above_max_value"),
        (100, 51, "chunk_overlap_tokens", "integer_above_max_value"),
        (100, -1, "chunk_overlap_tokens", "integer_below_min_value"),
    ]:
        strategy = static(size, overlap)
        expected = (f"{where}.{param}", code)
        assert refused(CreateVectorStore, chunking_strategy=strategy) == expected
        assert refused(AttachFile, file_id="file-1", chunking_strategy=strategy) == expected
        files = [{"file_id": "file-1", "chunking_strategy": strategy}]
        assert refused(CreateFileBatch, files=files) == (f"files[0].{where}.{param}", code)


@pytest.mark.assertion(185)
def test_a_store_lasts_1_to_365_days_after_its_last_use() -> None:
    def expires(anchor: str, days: int) -> dict[str, Any]:
        return {"expires_after": {"anchor": anchor, "days": days}}

    read(CreateVectorStore, **expires("last_active_at", 365))
    for anchor, days, param in [
        ("last_active_at", 0, "expires_after.days"),
        ("last_active_at", 366, "expires_after.days"),
        ("created_at", 1, "expires_after.anchor"),
    ]:
        assert refused(CreateVectorStore, **expires(anchor, days))[0] == param


@pytest.mark.assertion(195)
def test_a_batch_names_its_files_in_one_way() -> None:
    file = {"file_id": "file-1"}
    read(CreateFileBatch, file_ids=["file-1"])
    read(CreateFileBatch, files=[file], file_ids=None)
    assert refused(CreateFileBatch) == ("file_ids", "missing_required_parameter")
    assert refused(CreateFileBatch, file_ids=[]) == ("file_ids", "array_below_min_length")
    assert refused(CreateFileBatch, files=[]) == ("files", "array_below_min_length")
    assert refused(CreateFileBatch, file_ids=["file-1"], files=[file])[0] == "files"
    many = ["file-1"] * 2001
    assert refused(CreateFileBatch, file_ids=many) == ("file_ids", "array_above_max_length")
    read(CreateFileBatch, file_ids=many[1:])


@pytest.mark.assertion(192)
def test_attributes_are_16_short_texts_numbers_or_booleans() -> None:
    def attributes(**values: Any) -> dict[str, Any]:
        return {"attributes": values}

    read(ModifyAttributes, **attributes(a="x" * 512, b=1, c=1.5, d=True))
    read(ModifyAttributes, attributes=None)
    assert refused(ModifyAttributes) == ("attributes", "missing_required_parameter")
    many = {f"k{number}": number for number in range(17)}
    assert refused(ModifyAttributes, attributes=many) == (
        "attributes",
        "object_above_max_properties",
    )
    long_key = attributes(**{"k" * 65: 1})
    assert refused(ModifyAttributes, **long_key)[1] == "property_name_above_max_length"
    wrong: Any
    for wrong in (None, [], {}):
        assert refused(ModifyAttributes, **attributes(a=wrong)) == ("attributes.a", "invalid_type")
    assert refused(ModifyAttributes, **attributes(a="x" * 513))[0] == "attributes.a"


def test_the_numbers_of_attributes_stay_as_they_were_sent() -> None:
    body = b'{"attributes":{"a":1,"b":1.0,"c":true,"d":1000000000000000000000}}'
    assert msgspec.json.encode(decode(body, ModifyAttributes)) == body


@pytest.mark.assertion(197)
def test_filters_nest() -> None:
    eq = {"type": "eq", "key": "a", "value": 1}
    body = read(SearchVectorStore, query="x", filters={"type": "and", "filters": [eq]})
    assert isinstance(body, SearchVectorStore)
    assert body.filters == AndFilter(filters=[EqualFilter(key="a", value=1)])


@pytest.mark.parametrize(
    ("filter", "param"),
    [
        ({"type": "like", "key": "a", "value": 1}, "filters.type"),
        ({"key": "a", "value": 1}, "filters.type"),
        ({"type": "eq", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "a", "value": [1]}, "filters.value"),
        ({"type": "in", "key": "a", "value": 1}, "filters.value"),
        ({"type": "in", "key": "a", "value": [True]}, "filters.value[0]"),
        ({"type": "or", "filters": [{"type": "and", "filters": 1}]}, "filters.filters[0].filters"),
        ({"type": "or"}, "filters.filters"),
    ],
)
def test_what_is_wrong_in_a_filter_is_named(filter: dict[str, Any], param: str) -> None:
    assert refused(SearchVectorStore, query="x", filters=filter)[0] == param


def test_filters_have_an_end() -> None:
    def nested(depth: int) -> dict[str, Any]:
        filter: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
        for _ in range(depth - 1):
            filter = {"type": "or", "filters": [filter]}
        return filter

    def long(terms: int) -> dict[str, Any]:
        return {"type": "and", "filters": [nested(1)] * terms}

    read(SearchVectorStore, query="x", filters=nested(limits.FILTER_DEPTH))
    read(SearchVectorStore, query="x", filters=long(limits.FILTER_TERMS))
    for filter in (nested(limits.FILTER_DEPTH + 1), long(limits.FILTER_TERMS + 1)):
        assert refused(SearchVectorStore, query="x", filters=filter)[0] == "filters"


@pytest.mark.assertion(196)
def test_a_search_needs_something_to_look_for() -> None:
    read(SearchVectorStore, query=["a", "b"], max_num_results=50, rewrite_query=True)
    options: dict[str, Any] = {
        "ranker": "default-2024-11-15",
        "score_threshold": 0.5,
        "hybrid_search": None,
    }
    read(SearchVectorStore, query="a", ranking_options=options)
    assert refused(SearchVectorStore) == ("query", "missing_required_parameter")
    assert refused(SearchVectorStore, query="") == ("query", "empty_string")
    assert refused(SearchVectorStore, query=[]) == ("query", "array_below_min_length")
    assert refused(SearchVectorStore, query=["a", ""]) == ("query[1]", "empty_string")
    for number in (0, 51):
        assert refused(SearchVectorStore, query="a", max_num_results=number)[0] == (
            "max_num_results"
        )
    for options in ({"score_threshold": 1.1}, {"ranker": "best"}):
        assert refused(SearchVectorStore, query="a", ranking_options=options)[1] is not None
