"""Why a file cannot be searched: every wording of it, as a client reads it in `last_error`."""

from typing import Literal

Code = Literal["unsupported_file", "invalid_file", "server_error"]


class Unreadable(Exception):
    """A file that cannot be read; the message names what is wrong with it."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


class OutOfMemory(Unreadable):
    """A file that needed more memory than its reader had."""


def _invalid(message: str) -> Unreadable:
    return Unreadable("invalid_file", message)


def _named(extension: str) -> str:
    return f"The {extension} file" if extension else "The file"


def unsupported_extension(extension: str) -> Unreadable:
    """A name that says a kind we do not search."""
    return Unreadable(
        "unsupported_file", f"Files with extensions [{extension}] are not supported for retrieval."
    )


def unsupported_content(kind: str, extension: str) -> Unreadable:
    """A content that we know and do not search, whatever the name says."""
    return Unreadable(
        "unsupported_file", f"{_named(extension)} is {kind}, which is not supported for retrieval."
    )


def empty() -> Unreadable:
    """No bytes."""
    return _invalid("The file is empty.")


def no_text(extension: str) -> Unreadable:
    """A file of the right kind without a letter in it."""
    return _invalid(f"{_named(extension)} contains no text.")


def scanned(pages: int) -> Unreadable:
    """A PDF of pictures."""
    noun = "page" if pages == 1 else "pages"
    return _invalid(
        f"The PDF has {pages:,} {noun} but contains no text; if it is a scan, run text recognition"
        " (OCR) on it and upload it again."
    )


def no_pages() -> Unreadable:
    """A PDF of nothing."""
    return _invalid("The PDF has no pages.")


def encrypted() -> Unreadable:
    """A PDF or an office file that wants a password."""
    return _invalid("The file is encrypted; remove its password and upload it again.")


def damaged(kind: str) -> Unreadable:
    """A file that starts as its kind does and does not go on so."""
    return _invalid(f"The file is damaged: it could not be read as {kind}.")


def not_text(extension: str) -> Unreadable:
    """Bytes in no encoding and no format that we know."""
    return _invalid(
        f"{_named(extension)} is not text in any known encoding, and not a document of a supported"
        " type either."
    )


def too_many_bytes(size_bytes: int, limit: int) -> Unreadable:
    """A text file that is too large to be looked at."""
    return _invalid(
        f"The file has {size_bytes:,} bytes of text, but at most {limit:,} can be searched; split"
        " it into smaller files."
    )


def too_many_characters(limit: int) -> Unreadable:
    """A document whose text does not end."""
    return _invalid(
        f"The file has more than {limit:,} characters of text, which is the most that can be"
        " searched; split it into smaller files."
    )


def too_many_tokens(count: str, limit: int) -> Unreadable:
    """More text than the API allows."""
    return _invalid(
        f"The file has {count} tokens, but at most {limit:,} are allowed; split it into smaller"
        " files."
    )


def unpacks_too_large(size_bytes: int, limit: int) -> Unreadable:
    """An office file that would unpack to more than we read."""
    return _invalid(f"The file unpacks to {size_bytes:,} bytes, but at most {limit:,} are allowed.")


def packed_too_tightly(ratio: int, limit: int) -> Unreadable:
    """An office file that is a bomb."""
    return _invalid(
        f"The file unpacks to {ratio:,} times its size, but at most {limit:,} times is allowed."
    )


def too_many_entries(limit: int) -> Unreadable:
    """An office file with a directory beyond all measure."""
    return _invalid(f"The file is an archive of more than {limit:,} entries.")


def entities() -> Unreadable:
    """An office file that declares XML entities, which no office program writes."""
    return _invalid("The file declares XML entities or a document type, which is not allowed.")


def nested_too_deeply(limit: int) -> Unreadable:
    """An office file of boxes in boxes."""
    return _invalid(f"The elements of the file are nested more than {limit:,} deep.")


def took_too_long(seconds: int) -> Unreadable:
    """A file that made its reader run up to the limit."""
    return _invalid(f"Reading the file took too long: it was stopped after {seconds:,} seconds.")


def needed_memory(size_bytes: int) -> Unreadable:
    """A file that made its reader grow up to the limit."""
    mebibytes = size_bytes // (1024 * 1024)
    return OutOfMemory(
        "invalid_file", f"Reading the file needed more memory than the {mebibytes:,} MiB allowed."
    )


def crashed() -> Unreadable:
    """A file that ended its reader."""
    return _invalid("Reading the file made the reader crash; the file is probably damaged.")


def reader_failed() -> Unreadable:
    """Our own mistake."""
    return Unreadable("server_error", "The file could not be read because of an internal error.")


def reader_unavailable() -> Unreadable:
    """No child could be started."""
    return Unreadable("server_error", "The file could not be read: no reader could be started.")
