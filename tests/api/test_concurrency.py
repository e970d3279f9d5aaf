"""Many requests at once: who wins is told, and nobody is lost."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx2
import openai
import pytest

from tests.api.conftest import client_for
from tests.api.conversation import (
    SILENCE,
    Frame,
    Json,
    Talk,
    call,
    call_ids,
    error_of,
    eventually,
    frames,
    function,
    names,
    path_of,
    run_of,
    text,
    text_of,
)
from tests.machine.accumulator import StrictClient

T = TypeVar("T")
TOOLS = [function("f")]


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """The results of this work, done by so many threads at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def async_client(talk: Talk) -> httpx2.AsyncClient:
    """A client with the talk's key and any number of connections."""
    return httpx2.AsyncClient(
        base_url=talk.server.url,
        headers=talk.http.headers,
        limits=httpx2.Limits(max_connections=None),
        timeout=60,
        verify=False,
    )


@pytest.mark.assertion(94, 95)
@pytest.mark.parametrize("stream", [False, True])
def test_one_of_ten_runs_wins(talk: Talk, stream: bool) -> None:
    talk.plays([SILENCE])
    assistant, thread = talk.assistant(), talk.thread("hi")
    messages = [{"role": "user", "content": "with it"}]
    body = {"assistant_id": assistant, "additional_messages": messages, "stream": stream}

    def create(_number: int) -> tuple[int, Json | None]:
        with talk.http.stream("POST", f"/threads/{thread}/runs", json=body) as answer:
            if answer.status_code == 200:
                return 200, None
            answer.read()
            return answer.status_code, answer.json()["error"]

    answers = at_once(10, create)
    assert sorted(status for status, _ in answers) == [200] + [400] * 9
    (run,) = talk.get(f"/threads/{thread}/runs")["data"]
    expected = f"Thread {thread} already has an active run {run['id']}."
    assert {error["message"] for _, error in answers if error} == {expected}
    assert talk.texts(thread) == ["hi", "with it"]


def test_a_message_and_a_run_do_not_cross(talk: Talk) -> None:
    assistant = talk.assistant()
    for _ in range(10):
        thread = talk.thread("first")

        def race(number: int, thread: str = thread) -> httpx2.Response:
            if number:
                return talk.http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant})
            message = {"role": "user", "content": "second"}
            return talk.http.post(f"/threads/{thread}/messages", json=message)

        message, started = at_once(2, race)
        run = talk.rested(started.json())
        assert run["status"] == "completed"
        said = [one["content"] for one in talk.asked()[-1]["messages"]]
        if message.status_code == 200:
            # Either before the run, and then the model heard it, or after its end.
            assert said in (["first", "second"], ["first"])
            assert set(talk.texts(thread)) > {"first", "second"}
        else:
            assert error_of(message)["message"].startswith("Can't add messages to thread_")
            assert said == ["first"]
            assert "second" not in talk.texts(thread)


