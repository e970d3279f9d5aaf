"""Lists (SPEC section 5, assertions 209-213)."""

import httpx2
import openai
import pytest

from tests.api.truth import error_of


@pytest.fixture
def thread_id(http: httpx2.Client) -> str:
    """A thread with ten messages, made in one request."""
    messages = [{"role": "user", "content": str(number)} for number in range(10)]
    found: str = http.post("/threads", json={"messages": messages}).json()["id"]
    return found


def listed(http: httpx2.Client, thread_id: str, **params: str | int) -> tuple[str, bool]:
    """The texts of a page, joined, and whether more remain."""
    page = http.get(f"/threads/{thread_id}/messages", params=params).json()
    return "".join(text_of(item) for item in page["data"]), page["has_more"]


def text_of(message: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    """A message's text."""
    return message["content"][0]["text"]["value"]


def ids(http: httpx2.Client, thread_id: str) -> list[str]:
    """The ids of all messages, oldest first."""
    page = http.get(f"/threads/{thread_id}/messages", params={"order": "asc"}).json()
    return [item["id"] for item in page["data"]]


@pytest.mark.assertion(209)
def test_limit_and_order_are_checked(http: httpx2.Client) -> None:
    error = error_of(http.get("/assistants", params={"limit": 0}))
    assert error["code"] == "integer_below_min_value"
    error = error_of(http.get("/assistants", params={"limit": 101}))
    assert error["code"] == "integer_above_max_value"
    assert error["param"] == "limit"
    error = error_of(http.get("/assistants", params={"order": "x"}))
    assert error["message"] == "Invalid value: 'x'. Supported values are: 'asc' and 'desc'."
    assert error_of(http.get("/assistants", params={"limit": "many"}))["code"] == "invalid_type"


@pytest.mark.assertion(210)
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("cursor", ["after", "before"])
def test_pages_of_3_over_10_yield_each_once(
    http: httpx2.Client, thread_id: str, order: str, cursor: str
) -> None:
    params: dict[str, str | int] = {"limit": 3, "order": order}
    if cursor == "before":
        last = ids(http, thread_id)[-1 if order == "asc" else 0]
        params["before"] = last
    pages: list[str] = []
    while True:
        page = http.get(f"/threads/{thread_id}/messages", params=params).json()
        pages.append("".join(text_of(item) for item in page["data"]))
        if not page["has_more"]:
            break
        params[cursor] = page["last_id"] if cursor == "after" else page["first_id"]
    up = "0123456789" if order == "asc" else "9876543210"
    if cursor == "after":
        assert pages == [up[0:3], up[3:6], up[6:9], up[9:]]
    else:
        assert pages == [up[6:9], up[3:6], up[0:3]]


@pytest.mark.assertion(210)
def test_both_cursors_are_the_open_interval(http: httpx2.Client, thread_id: str) -> None:
    oldest_first = ids(http, thread_id)
    between = {"after": oldest_first[2], "before": oldest_first[7], "order": "asc"}
    assert listed(http, thread_id, **between) == ("3456", False)
    assert listed(http, thread_id, **between, limit=2) == ("34", True)


@pytest.mark.assertion(211)
def test_an_empty_list_has_null_ids(http: httpx2.Client) -> None:
    assert http.get("/assistants").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.assertion(212)
def test_a_cursor_may_be_deleted_but_not_wrong(http: httpx2.Client, thread_id: str) -> None:
    path = f"/threads/{thread_id}/messages"
    error = error_of(http.get(path, params={"after": "asst_1"}))
    assert error["message"] == "Invalid 'after': 'asst_1'. Expected an ID that begins with 'msg'."
    error_of(http.get(path, params={"before": "asst_1"}))
    error = error_of(http.get(path, params={"after": "msg_nobody"}), 404)
    assert error["message"] == "No message found with id 'msg_nobody'."
    oldest_first = ids(http, thread_id)
    assert http.delete(f"{path}/{oldest_first[4]}").status_code == 200
    assert listed(http, thread_id, order="asc", after=oldest_first[4]) == ("56789", False)
    assert listed(http, thread_id, order="asc", before=oldest_first[4]) == ("0123", False)


def test_a_cursor_of_another_thread_is_unknown(http: httpx2.Client, thread_id: str) -> None:
    other = http.post("/threads").json()["id"]
    cursor = ids(http, thread_id)[0]
    error_of(http.get(f"/threads/{other}/messages", params={"after": cursor}), 404)


def test_unknown_and_empty_parameters_are_ignored(http: httpx2.Client, thread_id: str) -> None:
    params = {"foo": "1", "after": "", "limit": "", "order": "asc"}
    assert listed(http, thread_id, **params) == ("0123456789", False)


@pytest.mark.assertion(213)
def test_the_sdk_walks_250_messages(sdk: openai.OpenAI) -> None:
    thread = sdk.beta.threads.create(messages=[{"role": "user", "content": "x"}] * 250)
    found = [message.id for message in sdk.beta.threads.messages.list(thread.id)]
    assert len(found) == 250
    assert len(set(found)) == 250
