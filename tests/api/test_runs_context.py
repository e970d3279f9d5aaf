"""What a run's model is told: the thread cut to fit, budgets, formats (SPEC 8.3)."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conversation import (
    PAUSE,
    SILENCE,
    Json,
    Talk,
    call,
    function,
    text,
)
from understudy import limits
from understudy.engine import history


def said(talk: Talk, number: int = -1) -> list[str]:
    """The texts of a request's messages."""
    return [one["content"] for one in talk.asked()[number]["messages"]]


def usage(prompt: int, completion: int) -> Json:
    """A script's step: what the provider says it used."""
    return {
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
    }


def numbered(count: int, words: int = 20) -> list[str]:
    """Texts that all differ and all have the same length."""
    return [f"{number:04d}" + " word" * words for number in range(count)]


@pytest.fixture
def window(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the context window of the talk's model, as `[context_tokens]` does."""

    def set(tokens: int) -> None:
        windows = talk.server.app.settings.context_tokens_by_model
        monkeypatch.setitem(windows, talk.model, tokens)

    return set


@pytest.mark.assertion(105)
@pytest.mark.parametrize(("last", "expected"), [(1, ["c"]), (2, ["b", "c"]), (9, ["a", "b", "c"])])
def test_the_last_messages_are_sent_alone(talk: Talk, last: int, expected: list[str]) -> None:
    strategy = {"type": "last_messages", "last_messages": last}
    run = talk.ran("a", "b", "c", truncation_strategy=strategy)
    assert run["truncation_strategy"] == strategy
    assert said(talk) == expected


def test_what_the_run_itself_did_is_never_cut(talk: Talk) -> None:
    talk.plays([text("let me see"), call("f")], [text("done")])
    strategy = {"type": "last_messages", "last_messages": 1}
    assistant = talk.assistant(tools=[function("f")])
    run = talk.rested(talk.start(assistant, talk.thread("a", "b"), truncation_strategy=strategy))
    talk.submit(run, "1")
    assert talk.rested(run)["status"] == "completed"
    assert said(talk) == ["b", "let me see", "1"]


@pytest.mark.assertion(106)
def test_the_middle_is_dropped_where_the_window_is_small(
    talk: Talk, window: Callable[[int], None]
) -> None:
    window(600)  # Half of it is kept for the answer.
    texts = numbered(50)
    run = talk.ran(*texts)
    assert run["status"] == "completed"
    kept = said(talk)
    assert kept[0] == texts[0]
    assert kept[1:] == texts[-len(kept) + 1 :]
    assert 5 < len(kept) < 20


@pytest.mark.assertion(106)
def test_the_middle_is_dropped_to_fit_the_prompt_budget(talk: Talk) -> None:
    texts = numbered(30)
    run = talk.ran(*texts, max_prompt_tokens=256)
    assert run["status"] == "completed"
    kept = said(talk)
    assert [kept[0], kept[-1]] == [texts[0], texts[-1]]
    assert len(kept) < 15


def test_instructions_are_kept_when_the_thread_is_cut(
    talk: Talk, window: Callable[[int], None]
) -> None:
    window(600)
    assistant = talk.assistant(instructions="Be brief.")
    talk.rested(talk.start(assistant, talk.thread(*numbered(50))))
    assert said(talk)[0] == "Be brief."


@pytest.mark.parametrize(
    ("fields", "pages"),
    [
        ({}, 0),
        ({"truncation_strategy": {"type": "last_messages", "last_messages": 2}}, 0),
        ({"max_prompt_tokens": 256}, 1),  # The thread's first message.
    ],
)
def test_a_run_made_with_its_thread_asks_the_same_and_reads_nothing(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, fields: Json, pages: int
) -> None:
    texts = numbered(30)
    assistant = talk.assistant()
    talk.rested(talk.start(assistant, talk.thread(*texts), **fields))
    store, read = talk.server.app.store, list[str]()
    list_objects = store.list

    async def counted(kind: str, *args: Any, **options: Any) -> Any:
        read.append(kind)
        return await list_objects(kind, *args, **options)

    monkeypatch.setattr(store, "list", counted)
    messages = [{"role": "user", "content": one} for one in texts]
    body = {"assistant_id": assistant, "thread": {"messages": messages}, **fields}
    talk.streamed("/threads/runs", {"model": talk.model, **body})
    assert read == ["message"] * pages
    alone, together = said(talk, -2), said(talk, -1)
    assert together == alone
    assert together[-1] == texts[-1]


@pytest.mark.parametrize(
    ("fields", "tokens", "most_pages"),
    [
        ({"truncation_strategy": {"type": "last_messages", "last_messages": 10}}, 128_000, 0),
        ({}, 600, 1),  # The thread's first message; its end is read with the commit.
        ({"max_prompt_tokens": 256}, 128_000, 1),
    ],
)
def test_a_long_thread_is_read_no_further_than_needed(
    talk: Talk,
    window: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    fields: Json,
    tokens: int,
    most_pages: int,
) -> None:
    window(tokens)
    texts = numbered(3_000)
    assistant, thread = talk.assistant(), talk.thread(*texts)
    store, rows = talk.server.app.store, []
    read = store.list

    async def counted(kind: str, *args: Any, **options: Any) -> Any:
        page, has_more = await read(kind, *args, **options)
        rows.append((kind, len(page)))
        return page, has_more

    monkeypatch.setattr(store, "list", counted)
    run = talk.start(assistant, thread, **fields)
    assert talk.rested(run)["status"] == "completed"
    assert len(rows) <= most_pages
    assert sum(count for _, count in rows) <= 51
    assert said(talk)[-1] == texts[-1]


def test_what_is_read_along_and_what_is_read_after_make_one_thread(talk: Talk) -> None:
    texts = numbered(2 * limits.MESSAGES_READ_ALONG, words=1)
    old, new = texts[:-3], texts[-3:]
    more = [{"role": "user", "content": one} for one in new]
    run = talk.start(talk.assistant(), talk.thread(*old), additional_messages=more)
    assert talk.rested(run)["status"] == "completed"
    assert said(talk) == texts


@pytest.mark.parametrize("large", [0, 3, 5])
def test_what_is_too_large_to_be_read_along_is_read_after(talk: Talk, large: int) -> None:
    texts = numbered(6, words=1)
    texts[large] = "word " * limits.MESSAGE_READ_ALONG_BYTES
    run = talk.start(talk.assistant(), talk.thread(*texts))
    assert talk.rested(run)["status"] == "completed"
    assert said(talk) == texts


def test_what_was_read_along_and_cannot_be_used_is_the_runs_failure(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(rows: object) -> None:
        raise ValueError(rows)

    monkeypatch.setattr(history, "newest_of", broken)
    run = talk.rested(talk.start(talk.assistant(), talk.thread("hi")))
    assert (run["status"], run["last_error"]["code"]) == ("failed", "server_error")


@pytest.mark.assertion(103)
def test_a_completion_budget_cuts_the_answer(talk: Talk) -> None:
    talk.plays([{"words": 300}])
    run = talk.ran("hi", max_completion_tokens=256)
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert run["completed_at"] is not None
    assert run["expires_at"] is None
    assert run["usage"]["completion_tokens"] == 256
    message = talk.messages(run["thread_id"])[-1]
    assert message["status"] == "incomplete"
    assert message["incomplete_details"] == {"reason": "max_tokens"}
    assert message["incomplete_at"] is not None
    assert message["content"][0]["text"]["value"].split()[-1] == "word256"
    assert [step["status"] for step in talk.steps(run)] == ["completed"]
    assert talk.asked()[0]["max_tokens"] == 256
    assert talk.start(run["assistant_id"], run["thread_id"])["status"] == "queued"


def test_the_completion_budget_is_that_of_all_turns(talk: Talk) -> None:
    talk.plays([call("f"), usage(10, 100)], [text("done")])
    assistant = talk.assistant(tools=[function("f")])
    run = talk.rested(talk.start(assistant, talk.thread("hi"), max_completion_tokens=300))
    talk.submit(run, "1")
    assert talk.rested(run)["status"] == "completed"
    assert [one["max_tokens"] for one in talk.asked()] == [300, 200]


@pytest.mark.assertion(104)
@pytest.mark.parametrize("spent", [256, 250])
def test_a_prompt_budget_ends_the_run_before_the_turn(talk: Talk, spent: int) -> None:
    talk.plays([call("f"), usage(spent, 5)], [text("never")])
    assistant = talk.assistant(tools=[function("f")])
    run = talk.rested(talk.start(assistant, talk.thread("hi"), max_prompt_tokens=256))
    assert talk.submit(run, "an output of some words").status_code == 200
    run = talk.rested(run)
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}
    assert run["usage"]["prompt_tokens"] == spent
    assert len(talk.asked()) == 1
    assert [step["status"] for step in talk.steps(run)] == ["completed"]


def test_a_completion_budget_that_is_spent_ends_the_run(talk: Talk) -> None:
    talk.plays([call("f"), usage(10, 256)], [text("never")])
    assistant = talk.assistant(tools=[function("f")])
    run = talk.rested(talk.start(assistant, talk.thread("hi"), max_completion_tokens=256))
    talk.submit(run, "1")
    run = talk.rested(run)
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert len(talk.asked()) == 1


def test_a_filter_makes_the_answer_incomplete(talk: Talk) -> None:
    talk.plays([text("some words"), {"finish": "content_filter"}])
    run = talk.ran("hi")
    assert (run["status"], run["last_error"]) == ("incomplete", None)
    message = talk.messages(run["thread_id"])[-1]
    assert (message["status"], message["incomplete_details"]) == (
        "incomplete",
        {"reason": "content_filter"},
    )
    assert talk.texts(run["thread_id"])[-1] == "some words"


def test_a_call_that_is_cut_is_not_asked_of_the_client(talk: Talk) -> None:
    talk.plays([call("f", '{"city": "Os'), {"finish": "length"}])
    assistant = talk.assistant(tools=[function("f")])
    run = talk.rested(talk.start(assistant, talk.thread("hi"), max_completion_tokens=256))
    assert (run["status"], run["required_action"]) == ("incomplete", None)
    assert [step["status"] for step in talk.steps(run)] == ["cancelled"]


def test_a_call_that_is_whole_is_made_whatever_the_reason(talk: Talk) -> None:
    talk.plays([call("f", {"city": "Oslo"}), {"finish": "length"}])
    assistant = talk.assistant(tools=[function("f")])
    run = talk.rested(talk.start(assistant, talk.thread("hi")))
    assert run["status"] == "requires_action"


@pytest.mark.parametrize(
    "format",
    [
        {"type": "json_object"},
        {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                    "additionalProperties": False,
                },
                "strict": True,
            },
        },
    ],
)
def test_json_modes_are_asked_of_the_provider(talk: Talk, format: Json) -> None:
    run = talk.ran("Answer in JSON.", response_format=format)
    assert (run["status"], run["response_format"]) == ("completed", format)
    assert talk.asked()[0]["response_format"] == format


