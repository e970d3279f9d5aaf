"""The smallest value that a JSON Schema plausibly accepts, for a model that does not think."""

from collections.abc import Callable
from typing import Any

_DEPTH = 16  # A schema that refers to itself must end somewhere.
_NULL = {"type": "null"}


def sample(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """A minimal instance: required properties, first choices, lower bounds. No `pattern`."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > _DEPTH:
        return None
    for given in ("const", "default", "example"):
        if given in schema:
            return schema[given]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if isinstance(schema.get("examples"), list) and schema["examples"]:
        return schema["examples"][0]
    if "$ref" in schema:
        return sample(_resolve(schema["$ref"], root), root, depth + 1)
    for union in ("anyOf", "oneOf"):
        if isinstance(schema.get(union), list) and schema[union]:
            return sample(_choose(schema[union], depth), root, depth + 1)
    if isinstance(schema.get("allOf"), list) and schema["allOf"]:
        return sample(_merged(schema), root, depth + 1)
    make = _MAKERS.get(_type(schema))
    return make(schema, root, depth) if make else None


def _type(schema: dict[str, Any]) -> str:
    """The type, where it is named or plain from the other keys."""
    named = schema.get("type")
    if isinstance(named, list) and named:
        return str(next((name for name in named if name != "null"), "null"))
    if isinstance(named, str):
        return named
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _resolve(ref: object, root: Any) -> Any:
    """The schema that a local reference names."""
    found = root
    for name in str(ref).removeprefix("#").strip("/").split("/"):
        if name and isinstance(found, dict):
            found = found.get(name.replace("~1", "/").replace("~0", "~"))
    return found


def _choose(options: list[Any], depth: int) -> Any:
    """The first option, or null where the schema goes deep."""
    return _NULL if depth > _DEPTH // 2 and _NULL in options else options[0]


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its `allOf` parts laid over each other."""
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        if isinstance(part, dict):
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", []), *part.get("required", [])]
            merged = {**merged, **part, "properties": properties, "required": required}
    return merged


def _object(schema: dict[str, Any], root: Any, depth: int) -> dict[str, Any]:
    """The required properties."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    names = required if isinstance(required, list) else []
    return {str(name): sample(properties.get(name, {}), root, depth + 1) for name in names}


def _array(schema: dict[str, Any], root: Any, depth: int) -> list[Any]:
    """As few items as are allowed."""
    prefix = schema.get("prefixItems")
    items = prefix if isinstance(prefix, list) else []
    least = min(_number(schema.get("minItems"), 0), 100)
    rest = [schema.get("items", {})] * int(max(0, least - len(items)))
    return [sample(item, root, depth + 1) for item in [*items, *rest]]


def _string(schema: dict[str, Any], _root: Any, _depth: int) -> str:
    """A word, of the right format and length."""
    text = _FORMATS.get(str(schema.get("format")), "text")
    text = text.ljust(int(min(_number(schema.get("minLength"), 0), 10_000)), "x")
    return text[: int(_number(schema.get("maxLength"), len(text)))]


def _amount(schema: dict[str, Any], _root: Any, _depth: int) -> float:
    """The lower bound, or the upper one, or 1."""
    if "exclusiveMinimum" in schema:
        return _number(schema["exclusiveMinimum"], 0) + 1
    low = _number(schema.get("minimum"), 1)
    return min(low, _number(schema.get("maximum"), low))


def _number(value: object, default: float) -> float:
    """A number of the schema, which may be anything."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


_FORMATS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}

_MAKERS: dict[str, Callable[[dict[str, Any], Any, int], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": lambda schema, root, depth: int(_amount(schema, root, depth)),
    "number": _amount,
    "boolean": lambda *_: True,
    "null": lambda *_: None,
}
