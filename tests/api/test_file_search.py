"""file_search in runs, over a real server: searches, citations and their events (SPEC 10.1)."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import msgspec
import openai
import pytest

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
from understudy.machine.vector_store import StoreBody, new_file
from understudy.store import changes, index_changes
from understudy.wire.vector_stores import ExpiresAfter

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
        [
            text("日本🙂 Ola【4:0†source】, Kari【4:1†source】. "),
            text("Both【4:1†a】【4:0】, none【4:7†source】."),
        ],
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


# Streams.


@pytest.mark.assertion(154, 155)
def test_a_search_and_its_citation_stream_as_the_original_does(talk: Talk) -> None:
    file_id = upload(talk, "bikes.txt", BIKES)
    assistant = searcher(talk, store_of(talk, file_id))
    pieces = [
        text(one)
        for one in ("It weighs ", "11 kg 【4", ":0†", "source】", "【4:0†x】. ", "【9:1】")
    ]
    talk.plays([look("red bicycle")], pieces)
    found = talk.stream(assistant, talk.thread("How heavy is it?"))
    assert names(found) == [
        *("run.created", "run.queued", "run.in_progress"),
        *("run.step.created", "run.step.in_progress", "run.step.delta", "run.step.completed"),
        *("run.step.created", "run.step.in_progress", "message.created", "message.in_progress"),
        *("message.delta", "message.completed", "run.step.completed", "run.completed", "done"),
    ]
    created, delta, completed = (
        next(one.data for one in found if one.short == f"run.step.{name}")
        for name in ("created", "delta", "completed")
    )
    assert created["step_details"] == {"type": "tool_calls", "tool_calls": []}
    (introduced,) = delta["delta"]["step_details"]["tool_calls"]
    id = introduced["id"]
    assert introduced == {"index": 0, "id": id, "type": "file_search", "file_search": {}}
    (search,) = completed["step_details"]["tool_calls"]
    assert search["id"] == id
    assert search["file_search"]["ranking_options"] == {
        "ranker": "default_2024_08_21",
        "score_threshold": 0.0,
    }
    (result,) = search["file_search"]["results"]
    assert sorted(result) == ["file_id", "file_name", "score"]
    assert (result["file_id"], result["file_name"]) == (file_id, "bikes.txt")
    assert 0 < result["score"] <= 1

    deltas = [
        one.data["delta"]["content"][0]["text"] for one in found if "message.delta" in one.name
    ]
    assert deltas[0]["annotations"] == []
    noted = [one for one in deltas if one.get("annotations")]
    assert [one["value"] for one in noted] == ["【4:0†source】"] * 2
    assert noted[0]["annotations"] == [
        {
            "index": 0,
            "type": "file_citation",
            "text": "【4:0†source】",
            "start_index": 16,
            "end_index": 28,
            "file_citation": {"file_id": file_id},
        }
    ]
    assert [one["annotations"][0]["index"] for one in noted] == [0, 1]
    whole = next(one.data for one in found if one.name == "thread.message.completed")
    assert whole["content"][0]["text"]["value"] == "".join(one["value"] for one in deltas)
    assert [note["start_index"] for note in cited(whole)] == [16, 28]
    assert talk.messages(run_of(found)["thread_id"])[-1]["content"] == whole["content"]


def test_the_official_client_accumulates_citations(talk: Talk, sdk: openai.OpenAI) -> None:
    assistant = searcher(talk, store_of(talk, upload(talk, "bikes.txt", BIKES)))
    talk.plays([look("red bicycle")], [text("11 kg【4:0†source】【4:0†source】.")])
    runs, thread = sdk.beta.threads.runs, talk.thread("How heavy is it?")
    with runs.stream(thread_id=thread, assistant_id=assistant) as stream:
        messages = stream.get_final_messages()
        (search, _) = stream.get_final_run_steps()
    assert messages[0].to_dict()["content"] == talk.messages(thread)[-1]["content"]
    assert search.id == talk.steps(talk.get(f"/threads/{thread}/runs")["data"][0])[0]["id"]


@pytest.mark.assertion(141)
@pytest.mark.parametrize("is_included", [False, True])
def test_the_text_of_results_is_there_for_who_asks(talk: Talk, is_included: bool) -> None:
    assistant = searcher(talk, store_of(talk, upload(talk, "bikes.txt", BIKES)))
    talk.plays([look("red bicycle")], [text("11 kg")])
    query = {"include[]": CONTENT} if is_included else {}
    path = f"/threads/{talk.thread('How heavy?')}/runs?{httpx2.QueryParams(query)}"
    found = talk.streamed(path, {"assistant_id": assistant})
    event = next(one.data for one in found if one.name == "thread.run.step.completed")
    run = run_of(found)
    path = f"{path_of(run)}/steps/{event['id']}"
    without, included = talk.get(path), talk.http.get(path, params={"include[]": CONTENT}).json()
    assert event == (included if is_included else without)
    (bare,) = searches_of([without])[0]["results"]
    content = [{"type": "text", "text": BIKES}]
    assert searches_of([included])[0]["results"] == [{**bare, "content": content}]
    assert "content" not in bare
    listed = talk.http.get(f"{path_of(run)}/steps", params={"include[]": CONTENT}).json()["data"]
    assert listed[-1] == included
    assert talk.steps(run)[0] == without


# Several searches.


def test_every_search_has_its_own_step_and_number(talk: Talk) -> None:
    bikes, boats = upload(talk, "bikes.txt", BIKES), upload(talk, "boats.txt", BOATS)
    assistant = searcher(
        talk, store_of(talk, bikes, boats), tools=[SEARCH, function("look_up"), function("g")]
    )
    talk.plays(
        [look("red bicycle"), call("look_up"), look("sailing boat in Bergen")],
        [text("hm"), look("Kari")],
        [text("【4:0†source】【6:0†source】【8:0†source】【10:0†source】")],
    )
    waiting = talk.rested(talk.start(assistant, talk.thread("What do they own?")))
    assert waiting["status"] == "requires_action"
    assert len(searches_of(talk.steps(waiting))) == 2
    talk.submit(waiting, "42")
    run = talk.rested(waiting)
    assert run["status"] == "completed", run
    steps = talk.steps(run)
    kinds = [[one["type"] for one in step["step_details"].get("tool_calls", [])] for step in steps]
    assert kinds == [["file_search"], ["file_search"], ["function"], [], ["file_search"], []]
    notes = cited(talk.messages(run["thread_id"])[-1])
    assert [note["text"][1:4] for note in notes] == ["4:0", "6:0", "8:0"]
    tops = [found["results"][0]["file_id"] for found in searches_of(steps)]
    assert [note["file_citation"]["file_id"] for note in notes] == tops
    assert tops == [bikes, boats, boats]
    read = [one["content"] for one in talk.asked()[2]["messages"] if one["role"] == "tool"]
    assert ["【4:0†source】" in read[0], "【6:0†source】" in read[1], read[2]] == [True, True, "42"]
    assert "【8:0†source】" in read[3]


def test_a_search_can_be_forced(talk: Talk) -> None:
    file_id = upload(talk, "bikes.txt", BIKES)
    assistant = searcher(talk, store_of(talk, file_id))
    talk.plays([call("file_search", {})])
    thread = talk.thread("Where is the red bicycle?")
    run = talk.rested(talk.start(assistant, thread, tool_choice=SEARCH))
    assert run["status"] == "completed"
    forced, then = talk.asked()
    assert forced["tool_choice"] == {"type": "function", "function": {"name": "file_search"}}
    assert "tool_choice" not in then
    (search,) = searches_of(talk.steps(run))
    assert [one["file_id"] for one in search["results"]] == [file_id], "asked with the user's words"


def test_the_tools_options_bound_the_results(talk: Talk) -> None:
    files = [upload(talk, f"{number}.txt", f"{BIKES} Number {number}.") for number in range(4)]
    store = store_of(talk, *files)
    options = {"max_num_results": 2, "ranking_options": {"score_threshold": 0.1, "ranker": "auto"}}
    assistant = searcher(talk, store, tools=[{**SEARCH, "file_search": options}])
    talk.plays([look("red bicycle")], [text("done")])
    run = talk.rested(talk.start(assistant, talk.thread("Which?")))
    (search,) = searches_of(talk.steps(run))
    assert len(search["results"]) == 2
    assert search["ranking_options"]["score_threshold"] == 0.1
    assert all(one["score"] >= 0.1 for one in search["results"])


# Stores that are not there, not ready or no more.


def test_without_a_store_the_tool_is_not_offered(talk: Talk) -> None:
    assistant = talk.assistant(tools=[SEARCH, function("f")])
    talk.plays([text("invented【4:0†source】.")])
    run = talk.rested(talk.start(assistant, talk.thread("hi")))
    assert [tool["function"]["name"] for tool in talk.asked()[0]["tools"]] == ["f"]
    assert talk.texts(run["thread_id"])[-1] == "invented."
    again = talk.rested(talk.start(assistant, talk.thread("hi"), tool_choice=SEARCH))
    assert again["status"] == "completed"
    assert "tool_choice" not in talk.asked()[-1]


def test_a_store_that_is_gone_is_absent(talk: Talk) -> None:
    boats = upload(talk, "boats.txt", BOATS)
    gone, kept = store_of(talk), store_of(talk, boats)
    assistant = searcher(talk, gone)
    resources = {"file_search": {"vector_store_ids": [kept]}}
    said = [{"role": "user", "content": "Where?"}]
    thread = talk.ok("/threads", {"messages": said, "tool_resources": resources})["id"]
    assert talk.http.delete(f"/vector_stores/{gone}").status_code == 200
    talk.plays([look("sailing boat")], [text("Bergen【4:0†source】")])
    run = talk.rested(talk.start(assistant, thread))
    assert run["status"] == "completed", run
    (note,) = cited(talk.messages(thread)[-1])
    assert note["file_citation"]["file_id"] == boats


@pytest.mark.assertion(187)
def test_a_run_that_needs_an_expired_store_fails(talk: Talk, project: str) -> None:
    store = expired_store(talk, project)
    assistant = searcher(talk, store)
    run = talk.rested(talk.start(assistant, talk.thread("hi")))
    assert run["status"] == "failed"
    assert run["last_error"] == {
        "code": "server_error",
        "message": f"Vector store '{store}' has expired.",
    }
    assert talk.asked() == []
    found = talk.stream(assistant, talk.thread("hi"))
    assert names(found)[2:] == ["run.in_progress", "run.failed", "done"]


def expired_store(talk: Talk, project: str) -> str:
    """A store that was last used two days ago and lasts for one."""
    app = talk.server.app
    at = app.world.now() - 2 * 86_400
    policy = ExpiresAfter(anchor="last_active_at", days=1)
    body = StoreBody(id=app.world.new_id("vector_store"), created_at=int(at), expires_after=policy)
    insert = changes.insert_object(
        "vector_store",
        id=body.id,
        project=project,
        parent=None,
        created_at=at,
        body=msgspec.json.encode(body),
    )
    hot = index_changes.insert_store(body.id, project=project, now=at)
    talk.server.run(app.store.commit(insert, hot))
    return body.id


@pytest.mark.assertion(186)
def test_a_run_uses_its_stores(talk: Talk) -> None:
    policy = {"anchor": "last_active_at", "days": 1}
    made = talk.ok("/vector_stores", {"expires_after": policy})
    time.sleep(1.1)
    run = talk.rested(talk.start(searcher(talk, made["id"]), talk.thread("hi")))
    assert run["status"] == "completed"
    used = talk.get(f"/vector_stores/{made['id']}")
    assert used["last_active_at"] > made["last_active_at"]
    assert used["expires_at"] == used["last_active_at"] + 86_400


@contextmanager
def endless(talk: Talk, project: str, store: str) -> Iterator[None]:
    """A file in a store that is being processed until the end of the block."""
    app = talk.server.app
    file_id = upload(talk, "endless.txt", BIKES)
    body = new_file(file_id=file_id, store_id=store, now=int(app.world.now()))
    insert = changes.insert_object(
        "vector_store_file",
        id=index_changes.record_id(store, file_id),
        project=project,
        parent=store,
        created_at=app.world.now(),
        body=msgspec.json.encode(body),
    )
    talk.server.run(app.store.commit(insert))
    yield
    path = f"/vector_stores/{store}/files/{file_id}"
    assert talk.http.delete(path).status_code == 200


@pytest.mark.assertion(132)
def test_files_that_the_thread_just_got_are_waited_for(talk: Talk, project: str) -> None:
    store = store_of(talk)
    resources = {"file_search": {"vector_store_ids": [store]}}
    said = [{"role": "user", "content": "hi"}]
    thread = talk.ok("/threads", {"messages": said, "tool_resources": resources})["id"]
    assistant = talk.assistant(tools=[SEARCH])
    with endless(talk, project, store):
        run = talk.start(assistant, thread)
        talk.once(run, lambda now: now["status"] == "in_progress")
        time.sleep(0.3)
        assert talk.again(run)["status"] == "in_progress"
        assert talk.asked() == []
    assert talk.rested(run)["status"] == "completed"
    with endless(talk, project, store):
        again = talk.start(assistant, thread)
        talk.once(again, lambda now: now["status"] == "in_progress")
        assert talk.cancel(again).status_code == 200
        assert talk.rested(again)["status"] == "cancelled"
        assert len(talk.asked()) == 1


@pytest.mark.assertion(132)
def test_the_assistants_store_is_not_waited_for(talk: Talk, project: str) -> None:
    store = store_of(talk)
    with endless(talk, project, store):
        run = talk.rested(talk.start(searcher(talk, store), talk.thread("hi")))
        assert run["status"] == "completed"


@pytest.mark.assertion(132)
def test_a_file_that_comes_with_the_question_is_found(talk: Talk) -> None:
    file_id = upload(talk, "boats.txt", BOATS)
    attachment = {"file_id": file_id, "tools": [SEARCH]}
    message = {"role": "user", "content": "Where is the boat?", "attachments": [attachment]}
    thread = talk.ok("/threads", {"messages": [message]})["id"]
    talk.plays([look("sailing boat")], [text("Bergen【4:0†source】")])
    run = talk.rested(talk.start(talk.assistant(tools=[SEARCH]), thread))
    assert run["status"] == "completed", run
    (note,) = cited(talk.messages(thread)[-1])
    assert note["file_citation"]["file_id"] == file_id


def test_the_model_does_not_see_the_markers_of_earlier_runs(talk: Talk) -> None:
    assistant = searcher(talk, store_of(talk, upload(talk, "bikes.txt", BIKES)))
    talk.plays([look("red bicycle")], [text("11 kg【4:0†source】")])
    thread = talk.thread("How heavy?")
    talk.rested(talk.start(assistant, thread))
    talk.ok(f"/threads/{thread}/messages", {"role": "user", "content": "Sure?"})
    talk.plays([text("Yes【4:0†source】.")])
    talk.rested(talk.start(assistant, thread))
    assert talk.asked()[-1]["messages"][-2]["content"] == "11 kg"
    assert talk.texts(thread)[1] == "11 kg【4:0†source】", "clients do"
    assert talk.texts(thread)[-1] == "Yes.", "nothing was searched in this run"


def test_a_run_without_the_tool_says_what_the_model_says(talk: Talk) -> None:
    talk.plays([text("see【4:0†source】")])
    run = talk.ran("hi")
    assert talk.texts(run["thread_id"])[-1] == "see【4:0†source】"
