"""What people type: curl, as in the original's documentation."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.processes import KEY, Running, serving

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"
)

BEARER = ("-H", f"Authorization: Bearer {KEY}")
JSON = ("-H", "Content-Type: application/json", "-H", "OpenAI-Beta: assistants=v2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for this file."""
    with serving(tmp_path_factory.mktemp("curl")) as running:
        yield running


def curl(*arguments: str) -> str:
    """What curl prints."""
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "20", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def ask(*arguments: str) -> Any:
    """The JSON that curl prints."""
    return json.loads(curl(*BEARER, *JSON, *arguments))


def conversation(server: Running, text: str) -> tuple[str, str]:
    """An assistant and a thread with one message; their ids."""
    assistant = ask(f"{server.url}/assistants", "-d", '{"model": "rehearsal"}')
    thread = ask(f"{server.url}/threads", "-d", "")
    message = json.dumps({"role": "user", "content": text})
    ask(f"{server.url}/threads/{thread['id']}/messages", "-d", message)
    return assistant["id"], thread["id"]


@pytest.mark.assertion(6, 63)
def test_a_thread_from_an_empty_body_with_basic_auth(server: Running) -> None:
    """`curl -u :KEY -d ''`, with a JSON content type."""
    thread = json.loads(curl("-u", f":{KEY}", *JSON, "-d", "", f"{server.url}/threads"))
    assert thread["object"] == "thread"
    assert (thread["metadata"], thread["tool_resources"]) == ({}, {})
    again = curl("-u", f":{KEY}", f"{server.url}/threads/{thread['id']}")
    assert json.loads(again) == thread


@pytest.mark.assertion(13, 90, 97)
def test_a_run_step_by_step(server: Running) -> None:
    """Create, poll, read: as in the original's quickstart."""
    assistant_id, thread_id = conversation(server, "Hello")
    runs = f"{server.url}/threads/{thread_id}/runs"
    run = ask(runs, "-d", json.dumps({"assistant_id": assistant_id}))
    assert (run["status"], run["object"]) == ("queued", "thread.run")
    deadline = time.monotonic() + 10
    while run["status"] in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        run = ask(f"{runs}/{run['id']}")
    assert run["status"] == "completed"
    answer, question = ask(f"{server.url}/threads/{thread_id}/messages")["data"]
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert answer["content"][0]["text"]["value"].endswith("You said: Hello")


@pytest.mark.assertion(145, 146, 147)
def test_a_stream_as_it_is_printed(server: Running) -> None:
    """Event and data lines, an empty line, and `done` at the end."""
    assistant_id, thread_id = conversation(server, 'rehearse: {"steps": [{"text": "Hi"}]}')
    body = json.dumps({"assistant_id": assistant_id, "stream": True})
    printed = curl(*BEARER, *JSON, f"{server.url}/threads/{thread_id}/runs", "-d", body)
    frames = printed.split("\n\n")
    assert frames[-2:] == ["event: done\ndata: [DONE]", ""]
    names = [frame.split("\n")[0].removeprefix("event: ") for frame in frames[:-2]]
    assert names == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    delta = json.loads(frames[7].split("\n")[1].removeprefix("data: "))
    assert delta["delta"]["content"] == [
        {"index": 0, "type": "text", "text": {"value": "Hi", "annotations": []}}
    ]


@pytest.mark.assertion(7, 21, 22, 23)
@pytest.mark.parametrize(
    ("arguments", "status", "beginning"),
    [
        ((), 401, "You didn't provide an API key."),
        ((*BEARER, "-X", "PUT"), 405, "Not allowed to PUT on /v1/assistants."),
        ((*BEARER, *JSON, "-d", "{"), 400, "We could not parse the JSON body of your request."),
        ((*BEARER, "-G", "-d", "limit=101"), 400, "Invalid 'limit': integer above maximum value."),
    ],
)
def test_errors_have_one_envelope(
    server: Running, arguments: tuple[str, ...], status: int, beginning: str
) -> None:
    """Exactly message, type, param and code."""
    printed = curl(*arguments, "-w", "\n%{http_code}", f"{server.url}/assistants")
    body, _, code = printed.rpartition("\n")
    assert int(code) == status, printed
    error = json.loads(body)["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["message"].startswith(beginning)


def test_a_list_from_a_query(server: Running) -> None:
    """`-G -d` makes the query."""
    for _ in range(3):
        ask(f"{server.url}/assistants", "-d", '{"model": "rehearsal"}')
    page = ask("-G", "-d", "limit=2", "-d", "order=asc", f"{server.url}/assistants")
    assert (page["object"], len(page["data"]), page["has_more"]) == ("list", 2, True)
    assert page["last_id"] == page["data"][1]["id"]
