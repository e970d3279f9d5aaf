"""file_search in runs, over a real server: searches, citations and their events (SPEC 10.1)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from tests.api.conftest import Start
from tests.api.conversation import (
    Json,
    Talk,
    call,
    eventually,
    function,
    names,
    path_of,
    run_of,
    text,
)

CONTENT = "step_details.tool_calls[*].file_search.results[*].content"
SEARCH: Json = {"type": "file_search"}
MARKER = re.compile("【[0-9]+:[0-9]+†source】")
BIKES = "The red bicycle of Ola weighs eleven kilograms and stands in the cellar."
BOATS = "The sailing boat of Kari is moored in the harbour of Bergen since spring."


def upload(talk: Talk, name: str, content: str) -> str:
    """A file; its id."""
    answer = talk.http.post(
        "/files",
        data={"purpose": "assistants"},
        files={"file": (name, content.encode(), "text/plain")},
    )
    assert answer.status_code == 200, answer.text
    id: str = answer.json()["id"]
    return id


def store_of(talk: Talk, *file_ids: str, **fields: Any) -> str:
    """A vector store with these files, ready to be searched; its id."""
    made = talk.ok("/vector_stores", {"file_ids": list(file_ids), **fields})
    path = f"/vector_stores/{made['id']}"
    ready = eventually(lambda: talk.get(path), lambda now: now["status"] != "in_progress")
    assert ready["file_counts"]["completed"] == len(file_ids), ready
    id: str = made["id"]
    return id


def searcher(talk: Talk, *store_ids: str, **fields: Any) -> str:
    """An assistant that can search; its id."""
    resources = {"file_search": {"vector_store_ids": list(store_ids)}}
    fields = {"tools": [SEARCH], "tool_resources": resources, **fields}
    return talk.assistant(**fields)


def look(*queries: str) -> Json:
    """A script's step: a search."""
    return call("file_search", {"queries": list(queries)})


def searches_of(steps: list[Json]) -> list[Json]:
    """The file_search calls in some steps."""
    calls = [one for step in steps for one in step["step_details"].get("tool_calls", ())]
    return [one["file_search"] for one in calls if one["type"] == "file_search"]


def cited(message: Json) -> list[Json]:
    """The annotations of a message, each checked against its text."""
    (part,) = message["content"]
    value, notes = part["text"]["value"], part["text"]["annotations"]
    assert [match.group() for match in MARKER.finditer(value)] == [note["text"] for note in notes]
    for note in notes:
        assert value[note["start_index"] : note["end_index"]] == note["text"]
        assert "index" not in note
    found: list[Json] = notes
    return found


@pytest.mark.assertion(200, 201)
def test_the_stores_of_assistant_and_thread_are_searched_together(talk: Talk) -> None:
    bikes, boats = upload(talk, "bikes.txt", BIKES), upload(talk, "boats.md", BOATS)
    assistant = searcher(talk, store_of(talk, bikes))
    resources = {"file_search": {"vector_store_ids": [store_of(talk, boats)]}}
    said = [{"role": "user", "content": "What do they own?"}]
    thread = talk.ok("/threads", {"messages": said, "tool_resources": resources})["id"]
    talk.plays(
        [look("red bicycle of Ola", "sailing boat of Kari")],
        [text("日本🙂 Ola【4:0†source】, Kari【4:1†source】. Both【4:1†a】【4:0】, none【4:7†source】.")],
    )
    run = talk.rested(talk.start(assistant, thread))
    assert run["status"] == "completed", run
    results = searches_of(talk.steps(run))[0]["results"]
    assert {one["file_id"] for one in results} == {bikes, boats}
    by_place = [one["file_id"] for one in results]
    message = talk.messages(thread)[-1]
    notes = cited(message)
    assert [one["file_citation"]["file_id"] for one in notes] == [
        by_place[place] for place in (0, 1, 1, 0)
    ]
    assert message["content"][0]["text"]["value"] == (
        "日本🙂 Ola【4:0†source】, Kari【4:1†source】. Both【4:1†source】【4:0†source】, none."
    )
    read = talk.asked()[1]["messages"][-1]
    assert read["role"] == "tool"
    assert all(one in read["content"] for one in ("【4:0†source】", BIKES, BOATS, "boats.md"))
    offered = talk.asked()[0]["tools"][0]["function"]["description"]
    assert "bikes.txt" in offered and "boats.md" in offered
