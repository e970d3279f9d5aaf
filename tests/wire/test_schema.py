"""The types make an OpenAPI description in which every field is explained."""

from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests.wire.bodies import BODIES
from understudy.wire import (
    assistants,
    base,
    events,
    files,
    messages,
    models,
    query,
    runs,
    steps,
    threads,
    tools,
    uploads,
    vector_stores,
)
from understudy.wire.base import Body, Wire

MODULES = (
    assistants,
    base,
    events,
    files,
    messages,
    models,
    query,
    runs,
    steps,
    threads,
    tools,
    uploads,
    vector_stores,
)
# Bases, and what is used only with a type argument or inside the server.
NOT_SENT = {"Wire", "Body", "FormBody", "ListOf", "Event"}

TYPES: list[type[Wire]] = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type)
    and issubclass(value, Wire)
    and value.__module__ == module.__name__
    and value.__name__ not in NOT_SENT
]


def components() -> dict[str, Any]:
    """The schema of every type, by name."""
    wanted = [*TYPES, base.ListOf[messages.Message]]
    _, schemas = msgspec.json.schema_components(wanted, ref_template="#/$defs/{name}")
    return schemas


def test_every_type_has_a_schema_of_its_own_name() -> None:
    names = {type.__name__ for type in TYPES}
    assert len(names) == len(TYPES)
    assert names <= set(components())


def test_every_type_is_described() -> None:
    assert [name for name, schema in components().items() if not schema.get("description")] == []


def test_every_field_is_described() -> None:
    tags = {type.__name__: type.__struct_config__.tag_field for type in TYPES}
    missing = [
        f"{name}.{field}"
        for name, schema in components().items()
        for field, property in schema["properties"].items()
        if field != tags.get(name) and not property.get("description")
    ]
    assert missing == []


def test_the_schemas_are_valid_json_schema() -> None:
    for schema in components().values():
        jsonschema_rs.meta.validate(
            schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        )


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_a_body_refuses_unknown_keys_in_its_schema(body: type[Body]) -> None:
    assert components()[body.__name__]["additionalProperties"] is False


def test_metadata_has_its_limits_in_the_schema() -> None:
    given = components()["ModifyMetadata"]["properties"]["metadata"]["anyOf"][0]
    assert given["maxProperties"] == 16
    assert given["propertyNames"]["maxLength"] == 64
    assert given["additionalProperties"]["maxLength"] == 512
