"""Polls: the SDKs' poll helpers are held until their wait is over, and nobody else is."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from tests.api.conftest import Start, client_for
from tests.api.conversation import SILENCE, Json, Talk, path_of
from tests.api.serving import KEY, Running

HELPER = {"x-stainless-poll-helper": "true"}


def _get(talk: Talk, run: Json, headers: Json) -> tuple[httpx2.Response, float]:
    """The answer, and the seconds that it took."""
    started = time.monotonic()
    answer = talk.http.get(path_of(run), headers=headers)
    return answer, time.monotonic() - started


def test_a_helper_asks_seldom_and_is_answered_when_the_run_is_over(
    talk: Talk, server: Running, key: str
) -> None:
    talk.plays([{"words": 75, "every_ms": 20}])
    asked: list[httpx2.Request] = []
    hooks = {"request": [asked.append]}
    with httpx2.Client(event_hooks=hooks, timeout=30, verify=False) as transport:
        client = openai.OpenAI(base_url=server.url, api_key=key, http_client=transport)
        run = client.beta.threads.runs.create_and_poll(
            thread_id=talk.thread("hi"), assistant_id=talk.assistant()
        )
    assert run.status == "completed"
    assert [request.method for request in asked] == ["POST", "GET"]


def test_a_helper_is_answered_when_the_run_needs_it(talk: Talk) -> None:
    talk.plays([{"call": {"name": "f"}}])
    tools = [{"type": "function", "function": {"name": "f"}}]
    run = talk.start(talk.assistant(tools=tools), talk.thread("hi"))
    answer, taken_s = _get(talk, run, HELPER)
    assert (answer.json()["status"], taken_s < 5) == ("requires_action", True)


def test_a_cancel_ends_the_wait(talk: Talk) -> None:
    talk.plays([SILENCE])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    talk.cancel(run)
    answer, taken_s = _get(talk, run, HELPER)
    assert (answer.json()["status"], taken_s < 5) == ("cancelled", True)


@pytest.mark.parametrize(
    ("headers", "least_s", "most_s"),
    [
        ({}, 0.0, 0.5),
        ({"x-stainless-poll-helper": "false"}, 0.0, 0.5),
        ({**HELPER, "x-stainless-read-timeout": "1"}, 0.5, 1.0),
        ({**HELPER, "x-stainless-timeout": "1"}, 0.5, 1.0),
        ({**HELPER, "x-stainless-read-timeout": "soon"}, 0.0, 0.5),
    ],
)
def test_nobody_else_is_held_nor_longer_than_the_client_waits(
    talk: Talk, headers: Json, least_s: float, most_s: float
) -> None:
    talk.plays([SILENCE])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    talk.once(run, lambda now: now["status"] == "in_progress")
    answer, taken_s = _get(talk, run, headers)
    assert answer.json()["status"] == "in_progress"
    assert int(answer.headers["openai-poll-after-ms"]) > 0
    assert least_s <= taken_s < most_s
    talk.cancel(run)


def test_a_server_that_stops_holds_nobody(start: Start) -> None:
    with start() as server, client_for(server.url, KEY) as http:
        server.require_own_process()
        talk = Talk(server, http)
        talk.plays([SILENCE])
        run = talk.start(talk.assistant(), talk.thread("hi"))
        with ThreadPoolExecutor() as pool:
            held = pool.submit(_get, talk, run, HELPER)
            server.run(server.app.worker.drain(0.2))
            answer, taken_s = held.result(10)
        assert (answer.status_code, taken_s < 5) == (200, True)
