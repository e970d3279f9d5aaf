"""Remote: object stores of providers, opened so that nothing waits on them for long.

The library would try each request for three minutes. Here a request has a time, few tries, and no
try begins late (limits.py), so that a store that is down is known within seconds, and one that
hangs within the time of one request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from understudy import limits

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# What S3 needs for a copy that never replaces anything (see objects.py).
_COPY = "aws_copy_if_not_exists"
_CONDITIONAL = "aws_conditional_put"


@dataclass(frozen=True)
class Remote:
    """An object store, and what it can refuse to replace.

    `creates`: it makes an object only where none is. `copier` makes a copy only where none is, and
    is patient, since that may take long; None when it cannot be had.
    """

    store: ObjectStore
    creates: bool
    copier: ObjectStore | None


def open_remote(url: str, scheme: str, options: Mapping[str, str]) -> Remote:
    """The object store at this URL. Its provider's environment variables count, too. ValueError
    when the options are none."""
    try:
        return _opened(url, scheme, options)
    except BaseError as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def _opened(url: str, scheme: str, options: Mapping[str, str]) -> Remote:
    usual = _client(limits.BLOB_REQUEST_S)
    if scheme == "gs":
        return Remote(
            GCSStore.from_url(url, client_options=usual, retry_config=_retry()), True, None
        )
    if scheme == "az":
        return Remote(
            AzureStore.from_url(url, client_options=usual, retry_config=_retry()), True, None
        )
    if options.get(_CONDITIONAL) == "disabled":
        return Remote(_s3(url, options, limits.BLOB_REQUEST_S), False, None)
    options = {_COPY: "multipart", **options}
    copier = _s3(url, options, limits.BLOB_COPY_S)
    return Remote(_s3(url, options, limits.BLOB_REQUEST_S), True, copier)


def _s3(url: str, options: Mapping[str, str], request_s: float) -> S3Store:
    client = _client(request_s)
    client["allow_http"] = options.get("aws_endpoint_url", "").startswith("http://")
    return S3Store.from_url(
        url,
        config=dict(options),  # type: ignore[arg-type]
        client_options=client,
        retry_config=_retry(),
    )


def _client(request_s: float) -> "ClientConfig":
    return {
        "connect_timeout": timedelta(seconds=limits.BLOB_CONNECT_S),
        "timeout": timedelta(seconds=request_s),
    }


def _retry() -> "RetryConfig":
    return {
        "max_retries": limits.BLOB_TRIES_AGAIN,
        "retry_timeout": timedelta(seconds=limits.BLOB_TRY_WITHIN_S),
        "backoff": {
            "init_backoff": timedelta(seconds=limits.BLOB_BACKOFF_S),
            "max_backoff": timedelta(seconds=limits.BLOB_BACKOFF_MOST_S),
        },
    }
