"""Every kind of body, and JSON that is nearly one: for the tests of the decoder."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from understudy.wire import (
    assistants,
    files,
    messages,
    models,
    runs,
    threads,
    tools,
    uploads,
    vector_stores,
)
from understudy.wire.base import Body, FormBody, ModifyMetadata

_MODULES = (
    assistants,
    files,
    messages,
    models,
    runs,
    threads,
    tools,
    uploads,
    vector_stores,
)

# What a client can send as a whole or as a part; the members of tagged unions come with these.
BODIES: list[type[Body]] = sorted(
    {
        ModifyMetadata,
        *(
            value
            for module in _MODULES
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Body)
            and value not in (Body, FormBody)
            and value.__struct_config__.tag_field is None
        ),
    },
    key=lambda body: body.__name__,
)

Json = Any  # JSON is free here.

_LETTERS = st.sampled_from(["", "a", "é", "\n", "\x00", "😀", "a b", "a\n", "x" * 65, "x" * 257])
_NUMBERS = st.sampled_from(
    [-1, -0.1, 0, 1, 1.0, 0.5, 2, 2.1, 51, 255, 256, 2**31, 10**30, -(2**70)]
)
_SCALARS = st.one_of(st.none(), st.booleans(), _NUMBERS, _LETTERS)
_KEYS = st.sampled_from(["type", "name", "file_id", "function", "text", "strange", "k" * 65, ""])
ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=6,
)


def nearly(body: type[Body]) -> st.SearchStrategy[dict[str, Json]]:
    """JSON objects that mostly fit this body: about one value in ten is anything."""
    info = inspect.type_info(body)
    assert isinstance(info, inspect.StructType)
    return _objects(info)


def _values(info: inspect.Type) -> st.SearchStrategy[Json]:
    fitting = st.one_of([_fitting(option) for option in _members(info)])
    return st.integers(0, 9).flatmap(lambda dice: ANYTHING if dice == 0 else fitting)


def _members(info: inspect.Type) -> Iterator[inspect.Type]:
    match info:
        case inspect.Metadata():
            yield from _members(info.type)
        case inspect.UnionType():
            for member in info.types:
                yield from _members(member)
        case _:
            yield info


def _fitting(info: inspect.Type) -> st.SearchStrategy[Json]:
    """Values of a type; their bounds are often, but not always, kept."""
    match info:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType() | inspect.FloatType():
            return _NUMBERS
        case inspect.StrType():
            return _LETTERS
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.ListType():
            longest = (info.max_length or 2) + 1 if (info.max_length or 2) < 11 else 2
            return st.lists(_values(info.item_type), max_size=longest)
        case inspect.DictType():
            return st.dictionaries(_KEYS, _values(info.value_type), max_size=3)
        case inspect.StructType():
            return _structs.setdefault(info.cls, st.deferred(lambda: _objects(info)))
        case _:
            return ANYTHING


# A filter may hold filters, so each struct is one strategy that may refer to itself.
_structs: dict[type, st.SearchStrategy[dict[str, Json]]] = {}


def _objects(info: inspect.StructType) -> st.SearchStrategy[dict[str, Json]]:
    required: dict[str, Any] = {
        field.encode_name: _values(field.type) for field in info.fields if field.required
    }
    optional: dict[str, Any] = {
        field.encode_name: _values(field.type) for field in info.fields if not field.required
    }
    if info.tag_field is not None:
        required[info.tag_field] = st.sampled_from([info.tag, info.tag, info.tag, "other", None])
    fitting = st.fixed_dictionaries(required, optional=optional)
    return st.one_of(fitting, fitting, fitting.flatmap(_damaged))


def _damaged(value: dict[str, Json]) -> st.SearchStrategy[dict[str, Json]]:
    """Without one of its keys, or with one too many."""
    fewer = [st.just({key: item for key, item in value.items() if key != gone}) for gone in value]
    return st.one_of([*fewer, st.builds(lambda key: {**value, key: 1}, _KEYS)])
