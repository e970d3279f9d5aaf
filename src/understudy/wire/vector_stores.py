"""Vector stores, their files, batches and searches (SPEC 7.8)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, CreatedAt, GivenMetadata, Id, ObjectMetadata, Wire

Name = Annotated[str, Meta(max_length=limits.NAME_CHARS)]
Description = Annotated[str, Meta(max_length=limits.DESCRIPTION_CHARS)]
FileStatus = Literal["in_progress", "completed", "failed", "cancelled"]
StoreStatus = Literal["expired", "in_progress", "completed"]
BatchStatus = Literal["in_progress", "completed", "cancelled", "failed"]
FILE_STATUSES: tuple[FileStatus, ...] = ("in_progress", "completed", "failed", "cancelled")
ErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]

AttributeKey = Annotated[str, Meta(max_length=limits.METADATA_KEY_CHARS)]
AttributeText = Annotated[str, Meta(max_length=limits.METADATA_VALUE_CHARS)]
Attribute = AttributeText | bool | int | float
Attributes = Annotated[dict[AttributeKey, Attribute], Meta(max_length=limits.METADATA_PAIRS)]
GivenAttributes = Annotated[
    Attributes | None | UnsetType,
    Meta(
        description="Up to 16 values to filter searches by: keys of at most 64 characters; values "
        "are strings of at most 512 characters, numbers or booleans."
    ),
]
StoreId = Annotated[str, Meta(description="The id of the vector store.")]
NextPage = Annotated[str | None, Meta(description="Always null: there is one page.")]


# Chunking.


class StaticChunking(Body, frozen=True, kw_only=True):
    """The sizes of chunks."""

    max_chunk_size_tokens: Annotated[
        int,
        Meta(
            ge=limits.CHUNK_TOKENS_MIN,
            le=limits.CHUNK_TOKENS_MAX,
            description="The size of a chunk in tokens, 100 to 4096.",
        ),
    ]
    chunk_overlap_tokens: Annotated[
        int,
        Meta(ge=0, description="How many tokens neighbours share, at most half of the size."),
    ]


class AutoChunkingStrategy(Body, frozen=True, kw_only=True, tag_field="type", tag="auto"):
    """The default: chunks of 800 tokens, 400 of which overlap."""


class StaticChunkingStrategy(Body, frozen=True, kw_only=True, tag_field="type", tag="static"):
    """Chunks of a chosen size."""

    static: Annotated[StaticChunking, Meta(description="The sizes.")]


class OtherChunkingStrategy(Body, frozen=True, kw_only=True, tag_field="type", tag="other"):
    """How the file was cut is not known."""


ChunkingStrategyInput = AutoChunkingStrategy | StaticChunkingStrategy
ChunkingStrategy = StaticChunkingStrategy | OtherChunkingStrategy
GivenChunkingStrategy = Annotated[
    ChunkingStrategyInput | None | UnsetType,
    Meta(description="How files are cut into chunks; absent stands for `auto`."),
]


# Stores.


class FileCounts(Wire, frozen=True, kw_only=True):
    """How many files are in which state."""

    in_progress: Annotated[int, Meta(description="Files that are being processed.")] = 0
    completed: Annotated[int, Meta(description="Files that can be searched.")] = 0
    failed: Annotated[int, Meta(description="Files that could not be processed.")] = 0
    cancelled: Annotated[int, Meta(description="Files whose processing was cancelled.")] = 0
    total: Annotated[int, Meta(description="All files.")] = 0


class ExpiresAfter(Body, frozen=True, kw_only=True):
    """When a vector store expires."""

    anchor: Annotated[
        Literal["last_active_at"], Meta(description="What the days are counted from.")
    ]
    days: Annotated[
        int,
        Meta(ge=1, le=limits.VECTOR_STORE_DAYS, description="How many days it lasts, 1 to 365."),
    ]


class VectorStore(Wire, frozen=True, kw_only=True):
    """A vector store: files that can be searched."""

    id: Id
    object: Annotated[Literal["vector_store"], Meta(description="Always `vector_store`.")] = (
        "vector_store"
    )
    created_at: CreatedAt
    name: Annotated[str | None, Meta(description="Its name; null when none was given.")]
    description: Annotated[str | None, Meta(description="Its description.")]
    usage_bytes: Annotated[int, Meta(description="What its chunks and vectors take, in bytes.")]
    file_counts: Annotated[FileCounts, Meta(description="Its files, by state.")]
    status: Annotated[
        StoreStatus,
        Meta(
            description="`in_progress` while files are being processed, `completed` when all are "
            "done, whether they failed or not; an expired store cannot be searched."
        ),
    ]
    expires_after: Annotated[
        ExpiresAfter | None, Meta(description="When it expires; null when it never does.")
    ]
    expires_at: Annotated[int | None, Meta(description="When it expires, in unix seconds.")]
    last_active_at: Annotated[
        int | None, Meta(description="When it was last changed or searched, in unix seconds.")
    ]
    metadata: ObjectMetadata


class CreateVectorStore(Body, frozen=True, kw_only=True):
    """The body of POST /vector_stores; it may be absent."""

    name: Annotated[
        Name | None | UnsetType, Meta(description="A name, at most 256 characters.")
    ] = UNSET
    description: Annotated[
        Description | None | UnsetType, Meta(description="A description, at most 512 characters.")
    ] = UNSET
    file_ids: Annotated[
        Annotated[list[str], Meta(max_length=limits.VECTOR_STORE_CREATE_FILES)] | None | UnsetType,
        Meta(description="Ids of up to 500 files to put into the store."),
    ] = UNSET
    expires_after: Annotated[
        ExpiresAfter | None | UnsetType,
        Meta(description="When the store expires; absent means never."),
    ] = UNSET
    chunking_strategy: GivenChunkingStrategy = UNSET
    metadata: GivenMetadata = UNSET


class ModifyVectorStore(Body, frozen=True, kw_only=True):
    """The body of POST /vector_stores/{vector_store_id}: what is absent stays as it is."""

    name: Annotated[
        Name | None | UnsetType, Meta(description="A name, at most 256 characters; null clears it.")
    ] = UNSET
    expires_after: Annotated[
        ExpiresAfter | None | UnsetType,
        Meta(description="When the store expires, counted from now; null means never."),
    ] = UNSET
    metadata: GivenMetadata = UNSET


# The files of a store.


class StoreFileError(Wire, frozen=True, kw_only=True):
    """Why a file could not be processed."""

    code: Annotated[ErrorCode, Meta(description="The kind of the error.")]
    message: Annotated[str, Meta(description="What is wrong with the file, in words.")]


class VectorStoreFile(Wire, frozen=True, kw_only=True):
    """A file in a vector store."""

    id: Annotated[str, Meta(description="The id of the file.")]
    object: Annotated[
        Literal["vector_store.file"], Meta(description="Always `vector_store.file`.")
    ] = "vector_store.file"
    usage_bytes: Annotated[int, Meta(description="What its chunks and vectors take, in bytes.")]
    created_at: Annotated[
        int, Meta(description="When the file was put into the store, in unix seconds.")
    ]
    vector_store_id: StoreId
    status: Annotated[FileStatus, Meta(description="How far its processing is.")]
    last_error: Annotated[
        StoreFileError | None, Meta(description="Why it failed; null when it did not.")
    ]
    chunking_strategy: Annotated[
        ChunkingStrategy, Meta(description="How it is cut; `auto` is shown as its sizes.")
    ]
    attributes: Annotated[
        dict[str, Attribute],
        Meta(description="Values to filter searches by; `{}` when there are none."),
    ]


class AttachFile(Body, frozen=True, kw_only=True):
    """The body of POST /vector_stores/{vector_store_id}/files, and the items of `files` lists."""

    file_id: Annotated[str, Meta(description="The id of the file.")]
    attributes: GivenAttributes = UNSET
    chunking_strategy: GivenChunkingStrategy = UNSET


class ModifyAttributes(Body, frozen=True, kw_only=True):
    """The body of POST /vector_stores/{vector_store_id}/files/{file_id}."""

    attributes: Annotated[
        Attributes | None,
        Meta(
            description="Up to 16 values that replace the old ones; null clears them. Strings "
            "have at most 512 characters, keys at most 64."
        ),
    ]


# Batches.


class FileBatch(Wire, frozen=True, kw_only=True):
    """Files that were put into a vector store together."""

    id: Id
    object: Annotated[
        Literal["vector_store.file_batch"], Meta(description="Always `vector_store.file_batch`.")
    ] = "vector_store.file_batch"
    created_at: CreatedAt
    vector_store_id: StoreId
    status: Annotated[
        BatchStatus,
        Meta(description="`completed` when no file is left to process; `failed` if all failed."),
    ]
    file_counts: Annotated[FileCounts, Meta(description="Its files, by state.")]


BatchFileIds = Annotated[list[str], Meta(min_length=1, max_length=limits.FILE_BATCH_FILES)]
BatchFiles = Annotated[list[AttachFile], Meta(min_length=1, max_length=limits.FILE_BATCH_FILES)]


class CreateFileBatch(Body, frozen=True, kw_only=True):
    """The body of POST /vector_stores/{vector_store_id}/file_batches."""

    file_ids: Annotated[
        BatchFileIds | None | UnsetType,
        Meta(description="Ids of 1 to 2,000 files. Either this or `files` must be given."),
    ] = UNSET
    files: Annotated[
        BatchFiles | None | UnsetType,
        Meta(description="1 to 2,000 files, each with its own attributes and chunking."),
    ] = UNSET
    attributes: GivenAttributes = UNSET
    chunking_strategy: GivenChunkingStrategy = UNSET


# Content.


class TextPiece(Wire, frozen=True, kw_only=True):
    """A piece of a file's text."""

    type: Annotated[Literal["text"], Meta(description="Always `text`.")] = "text"
    text: Annotated[str, Meta(description="The text.")]


