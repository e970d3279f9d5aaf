"""The tools of a run as the provider sees them: every tool is a function with a name."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from understudy import limits
from understudy.machine.file_paths import FOLDER
from understudy.wire.chat import ChatFunction, ChatTool
from understudy.wire.tools import (
    ChooseFunction,
    CodeInterpreterTool,
    FileSearchTool,
    FunctionDefinition,
    FunctionTool,
    Tool,
    ToolChoice,
)

# Azure's wrapper for parallel calls leaks as a function name (SPEC 13.14).
PARALLEL_WRAPPER = "multi_tool_use.parallel"

_CODE = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python code to run."}},
    "required": ["code"],
}
_QUERY = {
    "type": "object",
    "properties": {
        "queries": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": limits.SEARCH_QUERIES,
            "description": "What to look for, 1 to 5 queries that are searched together. Each is "
            "self-contained: it names what it is about and never refers to the conversation.",
        }
    },
    "required": ["queries"],
}
_RUNS_CODE = (
    "Runs Python in a sandbox without network and returns what it prints, the value of its last "
    "expression and its errors. Variables and files are kept from call to call. The user's files "
    "are under {folder}, and so is what you write for the user. A matplotlib figure that is shown "
    "with plt.show() is shown to the user. Link a file that you wrote in your answer, for example "
    "[the table](sandbox:{folder}/table.csv): only then can the user download it from there."
)
_SEARCHES = (
    "Searches the files that the user made available and returns the passages that fit best. Use "
    "it before you answer anything that these files may know. Several queries may be asked at "
    "once, up to {queries}: split a question that has several parts."
)


@dataclass(frozen=True)
class Searchable:
    """The files that file_search reaches: the names of some of them, and how many there are."""

    names: Sequence[str] = ()
    total: int = 0


def functions(tools: list[Tool]) -> dict[str, FunctionDefinition]:
    """The client's functions by name."""
    return {tool.function.name: tool.function for tool in tools if isinstance(tool, FunctionTool)}


def built_in(tools: list[Tool]) -> dict[str, str]:
    """The name offered to the provider → built-in type; a name never clashes with a function."""
    taken = set(functions(tools))
    names: dict[str, str] = {}
    for tool in tools:
        if isinstance(tool, FunctionTool):
            continue
        type = "code_interpreter" if isinstance(tool, CodeInterpreterTool) else "file_search"
        name = type
        while name in taken:
            name = "builtin_" + name
        names[name] = type
    return names


def offered(
    tools: list[Tool], *, searchable: Searchable | None, in_sandbox: Sequence[str] = ()
) -> list[ChatTool]:
    """What the provider is offered; file_search only where there is something to search.
    `in_sandbox` are the paths of files that code can read, below /mnt/data."""
    names = {type: name for name, type in built_in(tools).items()}
    result = []
    for tool in tools:
        match tool:
            case FunctionTool():
                result.append(ChatTool(function=_function(tool.function)))
            case CodeInterpreterTool():
                said = _RUNS_CODE.format(folder=FOLDER) + sandbox_listing(in_sandbox)
                result.append(_built_in_tool(names["code_interpreter"], said, _CODE))
            case FileSearchTool():
                if searchable is not None:
                    said = _SEARCHES.format(queries=limits.SEARCH_QUERIES) + listing(searchable)
                    result.append(_built_in_tool(names["file_search"], said, _QUERY))
    return result


def _function(function: FunctionDefinition) -> ChatFunction:
    """A client's function in the provider's shape; null and false are left out."""
    return ChatFunction(
        name=function.name,
        description=function.description or UNSET,
        parameters=UNSET if function.parameters is None else function.parameters,
        strict=True if function.strict else UNSET,
    )


def listing(searchable: Searchable) -> str:
    """The names of the files, for the tool's description: a model that does not know what is
    there does not look for it (SPEC 13.23)."""
    if not searchable.names:
        return ""
    names = [_one_line(name) for name in searchable.names[: limits.SEARCH_FILE_NAMES]]
    more = max(searchable.total, len(searchable.names)) - len(names)
    rest = [f"and {more} more"] if more > 0 else []
    return " The files: " + ", ".join([*names, *rest]) + "."


def sandbox_listing(paths: Sequence[str]) -> str:
    """The files that code can read, for the tool's description. Their names are quoted: code
    needs each exactly as it is."""
    if not paths:
        return ""
    shown = paths[: limits.CODE_FILE_NAMES]
    names = [msgspec.json.encode(f"{FOLDER}/{path}").decode() for path in shown]
    more = len(paths) - len(names)
    rest = [f"and {more} more"] if more > 0 else []
    return " The files: " + ", ".join([*names, *rest]) + "."


def _one_line(name: str) -> str:
    """A file name as a word of a sentence."""
    line = " ".join(name.split())
    if len(line) > limits.SEARCH_FILE_NAME_CHARS:
        line = line[: limits.SEARCH_FILE_NAME_CHARS - 1] + "…"
    return line


def _built_in_tool(name: str, description: str, parameters: dict[str, Any]) -> ChatTool:
    return ChatTool(
        function=ChatFunction(name=name, description=description, parameters=parameters)
    )


def choice(tool_choice: ToolChoice, tools: list[Tool]) -> str | dict[str, Any]:
    """A forced choice in the provider's shape."""
    if isinstance(tool_choice, str):
        return tool_choice
    if isinstance(tool_choice, ChooseFunction):
        name = tool_choice.function.name
    else:
        type = tool_choice.__struct_config__.tag
        name = next(name for name, kind in built_in(tools).items() if kind == type)
    return {"type": "function", "function": {"name": name}}


def queries_of(arguments: str, fallback: str = "") -> list[str]:
    """The queries of a file_search call, however the model put them: as `queries`, under another
    key, as a bare string, or as no JSON at all. Without any, `fallback` is the query."""
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, ValueError, RecursionError):
        decoded = arguments
    if isinstance(decoded, dict):
        decoded = next((decoded[key] for key in _QUERY_KEYS if decoded.get(key)), decoded)
    return _distinct(_strings(decoded, 2)) or _distinct([fallback])


_QUERY_KEYS = ("queries", "query")


def _strings(value: Any, depth: int) -> Iterator[str]:
    """The texts in what a model sent, which is free JSON; it may look for a number."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, list | dict) and depth:
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one, depth - 1)


def _distinct(texts: Iterable[str]) -> list[str]:
    """The first queries that say something, each once."""
    lines = (" ".join(text.split())[: limits.SEARCH_QUERY_CHARS] for text in texts)
    return list(dict.fromkeys(line for line in lines if line))[: limits.SEARCH_QUERIES]
