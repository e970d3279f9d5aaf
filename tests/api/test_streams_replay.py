"""Replay: a run's events again, from any place, live or long after (DECISIONS)."""

import pytest

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
    path_of,
    run_of,
    text,
    text_of,
)

IDS = {"x-understudy-event-ids": "1"}
TOOLS = [function("f")]


def two_rounds(talk: Talk) -> tuple[Json, list[Frame]]:
    """A run that called a function and was answered, and its frames as they were heard live."""
    talk.plays([text("let me see"), call("f", {"a": 1})], [text("done and done")])
    assistant = talk.assistant(tools=TOOLS, instructions="Be brief.")
    body = {"assistant_id": assistant, "thread": {"messages": []}}
    first = talk.streamed("/threads/runs", body, **IDS)
    run = run_of(first)
    outputs = [{"tool_call_id": id, "output": "1"} for id in call_ids(run)]
    path = f"{path_of(run)}/submit_tool_outputs"
    return run, first + talk.streamed(path, {"tool_outputs": outputs}, **IDS)


def place(frame: Frame) -> tuple[int, int]:
    """An event id as the pair that it is."""
    assert frame.id is not None
    fence, _, seq = frame.id.partition(".")
    return int(fence), int(seq)


def without_done(found: list[Frame]) -> list[Frame]:
    """The frames that are in the log."""
    return [frame for frame in found if frame.name != "done"]


def test_ids_come_only_where_they_are_asked_for(talk: Talk) -> None:
    talk.plays([text("Hello there")])
    assistant = talk.assistant()
    plain = talk.stream(assistant, talk.thread("hi"))
    assert {frame.id for frame in plain} == {None}
    body = {"assistant_id": assistant}
    numbered = talk.streamed(f"/threads/{talk.thread('hi')}/runs", body, **IDS)
    # A run that no slot is free for begins in fence 0, and is taken up in the next.
    assert [frame.id for frame in numbered[:3]] in (["1.1", "1.2", "1.3"], ["0.1", "0.2", "1.1"])
    assert numbered[-1] == Frame("done", "[DONE]")
    other = talk.streamed(
        f"/threads/{talk.thread('hi')}/runs", body, **{**IDS, next(iter(IDS)): "0"}
    )
    assert {frame.id for frame in other} == {None}


def test_ids_have_no_gaps_within_a_fence(talk: Talk) -> None:
    _, heard = two_rounds(talk)
    places = [place(frame) for frame in without_done(heard)]
    assert places == sorted(places)
    fences = {fence for fence, _ in places}
    assert len(fences) in (2, 4)  # A round that waits for a slot has one for that.
    for fence in fences:
        numbers = [seq for one, seq in places if one == fence]
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_replay_is_what_was_heard_live(talk: Talk) -> None:
    run, heard = two_rounds(talk)
    replayed = talk.replay(run)
    assert without_done(replayed) == without_done(heard)
    assert replayed[-1] == Frame("done", "[DONE]")
    assert [frame.name for frame in replayed].count("done") == 1


def test_the_bytes_of_a_replay_are_those_of_the_stream(talk: Talk) -> None:
    talk.plays([text("Hello, wörld")])
    fields = {"tools": TOOLS, "response_format": {"type": "json_object"}, "metadata": {"a": "b"}}
    assistant = talk.assistant(instructions="Be\nbrief.", **fields)
    body = {"assistant_id": assistant, "stream": True, "metadata": {"c": "d"}}
    answer = talk.http.post(f"/threads/{talk.thread('hi')}/runs", json=body, headers=IDS)
    run = run_of(frames(answer.content))
    assert talk.http.get(f"{path_of(run)}/events").content == answer.content


def test_every_place_replays_to_the_same_rest(talk: Talk) -> None:
    run, heard = two_rounds(talk)
    rest = [*without_done(heard), Frame("done", "[DONE]")]
    for number, frame in enumerate(rest[:-1]):
        assert talk.replay(run, after=frame.id) == rest[number + 1 :]
    last = rest[5].id
    assert last is not None
    answer = talk.http.get(f"{path_of(run)}/events", headers={"last-event-id": last})
    assert answer.content == talk.http.get(f"{path_of(run)}/events?after={last}").content


def test_a_place_between_rounds_is_the_end_of_the_first(talk: Talk) -> None:
    run, heard = two_rounds(talk)
    first = [frame for frame in without_done(heard) if place(frame)[0] <= 1]
    assert talk.replay(run, after="1.9999")[0] == without_done(heard)[len(first)]
    assert talk.replay(run, after="9999.1") == [Frame("done", "[DONE]")]
    assert without_done(talk.replay(run, after="0.0")) == without_done(heard)


@pytest.mark.parametrize(
    "after",
    ["1", "x", "1.x", "-1.2", "1.2.3", "1." + "9" * 40, "9" * 19 + ".1", "\u0661.\u0662", "1. 2"],
)
def test_a_place_that_is_none_is_refused(talk: Talk, after: str) -> None:
    run = talk.ran("hi")
    answer = talk.http.get(f"{path_of(run)}/events", params={"after": after})
    assert error_of(answer)["param"] == "after"