class FileContentPage(Wire, frozen=True, kw_only=True):
    """The text that was read from a file."""

    object: Annotated[
        Literal["vector_store.file_content.page"],
        Meta(description="Always `vector_store.file_content.page`."),
    ] = "vector_store.file_content.page"
    data: Annotated[list[TextPiece], Meta(description="The text; empty until it was read.")]
    has_more: Annotated[bool, Meta(description="Always false: there is one page.")] = False
    next_page: NextPage = None


# Filters: comparisons, and what joins them. `value` may be of another type than the attribute;
# then it does not match.

FilterKey = Annotated[str, Meta(description="The name of the attribute.")]
FilterValue = Annotated[
    str | bool | int | float, Meta(description="What the attribute is compared with.")
]
FilterValues = Annotated[
    list[str | int | float],
    Meta(
        max_length=limits.FILTER_VALUES,
        description="Strings or numbers, one of which the attribute may equal.",
    ),
]


class EqualFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="eq"):
    """The attribute equals the value."""

    key: FilterKey
    value: FilterValue


class NotEqualFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="ne"):
    """The attribute does not equal the value, or is not there."""

    key: FilterKey
    value: FilterValue


class GreaterFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="gt"):
    """The attribute is greater than the value."""

    key: FilterKey
    value: FilterValue


class GreaterOrEqualFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="gte"):
    """The attribute is the value or greater."""

    key: FilterKey
    value: FilterValue


class LessFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="lt"):
    """The attribute is less than the value."""

    key: FilterKey
    value: FilterValue


class LessOrEqualFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="lte"):
    """The attribute is the value or less."""

    key: FilterKey
    value: FilterValue


class InFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="in"):
    """The attribute equals one of the values."""

    key: FilterKey
    value: FilterValues


class NotInFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="nin"):
    """The attribute equals none of the values, or is not there."""

    key: FilterKey
    value: FilterValues


class AndFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="and"):
    """All of these filters match."""

    filters: Annotated["list[Filter]", Meta(description="Comparisons, or further `and`, `or`.")]


class OrFilter(Body, frozen=True, kw_only=True, tag_field="type", tag="or"):
    """At least one of these filters matches."""

    filters: Annotated["list[Filter]", Meta(description="Comparisons, or further `and`, `or`.")]


Filter = (
    EqualFilter
    | NotEqualFilter
    | GreaterFilter
    | GreaterOrEqualFilter
    | LessFilter
    | LessOrEqualFilter
    | InFilter
    | NotInFilter
    | AndFilter
    | OrFilter
)


# Search.


class HybridSearch(Body, frozen=True, kw_only=True):
    """How much search by meaning and search by words weigh."""

    embedding_weight: Annotated[
        float | None | UnsetType, Meta(description="The weight of search by meaning.")
    ] = UNSET
    text_weight: Annotated[
        float | None | UnsetType, Meta(description="The weight of search by words.")
    ] = UNSET


