"""The generated pages of the documentation: OpenAPI, the reference, and what is covered.

`docs/reference-operations.txt` lists the operations of the original, one a line; coverage.md
says which of them are here. `understudy docs` writes the pages, a test compares them.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

from understudy.api import openapi
from understudy.api.operation import OPERATIONS, Operation

_NOTICE = "Generated from the code by `understudy docs`; do not edit."


def pages(folder: Path) -> dict[str, str]:
    """Path below the documentation's folder → text."""
    description = openapi.description()
    operations = sorted(OPERATIONS, key=lambda operation: (operation.tag, operation.path))
    original = (folder / "reference-operations.txt").read_text(encoding="utf-8").splitlines()
    found = {
        "openapi.json": openapi.document().decode() + "\n",
        "coverage.md": _coverage(original, operations),
    }
    for tag, members in groupby(operations, key=lambda operation: operation.tag):
        name = f"reference/{tag.lower().replace(' ', '-')}.md"
        found[name] = _reference(tag, list(members), description)
    return found


def _coverage(original: list[str], operations: list[Operation]) -> str:
    """Each operation of the original: done or not; then what is beyond it."""
    ours = {f"{operation.method} {operation.path}": operation for operation in operations}
    done = [line for line in original if line in ours]
    lines = [
        "# Coverage",
        "",
        f"{_NOTICE} {len(done)} of the original's {len(original)} operations are here.",
        "",
        "| operation | state |",
        "|---|---|",
    ]
    lines += [f"| `{line}` | {'done' if line in ours else 'not yet'} |" for line in original]
    beyond = sorted(set(ours) - set(original))
    if beyond:
        lines += ["", "Beyond the original:", ""]
        lines += [f"- `{line}`: {ours[line].summary}" for line in beyond]
    return "\n".join(lines) + "\n"


def _reference(tag: str, operations: list[Operation], description: dict[str, Any]) -> str:
    """One noun: its operations, then the types that they name."""
    lines = [f"# {tag}", "", _NOTICE, ""]
    names: list[str] = []
    for operation in operations:
        entry = description["paths"][operation.path][operation.method.lower()]
        lines += _operation(operation, entry)
        names += _named(entry)
    components = description["components"]["schemas"]
    for name in dict.fromkeys(names):
        lines += _type(name, components[name])
    return "\n".join(lines).rstrip() + "\n"


def _operation(operation: Operation, entry: dict[str, Any]) -> list[str]:
    lines = [f"## {operation.method} {operation.path}", "", operation.summary, ""]
    if operation.description:
        lines += [operation.description, ""]
    for parameter in entry["parameters"]:
        text = parameter.get("description") or f"In the {parameter['in']}."
        lines.append(f"- `{parameter['name']}`: {text}")
    if "requestBody" in entry:
        lines.append(f"- body: {_type_name(_schema(entry['requestBody']))}")
    answer = _type_name(_schema(entry["responses"]["200"]))
    stream = ", or server-sent events when the body says `stream: true`"
    lines += [f"- answer: {answer}{stream if operation.streams else ''}", ""]
    return lines


def _schema(place: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body or an answer; JSON, a form or bytes, it is the first."""
    schema: dict[str, Any] = next(iter(place["content"].values()))["schema"]
    return schema


def _named(entry: dict[str, Any]) -> list[str]:
    """The types that an operation names."""
    schemas = [_schema(entry["responses"]["200"])]
    if "requestBody" in entry:
        schemas.append(_schema(entry["requestBody"]))
    return [schema["$ref"].rpartition("/")[2] for schema in schemas if "$ref" in schema]


def _type(name: str, schema: dict[str, Any]) -> list[str]:
    """A table of a type's fields."""
    lines = [f"### {name}", "", schema.get("description", "").replace("\n", " "), ""]
    lines += ["| field | type | meaning |", "|---|---|---|"]
    required = set(schema.get("required", ()))
    for field, inner in schema.get("properties", {}).items():
        mark = "" if field in required else " (optional)"
        text = inner.get("description", "").replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{field}`{mark} | {_type_name(inner)} | {text} |")
    return [*lines, ""]


def _type_name(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].strip("_").replace("ListOf_", "list of ")
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_type_name(option) for option in options))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    if schema.get("format") == "binary":
        return "bytes"
    return str(schema.get("type", "anything"))
