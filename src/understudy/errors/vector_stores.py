"""The wording of errors about vector stores, their files, batches and searches."""

from understudy.errors import ApiError


def no_store_file(file_id: str, store_id: str) -> ApiError:
    """A file that is not in this vector store."""
    return ApiError(404, f"No file found with id '{file_id}' in vector store '{store_id}'.")


def store_expired(store_id: str) -> ApiError:
    """A vector store that can no longer be searched or added to."""
    return ApiError(400, f"Vector store '{store_id}' has expired.")


def store_full(store_id: str, limit: int) -> ApiError:
    """A vector store that would have too many files."""
    return ApiError(400, f"Vector store '{store_id}' can hold at most {limit} files.")


def both_files_and_ids() -> ApiError:
    """A batch that names its files in two ways."""
    return ApiError.invalid(
        "files", "Invalid 'files': 'file_ids' and 'files' cannot be given together."
    )


def filter_too_deep(param: str, limit: int) -> ApiError:
    """A filter whose `and` and `or` are nested too deeply."""
    return ApiError.invalid(
        param, f"Invalid '{param}': nested too deeply. Expected at most {limit} levels."
    )


def filter_too_long(param: str, limit: int, count: int) -> ApiError:
    """A filter with too many comparisons."""
    return ApiError.invalid(
        param,
        f"Invalid '{param}': too many comparisons. Expected at most {limit}, "
        f"but got {count} instead.",
    )
