"""What a body must keep beyond the types of its fields, as pure functions.

`decode` has checked every field alone; these rules are about several fields together, or about
what a type cannot say. `check_body` applies all that need nothing but the body; the rest needs
what the API has loaded. Each raises the ApiError of the first violation.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from understudy import limits
from understudy.errors import ApiError
from understudy.errors.vector_stores import both_files_and_ids, filter_too_deep, filter_too_long
from understudy.wire.assistants import CreateAssistant, ModifyAssistant
from understudy.wire.base import Body, given
from understudy.wire.messages import (
    Attachment,
    ContentInput,
    CreateMessage,
    ImageFileContent,
    ImageUrlContent,
)
from understudy.wire.runs import CreateRun, CreateThreadAndRun, TruncationStrategy
from understudy.wire.threads import CreateThread, ModifyThread
from understudy.wire.tools import (
    ChooseCodeInterpreter,
    ChooseFileSearch,
    ChooseFunction,
    FileSearchOptions,
    FileSearchResourcesHelper,
    FileSearchTool,
    FunctionTool,
    JsonSchemaFormat,
    RankingOptions,
    ResponseFormat,
    Tool,
    ToolChoice,
    ToolResources,
    ToolResourcesHelper,
)
from understudy.wire.vector_stores import (
    AndFilter,
    AttachFile,
    ChunkingStrategyInput,
    CreateFileBatch,
    CreateVectorStore,
    Filter,
    OrFilter,
    SearchVectorStore,
    StaticChunkingStrategy,
)

S = TypeVar("S", bound=Body)

# PostgreSQL takes no NUL in a parameter, and no id of ours or the original's has any of these.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# The provider fetches these; any other scheme would reach into the provider's own machine.
_IMAGE_SCHEMES = ("http://", "https://", "data:image/")


def check_body(body: Body) -> None:
    """Everything about a body that the body alone can tell."""
    match body:
        case CreateAssistant() | ModifyAssistant():
            check_tools("tools", body.tools)
            check_resources("tool_resources", body.tool_resources)
            check_response_format(body.response_format)
        case CreateThread():
            _check_thread("", body)
        case ModifyThread():
            check_resources("tool_resources", body.tool_resources)
        case CreateMessage():
            _check_message("", body)
        case CreateRun():
            _check_run(body)
            _check_messages("additional_messages", body.additional_messages)
        case CreateThreadAndRun():
            _check_run(body)
            check_resources("tool_resources", body.tool_resources)
            if isinstance(body.thread, CreateThread):
                _check_thread("thread.", body.thread)
        case _:
            _check_store_body(body)  # The rest has no rule of its own.


# Ids.


def check_id(param: str, value: str, prefix: str) -> None:
    """An id must begin with the prefix of its kind; any tail goes on to the lookup."""
    # Files that came from Azure are called assistant-....
    prefixes = (prefix, "assistant-") if prefix == "file" else (prefix,)
    if not value.startswith(prefixes) or _CONTROL.search(value):
        raise ApiError.bad_id(param, value, prefix)


def check_reference(param: str, value: str) -> None:
    """An id in a body goes to the lookup as it is, but never with control characters."""
    if _CONTROL.search(value):
        raise ApiError.invalid(
            param, f"Invalid '{param}': an ID must not contain control characters."
        )


# Tools.


def check_tools(param: str, tools: Sequence[Tool] | None | UnsetType) -> None:
    """Each built-in tool and each function name only once."""
    seen: set[str] = set()
    for index, tool in enumerate(given(tools, [])):
        name = _tool_key(tool)
        if isinstance(tool, FunctionTool):
            _check_name(f"{param}[{index}].function.name", tool.function.name)
        if name in seen:
            raise ApiError.duplicate_tool(param, name.removeprefix("function "))
        seen.add(name)


def check_tool_choice(choice: ToolChoice | None | UnsetType, tools: Iterable[Tool]) -> None:
    """A choice that names a tool must name one of these."""
    match choice:
        case ChooseFunction():
            name, key = choice.function.name, f"function {choice.function.name}"
        case ChooseFileSearch():
            name = key = "file_search"
        case ChooseCodeInterpreter():
            name = key = "code_interpreter"
        case _:
            return
    if key not in {_tool_key(tool) for tool in tools}:
        raise ApiError.unknown_forced_tool(name)


def normal_tools(tools: Sequence[Tool] | None | UnsetType) -> list[Tool]:
    """Tools as an object shows them: an unset `strict` is false, and what is null is absent,
    because the original's objects have no null in a tool."""
    return [_normal_tool(tool) for tool in given(tools, [])]