def test_the_provider_hears_what_was_cancelled_but_not_what_failed(talk: Talk) -> None:
    assistant, thread = talk.assistant(), talk.thread("hi")
    talk.plays([text("lost half"), PAUSE, {"drop": True}])
    assert talk.rested(talk.start(assistant, thread))["status"] == "failed"
    talk.plays([text("kept half"), SILENCE])
    with talk.open_stream(assistant, thread) as live:
        live.until("thread.message.delta")
        live.until("thread.message.delta")
        talk.cancel(live.heard[0].data)
    talk.plays([text("fine")])
    talk.rested(talk.start(assistant, thread))
    assert said(talk) == ["hi", "kept half"]


def test_images_are_the_providers_to_fetch(talk: Talk) -> None:
    image = {"type": "image_url", "image_url": {"url": "http://example.invalid/a.png"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    thread = talk.ok("/threads", {"messages": [{"role": "user", "content": content}]})["id"]
    assert talk.rested(talk.start(talk.assistant(), thread))["status"] == "completed"
    (message,) = talk.asked()[0]["messages"]
    assert message["content"][0] == {"type": "text", "text": "What is this?"}
    assert message["content"][1]["image_url"]["url"] == "http://example.invalid/a.png"


def test_a_window_that_the_provider_names_is_kept(
    talk: Talk, window: Callable[[int], None]
) -> None:
    body = {
        "error": {
            "message": "This model's maximum context length is 600 tokens. However, your messages "
            "resulted in 2000 tokens. Please reduce the length of the messages.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    }
    talk.plays([{"status": 400, "body": body, "times": 1}, text("fine")])
    texts = numbered(50)
    assistant, thread = talk.assistant(), talk.thread(*texts)
    assert talk.rested(talk.start(assistant, thread))["status"] == "completed"
    assert len(said(talk, 0)) == 50
    assert len(said(talk, 1)) < 20
    assert said(talk, 1)[0] == texts[0]
    talk.rested(talk.start(assistant, thread))
    assert len(talk.asked()) == 3  # The lesson holds for the next run.


def test_an_empty_thread_and_an_empty_answer(talk: Talk) -> None:
    talk.plays([{"finish": "stop"}])
    run = talk.ran()
    assert run["status"] == "completed"
    (message,) = talk.messages(run["thread_id"])
    assert message["status"] == "completed"
    assert message["content"] == [{"type": "text", "text": {"value": "", "annotations": []}}]
    assert len(talk.steps(run)) == 1
    assert talk.asked()[0]["messages"] == [{"role": "system", "content": ""}]


def test_a_run_that_never_ends_is_ended(talk: Talk) -> None:
    talk.plays(*[[call("unknown")] for _ in range(60)])
    assistant = talk.assistant(tools=[function("f")])
    run = talk.rested(talk.start(assistant, talk.thread("hi")))
    assert run["status"] == "failed"
    assert run["last_error"] == {
        "code": "server_error",
        "message": "The run reached its maximum number of steps (50).",
    }
    assert len(talk.asked()) == 50
    assert talk.start(assistant, run["thread_id"])["status"] == "queued"
