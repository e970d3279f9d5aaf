"""Bodies and ids that no client should send: an error each time, and nothing half-written."""

import copy
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from tests.api.conversation import Json, Talk, call, call_ids, error_of, function, path_of
from understudy import limits
from understudy.api.nouns import load_nouns
from understudy.api.operation import OPERATIONS

load_nouns()
PARSE = "We could not parse the JSON body of your request."
TOOLS: list[Any] = [
    function("f", description="d", parameters={"type": "object"}, strict=False),
    {"type": "file_search", "file_search": {"max_num_results": 3}},
    {"type": "code_interpreter"},
]
MESSAGE: Json = {
    "role": "user",
    "content": [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": "http://x.invalid/a.png", "detail": "low"}},
    ],
    "attachments": [],
    "metadata": {"k": "v"},
}
OPTIONS: Json = {
    "model": "gpt-4o",
    "instructions": "i",
    "tools": TOOLS,
    "metadata": {"k": "v"},
    "temperature": 1,
    "top_p": 1,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
}
RUN: Json = {
    **OPTIONS,
    "stream": False,
    "max_prompt_tokens": 1000,
    "max_completion_tokens": 1000,
    "truncation_strategy": {"type": "last_messages", "last_messages": 3},
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
}

STORE: Json = {"name": "n", "description": "d", "metadata": {"k": "v"}}
EXPIRES: Json = {"anchor": "last_active_at", "days": 7}
CHUNKING: Json = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100},
}
ATTRIBUTES: Json = {"a": "x", "b": 1.5, "c": True}
EQUAL: Json = {"type": "eq", "key": "a", "value": "x"}
SEARCH: Json = {
    "query": ["a", "b"],
    "rewrite_query": False,
    "max_num_results": 3,
    "filters": {
        "type": "and",
        "filters": [{"type": "or", "filters": [EQUAL]}, {**EQUAL, "type": "in", "value": [1]}],
    },
    "ranking_options": {"ranker": "auto", "score_threshold": 0.5, "hybrid_search": {}},
}

# Paths with a body of our own below; {free_thread_id} has no run.
EXAMPLES = [
    "/assistants",
    "/assistants/{assistant_id}",
    "/threads",
    "/threads/{thread_id}",
    "/threads/{free_thread_id}/messages",
    "/threads/{thread_id}/messages/{message_id}",
    "/threads/{thread_id}/runs",
    "/threads/{thread_id}/runs/{run_id}",
    "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs",
    "/threads/runs",
    "/embeddings",
    "/vector_stores",
    "/vector_stores/{vector_store_id}",
    "/vector_stores/{vector_store_id}/search",
    "/vector_stores/{vector_store_id}/files",
    "/vector_stores/{vector_store_id}/files/{file_id}",
    "/vector_stores/{vector_store_id}/file_batches",
]


@dataclass
class Place:
    """A project with one of everything; its run waits for outputs."""

    talk: Talk
    ids: dict[str, str]
    bodies: dict[str, Json]  # Path → a body that is right.

    def path(self, template: str) -> str:
        """The path of an operation, with ids that exist."""
        return template.format_map({"model": "m", **self.ids})

    def counts(self) -> list[int]:
        """How many objects of each kind there are."""
        lists = ["/assistants", "/threads", "/vector_stores"]
        for thread in ("thread_id", "free_thread_id"):
            lists += [f"/threads/{self.ids[thread]}/{noun}" for noun in ("messages", "runs")]
        return [len(self.talk.get(f"{path}?limit=100")["data"]) for path in lists]


class Ids(dict[str, str]):
    """Ids by the name of their path argument; what we have none of is unknown."""

    def __missing__(self, name: str) -> str:
        return f"{name.removesuffix('_id')}_unknown"