def _normal_tool(tool: Tool) -> Tool:
    match tool:
        case FunctionTool():
            strict = bool(tool.function.strict)
            return FunctionTool(function=_without_nulls(replace(tool.function, strict=strict)))
        case FileSearchTool(file_search=FileSearchOptions() as options):
            ranking = options.ranking_options
            if isinstance(ranking, RankingOptions):
                options = replace(options, ranking_options=_without_nulls(ranking))
            return FileSearchTool(file_search=_without_nulls(options))
        case FileSearchTool():
            return FileSearchTool()
        case _:
            return tool


def _without_nulls(body: S) -> S:
    """The body with its nulls left out."""
    nulls = [name for name in body.__struct_fields__ if getattr(body, name) is None]
    return replace(body, **dict.fromkeys(nulls, UNSET)) if nulls else body


def _tool_key(tool: Tool) -> str:
    """What may be there only once: a function by its name, a built-in tool by its type."""
    if isinstance(tool, FunctionTool):
        return f"function {tool.function.name}"
    return str(tool.__struct_config__.tag)


def _check_name(param: str, name: str) -> None:
    """The pattern's `$` lets one newline pass at the end."""
    if name.endswith("\n"):
        raise ApiError.bad_pattern(param, "^[a-zA-Z0-9_-]+$")


# Resources.


def check_resources(
    param: str, resources: ToolResources | ToolResourcesHelper | None | UnsetType
) -> None:
    """Ids that can be looked up, and not more than one store in all."""
    if resources is UNSET or resources is None:
        return
    if resources.code_interpreter:
        _check_references(f"{param}.code_interpreter.file_ids", resources.code_interpreter.file_ids)
    search = resources.file_search
    if not search:
        return
    ids_param = f"{param}.file_search.vector_store_ids"
    store_ids = given(search.vector_store_ids, [])
    _check_references(ids_param, store_ids)
    if not isinstance(search, FileSearchResourcesHelper):
        return
    helpers = given(search.vector_stores, [])
    count = len(store_ids) + len(helpers)
    if count > limits.VECTOR_STORES_PER_RESOURCE:
        raise ApiError.array_too_long(ids_param, limits.VECTOR_STORES_PER_RESOURCE, count)
    for index, helper in enumerate(helpers):
        helper_param = f"{param}.file_search.vector_stores[{index}]"
        _check_references(f"{helper_param}.file_ids", given(helper.file_ids, []))
        check_chunking(f"{helper_param}.chunking_strategy", helper.chunking_strategy)


def _check_references(param: str, ids: Iterable[str]) -> None:
    for index, id in enumerate(ids):
        check_reference(f"{param}[{index}]", id)


# Messages and threads.


def _check_thread(path: str, body: CreateThread) -> None:
    _check_messages(f"{path}messages", body.messages)
    check_resources(f"{path}tool_resources", body.tool_resources)


def _check_messages(param: str, messages: Sequence[CreateMessage] | None | UnsetType) -> None:
    for index, message in enumerate(given(messages, [])):
        _check_message(f"{param}[{index}].", message)


def _check_message(path: str, body: CreateMessage) -> None:
    if not isinstance(body.content, str):
        check_content(f"{path}content", body.content)
    attachments: Sequence[Attachment] = given(body.attachments, [])
    for index, attachment in enumerate(attachments):
        check_reference(f"{path}attachments[{index}].file_id", attachment.file_id)


def check_content(param: str, parts: Sequence[ContentInput]) -> None:
    """At most 10 images, each where a provider may look for it."""
    images = 0
    for index, part in enumerate(parts):
        match part:
            case ImageFileContent():
                check_reference(f"{param}[{index}].image_file.file_id", part.image_file.file_id)
            case ImageUrlContent():
                _check_image_url(f"{param}[{index}].image_url.url", part.image_url.url)
            case _:
                continue
        images += 1
    if images > limits.IMAGES_PER_MESSAGE:
        raise ApiError.too_many_images(param, limits.IMAGES_PER_MESSAGE, images)


