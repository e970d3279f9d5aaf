"""The OpenAPI description and the generated pages: complete, and what the repository holds."""

import json
from pathlib import Path

import httpx2
import pytest

from tests.api.serving import Running
from understudy.api import openapi
from understudy.api.nouns import load_nouns
from understudy.api.operation import OPERATIONS
from understudy.api.reference import pages
from understudy.settings import settings_page

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_generated_pages_are_up_to_date() -> None:
    """When this fails: `understudy docs`, and look at what changed."""
    written = {**pages(DOCS), "settings.md": settings_page()}
    stale = [
        name
        for name, text in written.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != text
    ]
    assert stale == []


def test_the_server_shows_its_description_to_anybody(server: Running) -> None:
    answer = httpx2.get(f"{server.root}/openapi.json")
    assert answer.status_code == 200
    assert answer.json() == openapi.description()


def test_every_operation_is_described() -> None:
    load_nouns()
    found = openapi.description()["paths"]
    assert len(OPERATIONS) == sum(len(methods) for methods in found.values())
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    for operation in OPERATIONS:
        entry = found[operation.path][operation.method.lower()]
        assert entry["summary"].endswith("."), operation.name


def test_references_lead_somewhere() -> None:
    description = openapi.description()
    text = json.dumps(description)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(description["components"]["schemas"])


@pytest.mark.parametrize("field", ["code_interpreter", "tool_resources", "has_more"])
def test_fields_are_in_the_schemas(field: str) -> None:
    schemas = openapi.description()["components"]["schemas"]
    assert any(field in schema.get("properties", {}) for schema in schemas.values())


def test_what_is_not_there_yet_is_an_unknown_route(http: httpx2.Client) -> None:
    for path in ("/batches", "/fine_tuning/jobs", "/images"):
        answer = http.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == f"Invalid URL (GET /v1{path})"
