"""The tools of a run as the provider sees them: every tool is a function with a name."""

from typing import Any

from msgspec import UNSET

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
            "description": "What to look for; several queries are searched together.",
        }
    },
    "required": ["queries"],
}
_BUILT_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "code_interpreter": (
        "Runs Python in a sandbox that keeps its state within the thread. "
        "Files are under /mnt/data.",
        _CODE,
    ),
    "file_search": ("Searches the files that the user made available.", _QUERY),
}


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


def offered(tools: list[Tool], *, searchable: bool) -> list[ChatTool]:
    """What the provider is offered; file_search only where there is something to search."""
    names = {type: name for name, type in built_in(tools).items()}
    result = []
    for tool in tools:
        match tool:
            case FunctionTool():
                result.append(ChatTool(function=_function(tool.function)))
            case CodeInterpreterTool():
                result.append(_built_in_tool(names["code_interpreter"], "code_interpreter"))
            case FileSearchTool():
                if searchable:
                    result.append(_built_in_tool(names["file_search"], "file_search"))
    return result


def _function(function: FunctionDefinition) -> ChatFunction:
    """A client's function in the provider's shape; null and false are left out."""
    return ChatFunction(
        name=function.name,
        description=function.description or UNSET,
        parameters=UNSET if function.parameters is None else function.parameters,
        strict=True if function.strict else UNSET,
    )


def _built_in_tool(name: str, type: str) -> ChatTool:
    description, parameters = _BUILT_IN[type]
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