def test_the_replay_of_an_unknown_run_is_a_404(talk: Talk) -> None:
    run = talk.ran("hi")
    error_of(talk.http.get(f"/threads/{talk.thread()}/runs/{run['id']}/events"), 404)
    error_of(talk.http.get(f"/threads/{run['thread_id']}/runs/run_nothing/events"), 404)
    error_of(talk.http.get(f"/threads/{run['thread_id']}/runs/undefined/events"))


def test_a_replay_follows_the_run_while_it_goes_on(talk: Talk) -> None:
    talk.plays([{"text": "one two three four five six", "every_ms": 20}])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    with talk.open_replay(run) as early:
        early.until("thread.message.delta")
        with talk.open_replay(run) as late:
            late.until("thread.message.delta")
            assert early.rest() == late.rest()
    assert text_of(early.heard) == "one two three four five six"
    assert early.heard == talk.replay(run)


def test_a_client_that_lost_its_stream_misses_nothing(talk: Talk) -> None:
    talk.plays([{"text": "one two three four five six", "every_ms": 20}])
    assistant, thread = talk.assistant(), talk.thread("hi")
    with talk.open_stream(assistant, thread, **IDS) as live:
        live.until("thread.message.delta")
        last = live.until("thread.message.delta")
    run = live.heard[0].data
    found = live.heard + talk.replay(run, after=last.id)
    assert text_of(found) == "one two three four five six"
    assert found == talk.replay(run)


def test_a_replay_waits_at_a_run_that_waits_for_its_client(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    found = talk.replay(run)
    assert [frame.name for frame in found[-2:]] == ["thread.run.requires_action", "done"]
    assert found[-2].data == run
    talk.submit(run, "1")
    talk.rested(run)
    assert [frame.name for frame in talk.replay(run)].count("done") == 1
    rest = talk.replay(run, after=found[-2].id)
    assert rest[0].name == "thread.run.step.completed"
    assert rest[-2].name == "thread.run.completed"


def test_a_later_edit_does_not_change_what_was_announced(talk: Talk) -> None:
    run, heard = two_rounds(talk)
    talk.ok(path_of(run), {"metadata": {"new": "yes"}})
    assert without_done(talk.replay(run)) == without_done(heard)


def test_a_cancelled_run_replays_its_end(talk: Talk) -> None:
    talk.plays([text("Hello there"), SILENCE])
    assistant, thread = talk.assistant(), talk.thread("hi")
    with talk.open_stream(assistant, thread, **IDS) as live:
        live.until("thread.message.delta")
        live.until("thread.message.delta")
        talk.cancel(live.heard[0].data)
        found = live.rest()
    assert talk.replay(found[0].data) == found


def test_a_run_that_was_cancelled_while_it_waited_replays_its_end(talk: Talk) -> None:
    talk.plays([call("f")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    last = talk.replay(run)[-2]
    talk.cancel(run)
    assert [frame.short for frame in talk.replay(run, after=last.id)] == [
        "run.cancelling",
        "run.step.cancelled",
        "run.cancelled",
        "done",
    ]


def test_an_idempotent_retry_gets_the_same_stream(talk: Talk) -> None:
    talk.plays([text("Hello there")])
    assistant, thread = talk.assistant(), talk.thread("hi")
    body = {"assistant_id": assistant}
    keyed = {"idempotency-key": "the same"}
    path = f"/threads/{thread}/runs"
    first = talk.streamed(path, body, **keyed)
    assert talk.streamed(path, body, **keyed) == first
    assert len(talk.get(path)["data"]) == 1
    assert len(talk.asked()) == 1


def test_an_idempotent_retry_of_outputs_begins_where_they_began(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    run = talk.rested(talk.start(talk.assistant(tools=TOOLS), talk.thread("hi")))
    body = {"tool_outputs": [{"tool_call_id": id, "output": "out"} for id in call_ids(run)]}
    path = f"{path_of(run)}/submit_tool_outputs"
    first = talk.streamed(path, body, **{"idempotency-key": "outputs"})
    assert first[0].name == "thread.run.step.completed"
    assert talk.streamed(path, body, **{"idempotency-key": "outputs"}) == first
    assert len(talk.asked()) == 2


def test_an_idempotent_retry_ends_where_its_stream_did(talk: Talk) -> None:
    talk.plays([call("f")], [text("done")])
    path, keyed = f"/threads/{talk.thread('hi')}/runs", {"idempotency-key": "the same"}
    body = {"assistant_id": talk.assistant(tools=TOOLS)}
    first = talk.streamed(path, body, **keyed)
    talk.submit(run_of(first), "1")
    talk.rested(run_of(first))
    assert talk.streamed(path, body, **keyed) == first
    assert talk.replay(run_of(first))[-2].name == "thread.run.completed"


def test_deltas_are_in_the_log_before_the_run_ends(talk: Talk) -> None:
    talk.plays([text("one two three"), SILENCE])
    run = talk.start(talk.assistant(), talk.thread("hi"))
    app = talk.server.app

    def logged() -> bytes:
        rows = talk.server.run(app.store.events(run["id"], (0, 0)))
        return b"".join(row.frames for row in rows if row.kind == "delta")

    assert b"three" in eventually(logged)