def test_one_of_two_submits_wins(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    assistant = talk.assistant(tools=TOOLS)
    for _ in range(5):
        run = talk.rested(talk.start(assistant, talk.thread("hi")))

        def submit(number: int, run: Json = run) -> httpx2.Response:
            return talk.submit(run, f"output {number}")

        answers = at_once(4, submit)
        won = [number for number, one in enumerate(answers) if one.status_code == 200]
        assert len(won) == 1
        for number, answer in enumerate(answers):
            if number not in won:
                assert error_of(answer)["message"].startswith("Runs in status ")
        assert talk.rested(run)["status"] == "completed"
        step = talk.steps(run)[0]["step_details"]["tool_calls"][0]
        assert step["function"]["output"] == f"output {won[0]}"
        assert talk.texts(run["thread_id"]) == ["hi", "done"]


def test_a_submit_and_a_cancel_do_not_cross(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    assistant = talk.assistant(tools=TOOLS)
    for _ in range(10):
        run = talk.rested(talk.start(assistant, talk.thread("hi")))

        def end(number: int, run: Json = run) -> httpx2.Response:
            return talk.cancel(run) if number else talk.submit(run, "1")

        submitted, cancelled = at_once(2, end)
        ended = talk.rested(run)
        if cancelled.status_code == 200:
            assert ended["status"] == "cancelled"
        else:
            assert error_of(cancelled)["message"].startswith("Cannot cancel run with status ")
            assert ended["status"] == "completed"
        if submitted.status_code != 200:
            assert error_of(submitted)["message"].startswith("Runs in status ")
        assert talk.start(assistant, run["thread_id"])


def test_one_of_many_cancels_wins(talk: Talk) -> None:
    talk.plays([text("half"), SILENCE])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    eventually(talk.asked)
    answers = at_once(6, lambda _: talk.cancel(run))
    assert sorted(one.status_code for one in answers) == [200] + [400] * 5
    assert talk.again(run)["status"] == "cancelled"
    assert [name for name in names(talk.replay(run)) if "run.cancel" in name] == [
        "run.cancelling",
        "run.cancelled",
    ]


def test_a_cancel_at_any_moment_ends_well(talk: Talk) -> None:
    talk.plays(
        [{"text": "one two three four", "every_ms": 2}, call("unknown")],
        [{"text": "five six", "every_ms": 2}, call("f")],
    )
    assistant = talk.assistant(tools=TOOLS)

    def cancelled(number: int) -> tuple[int, list[Frame]]:
        with talk.open_stream(assistant, talk.thread("hi")) as live:
            for _ in range(number):  # After so many events.
                live.next()
            status = talk.cancel(live.heard[0].data).status_code if live.heard else 0
            return status, live.rest()

    for number in range(1, 36):
        status, heard = cancelled(number)
        run = talk.again(heard[0].data)
        client = StrictClient()
        for frame in heard[:-1]:
            client.hear(frame.name, frame.data)
        assert status == 200, number
        replayed = [frame.data for frame in talk.replay(run)[:-1]]
        assert [frame.data for frame in heard[:-1]] == replayed[: len(heard) - 1]
        assert heard[-1].name == "done"
        assert run["status"] == "cancelled"
        assert {step["status"] for step in talk.steps(run)} <= {"completed", "cancelled"}
        assert {one["status"] for one in talk.messages(run["thread_id"])} <= {
            "completed",
            "incomplete",
        }
        assert talk.server.job(run["id"]) is None


def test_metadata_that_is_edited_while_the_run_writes_is_kept(talk: Talk) -> None:
    talk.plays([{"text": "one two three four five", "every_ms": 10}])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    for number in range(20):
        talk.ok(path_of(run), {"metadata": {"n": str(number)}})
    ended = talk.rested(run)
    assert (ended["status"], ended["metadata"]) == ("completed", {"n": "19"})


async def test_fifty_streams_at_once(talk: Talk) -> None:
    talk.plays([{"text": "one two three four five", "every_ms": 10}])
    assistant = talk.assistant()
    async with async_client(talk) as client:

        async def stream(number: int) -> bytes:
            messages = [{"role": "user", "content": f"number {number}"}]
            body = {
                "assistant_id": assistant,
                "thread": {"messages": messages},
                "stream": True,
                "metadata": {"number": str(number)},
            }
            answer = await client.post("/threads/runs", json=body)
            assert answer.status_code == 200, answer.text
            return answer.content

        raw = await asyncio.gather(*(stream(number) for number in range(50)))
    for number, one in enumerate(map(frames, raw)):
        run = run_of(one)
        assert (run["status"], run["metadata"]) == ("completed", {"number": str(number)})
        assert text_of(one) == "one two three four five"
        ids = {frame.data["thread_id"] for frame in one if frame.name.startswith("thread.run.c")}
        assert ids == {run["thread_id"]}
    assert len({run_of(frames(one))["id"] for one in raw}) == 50


async def test_fifty_polls_at_once(talk: Talk) -> None:
    talk.plays([{"text": "one two three", "every_ms": 10}])
    assistant = talk.assistant()
    async with (
        async_client(talk) as transport,
        openai.AsyncOpenAI(
            base_url=talk.server.url,
            api_key=talk.http.headers["authorization"].removeprefix("Bearer "),
            max_retries=0,
            http_client=transport,
        ) as client,
    ):

        async def poll(number: int) -> Any:
            return await client.beta.threads.create_and_run_poll(
                assistant_id=assistant,
                thread={"messages": [{"role": "user", "content": f"number {number}"}]},
                poll_interval_ms=50,
            )

        runs = await asyncio.gather(*(poll(number) for number in range(50)))
    assert {run.status for run in runs} == {"completed"}
    assert len({run.thread_id for run in runs}) == 50
    assert len(talk.asked()) == 50


async def test_fifty_conversations_with_calls_at_once(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    assistant = talk.assistant(tools=TOOLS)
    async with async_client(talk) as client:

        async def converse(_number: int) -> bytes:
            body = {"assistant_id": assistant, "stream": True}
            answer = await client.post("/threads/runs", json=body)
            run = run_of(frames(answer.content))
            outputs = [{"tool_call_id": id, "output": "1"} for id in call_ids(run)]
            path = f"{path_of(run)}/submit_tool_outputs"
            answer = await client.post(path, json={"tool_outputs": outputs, "stream": True})
            return answer.content

        raw = await asyncio.gather(*(converse(number) for number in range(50)))
    assert {run_of(frames(one))["status"] for one in raw} == {"completed"}


@pytest.mark.assertion(216)
def test_projects_never_see_each_others_runs(talk: Talk) -> None:
    talk.plays([call("f")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    step = talk.steps(run)[0]["id"]
    with client_for(talk.server.url, talk.server.new_key("a stranger's")) as http:
        stranger = Talk(talk.server, http)
        thread = stranger.thread("hi")
        for path in ("", "/steps", f"/steps/{step}", "/events"):
            error_of(http.get(f"{path_of(run)}{path}"), 404)
            elsewhere = f"/threads/{thread}/runs/{run['id']}{path}"
            error_of(http.get(elsewhere), 404)
        for path, body in (
            ("", {"metadata": {}}),
            ("/cancel", None),
            ("/submit_tool_outputs", {"tool_outputs": []}),
        ):
            error_of(http.post(f"{path_of(run)}{path}", json=body), 404)
            error_of(http.post(f"/threads/{thread}/runs/{run['id']}{path}", json=body), 404)
        theirs, own = {"assistant_id": run["assistant_id"]}, {"assistant_id": stranger.assistant()}
        error_of(http.post(f"/threads/{thread}/runs", json=theirs), 404)
        error_of(http.post("/threads/runs", json=theirs), 404)
        error_of(http.post(f"/threads/{run['thread_id']}/runs", json=own), 404)
        assert stranger.get(f"/threads/{thread}/runs")["data"] == []
        answer = http.get(f"/threads/{run['thread_id']}/runs")
        assert error_of(answer, 404)["message"] == f"No thread found with id '{run['thread_id']}'."
    assert talk.again(run) == run
