"""Tools, their resources, tool_choice and response_format: what assistants and runs share."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, GivenMetadata, Wire
from understudy.wire.vector_stores import GivenChunkingStrategy

Ranker = Literal["auto", "default_2024_08_21", "default-2024-08-21"]
Score = Annotated[float, Meta(ge=0, le=1)]
# What the model may call a function or a schema.
ToolName = Annotated[str, Meta(max_length=limits.FUNCTION_NAME_CHARS, pattern="^[a-zA-Z0-9_-]+$")]
FileIds = Annotated[list[str], Meta(max_length=limits.CODE_INTERPRETER_FILES)]
VectorStoreIds = Annotated[list[str], Meta(max_length=limits.VECTOR_STORES_PER_RESOURCE)]
# JSON Schema is free JSON: only the provider reads it.
FreeSchema = dict[str, Any]


class RankingOptions(Body, frozen=True, kw_only=True):
    """How file_search ranks."""

    ranker: Annotated[
        Ranker | None | UnsetType, Meta(description="The ranker; all names mean the same one.")
    ] = UNSET
    score_threshold: Annotated[
        Score, Meta(description="Results that score less are left out, 0 to 1.")
    ]
    # Free JSON: accepted because dashboards round-trip it, never read.
    hybrid_search: Annotated[
        dict[str, Any] | None | UnsetType, Meta(description="Accepted and not used.")
    ] = UNSET


class FileSearchOptions(Body, frozen=True, kw_only=True):
    """The overrides inside a file_search tool."""

    max_num_results: Annotated[
        Annotated[int, Meta(ge=1, le=limits.SEARCH_RESULTS_MAX)] | None | UnsetType,
        Meta(description="How many results the model sees at most, 1 to 50."),
    ] = UNSET
    ranking_options: Annotated[
        RankingOptions | None | UnsetType, Meta(description="How the results are ranked.")
    ] = UNSET


class FunctionDefinition(Body, frozen=True, kw_only=True):
    """A function of the client that the model may call."""

    name: Annotated[
        ToolName,
        Meta(description="Its name: letters, digits, _ and -, at most 64 characters."),
    ]
    description: Annotated[
        str | None | UnsetType,
        Meta(description="What it does: the model decides by this when to call it."),
    ] = UNSET
    parameters: Annotated[
        FreeSchema | None | UnsetType,
        Meta(description="Its arguments as a JSON Schema object; absent means none."),
    ] = UNSET
    strict: Annotated[
        bool | None, Meta(description="Whether the arguments must match the schema exactly.")
    ] = False


class CodeInterpreterTool(
    Body, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """The code_interpreter tool."""


class FileSearchTool(Body, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """The file_search tool."""

    file_search: Annotated[
        FileSearchOptions | None | UnsetType, Meta(description="Overrides for the search.")
    ] = UNSET


class FunctionTool(Body, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function tool."""

    function: Annotated[FunctionDefinition, Meta(description="The function.")]


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

    file_ids: Annotated[FileIds, Meta(description="Ids of up to 20 files.")] = []


class VectorStoreHelper(Body, frozen=True, kw_only=True):
    """A vector store to make along with the assistant or thread; never echoed."""

    file_ids: Annotated[
        Annotated[list[str], Meta(max_length=limits.VECTOR_STORE_HELPER_FILES)] | UnsetType,
        Meta(description="Ids of up to 10,000 files to put into the store."),
    ] = UNSET
    chunking_strategy: GivenChunkingStrategy = UNSET
    metadata: GivenMetadata = UNSET


class FileSearchResources(Body, frozen=True, kw_only=True):
    """The vector store that file_search searches."""

    vector_store_ids: Annotated[
        VectorStoreIds, Meta(description="The id of at most one vector store.")
    ] = []


class FileSearchResourcesHelper(Body, frozen=True, kw_only=True):
    """The same on a create call, where a store may be made on the way."""

    vector_store_ids: Annotated[
        VectorStoreIds | UnsetType, Meta(description="The id of at most one vector store.")
    ] = UNSET
    vector_stores: Annotated[
        Annotated[list[VectorStoreHelper], Meta(max_length=limits.VECTOR_STORES_PER_RESOURCE)]
        | UnsetType,
        Meta(description="At most one store to make, instead of naming one."),
    ] = UNSET


class ToolResources(Body, frozen=True, kw_only=True):
    """What the built-in tools can reach."""

    code_interpreter: Annotated[
        CodeInterpreterResources | None | UnsetType,
        Meta(description="Files for code_interpreter."),
    ] = UNSET
    file_search: Annotated[
        FileSearchResources | None | UnsetType, Meta(description="Stores for file_search.")
    ] = UNSET


class ToolResourcesHelper(Body, frozen=True, kw_only=True):
    """The same on a create call."""

    code_interpreter: Annotated[
        CodeInterpreterResources | None | UnsetType,
        Meta(description="Files for code_interpreter."),
    ] = UNSET
    file_search: Annotated[
        FileSearchResourcesHelper | None | UnsetType, Meta(description="Stores for file_search.")
    ] = UNSET


class FunctionName(Body, frozen=True, kw_only=True):
    """The function that a forced choice names."""

    name: Annotated[str, Meta(description="The name of one of the run's functions.")]


class ChooseFunction(Body, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """Force one function."""

    function: Annotated[FunctionName, Meta(description="The function to call.")]


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

    name: Annotated[
        ToolName,
        Meta(description="Its name: letters, digits, _ and -, at most 64 characters."),
    ]
    description: Annotated[
        str | None | UnsetType, Meta(description="What the answer is for, as the model sees it.")
    ] = UNSET
    schema: Annotated[
        FreeSchema | None | UnsetType, Meta(description="The JSON Schema object.")
    ] = UNSET
    strict: Annotated[
        bool | None | UnsetType,
        Meta(description="Whether the answer must match the schema exactly."),
    ] = UNSET


class JsonSchemaFormat(Body, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that matches a schema."""

    json_schema: Annotated[JsonSchema, Meta(description="The schema and its name.")]


ResponseFormat = Literal["auto", "none"] | TextFormat | JsonObjectFormat | JsonSchemaFormat
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

# Fields that the bodies of assistants and runs share.
GivenResponseFormat = Annotated[
    ResponseFormat | None | UnsetType,
    Meta(description="The form of the answers; null and `none` stand for `auto`, plain text."),
]
GivenEffort = Annotated[
    ReasoningEffort | None | UnsetType,
    Meta(description="How long a reasoning model may think; null leaves it to the model."),
]


class FunctionCall(Wire, frozen=True, kw_only=True):
    """The function and the arguments that the model asks for."""

    name: Annotated[str, Meta(description="The function's name.")]
    arguments: Annotated[
        str, Meta(description="The model's own text: usually JSON, but not always valid.")
    ]


class RequiredToolCall(Wire, frozen=True, kw_only=True):
    """One call that the client must answer."""

    id: Annotated[str, Meta(description="The id to answer to.")]
    type: Annotated[Literal["function"], Meta(description="Always `function`.")] = "function"
    function: Annotated[FunctionCall, Meta(description="What to call.")]