@pytest.fixture
def place(talk: Talk) -> Place:
    """A place of one's own."""
    talk.plays([call("f")])
    assistant, thread = talk.assistant(tools=TOOLS[:1]), talk.thread("hi")
    run = talk.rested(talk.start(assistant, thread))
    ids = Ids(
        assistant_id=assistant,
        thread_id=thread,
        free_thread_id=talk.thread("hi"),
        run_id=run["id"],
        message_id=talk.messages(thread)[0]["id"],
        step_id=talk.steps(run)[0]["id"],
        upload_id="upload_unknown",
        vector_store_id=talk.ok("/vector_stores", {})["id"],
        file_id="file-unknown",
        batch_id="vsfb_unknown",
    )
    with_assistant = {**RUN, "assistant_id": assistant, "model": talk.model}
    waits = {"tool_call_id": f"{call_ids(run)[0]}x", "output": "o"}
    bodies: list[Json] = [
        {**OPTIONS, "name": "n", "description": "d", "reasoning_effort": "low"},
        {**OPTIONS, "name": "n"},
        {"messages": [MESSAGE], "metadata": {"k": "v"}, "tool_resources": {}},
        {"metadata": {"k": "v"}},
        MESSAGE,
        {"metadata": {"k": "v"}},
        {**with_assistant, "additional_messages": [MESSAGE]},
        {"metadata": {"k": "v"}},
        {"tool_outputs": [waits], "stream": False},
        {**with_assistant, "thread": {"messages": [MESSAGE]}},
        {"model": "m", "input": "x", "dimensions": 8, "encoding_format": "float"},
        {**STORE, "expires_after": EXPIRES, "file_ids": [], "chunking_strategy": CHUNKING},
        {"name": "n", "expires_after": EXPIRES, "metadata": {"k": "v"}},
        SEARCH,
        {"file_id": "file-1", "attributes": ATTRIBUTES, "chunking_strategy": CHUNKING},
        {"attributes": ATTRIBUTES},
        {"files": [{"file_id": "file-1", "attributes": {}, "chunking_strategy": CHUNKING}]},
    ]
    return Place(talk, ids, dict(zip(EXAMPLES, bodies, strict=True)))


# Every operation with a body of JSON, also those that have no example above.
POSTS = sorted(
    {
        one.path
        for one in OPERATIONS
        if one.method == "POST" and one.body is not None and one.form is None
    }
)
NO_JSON: list[bytes] = [
    b"{",
    b"nul",
    b'{"a":1}}',
    b"{'a': 1}",
    b'{"a":NaN}',
    b'{"a":01}',
    b'{"metadata":{"k":"\x01"}}',
    b'{"metadata":{"k":"\xff"}}',
    b'{"metadata":{"k":"\\ud800"}}',
    b'{"metadata":{"\\udfff":"v"}}',
    b"\xff\xfe{\x00}\x00",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[]",
    b"3",
    b"true",
    b'"text"',
    b"a=b&c=d",
]


@pytest.mark.assertion(22, 23)
@pytest.mark.parametrize("template", POSTS)
def test_what_is_no_json_object_is_refused(place: Place, template: str) -> None:
    path, before = place.path(template), place.counts()
    for body in NO_JSON:
        answer = place.talk.http.post(path, content=body)
        error = error_of(answer)
        assert error["type"] == "invalid_request_error", body[:40]
    assert error_of(place.talk.http.post(path, content=b"{"))["message"].startswith(PARSE)
    assert place.counts() == before


@pytest.mark.parametrize("template", POSTS)
def test_unknown_fields_are_refused_at_every_depth(place: Place, template: str) -> None:
    path, before = place.path(template), place.counts()
    error = error_of(place.talk.http.post(path, json={"foo": 1}))
    assert (error["code"], error["param"]) == ("unknown_parameter", "foo")
    assert error["message"] == "Unknown parameter: 'foo'."
    for where, body in with_unknown(place.bodies.get(template, {})):
        answer = place.talk.http.post(path, json=body)
        assert error_of(answer)["param"] == f"{where}foo", where
    assert place.counts() == before


FREE = ("metadata", "parameters", "schema", "attributes")  # Where any key may be.


def with_unknown(body: Any) -> Iterator[tuple[str, Any]]:
    """The body with an unknown field in each of its objects, and where that is."""
    for where, steps in objects(body):
        changed = copy.deepcopy(body)
        inside = changed
        for step in steps:
            inside = inside[step]
        inside["foo"] = 1
        yield where, changed


