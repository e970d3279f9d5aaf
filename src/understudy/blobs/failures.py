"""Failures: what an object store's library raises, in the words of the seam.

That a blob is not there is a reason to give a file up, so it must be true. A provider's 404 may as
well mean that the bucket is not there, or that another server listens at the endpoint: only the
code in its body says that it is about the key.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError

from understudy.blobs import BlobExists, BlobsUnavailable, NoBlob

_CODE = re.compile("<Code>([A-Za-z]{1,80})</Code>")
_NO_KEY = ("NoSuchKey", "BlobNotFound")  # Of S3 and GCS, and of Azure.
_REQUEST = re.compile(r"Error performing (?P<method>[A-Z]+) (?P<url>\S+) .*? - (?P<what>.*)")
_SYSTEM = re.compile(r'\b(?:message|error): "([^"\n]{1,160})"')


@contextmanager
def writing(key: str) -> Iterator[None]:
    """A blob is made. What is not found then is the place for it."""
    try:
        yield
    except AlreadyExistsError as error:
        raise BlobExists(key) from error
    except TimeoutError as error:
        raise BlobsUnavailable("the object store does not answer") from error
    except (BaseError, OSError, NotImplementedError) as error:
        raise BlobsUnavailable(_said(error)) from error


@contextmanager
def reading(key: str, *, is_remote: bool) -> Iterator[None]:
    """A blob is asked for, or removed: it may not be there."""
    try:
        with writing(key):
            yield
    except BlobsUnavailable as away:
        cause = away.__cause__
        if isinstance(cause, FileNotFoundError) and (not is_remote or _code(cause) in _NO_KEY):
            raise NoBlob(key) from cause
        raise


def _code(error: Exception) -> str | None:
    """What a store calls its error."""
    found = _CODE.search(str(error))
    return found[1] if found else None


def _said(error: Exception) -> str:
    """What an exception says in a line for the operator: what was asked of whom, and the answer.
    Names of keys, the store's XML and the library's debug lines are left out."""
    text = str(error)
    line = text.partition("\n")[0].partition("<?xml")[0].rstrip(": ")
    request = _REQUEST.search(line)
    if request is not None:
        url = urlsplit(request["url"])
        line = f"{request['method']} at {url.scheme}://{url.netloc}: {request['what']}"
    more = _code(error) or _system_word(text)
    return f"{line} ({more})" if more else line


def _system_word(text: str) -> str | None:
    """The system's own word on a connection that failed; it is only in the debug lines."""
    found = _SYSTEM.search(text) if "error sending request" in text else None
    return found[1] if found else None