def _check_image_url(param: str, url: str) -> None:
    if not url[:16].lower().startswith(_IMAGE_SCHEMES):
        raise ApiError.bad_image_url(param)


# Runs.


def _check_run(body: CreateRun | CreateThreadAndRun) -> None:
    check_id("assistant_id", body.assistant_id, "asst")
    check_tools("tools", body.tools)
    check_truncation(body.truncation_strategy)
    check_response_format(body.response_format)


def check_truncation(strategy: TruncationStrategy | None | UnsetType) -> None:
    """`last_messages` needs its number."""
    if not strategy or strategy.type != "last_messages":
        return
    if strategy.last_messages is None:
        raise ApiError.missing("truncation_strategy.last_messages")


def check_response_format(format: ResponseFormat | None | UnsetType) -> None:
    """A strict schema must forbid additional properties at its root."""
    if not isinstance(format, JsonSchemaFormat):
        return
    schema = format.json_schema
    _check_name("response_format.json_schema.name", schema.name)
    if schema.strict is not True:
        return
    if schema.schema is UNSET or schema.schema is None:
        raise ApiError.missing("response_format.json_schema.schema")
    if schema.schema.get("additionalProperties") is not False:
        raise ApiError.schema_not_strict(schema.name)


def normal_response_format(format: ResponseFormat | None | UnsetType) -> ResponseFormat:
    """A response format as an object shows it: absent, null and `none` are `auto`."""
    wanted: ResponseFormat = given(format, "auto")
    if isinstance(wanted, JsonSchemaFormat):
        return JsonSchemaFormat(json_schema=_without_nulls(wanted.json_schema))
    return "auto" if wanted == "none" else wanted


# Vector stores.


def _check_store_body(body: Body) -> None:
    match body:
        case CreateVectorStore():
            _check_references("file_ids", given(body.file_ids, []))
            check_chunking("chunking_strategy", body.chunking_strategy)
        case AttachFile():
            _check_attached("", body)
        case CreateFileBatch():
            _check_batch(body)
        case SearchVectorStore():
            check_filter("filters", given(body.filters, None))


def check_chunking(param: str, strategy: ChunkingStrategyInput | None | UnsetType) -> None:
    """Neighbours share at most half of a chunk."""
    if not isinstance(strategy, StaticChunkingStrategy):
        return
    overlap = strategy.static.chunk_overlap_tokens
    most = strategy.static.max_chunk_size_tokens // 2
    if overlap > most:
        path = f"{param}.static.chunk_overlap_tokens"
        raise ApiError.number_too_high(path, most, overlap, kind="integer")


def _check_attached(path: str, body: AttachFile) -> None:
    check_reference(f"{path}file_id", body.file_id)
    check_chunking(f"{path}chunking_strategy", body.chunking_strategy)


def _check_batch(body: CreateFileBatch) -> None:
    """Either ids or files."""
    file_ids, files = given(body.file_ids, []), given(body.files, [])
    if not file_ids and not files:
        raise ApiError.missing("file_ids")
    if file_ids and files:
        raise both_files_and_ids()
    _check_references("file_ids", file_ids)
    for index, file in enumerate(files):
        _check_attached(f"files[{index}].", file)
    check_chunking("chunking_strategy", body.chunking_strategy)


def check_filter(param: str, filter: Filter | None) -> None:
    """A filter that can be read at a glance: neither deep nor long."""
    level = [] if filter is None else [filter]
    terms = depth = 0
    while level:
        depth += 1
        if depth > limits.FILTER_DEPTH:
            raise filter_too_deep(param, limits.FILTER_DEPTH)
        joined = [one for one in level if isinstance(one, AndFilter | OrFilter)]
        terms += len(level) - len(joined)
        level = [inner for one in joined for inner in one.filters]
    if terms > limits.FILTER_TERMS:
        raise filter_too_long(param, limits.FILTER_TERMS, terms)
