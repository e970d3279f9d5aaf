"""The wording of the errors of files and uploads; what is marked [I] is ours (SPEC 3, 7.6, 7.7)."""

from collections.abc import Sequence

from understudy.errors import ApiError


def download_refused(purpose: str) -> ApiError:
    """The content of a file that only tools may read."""
    return ApiError(400, f"Not allowed to download files of purpose: {purpose}")


def empty_file(param: str) -> ApiError:
    """A file without bytes [I]."""
    return ApiError.invalid(param, "File is empty.")


def bad_range(size_bytes: int) -> ApiError:
    """A range that begins behind the file's end [I]."""
    error = ApiError(416, "The requested range is not part of the file.", param="range")
    error.headers["content-range"] = f"bytes */{size_bytes}"
    return error


def storage_full() -> ApiError:
    """No space is left for files [I]. Sending it again at once would not help."""
    return ApiError(
        507,
        "The server has no space left for files.",
        type="server_error",
        code="storage_full",
        headers={"x-should-retry": "false"},
    )


def content_lost(file_id: str) -> ApiError:
    """The record has a file whose bytes are gone [I]: somebody else deleted them."""
    return ApiError(500, f"The content of file {file_id} is missing.", type="server_error")


# Forms.


def no_form(content_type: str) -> ApiError:
    """A body that is no form, where a form is needed."""
    return ApiError(
        400,
        f"Invalid Content-Type header ({content_type}), expected multipart/form-data. (HINT: If "
        "you're using curl, you can pass -H 'Content-Type: multipart/form-data')",
    )


def bad_form() -> ApiError:
    """A form that is not well formed [I]."""
    return ApiError(
        400,
        "We could not parse the multipart form of your request. (HINT: This likely means that "
        "the boundary in the Content-Type header is not the one in the body.)",
    )


def cut_form() -> ApiError:
    """A form whose end never came [I]."""
    return ApiError(400, "The multipart form of your request ends before its last boundary.")


def form_too_slow(limit_s: float) -> ApiError:
    """A form that arrives too slowly [I]."""
    return ApiError(400, f"The request body took longer than {limit_s:g} seconds to arrive.")


def form_too_large(what: str, limit: int) -> ApiError:
    """A form with too much beside its file [I]."""
    return ApiError(400, f"The multipart form of your request has more than {limit} {what}.")


def second_file(param: str) -> ApiError:
    """A form with two files [I]."""
    return ApiError.invalid(param, f"Invalid '{param}': expected one file, but got several.")


# Uploads.


def upload_not_pending(upload_id: str) -> ApiError:
    """An upload that is over [I]."""
    return ApiError(400, f"Upload '{upload_id}' is not pending.")


def bad_mime_type(mime_type: str, purpose: str, supported: Sequence[str]) -> ApiError:
    """A MIME type that the purpose does not take [I]."""
    return ApiError.invalid(
        "mime_type",
        f"Invalid 'mime_type' for purpose '{purpose}': '{mime_type}'. Supported values are: "
        f"{', '.join(supported)}.",
    )


def too_many_parts(limit: int) -> ApiError:
    """An upload with too many parts [I]."""
    return ApiError(400, f"Uploads can have at most {limit} parts.")


def unknown_part(upload_id: str, part_id: str) -> ApiError:
    """A part that this upload does not have [I]."""
    return ApiError.invalid("part_ids", f"No part '{part_id}' found in upload '{upload_id}'.")


def repeated_part(part_id: str) -> ApiError:
    """A part that is named twice [I]."""
    return ApiError.invalid("part_ids", f"Invalid 'part_ids': part '{part_id}' is given twice.")


def wrong_total(expected: int, got: int) -> ApiError:
    """Parts that are not as large together as was said [I]."""
    return ApiError.invalid(
        "part_ids",
        f"The parts have {got} bytes together, but the upload was created with {expected} bytes.",
    )


def wrong_md5(expected: str, got: str) -> ApiError:
    """Parts that are not the bytes that were meant [I]."""
    return ApiError.invalid(
        "md5", f"Invalid 'md5': expected '{expected}', but the uploaded bytes have '{got}'."
    )


# Images.


def not_for_images(purpose: str) -> ApiError:
    """An image part whose file has another purpose [I]."""
    return ApiError(
        400,
        "Invalid message content: Expected a file with purpose 'vision' or 'assistants' but got "
        f"'{purpose}'.",
        code="invalid_image_format",
    )
