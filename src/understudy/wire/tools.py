"""Tools, their resources, tool_choice and response_format: what assistants and runs share."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, Metadata, Wire

Ranker = Literal["auto", "default_2024_08_21", "default-2024-08-21"]
Score = Annotated[float, Meta(ge=0, le=1)]


class RankingOptions(Body, frozen=True, kw_only=True):
    """How file_search ranks. `hybrid_search` is accepted because dashboards round-trip it."""

    ranker: Ranker | None | UnsetType = UNSET
    score_threshold: Score
    hybrid_search: dict[str, Any] | None | UnsetType = UNSET


class FileSearchOptions(Body, frozen=True, kw_only=True):
    """The overrides inside a file_search tool."""

    max_num_results: Annotated[int, Meta(ge=1, le=limits.SEARCH_RESULTS_MAX)] | None | UnsetType = (
        UNSET
    )
    ranking_options: RankingOptions | None | UnsetType = UNSET


class FunctionDefinition(Body, frozen=True, kw_only=True):
    """A function of the client that the model may call."""

    name: Annotated[str, Meta(max_length=limits.FUNCTION_NAME_CHARS, pattern="^[a-zA-Z0-9_-]+$")]
    description: str | None | UnsetType = UNSET
    # JSON Schema is free JSON: only the provider reads it.
    parameters: dict[str, Any] | None | UnsetType = UNSET
    strict: bool | None = False


class CodeInterpreterTool(
    Body, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """The code_interpreter tool."""


class FileSearchTool(Body, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """The file_search tool."""

    file_search: FileSearchOptions | UnsetType = UNSET


class FunctionTool(Body, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function tool."""

    function: FunctionDefinition


# The order in which errors list the tags.
Tool = CodeInterpreterTool | FunctionTool | FileSearchTool


class AttachmentCodeInterpreter(
    Body, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """An attachment is for code_interpreter."""


class AttachmentFileSearch(Body, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """An attachment is for file_search."""


AttachmentTool = AttachmentCodeInterpreter | AttachmentFileSearch


class CodeInterpreterResources(Body, frozen=True, kw_only=True):
    """Files that code_interpreter can read."""

    file_ids: Annotated[list[str], Meta(max_length=limits.CODE_INTERPRETER_FILES)] = []


class VectorStoreHelper(Body, frozen=True, kw_only=True):
    """A vector store to make along with the assistant or thread; never echoed."""

    file_ids: (
        Annotated[list[str], Meta(max_length=limits.VECTOR_STORE_HELPER_FILES)] | UnsetType
    ) = UNSET
    chunking_strategy: dict[str, Any] | None | UnsetType = UNSET
    metadata: Metadata | None | UnsetType = UNSET


class FileSearchResources(Body, frozen=True, kw_only=True):
    """The vector store that file_search searches."""

    vector_store_ids: Annotated[list[str], Meta(max_length=limits.VECTOR_STORES_PER_RESOURCE)] = []


class FileSearchResourcesHelper(Body, frozen=True, kw_only=True):
    """The same on a create call, where a store may be made on the way."""

    vector_store_ids: (
        Annotated[list[str], Meta(max_length=limits.VECTOR_STORES_PER_RESOURCE)] | UnsetType
    ) = UNSET
    vector_stores: (
        Annotated[list[VectorStoreHelper], Meta(max_length=limits.VECTOR_STORES_PER_RESOURCE)]
        | UnsetType
    ) = UNSET


class ToolResources(Body, frozen=True, kw_only=True):
    """What the built-in tools can reach."""

    code_interpreter: CodeInterpreterResources | None | UnsetType = UNSET
    file_search: FileSearchResources | None | UnsetType = UNSET


class ToolResourcesHelper(Body, frozen=True, kw_only=True):
    """The same on a create call."""

    code_interpreter: CodeInterpreterResources | None | UnsetType = UNSET
    file_search: FileSearchResourcesHelper | None | UnsetType = UNSET


class FunctionName(Body, frozen=True, kw_only=True):
    """The function that a forced choice names."""

    name: str


class ChooseFunction(Body, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """Force one function."""

    function: FunctionName


class ChooseFileSearch(Body, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """Force file_search."""


class ChooseCodeInterpreter(
    Body, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """Force code_interpreter."""


NamedToolChoice = ChooseFunction | ChooseFileSearch | ChooseCodeInterpreter
ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


class TextFormat(Body, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(Body, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(Body, frozen=True, kw_only=True):
    """The schema that an answer must match."""

    name: Annotated[str, Meta(max_length=limits.FUNCTION_NAME_CHARS, pattern="^[a-zA-Z0-9_-]+$")]
    description: str | None | UnsetType = UNSET
    # JSON Schema is free JSON: only the provider reads it. The wire calls it "schema".
    schema: dict[str, Any] | None | UnsetType = UNSET
    strict: bool | None | UnsetType = UNSET


class JsonSchemaFormat(Body, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that matches a schema."""

    json_schema: JsonSchema


ResponseFormat = Literal["auto", "none"] | TextFormat | JsonObjectFormat | JsonSchemaFormat
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class FunctionCall(Wire, frozen=True, kw_only=True):
    """The function and the arguments that the model asks for; arguments are its own text."""

    name: str
    arguments: str


class RequiredToolCall(Wire, frozen=True, kw_only=True):
    """One call that the client must answer."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall
