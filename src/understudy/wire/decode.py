"""Bytes to struct; on failure, the first violation in the API's own words.

The fast path is msgspec's decoder. Only when it refuses a body does the cold path parse the
JSON once more and walk it along the type, in the API's order (SPEC section 3): at each level
unknown keys, then missing ones, then wrong types, then bounds; then deeper, in field order.
The walker reads the same structs as the decoder, never the decoder's message.

Two rules keep the paths in step. Where a key is repeated the last one counts. And a body that
the walker has nothing against is converted from what it walked, so that the keys which are
accepted and ignored (SPEC section 6) cost nothing to the bodies that do not have them.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from understudy import limits
from understudy.errors import ApiError

T = TypeVar("T", bound=msgspec.Struct)

# Newer and older clients send these; a trailing * stands for any tail.
IGNORED = frozenset({"stream_options", "user", "store", "service_tier", "extra_*"})

# A value with its path and the type it must have.
_Member = tuple[str, Any, inspect.Type]
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def decode(
    body: bytes,
    type: type[T],
    *,
    ignore: frozenset[str] = IGNORED,
    may_be_empty: bool = False,
) -> T:
    """The body as a struct, or the ApiError for its first violation."""
    if may_be_empty and not body.strip():
        body = b"{}"
    try:
        decoded: T = _decoder(type).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode_slowly(body, type, ignore)
    if _is_too_deep(body):
        raise ApiError.bad_json()
    return decoded


def check(value: dict[str, Any], type: type[T]) -> None:
    """Raise the first violation of this type in a JSON object, if there is one."""
    _check_inside("", value, _type_info(type))


@cache
def _decoder(type: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type)


@cache
def _type_info(type: type[Any]) -> inspect.Type:
    info = inspect.type_info(type)
    for struct in _structs(info, set()):
        for hint in get_type_hints(struct.cls, include_extras=True).values():
            _DECLARED.update((frozenset(values), values) for values in _literals(hint))
    return info


# msgspec sorts the values of a literal; error texts list them as they were declared.
_DECLARED: dict[frozenset[Any], tuple[Any, ...]] = {}


def _structs(info: inspect.Type, seen: set[Any]) -> Iterator[inspect.StructType]:
    """Every struct in a type, once: a filter may hold filters."""
    for option in _options(info):
        match option:
            case inspect.StructType() if option.cls not in seen:
                seen.add(option.cls)
                yield option
                for field in option.fields:
                    yield from _structs(field.type, seen)
            case inspect.ListType():
                yield from _structs(option.item_type, seen)


def _literals(hint: Any) -> Iterator[tuple[Any, ...]]:
    """The values of every literal in a type annotation."""
    if get_origin(hint) is Literal:
        yield get_args(hint)
    else:
        for part in get_args(hint):
            yield from _literals(part)


def _decode_slowly(body: bytes, type: type[T], ignore: frozenset[str]) -> T:
    """Find what is wrong, or decode what only had keys to ignore."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ApiError.bad_json() from None
    if not isinstance(value, dict) or _is_too_deep(body):
        raise ApiError.bad_json()
    known = {field.encode_name for field in _struct(type).fields}
    value = {key: item for key, item in value.items() if key in known or not _is_in(key, ignore)}
    check(value, type)
    try:
        return msgspec.convert(value, type)
    except msgspec.MsgspecError:
        # The walker and msgspec disagree: a bug of ours, but the body is still the client's.
        raise ApiError.invalid_body() from None


def _struct(type: type[T]) -> inspect.StructType:
    info = _type_info(type)
    assert isinstance(info, inspect.StructType), "a body is a struct"
    return info


def _is_in(key: str, names: frozenset[str]) -> bool:
    return key in names or any(name.endswith("*") and key.startswith(name[:-1]) for name in names)


