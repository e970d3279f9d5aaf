"""OPERATIONS → the OpenAPI 3.1 description, served at /openapi.json and kept in docs/."""

from functools import cache
from typing import Any

import msgspec

from understudy import __version__
from understudy.api.nouns import load_nouns
from understudy.api.operation import OPERATIONS, Operation
from understudy.api.transport import Content
from understudy.wire.base import Wire
from understudy.wire.query import SEARCH_CONTENT

_REF = "#/components/schemas/{name}"


class ErrorDetails(Wire, frozen=True, kw_only=True):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Wire, frozen=True, kw_only=True):
    """The body of every answer that is not a 200."""

    error: ErrorDetails


@cache
def document() -> bytes:
    """The description as JSON."""
    return msgspec.json.format(msgspec.json.encode(description()), indent=2)


def description() -> dict[str, Any]:
    """The description as plain data."""
    load_nouns()
    operations = sorted(OPERATIONS, key=lambda operation: (operation.path, operation.method))
    types = list(dict.fromkeys(_types(operations)))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        entry = _entry(operation, schema_of)
        paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Understudy",
            "version": __version__,
            "description": "A self-hosted server for the Assistants API.",
        },
        "servers": [{"url": "/v1"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(operations: list[Operation]) -> list[Any]:
    """Every type that crosses the wire."""
    found: list[Any] = [Error]
    for operation in operations:
        if operation.response is not Content:
            found.append(operation.response)
        if operation.body is not None:
            found.append(operation.body)
    return found


def _entry(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    """One operation."""
    entry: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        entry["description"] = operation.description
    entry["parameters"] = _parameters(operation)
    if operation.body is not None:
        entry["requestBody"] = {
            "required": not operation.body_may_be_empty,
            "content": {_content_type(operation): {"schema": schema_of[operation.body]}},
        }
    entry["responses"] = {
        "200": {"description": "OK", "content": _answers(operation, schema_of)},
        "default": {
            "description": "An error",
            "content": {"application/json": {"schema": schema_of[Error]}},
        },
    }
    return entry


def _content_type(operation: Operation) -> str:
    """What a body is sent as."""
    return "application/json" if operation.form is None else "multipart/form-data"


def _answers(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    """What an operation answers with."""
    if operation.response is Content:
        schema = {"type": "string", "format": "binary"}
        return {"application/octet-stream": {"schema": schema}}
    answers = {"application/json": {"schema": schema_of[operation.response]}}
    if operation.streams:
        answers["text/event-stream"] = {}
    return answers


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    """Path and query parameters."""
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in operation.path_names
    ]
    if operation.page_name is not None:
        found += _page_parameters(operation.page)
    for name in operation.query_names:
        found.append({"name": name, "in": "query", "schema": {"type": "string"}})
    if operation.include_name is not None:
        items = {"type": "string", "enum": [SEARCH_CONTENT]}
        found.append(
            {"name": "include[]", "in": "query", "schema": {"type": "array", "items": items}}
        )
    return found


@cache
def _page_parameters(page: type[Wire]) -> list[dict[str, Any]]:
    """The parameters of a list, from the struct that holds them."""
    _, components = msgspec.json.schema_components([page])
    found = []
    for name, schema in components[page.__name__]["properties"].items():
        text = schema.pop("description", "")
        found.append({"name": name, "in": "query", "description": text, "schema": schema})
    return found
