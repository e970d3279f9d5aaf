"""The original's OpenAPI description as the judge of every answer, where it lies beside us.

Its errors are waived (SPEC appendix A): null first_id/last_id in an empty list; embeddings,
which it knows as floats only though SDKs ask for base64; and what recorded traffic has otherwise:
`vector_store.file_batch`, and null for a store's missing name and expires_after. GET /threads and
the replay of events are ours and have no schema there.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs

_FILE = Path(__file__).resolve().parents[3] / "shared" / "spec" / "openapi-assistants.json"


@cache
def _description() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_FILE.read_text()) if _FILE.exists() else {"paths": {}}
    return found


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Path pattern → path as the description has it; literal paths first."""
    paths = sorted(_description()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"{\w+}", "[^/]+", path) + "/?$"), path) for path in paths]


@cache
def _validator(path: str, method: str) -> jsonschema_rs.Validator | None:
    operation = _description()["paths"][path].get(method)
    content = operation["responses"]["200"].get("content", {}) if operation else {}
    schema = content.get("application/json", {}).get("schema")
    if schema is None:
        return None
    return jsonschema_rs.validator_for({**schema, "components": _description()["components"]})


def check_answer(response: httpx2.Response) -> None:
    """Fail when an answer is not what the original's description allows. An httpx2 hook."""
    is_json = "application/json" in response.headers.get("content-type", "")
    if not is_json or response.request.method == "HEAD":
        return
    body = json.loads(response.read())
    if response.status_code >= 400:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        return
    path = re.sub(r"^(/openai)?(/v1)?", "", response.request.url.path)
    for pattern, template in _patterns():
        if pattern.match(path):
            validator = _validator(template, response.request.method.lower())
            if validator is not None:
                validator.validate(_waived(body))
            return


def error_of(response: httpx2.Response, status: int = 400) -> dict[str, str | None]:
    """The error of an answer that has this status."""
    assert response.status_code == status, response.text
    found: dict[str, str | None] = response.json()["error"]
    return found


def _waived(body: Any) -> Any:
    """The answer, made to fit where the description is known to be wrong."""
    if isinstance(body, dict) and body.get("data") == [] and body.get("first_id", "") is None:
        return {**body, "first_id": "", "last_id": ""}
    match body:
        case {"data": [{"object": "embedding", "embedding": str()}, *_]}:
            return {**body, "data": []}
        case {"data": [{"object": "vector_store"}, *_] as stores}:
            return {**body, "data": [_waived(store) for store in stores]}
        case {"object": "vector_store"}:
            nulls = [key for key in ("name", "expires_after") if body[key] is None]
            kept = {key: value for key, value in body.items() if key not in nulls}
            return {**kept, "name": body["name"] or ""}
        case {"object": "vector_store.file_batch"}:
            return {**body, "object": "vector_store.files_batch"}
    return body