def objects(value: Any, where: str = "", steps: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every closed object in a body."""
    if isinstance(value, dict):
        yield where, steps
        for key, inner in value.items():
            if key not in FREE:
                yield from objects(inner, f"{where}{key}.", (*steps, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from objects(inner, f"{where[:-1]}[{number}].", (*steps, number))


WRONG: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1.5,
    "",
    "text \x00 \u202e \U0010ffff",
    [],
    [None],
    [[[]]],
    {},
    {"type": "odd"},
    {"\x00": {"": []}},
]


@pytest.mark.parametrize("template", EXAMPLES)
def test_wrong_values_at_every_depth_are_refused_or_fit(place: Place, template: str) -> None:
    body = place.bodies[template]
    path, before = place.path(template), place.counts()
    accepted = 0
    for where, changed in mutated(body):
        answer = place.talk.http.post(path, json=changed)
        assert answer.status_code in (200, 400, 404), (where, answer.text)
        if answer.status_code == 200:
            accepted += 1
            continue
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        if error["code"] in ("invalid_type", "unknown_parameter"):
            assert error["param"], (where, error)
    after = place.counts()
    if not accepted:
        assert after == before
    assert all(new - old <= 2 * accepted for new, old in zip(after, before, strict=True))


def mutated(body: Any) -> Iterator[tuple[str, Any]]:
    """The body with a wrong value in each place, or with one field less."""
    for where, steps in places(body):
        for value in WRONG:
            changed = copy.deepcopy(body)
            inside = changed
            for step in steps[:-1]:
                inside = inside[step]
            inside[steps[-1]] = value
            yield f"{where}={value!r}", changed
        changed = copy.deepcopy(body)
        inside = changed
        for step in steps[:-1]:
            inside = inside[step]
        del inside[steps[-1]]
        yield f"{where} missing", changed


def places(value: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every value in a body, with the way to it. Branches that repeat are gone down once."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    for key, one in inner:
        yield ".".join(map(str, (*steps, key))), (*steps, key)
        yield from places(one, (*steps, key))


@pytest.mark.parametrize("value", ["\x00", "a\x00b\x1f\x7f", "\u202e\ufeff\U0010ffff", "\\ud83d"])
def test_odd_text_is_kept_as_it_is(talk: Talk, value: str) -> None:
    made = talk.ok("/assistants", {"model": "m", "name": value, "metadata": {value: value}})
    assert (made["name"], made["metadata"]) == (value, {value: value})
    thread = talk.thread(value)
    assert talk.texts(thread) == [value]
    assert talk.rested(talk.start(talk.assistant(instructions=value), thread))["status"] == (
        "completed"
    )
    assert talk.asked()[0]["messages"][0]["content"] == value


def test_half_a_surrogate_is_no_text(talk: Talk) -> None:
    body = b'{"role":"user","content":"\\ud800"}'
    thread = talk.thread("hi")
    error_of(talk.http.post(f"/threads/{thread}/messages", content=body))
    assert talk.texts(thread) == ["hi"]


ODD_IDS = [
    *("undefined", "null", "%00", "thread_%00", "a b", "thread_%0a", "run_%ff", "漢字", ".."),
    *("thread_" + "x" * 5_000, "'; drop table objects; --", "msg_%2e%2e%2f", "%", "{id}"),
]


@pytest.mark.assertion(23)
@pytest.mark.parametrize("odd", ODD_IDS)
def test_odd_ids_are_unknown_or_refused(place: Place, odd: str) -> None:
    before = place.counts()
    odd = odd if "%" in odd else quote(odd)
    for one in OPERATIONS:
        for name in one.path_names:
            if name == "model":
                continue
            ids = Ids({**place.ids, name: odd})
            body = place.bodies.get(one.path, {}) if one.body is not None else None
            url = f"{place.talk.server.url}{one.path.format_map(ids)}"
            status, error = raw_request(place, one.method, url, body)
            assert status in (400, 404, 405, 414, 431), (one.method, one.path, name, status)
            assert error is None or set(error) == {"message", "type", "param", "code"}
    assert place.counts() == before


def raw_request(place: Place, method: str, url: str, body: Any) -> tuple[int, Json | None]:
    """A request whose path no client library mends; the status and the error."""
    content = b"" if body is None else json.dumps(body).encode()
    parts = urlsplit(url)
    target = url.removeprefix(f"{parts.scheme}://{parts.netloc}").replace(" ", "%20")
    head = (
        f"{method} {target} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n"
        f"authorization: {place.talk.http.headers['authorization']}\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    answer = sent(place.talk, head.encode() + content)
    status, _, rest = answer.partition(b"\r\n")
    found = rest.partition(b"\r\n\r\n")[2]
    decoded = json.loads(found) if found.startswith(b"{") else None
    return int(status.split()[1]), decoded["error"] if decoded else None


def sent(talk: Talk, raw: bytes) -> bytes:
    """What the server answers to these bytes until it closes."""
    address = urlsplit(talk.server.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), 10) as connection:
        connection.sendall(raw)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    return received


def head(talk: Talk, path: str, *lines: str) -> bytes:
    """The head of a POST with these headers."""
    target = urlsplit(talk.server.url).path + path
    key = talk.http.headers["authorization"]
    first = [f"POST {target} HTTP/1.1", "host: x", f"authorization: {key}"]
    return "\r\n".join([*first, *lines, "", ""]).encode()


@pytest.mark.parametrize("template", POSTS)
def test_a_body_that_says_it_is_too_large_is_not_read(place: Place, template: str) -> None:
    size = 33 * 1024 * 1024
    before = place.counts()
    raw = head(place.talk, place.path(template), f"content-length: {size}")
    answer = sent(place.talk, raw + b'{"metadata":')
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["message"] == (
        f"Maximum content size limit (33554432) exceeded ({size} bytes read)"
    )
    assert place.counts() == before


def test_a_body_that_turns_out_too_large_is_not_kept(talk: Talk) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"metadata":{"k":"'
        for _ in range(33):
            yield b"x" * 1024 * 1024
        yield b'"}}'

    try:
        answer = talk.http.post("/threads", content=pieces())
    except httpx2.WriteError:  # The answer came, and the connection went, before the last piece.
        pass
    else:
        error_of(answer, 413)
    assert talk.get("/threads")["data"] == []


def test_a_large_body_is_fine_up_to_the_limit(talk: Talk) -> None:
    texts = ["x" * 256_000] * 120  # 30 MB.
    assert len(talk.texts(talk.thread(*texts))) == 100  # A page of them.


@pytest.mark.parametrize("template", POSTS)
@pytest.mark.parametrize("lines", [["content-length: 100"], ["transfer-encoding: chunked"]])
def test_a_body_that_stalls_is_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch, template: str, lines: list[str]
) -> None:
    before = place.counts()
    monkeypatch.setattr(limits, "BODY_STALL_S", 0.05)
    chunk = b'c\r\n{"metadata":\r\n' if "chunked" in lines[0] else b'{"metadata":'
    answer = sent(place.talk, head(place.talk, place.path(template), *lines) + chunk)
    assert answer.startswith(b"HTTP/1.1 400 ")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["message"] == "The request body stopped arriving for more than 0.05 seconds."
    assert place.counts() == before


def test_a_client_that_leaves_in_its_body_leaves_nothing(talk: Talk) -> None:
    address = urlsplit(talk.server.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), 10) as connection:
        connection.sendall(head(talk, "/threads", "content-length: 100") + b'{"metadata":')
    assert talk.get("/threads")["data"] == []


def test_a_run_that_waits_survives_it_all(place: Place) -> None:
    talk = place.talk
    run = talk.get(place.path("/threads/{thread_id}/runs/{run_id}"))
    for body in (b"{", b"", b"{}", b'{"tool_outputs":null}', b'{"tool_outputs":[null]}'):
        error_of(talk.http.post(f"{path_of(run)}/submit_tool_outputs", content=body))
    assert talk.again(run) == run
    assert talk.submit(run, "1").status_code == 200
    assert talk.rested(run)["status"] == "completed"
