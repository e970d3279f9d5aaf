"""Query parameters: the page of a list (SPEC section 5) and `include`.

What is not known is ignored, and an empty value is an absent one. Of a repeated parameter the
last one counts.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from understudy import limits
from understudy.errors import ApiError
from understudy.wire.base import Wire
from understudy.wire.rules import check_id, check_reference

# Name and value, decoded, in the order of the URL.
Query = Iterable[tuple[str, str]]

SEARCH_CONTENT = "step_details.tool_calls[*].file_search.results[*].content"
_ORDERS: tuple[Literal["asc"], Literal["desc"]] = ("asc", "desc")


class ListQuery(Wire, frozen=True, kw_only=True):
    """Which page of a list."""

    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.LIST_MAX,
            description="How many objects the page holds at most, 1 to 100.",
        ),
    ] = limits.LIST_DEFAULT
    order: Annotated[
        Literal["asc", "desc"],
        Meta(description="Oldest first or newest first, by time of creation."),
    ] = "desc"
    after: Annotated[
        str | None, Meta(description="An id: the page holds what follows it in this order.")
    ] = None
    before: Annotated[
        str | None,
        Meta(description="An id: the page holds what comes right before it in this order."),
    ] = None


class FileListQuery(Wire, frozen=True, kw_only=True):
    """Which page of the list of files; it has larger pages, and no `before`."""

    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.FILES_LIST_MAX,
            description="How many files the page holds at most, 1 to 10000.",
        ),
    ] = limits.FILES_LIST_MAX
    order: Annotated[
        Literal["asc", "desc"],
        Meta(description="Oldest first or newest first, by time of creation."),
    ] = "desc"
    after: Annotated[
        str | None, Meta(description="An id: the page holds what follows it in this order.")
    ] = None


def file_list_query(query: Query) -> FileListQuery:
    """The page of the list of files that a URL asks for."""
    known = [(name, value) for name, value in query if name != "before"]
    maximum = limits.FILES_LIST_MAX
    found = list_query(known, default=maximum, maximum=maximum)
    return FileListQuery(limit=found.limit, order=found.order, after=found.after)


def list_query(
    query: Query,
    *,
    default: int = limits.LIST_DEFAULT,
    maximum: int = limits.LIST_MAX,
    prefix: str | None = None,
) -> ListQuery:
    """The page that a URL asks for. `prefix` is what the ids in `after` and `before` begin with."""
    given = {name: value for name, value in query if value}
    return ListQuery(
        limit=_limit(given["limit"], maximum) if "limit" in given else default,
        order=_order(given.get("order", "desc")),
        after=_cursor("after", given.get("after"), prefix),
        before=_cursor("before", given.get("before"), prefix),
    )


def include(query: Query, allowed: Sequence[str] = (SEARCH_CONTENT,)) -> list[str]:
    """What a client asks to be included: `include[]=a`, `include=a` or `include[0]=a`."""
    given = [value for name, value in query if re.fullmatch(r"include(\[\d*\])?", name) and value]
    for value in given:
        if value not in allowed:
            raise ApiError.bad_value("include", value, allowed)
    return list(dict.fromkeys(given))


def _limit(text: str, maximum: int) -> int:
    # Longer than any integer that we could print back.
    if not re.fullmatch(r"[+-]?[0-9]{1,1000}", text):
        raise ApiError.wrong_type("limit", "an integer", "a string")
    limit = int(text)
    if limit > maximum:
        raise ApiError.number_too_high("limit", maximum, limit, kind="integer")
    if limit < 1:
        raise ApiError.number_too_low("limit", 1, limit, kind="integer")
    return limit


def _order(text: str) -> Literal["asc", "desc"]:
    for order in _ORDERS:
        if text == order:
            return order
    raise ApiError.bad_value("order", text, _ORDERS)


def _cursor(param: str, value: str | None, prefix: str | None) -> str | None:
    if value is not None and prefix is not None:
        check_id(param, value, prefix)
    elif value is not None:
        check_reference(param, value)
    return value