def _is_too_deep(body: bytes) -> bool:
    """Whether valid JSON nests deeper than the limit.

    Only the brackets outside strings are kept; taking away every `[]` takes away one level.
    """
    if body.count(b"[") + body.count(b"{") <= limits.JSON_DEPTH:
        return False
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(unescaped.split(b'"')[::2])
    brackets = outside.translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(limits.JSON_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


# The walk. A check returns nothing and raises the first violation that it meets.


def _check_inside(path: str, value: Any, info: inspect.Type) -> None:
    """Go one level down."""
    if isinstance(value, list):
        items = _find(info, inspect.ListType)
        if items is not None:
            _check_members(
                [(f"{path}[{index}]", item, items.item_type) for index, item in enumerate(value)]
            )
    elif isinstance(value, dict):
        entries = _find(info, inspect.DictType)
        struct = _chosen_struct(path, value, info)
        if struct is not None:
            _check_struct(path, value, struct)
        elif entries is not None:
            _check_entries(path, value, entries)


def _check_members(members: list[_Member]) -> None:
    """One level: every type, then every bound, then what is inside."""
    for member in members:
        _check_type(*member)
    for member in members:
        _check_bounds(*member)
    for member in members:
        _check_inside(*member)


def _check_struct(path: str, value: dict[str, Any], struct: inspect.StructType) -> None:
    known = {field.encode_name for field in struct.fields} | {struct.tag_field}
    for key in value:
        if key not in known:
            raise ApiError.unknown_parameter(_join(path, key))
    for field in struct.fields:
        if field.required and field.encode_name not in value:
            raise ApiError.missing(_join(path, field.encode_name))
    _check_members(
        [
            (_join(path, field.encode_name), value[field.encode_name], field.type)
            for field in struct.fields
            if field.encode_name in value
        ]
    )


def _check_entries(path: str, value: dict[str, Any], entries: inspect.DictType) -> None:
    """The keys and values of metadata; free JSON has no limits of its own."""
    key_type = _find(entries.key_type, inspect.StrType)
    if key_type is not None and key_type.max_length is not None:
        for key in value:
            if len(key) > key_type.max_length:
                raise ApiError.property_name_too_long(path, key, key_type.max_length)
    _check_members([(_join(path, key), item, entries.value_type) for key, item in value.items()])


def _check_type(path: str, value: Any, info: inspect.Type) -> None:
    options = list(_options(info))
    if not any(_accepts(option, value) for option in options):
        raise ApiError.wrong_type(path, _expected(options), _got(value))


def _check_bounds(path: str, value: Any, info: inspect.Type) -> None:
    match value:
        case str():
            _check_string(path, value, info)
        case int() | float() if not isinstance(value, bool):
            _check_number(path, value, info)
        case list():
            _check_array(path, value, _find(info, inspect.ListType))
        case dict():
            entries = _find(info, inspect.DictType)
            limit = entries.max_length if entries is not None else None
            if limit is not None and len(value) > limit:
                raise ApiError.too_many_properties(path, limit, len(value))
        case _:
            pass  # Null and booleans have no bounds.


def _check_string(path: str, value: str, info: inspect.Type) -> None:
    string = _find(info, inspect.StrType)
    literal = _find(info, inspect.LiteralType)
    if string is not None:
        if string.min_length is not None and len(value) < string.min_length:
            raise ApiError.empty_string(path)
        if string.max_length is not None and len(value) > string.max_length:
            raise ApiError.string_too_long(path, string.max_length, len(value))
        if string.pattern is not None and not re.search(string.pattern, value):
            raise ApiError.bad_pattern(path, string.pattern)
    elif literal is not None and value not in literal.values:
        raise ApiError.bad_value(path, value, _DECLARED[frozenset(literal.values)])


def _check_number(path: str, value: float, info: inspect.Type) -> None:
    whole = _find(info, inspect.IntType) if isinstance(value, int) else None
    number = whole or _find(info, inspect.FloatType)
    if number is None:
        return
    kind = "integer" if whole is not None else "decimal"
    if number.le is not None and value > number.le:
        raise ApiError.number_too_high(path, number.le, value, kind=kind)
    if number.ge is not None and value < number.ge:
        raise ApiError.number_too_low(path, number.ge, value, kind=kind)


def _check_array(path: str, value: list[Any], array: inspect.ListType | None) -> None:
    if array is None:
        return
    if array.max_length is not None and len(value) > array.max_length:
        raise ApiError.array_too_long(path, array.max_length, len(value))
    if array.min_length is not None and len(value) < array.min_length:
        raise ApiError.array_too_short(path, array.min_length, len(value))


def _chosen_struct(
    path: str, value: dict[str, Any], info: inspect.Type
) -> inspect.StructType | None:
    """The struct that an object must be: the only one, or the one that its tag names."""
    structs = {
        option.tag: option for option in _options(info) if isinstance(option, inspect.StructType)
    }
    if not structs:
        return None
    first = next(iter(structs.values()))
    if first.tag_field is None:
        return first
    tag_path = _join(path, first.tag_field)
    if first.tag_field not in value:
        raise ApiError.missing(tag_path)
    tag = value[first.tag_field]
    if not isinstance(tag, str):
        raise ApiError.wrong_type(tag_path, "a string", _got(tag))
    if tag not in structs:
        raise ApiError.bad_value(tag_path, tag, [str(known) for known in structs])
    return structs[tag]


# What the types of msgspec.inspect mean to us.

_Found = TypeVar("_Found", bound=inspect.Type)

_ACCEPTED: dict[type[inspect.Type], Callable[[Any], bool]] = {
    inspect.AnyType: lambda value: True,
    inspect.NoneType: lambda value: value is None,
    inspect.BoolType: lambda value: isinstance(value, bool),
    inspect.IntType: lambda value: isinstance(value, int) and not isinstance(value, bool),
    inspect.FloatType: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    inspect.StrType: lambda value: isinstance(value, str),
    inspect.LiteralType: lambda value: isinstance(value, str),
    inspect.ListType: lambda value: isinstance(value, list),
    inspect.DictType: lambda value: isinstance(value, dict),
    inspect.StructType: lambda value: isinstance(value, dict),
}

_NOUNS: dict[type[inspect.Type], str] = {
    inspect.BoolType: "a boolean",
    inspect.IntType: "an integer",
    inspect.FloatType: "a decimal",
    inspect.StrType: "a string",
    inspect.LiteralType: "a string",
    inspect.DictType: "an object",
    inspect.StructType: "an object",
}

_ITEMS: dict[type[inspect.Type], str] = {
    inspect.StrType: "strings",
    inspect.IntType: "integers",
    inspect.StructType: "objects",
}


def _options(info: inspect.Type) -> Iterator[inspect.Type]:
    """The members of a union, or the type alone, without their descriptions."""
    if isinstance(info, inspect.Metadata):
        yield from _options(info.type)
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _options(member)
    else:
        yield info


def _find(info: inspect.Type, kind: type[_Found]) -> _Found | None:
    """The option of this kind, if the type has one."""
    return next((option for option in _options(info) if isinstance(option, kind)), None)


def _accepts(option: inspect.Type, value: Any) -> bool:
    return _ACCEPTED[type(option)](value)


def _expected(options: list[inspect.Type]) -> str:
    """What a value should have been: `a string`, or `one of a string or array of objects`."""
    nouns = list(
        dict.fromkeys(
            _noun(option) for option in options if not isinstance(option, inspect.NoneType)
        )
    )
    if len(nouns) == 1:
        return nouns[0]
    rest = [noun.split(" ", 1)[1] for noun in nouns[1:]]
    return " or ".join([f"one of {nouns[0]}", *rest])


def _noun(option: inspect.Type) -> str:
    if not isinstance(option, inspect.ListType):
        return _NOUNS[type(option)]
    items = {_ITEMS.get(type(item), "") for item in _options(option.item_type)}
    return f"an array of {items.pop()}" if len(items) == 1 and "" not in items else "an array"


def _got(value: Any) -> str:
    """The JSON type of a value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