class SearchRankingOptions(Body, frozen=True, kw_only=True):
    """How a search ranks."""

    ranker: Annotated[
        Literal["none", "auto", "default-2024-11-15", "default_2024_08_21", "default-2024-08-21"]
        | None
        | UnsetType,
        Meta(description="The ranker; all names mean the same one."),
    ] = UNSET
    score_threshold: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None | UnsetType,
        Meta(description="Results that score less are left out, 0 to 1."),
    ] = UNSET
    hybrid_search: Annotated[
        HybridSearch | None | UnsetType, Meta(description="Accepted and not used.")
    ] = UNSET


SearchQuery = Annotated[str, Meta(min_length=1, max_length=limits.VECTOR_STORE_QUERY_CHARS)]
SearchQueries = Annotated[
    list[SearchQuery], Meta(min_length=1, max_length=limits.VECTOR_STORE_QUERIES)
]


class SearchVectorStore(Body, frozen=True, kw_only=True):
    """The body of POST /vector_stores/{vector_store_id}/search."""

    query: Annotated[
        SearchQuery | SearchQueries, Meta(description="What to look for: a text, or several.")
    ]
    rewrite_query: Annotated[
        bool | None | UnsetType,
        Meta(description="Whether a model words the query anew for searching."),
    ] = UNSET
    max_num_results: Annotated[
        Annotated[int, Meta(ge=1, le=limits.SEARCH_RESULTS_MAX)] | None | UnsetType,
        Meta(description="How many results there are at most, 1 to 50; 10 by default."),
    ] = UNSET
    filters: Annotated[
        Filter | None | UnsetType, Meta(description="Which files are searched, by attributes.")
    ] = UNSET
    ranking_options: Annotated[
        SearchRankingOptions | None | UnsetType, Meta(description="How the results are ranked.")
    ] = UNSET


class StoreSearchResult(Wire, frozen=True, kw_only=True):
    """A passage that was found."""

    file_id: Annotated[str, Meta(description="The file that it is from.")]
    filename: Annotated[str, Meta(description="The name of that file.")]
    score: Annotated[float, Meta(description="How well it fits, 0 to 1.")]
    attributes: Annotated[
        dict[str, Attribute], Meta(description="The attributes of the file in this store.")
    ]
    content: Annotated[list[TextPiece], Meta(description="The text of the passage.")]


class SearchResultsPage(Wire, frozen=True, kw_only=True):
    """What a search found, best first."""

    object: Annotated[
        Literal["vector_store.search_results.page"],
        Meta(description="Always `vector_store.search_results.page`."),
    ] = "vector_store.search_results.page"
    search_query: Annotated[
        list[str], Meta(description="What was searched for, as rewritten if that was asked.")
    ]
    data: Annotated[list[StoreSearchResult], Meta(description="The results, best first.")]
    has_more: Annotated[bool, Meta(description="Always false: there is one page.")] = False
    next_page: NextPage = None
