"""An assistant that is remembered for its next run is never an old one."""

from itertools import count
from typing import Any

import httpx2
import msgspec
import pytest

from tests.api.conftest import client_for
from tests.api.conversation import Json, Talk, error_of, function
from tests.api.serving import Running
from understudy import limits
from understudy.api import recent
from understudy.store import changes


def begun(talk: Talk, assistant: str, **fields: object) -> Json:
    """A run on a new thread, at its rest."""
    return talk.rested(talk.start(assistant, talk.thread("hi"), **fields))


def test_a_run_has_its_assistant_as_it_is_now(talk: Talk) -> None:
    assistant = talk.assistant(instructions="0")
    for number in range(3):
        talk.ok(f"/assistants/{assistant}", {"instructions": f"{number}"})
        for _ in range(2):
            assert begun(talk, assistant)["instructions"] == f"{number}"
    body = {"assistant_id": assistant, "thread": {}}
    talk.ok(f"/assistants/{assistant}", {"instructions": "new"})
    assert talk.ok("/threads/runs", body)["instructions"] == "new"


def test_a_tool_that_is_new_can_be_forced(talk: Talk) -> None:
    assistant = talk.assistant()
    begun(talk, assistant)
    talk.ok(f"/assistants/{assistant}", {"tools": [function("added")]})
    choice = {"type": "function", "function": {"name": "added"}}
    assert begun(talk, assistant, tool_choice=choice)["tool_choice"] == choice


def changed_behind(talk: Talk, assistant: str, **fields: Any) -> None:
    """A change of which this server's doors know nothing."""
    store = talk.server.app.store
    project = talk.http.get("/assistants?limit=1").headers["openai-project"]
    record = talk.server.run(store.get("assistant", project, assistant))
    assert record is not None
    body = msgspec.json.encode({**msgspec.json.decode(record.body), **fields})
    change = changes.update_object(assistant, project=record.project, body=body, private=None)
    talk.server.run(store.commit(change))


def test_a_change_that_nobody_told_of_is_found_by_the_commit(talk: Talk) -> None:
    assistant = talk.assistant(instructions="old")
    begun(talk, assistant)
    changed_behind(talk, assistant, instructions="new")
    assert begun(talk, assistant)["instructions"] == "new"
    changed_behind(talk, assistant, tools=[function("added")])
    choice = {"type": "function", "function": {"name": "added"}}
    assert begun(talk, assistant, tool_choice=choice)["tool_choice"] == choice


def test_a_change_is_no_reason_for_a_refusal(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    assistant = talk.assistant()
    begun(talk, assistant)
    looks: list[str] = []
    inner = recent.unchanged

    def noted(call: Any, loaded: Any) -> Any:
        looks.append(loaded.record.id)
        return inner(call, loaded)

    monkeypatch.setattr(recent, "unchanged", noted)
    talk.ok(f"/assistants/{assistant}", {"instructions": "new"})
    assert begun(talk, assistant)["instructions"] == "new"
    assert looks == [], "it was forgotten, and read"


@pytest.mark.parametrize("path", ["/threads/{id}/runs", "/threads/runs"])
def test_a_deleted_assistant_runs_no_more(talk: Talk, path: str) -> None:
    assistant = talk.assistant()
    begun(talk, assistant)
    assert talk.http.delete(f"/assistants/{assistant}").status_code == 200
    path = path.format(id=talk.thread("hi"))
    error = error_of(talk.http.post(path, json={"assistant_id": assistant}), 404)
    assert error["message"] == f"No assistant found with id '{assistant}'."


def test_another_project_gets_nothing_remembered(talk: Talk, server: Running) -> None:
    assistant = talk.assistant()
    begun(talk, assistant)
    with client_for(server.url, server.new_key("strangers")) as stranger:
        error_of(stranger.post("/threads/runs", json={"assistant_id": assistant}), 404)


def test_a_remembered_assistant_is_not_read(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    assistant, reads = talk.assistant(), count()
    inner = recent.read

    async def counted(*arguments: object) -> object:
        next(reads)
        return await inner(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(recent, "read", counted)
    for _ in range(3):
        begun(talk, assistant)
    assert next(reads) == 1


def test_few_and_small_ones_are_remembered(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DECODED_OBJECTS", 2)
    recent._seen.clear()
    large = talk.assistant(instructions="x" * limits.DECODED_BYTES)
    small = [talk.assistant() for _ in range(4)]
    for assistant in (*small, large):
        begun(talk, assistant)
    assert [id for _, _, id in recent._seen] == small[-2:]


def test_an_error_of_the_call_stays_one(talk: Talk) -> None:
    assistant, thread = talk.assistant(), talk.thread("hi")
    begun(talk, assistant)
    choice = {"type": "function", "function": {"name": "missing"}}
    body = {"assistant_id": assistant, "tool_choice": choice}
    answer: httpx2.Response = talk.http.post(f"/threads/{thread}/runs", json=body)
    error_of(answer, 400)
