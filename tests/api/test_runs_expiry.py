"""Runs that nobody finishes in time (SPEC 8.6). The server's runs live for two seconds."""

from collections.abc import Iterator

import pytest

from tests.api.conftest import client_for
from tests.api.conversation import (
    SILENCE,
    Talk,
    call,
    error_of,
    eventually,
    function,
    names,
    text,
)
from tests.api.serving import KEY, Running, running

TOOLS = [function("f")]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose runs expire soon, and that works on two at a time."""
    with running(tmp_path_factory.mktemp("hasty"), run_ttl_s=2, max_runs=2) as server:
        yield server


@pytest.fixture
def talk(hasty: Running) -> Iterator[Talk]:
    """Conversations on that server."""
    with client_for(hasty.url, KEY) as http:
        talk = Talk(hasty, http)
        yield talk
        talk.close()


@pytest.mark.assertion(115, 117, 118, 125)
def test_outputs_that_come_too_late(talk: Talk) -> None:
    talk.plays([call("f")], [call("f")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    assert run["expires_at"] == run["created_at"] + 2
    assert talk.submit(run, "1").json()["expires_at"] == run["expires_at"]
    run = talk.rested(run)
    assert run["expires_at"] == run["created_at"] + 2
    ended = talk.once(run, lambda now: now["status"] != "requires_action")
    assert (ended["status"], ended["required_action"]) == ("expired", None)
    assert ended["expires_at"] == run["expires_at"]
    assert ended["usage"]["total_tokens"] > 0
    error = error_of(talk.submit(run, "2"))
    assert error["message"] == 'Runs in status "expired" do not accept tool outputs.'
    done, step = talk.steps(run)
    assert (done["status"], step["status"]) == ("completed", "expired")
    assert step["expired_at"] is not None
    assert step["expires_at"] == run["expires_at"]
    assert names(talk.replay(run))[-3:] == ["run.step.expired", "run.expired", "done"]
    talk.ok(f"/threads/{run['thread_id']}/messages", {"role": "user", "content": "free"})


def test_a_model_that_goes_silent(talk: Talk) -> None:
    talk.plays([text("half an answer"), SILENCE])
    with talk.open_stream(talk.assistant(), talk.thread("hi")) as live:
        found = live.rest()
    expired = ["message.incomplete", "run.step.expired", "run.expired", "done"]
    assert names(found)[-4:] == expired
    message = found[-4].data
    assert message["incomplete_details"] == {"reason": "run_expired"}
    assert message["content"][0]["text"]["value"] == "half an answer"
    run = found[-2].data
    assert run["usage"]["completion_tokens"] > 0
    eventually(lambda: talk.provider_calls()[0]["left_early"])
    error = error_of(talk.cancel(run))
    assert error["message"] == "Cannot cancel run with status 'expired'."
    assert talk.start(run["assistant_id"], run["thread_id"])["status"] == "queued"


def test_runs_that_never_got_a_turn(talk: Talk) -> None:
    talk.plays([SILENCE])
    assistant = talk.assistant()
    busy = [talk.start(assistant, talk.thread("hi")) for _ in range(2)]
    queued = talk.start(assistant, talk.thread("hi"))
    ended = talk.once(queued, lambda now: now["status"] not in ("queued", "in_progress"))
    assert ended["status"] == "expired"
    for run in busy:
        assert talk.rested(run)["status"] == "expired"
    assert talk.start(assistant, queued["thread_id"])["status"] == "queued"


def test_a_provider_that_asks_for_too_much_patience(talk: Talk) -> None:
    talk.plays([{"status": 429, "headers": {"retry-after": "15"}, "body": {}}])
    run = talk.rested(talk.start(talk.assistant(), talk.thread("hi")))
    assert run["status"] == "expired"
